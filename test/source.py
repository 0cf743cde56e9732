"""Reads a source file for what could run the data it reads, whatever it is called there.

It does not see a module that is passed as an argument, nor one that another module hands on under a name of its own.
"""

import ast
import re
from dataclasses import dataclass, field

RUN_DATA = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "runpy"),
    *("imp", "pdb", "timeit"),
}
"""Modules that run what they are given."""
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "pickle_compat"}
"""Those that libraries hand on, or have as a part, under these names."""
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "importlib.__import__", "importlib.reload"),
    *("importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader", "pkgutil.resolve_name"),
    *("pydoc.locate", "inspect.getattr_static", "pty.spawn", "os.startfile"),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.ops.load_library"),
    *("tempfile.mktemp", "pandas.eval", "numpy.lib.format.read_array"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
}
FORBIDDEN_METHODS = {
    *("system", "popen", "read_pickle", "load_from_checkpoint", "unsafe_load", "full_load", "unsafe_load_all"),
    *("full_load_all", "load_module", "exec_module", "__getattribute__"),
}
"""Whatever they are of."""
PROGRAMS = re.compile(r"(os|posix|nt)\.(exec[lv]|spawn[lv]|posix_spawn)")
"""Programs that run in the place of this one, or beside it and not by :mod:`subprocess`."""
OF_YAML = {
    *("yaml.load", "yaml.load_all", "yaml.Constructor", "yaml.UnsafeConstructor", "yaml.FullConstructor"),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader", "yaml.CUnsafeLoader", "yaml.CFullLoader"),
}
MUST_SAY = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
"""In whichever of its library's modules it stands."""
IMPORTS = {"importlib.import_module"}
NAMESPACES = {"globals", "locals", "sys.modules", "__builtins__"}
"""What gives anything by its name."""
GETTERS = {"getattr", "vars", "operator.attrgetter", "operator.methodcaller"}
"""What gives something by its name; of what, shows where it is called."""


@dataclass
class Names:
    """What the names of a source file stand for: modules and what is in them, by imports and by other names for these.

    A name that stands for several things in several places stands for all of them in each.
    """

    known: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name, full):
        """Note what a name stands for; whether that is new."""
        before = self.known.setdefault(name, set())
        new = full not in before
        before.add(full)
        return new

    def of(self, node):
        """The full names that an expression may stand for, ``?`` for what is computed."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, {node.id})
        if isinstance(node, ast.Attribute):
            return {f"{name}.{node.attr}" for name in self.of(node.value)}
        if isinstance(node, ast.NamedExpr):
            return self.of(node.value)
        if isinstance(node, ast.IfExp):
            return self.of(node.body) | self.of(node.orelse)
        if isinstance(node, ast.Call) and node.args and self.of(node.func) & {"getattr", "builtins.getattr"}:
            word = constant(node.args[1]) if len(node.args) > 1 else None
            return {f"{name}.{word or '?'}" for name in self.of(node.args[0])}
        if isinstance(node, ast.Call) and self.of(node.func) & IMPORTS and node.args:
            return {constant(node.args[0]) or "?"}
        return {"?"}


def constant(node):
    """A text that stands there, or None."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def names_of(tree):
    """The Names of a file."""
    names, nodes = Names(), list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.add(alias.asname or alias.name.split(".")[0], alias.name if alias.asname else _top(alias.name))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.add(alias.asname or alias.name, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call) and names.of(node.func) & IMPORTS and node.args and constant(node.args[0]):
            names.add(ast.unparse(node), constant(node.args[0]))  # a module, though without a name yet
    pairs = [pair for node in nodes for pair in _assigned(node)]
    while any([names.add(name, full) for name, value in pairs for full in _imported(names, value)]):
        pass  # until names of names are known too
    return names


def _top(module):
    return module.split(".")[0]


def _assigned(node):
    """Names that an assignment gives, each with its value."""
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


def _imported(names, value):
    """What an assigned value stands for, where that is a module or is in one."""
    return {full for full in names.of(value) if any(full == top or full.startswith(f"{top}.") for top in _tops(names))}


def _tops(names):
    return {_top(full) for known in names.known.values() for full in known} - {"?"}


def complaints(text, may_import=frozenset(), may_import_by_name=False):
    """What a source file does that could run what it reads.

    Args:
        text: the file.
        may_import: modules of RUN_DATA or PICKLES that it may import all the same.
        may_import_by_name: whether it may import modules whose names are computed.
    """
    tree = ast.parse(text)
    look, nodes = _Look(names_of(tree), may_import, may_import_by_name), list(ast.walk(tree))
    for node in nodes:
        look.note_harmless(node)
    return [complaint for node in nodes for complaint in look.at(node)]


