"""Packaging: metadata, data files, entry points, and resource lookup of an installed package."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
import yaml

from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.harness.dds_domain import reserve_domain

ROOT = Path(__file__).resolve().parents[1]
NAME = "xmodelkd_ros"
PARAMETER_FILE = ROOT / "config" / "segment.param.yaml"
OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
PRINT_METADATA = """
import json, sys, setuptools
setuptools.setup = lambda **metadata: json.dump(metadata, sys.stdout)
exec(compile(open("setup.py").read(), "setup.py", "exec"))
"""
FIND_FILES = """
from xmodelkd_ros import resources
print(resources.__file__)
print(resources.find_config("segment.param.yaml"))
print(resources.label_map("drive13").name)
"""


@pytest.fixture(scope="module")
def metadata():
    """The keyword arguments of setup() in setup.py."""
    command = [sys.executable, "-c", PRINT_METADATA]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def manifest():
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installation prefix with the package, outside the source tree."""
    scratch = tmp_path_factory.mktemp("install")
    # Builds write beside their sources, so the package is built from a copy.
    not_shipped = shutil.ignore_patterns(".*", "build", "install", "log", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, scratch / "source", ignore=not_shipped)
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--disable-pip-version-check", "--quiet"]
    target = ["--ignore-installed", "--prefix", str(scratch / "prefix")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *target, str(scratch / "source")], check=True)
    return scratch / "prefix"


