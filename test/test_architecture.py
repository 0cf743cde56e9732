"""Imports run one way, and heavy libraries stay where they belong."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = {"torch", "pytorch_lightning", "rclpy", "onnxruntime", "pandas", "tf2_ros"}

# What a place may import of the project, and which heavy libraries.
ALLOWED = {
    "xmodelkd_ros/core": ({"core"}, set()),
    "xmodelkd_ros/inference": ({"core", "inference"}, {"onnxruntime"}),
    "xmodelkd_ros/resources.py": ({"core"}, set()),
    "xmodelkd_ros/dds_profile.py": ({"resources"}, set()),
    "xmodelkd_ros/point_layout.py": ({"core"}, set()),
    "xmodelkd_ros/messages.py": ({"core", "point_layout"}, set()),
    "xmodelkd_ros/tolerant_reader.py": (set(), set()),
    "xmodelkd_ros/bag.py": ({"core", "messages", "point_layout", "tolerant_reader"}, set()),
    "xmodelkd_ros/pipeline.py": ({"core", "inference"}, set()),
    "xmodelkd_ros/node": (
        {"core", "inference", "messages", "bag", "pipeline", "resources", "node"},
        {"rclpy", "tf2_ros"},
    ),
    "xmodelkd_ros/tools": (
        {"core", "inference", "messages", "bag", "pipeline", "resources", "dds_profile", "tools"},
        set(),
    ),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place_of(path):
    return next(place for place in ALLOWED if path.as_posix().startswith(place))


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT) for p in (ROOT / "xmodelkd_ros").rglob("*.py")), ids=lambda p: p.as_posix()
)
def test_imports_of_the_runtime(path):
    if path.as_posix() == "xmodelkd_ros/__init__.py":
        assert list(imports(ROOT / path)) == []
        return
    parts, libraries = ALLOWED[place_of(path)]
    for name in imports(ROOT / path):
        top, *rest = name.split(".")
        assert top != "training", f"{path} imports training"
        if top == "xmodelkd_ros":
            assert rest[0] in parts, f"{path} imports {name}"
        elif top in LIBRARIES:
            assert top in libraries, f"{path} imports {name}"


def test_the_core_needs_numpy_and_the_standard_library_only():
    for path in (ROOT / "xmodelkd_ros" / "core").glob("*.py"):
        tops = {name.split(".")[0] for name in imports(path)} - {"numpy", "xmodelkd_ros"}
        assert tops <= set(sys.stdlib_module_names), f"{path}: {tops - set(sys.stdlib_module_names)}"


@pytest.mark.parametrize("name", ["data", "to_bag.py"])
def test_loaders_need_no_torch(name):
    place = ROOT / "training" / name
    for path in [place] if place.is_file() else place.rglob("*.py"):
        assert not {"torch", "pytorch_lightning"} & {name.split(".")[0] for name in imports(path)}, path
