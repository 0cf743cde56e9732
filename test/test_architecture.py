"""Imports run one way, and heavy libraries stay where they belong."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORLD_COMMANDS = {"__main__", "generate", "census", "measure", "contact_sheet"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT) for p in (ROOT / "xmodelkd_ros").rglob("*.py")), ids=lambda p: p.as_posix()
)
def test_imports_of_the_runtime(path):
    tops = {name.split(".")[0] for name in imports(ROOT / path)}
    assert "training" not in tops and not {"torch", "pytorch_lightning", "pandas"} & tops
    if path.parts[1] not in ("node", "harness"):
        assert not {"rclpy", "tf2_ros"} & tops


def test_the_core_needs_numpy_and_the_standard_library_only():
    for path in (ROOT / "xmodelkd_ros" / "core").glob("*.py"):
        tops = {name.split(".")[0] for name in imports(path)} - {"numpy", "xmodelkd_ros"}
        assert tops <= set(sys.stdlib_module_names), f"{path}: {tops - set(sys.stdlib_module_names)}"


@pytest.mark.parametrize("name", ["data", "world", "to_bag.py", "config"])
def test_loaders_and_the_world_need_neither_torch_nor_ros(name):
    place = ROOT / "training" / name
    files = [place] if place.is_file() else list(place.rglob("*.py"))
    assert files
    for path in files:
        assert not {"torch", "pytorch_lightning", "rclpy"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "world").rglob("*.py")), ids=lambda p: p.name)
def test_the_world_stands_on_itself(path):
    """Of training it needs nothing else; only its commands know folders, bags and what is counted."""
    if path.stem in WORLD_COMMANDS:
        return
    for name in imports(path):
        if name.split(".")[0] == "training":
            assert name.startswith("training.world"), f"{path.name} imports {name}"


def test_modules_do_not_import_each_other_in_circles():
    """Also not by imports inside of functions."""
    graph = {module: set(project_imports(path)) for module, path in MODULES.items()}
    assert len(graph) > 80
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for top in ("xmodelkd_ros", "training") for path in sorted((ROOT / top).rglob("*.py"))}


def project_imports(path):
    """The modules of this project that a file imports: of ``from a.b import c``, a.b.c if that is one, else a.b."""
    for name in imports(path):
        found = next((m for m in (name, name.rpartition(".")[0]) if m in MODULES), None)
        if found:
            yield found