@pytest.fixture
def declared(monkeypatch):
    """Factory of nodes with the segmenter's parameters, from ROS arguments."""
    pytest.importorskip("rclpy", reason="needs rclpy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.environ.get("AMENT_PREFIX_PATH", sys.prefix))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy
    from rclpy.node import Node

    from xmodelkd_ros.node import parameters

    domain = int(reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0")))
    with ExitStack() as stack:

        def make(*arguments):
            context = rclpy.Context()
            rclpy.init(args=list(arguments), context=context, domain_id=domain)
            stack.callback(context.try_shutdown)
            node = Node("segmenter", context=context, enable_rosout=False)
            stack.callback(node.destroy_node)
            parameters.declare(node)
            return node

        yield make


def shipped(*patterns):
    files = {p for pattern in patterns for p in ROOT.glob(pattern) if p.is_file()}
    return {p.relative_to(ROOT).as_posix() for p in files if p.name != "last.ckpt" and p.parent.name != "class_teacher"}


def flat(values, prefix=""):
    for name, value in values.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]


def data_files(metadata):
    return set(chain.from_iterable(files for _, files in metadata["data_files"]))


def test_versions_agree(metadata, manifest):
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert metadata["version"] == manifest.findtext("version") == newest[1]


def test_manifests_agree(metadata, manifest):
    maintainer = manifest.find("maintainer")
    assert metadata["name"] == manifest.findtext("name") == NAME
    assert (metadata["maintainer"], metadata["maintainer_email"]) == (maintainer.text, maintainer.get("email"))
    assert metadata["license"] == manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("export/build_type") == "ament_python"


def test_catkin_accepts_package_xml():
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="needs catkin_pkg (comes with ROS or colcon)")
    package, warnings = None, []
    package = catkin_pkg.parse_package(str(ROOT), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []


def test_every_shipped_file_is_installed(metadata):
    assert data_files(metadata) >= shipped("launch/*", "config/**/*", "models/**/*") | {"package.xml"}


def test_checkpoints_are_not_installed(metadata):
    assert list(ROOT.glob("models/*/last.ckpt")) and not [name for name in data_files(metadata) if "ckpt" in name]


def test_data_files_go_to_the_folder_of_the_same_name(metadata):
    for folder, files in metadata["data_files"]:
        for file in files:
            assert (ROOT / file).is_file(), file
            assert folder.startswith("share/ament_index/") or folder == f"share/{NAME}/{Path(file).parent}".rstrip("/.")


def test_shipped_models_stay_small():
    assert sum(path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("name", ["student", "student_undistilled", "student_world"])
def test_shipped_students_take_no_image(name):
    spec = ModelSpec.read(ROOT / "models" / name)
    assert spec.cameras == 0 and [tensor.name for tensor in spec.inputs] == ["image", "points", "pixel"]


def test_evaluations_logged_as_shipped_match_the_models():
    lines = map(json.loads, (ROOT / "docs" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines())
    logged = {(line["model"], line["sha256"]) for line in lines if line.get("shipped")}
    specs = [ModelSpec.read(folder) for folder in (ROOT / "models").iterdir() if (folder / "model.onnx").is_file()]
    assert logged == {(spec.name, spec.files["fp32"].sha256) for spec in specs}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetson"])
def test_container_images_install_what_the_package_asks_for(name, metadata):
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    asked = {requirement for extra in metadata["extras_require"].values() for requirement in extra}
    installed = set(re.findall(r"'([\w-]+[<>=][^']*)'", text))
    assert {"numpy<2", "onnxruntime>=1.18", "rosbags>=0.11,<0.12"} <= installed
    for requirement in installed - {"numpy<2"}:
        name = re.split("[<>=]", requirement)[0]
        [of_extra] = {one for one in asked if re.split("[<>=]", one)[0] == name}
        assert requirement.startswith(of_extra), requirement
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+) ", text, re.MULTILINE)
    assert copied and all((ROOT / path).exists() for path in copied)


def test_no_training_code_is_installed(metadata):
    assert NAME in metadata["packages"]
    assert {package.split(".")[0] for package in metadata["packages"]} == {NAME}


def test_every_package_has_an_init_file(metadata):
    folders = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in (ROOT / NAME).rglob("*.py")}
    assert set(metadata["packages"]) == folders


def test_vehicle_requires_neither_torch_nor_tensorrt(metadata, manifest):
    without_training = [*metadata["install_requires"]]
    for extra, requirements in metadata["extras_require"].items():
        without_training += [] if extra in ("training", "test", "tensorrt-rtx") else requirements
    depends = [element.text for element in manifest if element.tag.endswith("depend")]
    assert not [name for name in (*without_training, *depends) if "torch" in name or "tensorrt" in name]


def test_torch_is_pinned(metadata):
    """Other versions may pull in gigabytes of CUDA libraries."""
    [torch] = [r for r in metadata["extras_require"]["training"] if r.startswith("torch=")]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", torch)


def test_entry_points_exist(metadata):
    for entry in metadata["entry_points"]["console_scripts"]:
        _, module, function = re.fullmatch(r"(\S+) = (\S+):(\S+)", entry).groups()
        spec = find_spec(module)
        assert spec is not None, f"{entry}: no such module"
        assert f"def {function}(" in Path(spec.origin).read_text(encoding="utf-8"), f"{entry}: no such function"


def test_installed_package_finds_its_files(prefix):
    [package] = prefix.rglob(f"site-packages/{NAME}")
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "AMENT_PREFIX_PATH": str(prefix)}
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", FIND_FILES]
    result = subprocess.run(command, cwd=prefix, env=environment, check=True, capture_output=True, text=True)
    module, config, labels = result.stdout.split()
    assert Path(module).parent == package, "imported from the source tree"
    assert Path(config) == prefix / "share" / NAME / "config" / "segment.param.yaml"
    assert labels == "drive13"


def test_installation_has_every_shipped_file(prefix):
    share = prefix / "share" / NAME
    expected = shipped("launch/*.launch.py", "config/**/*", "models/**/*")
    assert [name for name in sorted(expected) if not (share / name).is_file()] == []
    assert list(share.rglob("*.ckpt")) == [], "checkpoints are for training, which runs from the clone"
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / NAME).is_file()


def test_installation_has_the_commands(prefix):
    assert {p.name for p in (prefix / "bin").iterdir()} >= {"segment_node", "xmodelkd"}