@dataclass
class _Look:
    """What is known of a file, to look at each of its nodes; arguments as of :func:`complaints`."""

    names: Names
    may_import: frozenset
    may_import_by_name: bool
    harmless: set[int] = field(default_factory=set)

    def __post_init__(self):
        self._modules = {full for known in self.names.known.values() for full in known}
        self._tops = _tops(self.names)

    def note_harmless(self, node):
        """Note references that do no harm where they stand."""
        if isinstance(node, ast.Compare) and all(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            self.harmless.update(map(id, node.comparators))  # it is only asked whether something is there
        if isinstance(node, ast.Call):
            if self._says_it(node) or self.of(node.func) & GETTERS:  # which are looked at with what they are given
                self.harmless.add(id(node.func))
            if isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault" and _is_plain(node.args):
                self.harmless.add(id(node.func.value))

    def at(self, node):
        """What is wrong with a node itself."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from self._at_import(node)
        if isinstance(node, ast.Call):
            yield from self._at_call(node)
            yield from self._at_getter(node)
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
            yield from self._at_reference(node)

    def of(self, node):
        """The full names that an expression may stand for; also ``torch.load`` of ``module.torch.load``."""
        return {reading for full in self.names.of(node) for reading in self._readings(full)}

    def _readings(self, full):
        parts = full.split(".")
        starts = [k for k, part in enumerate(parts) if k and part in _KNOWN and parts[0] in self._tops]
        return {".".join(parts[k:]).removeprefix("builtins.") for k in (0, *starts)}

    def _is_allowed(self, full):
        return any(full == name or full.startswith(f"{name}.") for name in self.may_import)

    def _at_import(self, node):
        before = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
        for full in (f"{before}{alias.name}" for alias in node.names):
            if full.endswith(".*"):
                yield f"from {node.module} import *: names that nobody sees"
            if any(map(_is_forbidden, self._readings(full))) or (_runs_data(full) and not self._is_allowed(full)):
                yield full

    def _says_it(self, call):
        """Whether a call of something in MUST_SAY says what it has to."""
        given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        must = [must for must in map(_must_say, self.of(call.func)) if must]
        return bool(must) and all(given.get(word) is value for word, value in must)

    def _at_reference(self, node):
        """A forbidden thing is one wherever it stands, not only where it is called: it may be called elsewhere."""
        for full in sorted(self.of(node)):
            if _is_forbidden(full) or (_is_handed_on(full) and _top(full) in self._tops and not self._is_allowed(full)):
                yield full
            elif _must_say(full) and id(node) not in self.harmless:
                yield f"{full} without {_must_say(full)}"
            elif (full in NAMESPACES | GETTERS or self._is_dictionary(full)) and id(node) not in self.harmless:
                yield f"{full}: something by its name"

    def _is_dictionary(self, full):
        """Whether it is what a module, or something in one, keeps its names in."""
        return full.endswith(".__dict__") and self._is_of_module(full.removesuffix(".__dict__"))

    def _is_of_module(self, full):
        return full in self._modules or _top(full) in _KNOWN

    def _at_call(self, call):
        shell = [keyword.value for keyword in call.keywords if keyword.arg == "shell"]
        if shell and not (isinstance(shell[0], ast.Constant) and not shell[0].value):
            yield f"{ast.unparse(call.func)} with a shell"
        if self.of(call.func) & IMPORTS:
            name = constant(call.args[0]) if call.args else None
            if name is None and not self.may_import_by_name:
                yield f"{ast.unparse(call)}: a module whose name is computed"
            if name is not None and _runs_data(name) and not self._is_allowed(name):
                yield name

    def _at_getter(self, call):
        words, holders = [constant(argument) for argument in call.args], self.of(call.args[0]) if call.args else set()
        for getter in self.of(call.func) & GETTERS:
            if self._gives_anything(getter, words, holders):
                yield f"{ast.unparse(call)}: something by its name"

    def _gives_anything(self, getter, words, holders):
        """Whether a call of a getter may give something that is forbidden; a name that is given is looked at itself."""
        if getter == "getattr":
            return words[1:2] in ([], [None]) and any(_top(h) in _KNOWN and h in self._modules for h in holders)
        if getter == "vars":
            return not holders or any(map(self._is_of_module, holders))
        return not all(map(_is_plain_attribute, words[:1] if getter == "operator.methodcaller" else words))


def _is_forbidden(full):
    top, last = _ends(full)
    method = last if "." in full else ""
    return full in FORBIDDEN or (top, last) in _ANYWHERE or method in FORBIDDEN_METHODS or PROGRAMS.match(full)


def _must_say(full):
    return MUST_SAY.get(".".join(_ends(full))) if "." in full else None


def _ends(full):
    """Library and name: what stands between is where the library keeps it, which may change."""
    return _top(full), full.rpartition(".")[2]


def _runs_data(module):
    return _top(module) in RUN_DATA or not PICKLES.isdisjoint(module.split("."))


def _is_handed_on(full):
    return not PICKLES.isdisjoint(full.split(".")[1:])


def _is_plain(arguments):
    """Whether the first of a call's arguments is the name of a module that could do no harm."""
    name = constant(arguments[0]) if arguments else None
    return name is not None and not _runs_data(name) and _top(name) not in _KNOWN


def _is_plain_attribute(text):
    return text is not None and _LAST.isdisjoint(text.split("."))


_DOTTED = {name for name in FORBIDDEN | OF_YAML | MUST_SAY.keys() if "." in name}
_ANYWHERE = {_ends(name) for name in _DOTTED} - {_ends(name) for name in MUST_SAY}
_KNOWN = {"builtins", "sys", "os", "posix", "operator", *map(_top, _DOTTED)}
"""Modules of which something is forbidden."""
_LAST = FORBIDDEN_METHODS | PICKLES | {_ends(name)[1] for name in FORBIDDEN | OF_YAML | NAMESPACES | MUST_SAY.keys()}
