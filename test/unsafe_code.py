"""Static check of source files for calls that could execute the data they read, also under other names.

Modules passed as arguments, or re-exported by another module under another name, are not detected.
"""

import ast
import re
from dataclasses import dataclass, field

RUN_DATA = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "runpy"),
    *("imp", "pdb", "timeit"),
}
"""Modules that execute their input."""
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "pickle_compat"}
"""Pickle modules under the names by which other libraries re-export them."""
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
"""Forbidden on any object."""
PROGRAMS = re.compile(r"(os|posix|nt)\.(exec[lv]|spawn[lv]|posix_spawn)")
"""Process creation without :mod:`subprocess`."""
OF_YAML = {
    *("yaml.load", "yaml.load_all", "yaml.Constructor", "yaml.UnsafeConstructor", "yaml.FullConstructor"),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader", "yaml.CUnsafeLoader", "yaml.CFullLoader"),
}
REQUIRED_ARGUMENTS = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
"""Required keyword arguments, for the function in any module of its library."""
IMPORTS = {"importlib.import_module"}
NAMESPACES = {"globals", "locals", "sys.modules", "__builtins__"}
"""Namespaces that give access to anything by name."""
GETTERS = {"getattr", "vars", "operator.attrgetter", "operator.methodcaller"}
"""Functions that give access to an attribute by name."""


@dataclass
class Names:
    """Names in a source file and the modules and members they refer to, through imports and assignments.

    A name with different meanings in different places has all of them everywhere.
    """

    known: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name, full):
        """Record a meaning of a name; returns whether it is new."""
        before = self.known.setdefault(name, set())
        new = full not in before
        before.add(full)
        return new

    def of(self, node):
        """Full names that an expression may refer to, ``?`` for computed ones."""
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
    """Value of a string literal, or None."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def names_of(tree):
    """Collect the names of a file."""
    names, nodes = Names(), list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.add(alias.asname or alias.name.split(".")[0], alias.name if alias.asname else _top(alias.name))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.add(alias.asname or alias.name, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call) and names.of(node.func) & IMPORTS and node.args and constant(node.args[0]):
            names.add(ast.unparse(node), constant(node.args[0]))  # a module, not yet assigned to a name
    pairs = [pair for node in nodes for pair in _assigned(node)]
    while any([names.add(name, full) for name, value in pairs for full in _imported(names, value)]):
        pass  # until a fixed point, for chains of assignments
    return names


def _top(module):
    return module.split(".")[0]


def _assigned(node):
    """Names assigned by a statement, with their values."""
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


def _imported(names, value):
    """Full names of an assigned value that is a module or a member of one."""
    return {full for full in names.of(value) if any(full == top or full.startswith(f"{top}.") for top in _tops(names))}


def _tops(names):
    return {_top(full) for known in names.known.values() for full in known} - {"?"}


def unsafe_uses(text, may_import=frozenset(), may_import_by_name=False):
    """Unsafe uses in a source file: code that could execute data.

    Args:
        text: content of the file.
        may_import: modules of RUN_DATA or PICKLES that the file may import.
        may_import_by_name: whether the file may import modules with computed names.
    """
    tree = ast.parse(text)
    checker, nodes = _Checker(names_of(tree), may_import, may_import_by_name), list(ast.walk(tree))
    for node in nodes:
        checker.note_harmless(node)
    return [use for node in nodes for use in checker.at(node)]


@dataclass
class _Checker:
    """Checks each node of a file; arguments as in :func:`unsafe_uses`."""

    names: Names
    may_import: frozenset
    may_import_by_name: bool
    harmless: set[int] = field(default_factory=set)

    def __post_init__(self):
        self._modules = {full for known in self.names.known.values() for full in known}
        self._tops = _tops(self.names)

    def note_harmless(self, node):
        """Record references that are harmless in their context."""
        if isinstance(node, ast.Compare) and all(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            self.harmless.update(map(id, node.comparators))  # a membership test
        if isinstance(node, ast.Call):
            if (
                self._has_required_arguments(node) or self.of(node.func) & GETTERS
            ):  # checked together with their arguments
                self.harmless.add(id(node.func))
            if isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault" and _is_plain(node.args):
                self.harmless.add(id(node.func.value))

    def at(self, node):
        """Unsafe uses in a node itself."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from self._at_import(node)
        if isinstance(node, ast.Call):
            yield from self._at_call(node)
            yield from self._at_getter(node)
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
            yield from self._at_reference(node)

    def of(self, node):
        """Full names that an expression may refer to; also ``torch.load`` for ``module.torch.load``."""
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
                yield f"from {node.module} import *: names cannot be checked"
            if any(map(_is_forbidden, self._readings(full))) or (_runs_data(full) and not self._is_allowed(full)):
                yield full

    def _has_required_arguments(self, call):
        """Whether a call of a function in REQUIRED_ARGUMENTS passes the required arguments."""
        given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        required = [pair for pair in map(_required_arguments, self.of(call.func)) if pair]
        return bool(required) and all(given.get(word) is value for word, value in required)

    def _at_reference(self, node):
        """Forbidden references are reported everywhere, not only in calls: they may be called elsewhere."""
        for full in sorted(self.of(node)):
            if _is_forbidden(full) or (
                _is_reexported(full) and _top(full) in self._tops and not self._is_allowed(full)
            ):
                yield full
            elif _required_arguments(full) and id(node) not in self.harmless:
                yield f"{full} without {_required_arguments(full)}"
            elif (full in NAMESPACES | GETTERS or self._is_dictionary(full)) and id(node) not in self.harmless:
                yield f"{full}: access by name"

    def _is_dictionary(self, full):
        """Whether it is the namespace of a module or of its member."""
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
                yield f"{ast.unparse(call)}: a module with a computed name"
            if name is not None and _runs_data(name) and not self._is_allowed(name):
                yield name

    def _at_getter(self, call):
        words, holders = [constant(argument) for argument in call.args], self.of(call.args[0]) if call.args else set()
        for getter in self.of(call.func) & GETTERS:
            if self._is_unsafe_getter(getter, words, holders):
                yield f"{ast.unparse(call)}: access by name"

    def _is_unsafe_getter(self, getter, words, holders):
        """Whether a getter may return something forbidden; literal names are checked themselves."""
        if getter == "getattr":
            return words[1:2] in ([], [None]) and any(_top(h) in _KNOWN and h in self._modules for h in holders)
        if getter == "vars":
            return not holders or any(map(self._is_of_module, holders))
        return not all(map(_is_plain_attribute, words[:1] if getter == "operator.methodcaller" else words))