def test_parameter_file_holds_the_defaults(declared):
    from xmodelkd_ros.node import parameters

    node = declared("--ros-args", "--params-file", str(PARAMETER_FILE))
    assert parameters.read(node) == parameters.read(declared())


def test_parameter_file_names_every_parameter(declared):
    ours = {name for name in declared().list_parameters([], 0).names if name not in OF_EVERY_NODE}
    values = yaml.safe_load(PARAMETER_FILE.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    assert set(flat(values)) <= ours
    # Empty lists have no type in YAML, so they are listed as comments.
    written = re.findall(r"^ +(?:# *)?(\w+):", PARAMETER_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.rsplit(".", 1)[-1] for name in ours} <= set(written)


def test_launch_files_start_existing_modules():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launch").glob("*.launch.py"))
    modules = re.findall(r'"\{PACKAGE\}\.([\w.]+)"', text)
    assert modules and all(find_spec(f"{NAME}.{module}") for module in modules)


def test_configuration_files_named_in_messages_exist():
    texts = [
        path.read_text(encoding="utf-8") for path in (*(ROOT / NAME).rglob("*.py"), *(ROOT / "launch").glob("*.py"))
    ]
    names = set(re.findall(r"config/[\w/]+(?:\.\w+)+", "".join(texts)))
    assert names and [name for name in names if not (ROOT / name).is_file()] == []


def test_rviz_layout_matches_the_node_topics():
    layout = yaml.safe_load((ROOT / "config" / "segment.rviz").read_text(encoding="utf-8"))
    displays = {d["Name"]: d for d in layout["Visualization Manager"]["Displays"]}
    for name, topic in (("Coloured by class", "/segmenter/colored"), ("Labels", "/segmenter/labels")):
        assert displays[name]["Topic"]["Value"] == topic
        assert displays[name]["Topic"]["Reliability Policy"] == "Reliable"
    assert displays["Input"]["Topic"]["Reliability Policy"] == "Best Effort"


def test_rviz_layout_covers_the_default_label_set():
    labels = json.loads((ROOT / "config" / "labels" / "drive13.json").read_text(encoding="utf-8"))
    ids = [c["id"] for c in labels["classes"]]
    layout = yaml.safe_load((ROOT / "config" / "segment.rviz").read_text(encoding="utf-8"))
    [display] = [d for d in layout["Visualization Manager"]["Displays"] if d["Name"] == "Labels"]
    assert (display["Channel Name"], display["Min Intensity"], display["Max Intensity"]) == (
        "label",
        min(ids),
        max(ids),
    )


def test_dds_profile_has_both_transports_and_fits_a_sweep():
    root = ElementTree.parse(ROOT / "config" / "fastdds_large_clouds.xml").getroot()
    space = {"": "http://www.eprosima.com"}
    transports = {
        t.findtext("type", namespaces=space): t for t in root.iterfind(".//transport_descriptor", namespaces=space)
    }
    assert set(transports) == {"UDPv4", "SHM"}
    largest = int(transports["SHM"].findtext("maxMessageSize", namespaces=space))
    assert largest >= 6_000_000, "a sweep of 128 beams with 24 bytes a point is 6 MB"
    assert int(transports["SHM"].findtext("segment_size", namespaces=space)) >= 2 * largest
    used = [t.text for t in root.iterfind(".//userTransports/transport_id", namespaces=space)]
    assert used == [t.findtext("transport_id", namespaces=space) for t in transports.values()]


def test_workflow_covers_the_supported_distributions():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ros.yaml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["industrial_ci"]
    tested = {entry["distribution"] for entry in job["strategy"]["matrix"]["include"]}
    page = (ROOT / "docs" / "node.md").read_text(encoding="utf-8").partition("## Supported distributions")[2]
    assert tested == {"humble", "jazzy", "kilted", "rolling"}
    assert {name for name in tested if f"| {name.capitalize()} |" in page} == tested
    assert job["steps"][-1]["env"]["PIP_BREAK_SYSTEM_PACKAGES"] == "1", "rosdep installs from pip, PEP 668"
