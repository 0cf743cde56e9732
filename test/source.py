"""Reads a source file for what could run the data it reads, whatever it is called there."""

import ast
from dataclasses import dataclass, field

RUN_DATA = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "runpy"),
    *("imp", "pdb", "timeit"),
}
"""Modules that run what they are given."""
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "importlib.__import__", "importlib.reload"),
    *("importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader", "pkgutil.resolve_name"),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.ops.load_library"),
    *("tempfile.mktemp", "pandas.eval", "numpy.lib.format.read_array"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
}
FORBIDDEN_METHODS = {
    *("system", "popen", "read_pickle", "load_from_checkpoint", "unsafe_load", "full_load", "unsafe_load_all"),
    *("full_load_all", "load_module", "exec_module"),
}
"""Whatever they are of."""
OF_YAML = {"yaml.load", "yaml.load_all", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader"}
MUST_SAY = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
IMPORTS = {"importlib.import_module"}
NAMESPACES = {"globals", "locals", "vars", "sys.modules", "builtins.__dict__", "__builtins__"}
"""What gives anything by its name."""


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
        if isinstance(node, ast.Call) and any(name in {"getattr", "builtins.getattr"} for name in self.of(node.func)):
            return {f"{name}.{constant(node.args[1]) or '?'}" for name in self.of(node.args[0])}
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
        may_import: modules of RUN_DATA that it may import all the same.
        may_import_by_name: whether it may import modules whose names are computed.
    """
    tree = ast.parse(text)
    names = names_of(tree)
    said = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _says_it(names, node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += _of_import(node, may_import)
        elif isinstance(node, ast.Call):
            found += _of_call(names, node, may_import, may_import_by_name)
        elif isinstance(node, ast.Subscript) and _giver(names, node.value) & NAMESPACES:
            found.append(f"{ast.unparse(node)}: something by its name")
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
            found += _of_reference(names, node, said)
    return found


def _giver(names, node):
    """What a value is, or was given by."""
    return names.of(node) | (names.of(node.func) if isinstance(node, ast.Call) else set())


def _of_import(node, may_import):
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    else:
        modules = [node.module or "."]
        if any(alias.name == "*" for alias in node.names):
            yield f"from {node.module} import *: names that nobody sees"
        yield from filter(_is_forbidden, (f"{node.module}.{alias.name}" for alias in node.names))
    yield from (name for name in modules if _top(name) in RUN_DATA and name not in may_import)


def _is_forbidden(full):
    method = full.rpartition(".")[2] if "." in full else ""
    return full.removeprefix("builtins.") in FORBIDDEN | OF_YAML or method in FORBIDDEN_METHODS


def _says_it(names, call):
    """Whether a call of something in MUST_SAY says what it has to."""
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    must = [MUST_SAY[name] for name in names.of(call.func) if name in MUST_SAY]
    return bool(must) and all(given.get(word) is value for word, value in must)


def _of_reference(names, node, said):
    """A forbidden thing is one wherever it stands, not only where it is called: it may be called elsewhere."""
    for full in names.of(node):
        if _is_forbidden(full):
            yield full
        if full in MUST_SAY and id(node) not in said:
            yield f"{full} without {MUST_SAY[full]}"


def _of_call(names, call, may_import, may_import_by_name):
    shell = [keyword.value for keyword in call.keywords if keyword.arg == "shell"]
    if shell and not (isinstance(shell[0], ast.Constant) and not shell[0].value):
        yield f"{ast.unparse(call.func)} with a shell"
    called = names.of(call.func)
    if called & IMPORTS:
        name = constant(call.args[0]) if call.args else None
        if name is None and not may_import_by_name:
            yield f"{ast.unparse(call)}: a module whose name is computed"
        if name is not None and _top(name) in RUN_DATA and name not in may_import:
            yield name
    if called & {"getattr", "builtins.getattr"} and constant(call.args[1]) is None:
        modules = {full for full in names.of(call.args[0]) if full in _modules(names)}
        yield from (f"{ast.unparse(call)}: something of a module, by its name" for _ in modules & _DANGEROUS)


def _modules(names):
    return {full for known in names.known.values() for full in known}


_DANGEROUS = {"builtins", *(name.rpartition(".")[0] for name in FORBIDDEN | OF_YAML | MUST_SAY.keys() if "." in name)}