def _is_forbidden(full):
    top, last = _ends(full)
    method = last if "." in full else ""
    return full in FORBIDDEN or (top, last) in _ANYWHERE or method in FORBIDDEN_METHODS or PROGRAMS.match(full)


def _required_arguments(full):
    return REQUIRED_ARGUMENTS.get(".".join(_ends(full))) if "." in full else None


def _ends(full):
    """Library and name, without the modules between, which may change."""
    return _top(full), full.rpartition(".")[2]


def _runs_data(module):
    return _top(module) in RUN_DATA or not PICKLES.isdisjoint(module.split("."))


def _is_reexported(full):
    return not PICKLES.isdisjoint(full.split(".")[1:])


def _is_plain(arguments):
    """Whether the first argument is the name of a harmless module."""
    name = constant(arguments[0]) if arguments else None
    return name is not None and not _runs_data(name) and _top(name) not in _KNOWN


def _is_plain_attribute(text):
    return text is not None and _LAST.isdisjoint(text.split("."))


_DOTTED = {name for name in FORBIDDEN | OF_YAML | REQUIRED_ARGUMENTS.keys() if "." in name}
_ANYWHERE = {_ends(name) for name in _DOTTED} - {_ends(name) for name in REQUIRED_ARGUMENTS}
_KNOWN = {"builtins", "sys", "os", "posix", "operator", *map(_top, _DOTTED)}
"""Modules with forbidden members."""
_LAST = (
    FORBIDDEN_METHODS
    | PICKLES
    | {_ends(name)[1] for name in FORBIDDEN | OF_YAML | NAMESPACES | REQUIRED_ARGUMENTS.keys()}
)
