"""Full or read-only disks, no home folder, shared memory or network: the node labels and reports the limitation."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

NODE, COMMAND = "xmodelkd_ros.node.segment_node", "xmodelkd_ros.tools.cli"
FAKE_GPU = Path(__file__).with_name("fake_gpu.py")
ROOT = Path(__file__).parents[2]

needs_two_backends = pytest.mark.skipif(find_spec("openvino") is None, reason="needs two back ends")
needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


@pytest.fixture
def disk(machine, tmp_path):
    """A folder on a separate disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    machine.small_disk(folder, 2_000_000)
    return folder


# --- disks ------------------------------------------------------------------------------------------------------------


@needs_two_backends
def test_node_labels_and_reports_read_only_disk(start, driver, node_arguments, height_model, machine, env, tmp_path):
    """Package, models and cache are read-only, as may be the case on a vehicle."""
    cache = Path(env["XDG_CACHE_HOME"])
    cache.mkdir()
    for folder in (ROOT, height_model, cache):
        machine.read_only(folder)
    node = start(NODE, *node_arguments(backend="auto"), machine=machine)
    node.wait_for("active")
    driver.drive(3)
    why = f"cannot write to {cache}/xmodelkd_ros/engines: Read-only file system"
    assert f"measured now and at every start: {why}; set engine_cache_dir" in node.output_text
    driver.wait(lambda: why in driver.diagnostics.get("model_backend_choice", ""), "a report")
    doctor = start(COMMAND, "doctor", "--model", height_model, machine=machine)
    assert doctor.end() == 0, doctor.output_text
    assert f"cache folder   advice   {why}: back ends are compared at every start" in doctor.output_text


@needs_two_backends
def test_node_labels_with_full_disk(start, driver, node_arguments, machine, disk):
    """The full disk holds its log files and cache."""
    words = node_arguments(backend="auto", engine_cache_dir=disk / "cache")
    machine.fill(disk)
    node = start(NODE, *words, machine=machine, ROS_LOG_DIR=str(disk))
    node.wait_for("active")
    driver.drive(3)
    assert (
        f"at every start: cannot write to {disk}/cache: No space left on device; set engine_cache_dir"
        in node.output_text
    )
    files = [path.name for path in machine.path(disk).rglob("*") if path.is_file() and path.suffix != ".log"]
    assert files == [".ballast"]


@needs_builder
def test_node_does_not_start_if_engine_cannot_be_cached(start, node_arguments, height_model, machine, disk):
    """Otherwise every start would silently take minutes to build it."""
    words = [height_model / "model.onnx", NODE, *node_arguments(backend="tensorrt", engine_cache_dir=disk)]
    machine.fill(disk)
    node = start(FAKE_GPU, *words, machine=machine)
    assert node.end() == 1
    (line,) = node.lines
    assert "cannot write engine" in line and line.endswith("No space left on device; choose another folder")
    assert [path.name for path in machine.path(disk).iterdir()] == [".ballast"]


@pytest.mark.parametrize("command", ["evaluate", "replay"])
def test_report_on_full_disk_gives_one_line_and_keeps_previous(start, drive, height_model, machine, disk, command):
    out = disk / "report"
    machine.path(out).mkdir()
    before = {name: f"an older {name}" for name in ("metrics.json", "report.html", "sweep.png")}
    for name, text in before.items():
        machine.path(out / name).write_text(text)
    machine.run('mount -o remount,size=100000 "$1"', disk)
    options = ["--model", height_model, "--backend", "onnxruntime", "--out", out]
    run = start(COMMAND, command, drive, *options, machine=machine)
    assert run.end() == 1
    last = run.lines[-1]
    assert last.startswith("error: ") and f"cannot write {'bag ' * (command == 'replay')}{out}" in last, run.output_text
    assert "No space left on device" in last and "Traceback" not in run.output_text
    assert {p.name: p.read_text() for p in machine.path(out).iterdir() if p.is_file()} == before
    assert {p.name for p in machine.path(out).iterdir() if p.is_dir()} <= {"logs"}


# --- machines ---------------------------------------------------------------------------------------------------------


def test_node_without_home_labels(start, driver, node_arguments, machine, tmp_path):
    """HOME is unset, HOME is read-only, or the user is unknown, as in a container with an arbitrary user id."""
    (tmp_path / "home").mkdir()
    machine.read_only(tmp_path / "home")
    unknown = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    nobody = {"XDG_CACHE_HOME": None, "ROS_LOG_DIR": None, "ROS_HOME": None, "HOME": None}
    backend = node_arguments(backend="auto")
    nodes = {
        "none": start(NODE, *backend, "-r", "__node:=none", **nobody),
        "read_only": start(
            NODE, *backend, "-r", "__node:=read_only", machine=machine, **nobody | {"HOME": str(tmp_path / "home")}
        ),
        "unknown": start(NODE, *backend, "-r", "__node:=unknown", before=unknown, **nobody),
    }
    labels = {name: driver.listen(f"{name}/labels") for name in nodes}
    for node in nodes.values():
        node.wait_for("active")
        assert any(line.startswith("warning: no log files: ") for line in node.lines), node.output_text
    driver.wait(lambda: all(len(stamps) >= 3 for stamps in labels.values()), "labels of all")


def replay(start, drive, model, out, machine):
    """Replay a drive in a machine; every sweep is labelled or reported as dropped by overload.

    Returns the number of labelled sweeps.
    """
    options = ["--model", model, "--backend", "onnxruntime", "--rate", "0.5", "--out", out]
    command = start(COMMAND, "replay", drive, *options, machine=machine)
    assert command.end() == 0, command.output_text
    sweeps = json.loads((out / "metrics.json").read_text())["sweeps"]
    too_slow = re.search(r"the node says of (\d+) sweeps: dropped: overload", command.output_text)
    assert sweeps["output"] + int(too_slow[1] if too_slow else 0) == sweeps["input"] > 0
    return sweeps["output"]


def test_labels_over_udp_without_shared_memory(start, drive, height_model, machine, tmp_path):
    (tmp_path / "dev").mkdir()
    machine.hide_shared_memory(tmp_path / "dev")
    assert replay(start, drive, height_model, tmp_path / "out", machine) > 0
    output_text = (tmp_path / "out" / "logs" / "node.log").read_text()
    assert "Unable to Register SHM Transport" in output_text, "Fast DDS reports the fallback"


def test_labels_with_loopback_only(start, drive, height_model, make_machine, tmp_path):
    machine = make_machine(network=False)
    machine.run("ip link set lo up")
    assert replay(start, drive, height_model, tmp_path / "out", machine) > 0
