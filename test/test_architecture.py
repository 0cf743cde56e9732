"""Imports run one way between folders, and heavy libraries stay where they belong."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {
    *(
        "adapt",
        "check_sweep",
        "compare",
        "evaluate",
        "export",
        "precisions",
        "robustness",
        "statistics",
        "time_networks",
        "to_bag",
    ),
    *("train", "train_images"),
}

# The layers from the bottom up: what a place may import of the project beside itself and the core.
TOP_LEVEL = {"resources", "opencv", "console"}
RUNTIME = {
    "core": set(),
    "resources": set(),
    "opencv": set(),
    "console": set(),
    "inference": {"console"},
    "messages": {"opencv"},
    "segmentation": {"console", "inference", "opencv", "resources"},
    "bags": {"messages", "resources", "segmentation"},
    "reports": {"opencv", "resources"},
    "node": {*TOP_LEVEL, "inference", "messages", "segmentation"},
    "harness": {"bags", "console", "messages", "node", "opencv", "reports", "resources"},
    "tools": {*TOP_LEVEL, "bags", "harness", "inference", "messages", "reports", "segmentation"},
}
SHARED = {*TOP_LEVEL, "core", "messages", "bags", "segmentation", "inference", "reports"}
TRAINING = {
    "worldgen": set(),
    "models": set(),
    "config": {"worldgen"},
    "datasets": {"config"},
    "world": {"config", "datasets", "worldgen"},
    "data": {"config", "datasets", "world", "worldgen"},
    "image_network": {"config", "data", "datasets", "models"},
    "losses": {"config", "data"},
    "modules": {"config", "data", "image_network", "losses", "models"},
    "predict": {"data", "datasets", "image_network", "models", "modules"},
    "distillation": {"config", "data", "datasets", "image_network", "losses", "models", "modules", "predict"},
    "deploy": {"config", "data", "image_network", "models", "modules", "predict"},
    "experiments": {"config", "data", "distillation", "image_network", "modules", "predict", "worldgen"},
    "runs": {"config", "data", "distillation", "image_network", "models", "modules", "worldgen"},
}

# Libraries that only some places may load, since vehicles and `make demo` lack them or they start threads.
LIBRARIES = {
    "rclpy": {"xmodelkd_ros/node", "xmodelkd_ros/harness"},
    "tf2_ros": {"xmodelkd_ros/node"},
    "message_filters": {"xmodelkd_ros/node"},
    "onnxruntime": {"xmodelkd_ros/inference", "training/deploy"},
    "openvino": {"xmodelkd_ros/inference"},
    "tensorrt": {"xmodelkd_ros/inference"},
    "cuda": {"xmodelkd_ros/inference"},
    "pandas": set(),
    "embreex": {"training/worldgen"},
    "torch": {
        *(f"training/{name}" for name in ("models", "losses", "image_network", "modules", "predict")),
        *(f"training/{name}" for name in ("distillation", "deploy", "runs")),
        *(f"training/{name}.py" for name in COMMANDS - {"to_bag", "evaluate", "time_networks"}),
    },
}
LIBRARIES["pytorch_lightning"] = LIBRARIES["torch"]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for top in ("xmodelkd_ros", "training") for path in sorted((ROOT / top).rglob("*.py"))}
MODULE_IDS = pytest.mark.parametrize("module", sorted(MODULES))


def imports(path):
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def project_imports(path):
    """The modules of this project that a file imports: of ``from a.b import c``, a.b.c if that is one, else a.b."""
    for name in imports(path):
        found = next((m for m in (name, name.rpartition(".")[0]) if m in MODULES), None)
        if found:
            yield found


@MODULE_IDS
def test_imports_between_folders_run_one_way(module):
    top, folder = (*module.split("."), "")[:2]
    if not folder or (top, folder) == ("training", "__init__"):
        return
    for imported in project_imports(MODULES[module]):
        other_top, other = (*imported.split("."), "")[:2]
        if (top, folder) == (other_top, other):
            continue
        if top == "xmodelkd_ros":
            allowed = other_top == top and other in {"core", *RUNTIME[folder]}
        elif other_top == "xmodelkd_ros":
            allowed = other in (SHARED if folder != "worldgen" else {"core", "resources"})
        else:
            allowed = folder in COMMANDS or other in TRAINING[folder]
        assert allowed, f"{module} imports {imported}"


def test_the_layers_are_in_order():
    """Each place imports places above it in the tables only, so that no two of them import each other."""
    for table in (RUNTIME, TRAINING):
        names = list(table)
        for number, name in enumerate(names):
            assert table[name] <= set(names[:number]), name


def test_every_folder_has_its_layer():
    for top, table in (("xmodelkd_ros", RUNTIME), ("training", TRAINING)):
        folders = {path.parent.name for path in (ROOT / top).glob("*/__init__.py")}
        files = {path.stem for path in (ROOT / top).glob("*.py")} - {"__init__"}
        assert files == (TOP_LEVEL if top == "xmodelkd_ros" else COMMANDS), "only these stand beside the folders"
        assert folders == set(table) - files


@MODULE_IDS
def test_libraries_stay_where_they_belong(module):
    path = MODULES[module].relative_to(ROOT)
    place = "/".join(path.parts[:2])
    for name in imports(MODULES[module]):
        library = name.split(".")[0]
        assert place in LIBRARIES.get(library, {place}), f"{path} imports {name}"


@pytest.mark.parametrize("module", [module for module in sorted(MODULES) if ".core" in module])
def test_the_core_needs_numpy_and_the_standard_library_only(module):
    tops = {name.split(".")[0] for name in imports(MODULES[module])} - {"numpy", "xmodelkd_ros"}
    assert tops <= set(sys.stdlib_module_names)


def test_modules_do_not_import_each_other_in_circles():
    """Also not by imports inside of functions."""
    graph = {module: set(project_imports(path)) for module, path in MODULES.items()}
    assert len(graph) > 80
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
