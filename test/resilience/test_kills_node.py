"""The node is killed while labelling, measuring back ends or building an engine; the next one works."""

import json
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey
from xmodelkd_ros.resources import find_model

NODE = "xmodelkd_ros.node.segment_node"
COMPARING, BUILDING = "xmodelkd_ros.segmentation.compare_backends", "xmodelkd_ros.inference.tensorrt"
FAKE_GPU = Path(__file__).with_name("fake_gpu.py")


def shared_memory(pid):
    """Shared memory segment for outgoing messages of a process."""
    names = re.findall(r"/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16}$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    return next(path for path in map(Path, set(names)) if path.stat().st_size > 30_000_000)


def is_running(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_killed_node_is_replaced_by_next(start, driver, node_arguments):
    """In the same domain, for the same subscribers, without leftover shared memory."""
    took, memory = [], []
    for _ in range(3):
        node = start(NODE, *node_arguments())
        node.wait_for("active")
        took.append(driver.drive(5))
        memory.append(shared_memory(node.process.pid))
        node.kill()
        os.utime(f"{memory[-1]}_el", (0, 0))  # make its lock file look old
    assert driver.labelled == sorted(set(driver.labelled)), "each label once and in order"
    assert set(driver.labelled) <= set(driver.sent)
    assert max(took) < 10, took
    assert [path.exists() for path in memory] == [False, False, True], "each restart would leak 34 MB"


# --- while it loads ---------------------------------------------------------------------------------------------------

needs_two_backends = pytest.mark.skipif(find_spec("openvino") is None, reason="needs two back ends")
needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


@needs_two_backends
def test_node_killed_during_measurement_measures_again(start, driver, node_arguments, wait_until, tmp_path):
    kept = tmp_path / "kept"
    words = node_arguments(backend="auto", engine_cache_dir=kept)
    node = start(NODE, *words)
    wait_until(lambda: node.children(COMPARING), "the comparison")
    node.kill()
    assert not kept.exists(), "no selection was cached"
    start(NODE, *words).wait_for("measured now")
    driver.drive(3)
    assert [path.name[:8] for path in kept.iterdir()] == ["fastest-"]


@needs_two_backends
def test_measurement_ends_with_its_node(start, node_arguments, wait_until, tmp_path):
    """Otherwise it would compete for cores with the next node."""
    camera = {"image_topic": "/front", "info_topic": "/front_info", "extrinsic": [0.0] * 6 + [1.0]}
    parameters = {"mode": "teacher", "cameras": ["front"], **{f"cameras.front.{k}": v for k, v in camera.items()}}
    node = start(NODE, *node_arguments(backend="auto", engine_cache_dir=tmp_path / "kept", **parameters))
    # That of the teacher takes longer than the deadline below.
    (child,) = wait_until(lambda: node.children(str(find_model("teacher"))), "the comparison")
    node.process.kill()
    assert wait_until(lambda: not is_running(child), "the end of the comparison", 2)


@needs_builder
def test_node_killed_while_writing_engine_builds_it_again(
    start, driver, node_arguments, height_model, wait_until, tmp_path
):
    kept = tmp_path / "kept"
    words = [height_model / "model.onnx", NODE, *node_arguments(backend="tensorrt", engine_cache_dir=kept)]
    node = start(FAKE_GPU, *words)
    wait_until(lambda: node.children(BUILDING), "the building")
    wait_until(lambda: list(kept.glob(".*")) or list(kept.glob("*.engine")), "the file")
    node.kill()
    assert not list(kept.glob("*.json")), "an unverified engine is not used"
    again = start(FAKE_GPU, *words)
    again.wait_for("active")
    driver.drive(3)
    (engine,) = kept.glob("*.engine")
    assert cached_engine(kept) == engine.read_bytes()
    assert engine.stat().st_size > 10_000


@pytest.mark.parametrize(
    "backend", [pytest.param("auto", marks=needs_two_backends), pytest.param("tensorrt", marks=needs_builder)]
)
def test_two_nodes_starting_with_one_empty_cache_both_label(
    start, driver, node_arguments, height_model, tmp_path, backend
):
    kept = tmp_path / "kept"
    words = [height_model / "model.onnx", NODE, *node_arguments(backend=backend, engine_cache_dir=kept)]
    nodes = [start(FAKE_GPU, *words), start(FAKE_GPU, *words, "-r", "__node:=other")]
    other = driver.listen("other/labels")
    for node in nodes:
        node.wait_for("active")
    driver.drive(3)
    driver.wait(lambda: len(other) >= 3, "labels of the other node")
    kinds = sorted(path.suffix for path in kept.iterdir())
    assert kinds == {"auto": [".json"], "tensorrt": [".engine", ".json"]}[backend], "no unfinished files remain"
    if backend == "tensorrt":
        assert cached_engine(kept)
    else:
        start(NODE, *node_arguments(backend=backend, engine_cache_dir=kept)).wait_for("measured before")


def cached_engine(folder):
    """The single engine of a cache as a node loads it; None if it would rebuild it."""
    (note,) = folder.glob("*.json")
    return EngineCache(folder).find(EngineKey(**json.loads(note.read_text())["key"]))
