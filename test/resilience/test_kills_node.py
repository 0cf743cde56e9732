"""The node is killed while it labels, compares libraries or builds an engine: the next one labels, nothing is torn."""

import json
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey

NODE = "xmodelkd_ros.node.segment_node"
COMPARING, BUILDING = "xmodelkd_ros.segmentation.compare_backends", "xmodelkd_ros.inference.tensorrt"
PLAYED_GPU = Path(__file__).with_name("played_gpu.py")


def shared_memory(pid):
    """The large piece of shared memory through which a process hands out its messages."""
    names = re.findall(r"/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16}$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    return next(path for path in map(Path, set(names)) if path.stat().st_size > 30_000_000)


def is_running(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_a_node_that_is_killed_while_it_labels_is_replaced_by_the_next(start, driver, node_words):
    """In the same domain, for the same subscribers; nothing of the first one is in its way, or in memory."""
    took, memory = [], []
    for _ in range(3):
        node = start(NODE, *node_words())
        node.wait_for("active")
        took.append(driver.drive(5))
        memory.append(shared_memory(node.process.pid))
        node.kill()
        os.utime(f"{memory[-1]}_el", (0, 0))  # as if it had run for a while
    assert driver.labelled == sorted(set(driver.labelled)), "each once, and in order"
    assert set(driver.labelled) <= set(driver.sent)
    assert max(took) < 10, took
    assert [path.exists() for path in memory] == [False, False, True], "each restart would cost 34 MB of memory"


# --- while it loads ---------------------------------------------------------------------------------------------------

needs_two = pytest.mark.skipif(find_spec("openvino") is None, reason="with one library nothing is compared")
needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


@needs_two
def test_a_node_that_is_killed_while_libraries_are_compared_compares_them_again(
    start, driver, node_words, wait_until, tmp_path
):
    kept = tmp_path / "kept"
    words = node_words(backend="auto", engine_cache_dir=kept)
    node = start(NODE, *words)
    wait_until(lambda: node.children(COMPARING), "the comparison")
    node.kill()
    assert not kept.exists(), "nothing was found out"
    start(NODE, *words).wait_for("measured now")
    driver.drive(3)
    assert [path.name[:8] for path in kept.iterdir()] == ["fastest-"]


@needs_two
def test_a_comparison_ends_with_the_node_that_wanted_it(start, node_words, wait_until, tmp_path):
    """Its two libraries would take the cores from the node that is started in its place."""
    node = start(NODE, *node_words(backend="auto", model="teacher", engine_cache_dir=tmp_path / "kept"))
    (child,) = wait_until(lambda: node.children(COMPARING), "the comparison")
    node.process.kill()
    assert wait_until(lambda: not is_running(child), "the end of the comparison", 3)


@needs_builder
def test_a_node_that_is_killed_while_an_engine_is_written_builds_it_again(
    start, driver, node_words, height_model, wait_until, tmp_path
):
    kept = tmp_path / "kept"
    words = [height_model / "model.onnx", NODE, *node_words(backend="tensorrt", engine_cache_dir=kept)]
    node = start(PLAYED_GPU, *words)
    wait_until(lambda: node.children(BUILDING), "the building")
    wait_until(lambda: list(kept.glob(".*")) or list(kept.glob("*.engine")), "the file")
    node.kill()
    assert not list(kept.glob("*.json")), "none was compared, so none is taken"
    again = start(PLAYED_GPU, *words)
    again.wait_for("active")
    driver.drive(3)
    (engine,) = kept.glob("*.engine")
    assert kept_engine(kept) == engine.read_bytes()
    assert engine.stat().st_size > 10_000


@pytest.mark.parametrize(
    "backend", [pytest.param("auto", marks=needs_two), pytest.param("tensorrt", marks=needs_builder)]
)
def test_two_nodes_that_start_at_once_with_one_empty_cache_both_label(
    start, driver, node_words, height_model, tmp_path, backend
):
    kept = tmp_path / "kept"
    words = [height_model / "model.onnx", NODE, *node_words(backend=backend, engine_cache_dir=kept)]
    nodes = [start(PLAYED_GPU, *words), start(PLAYED_GPU, *words, "-r", "__node:=other")]
    other = driver.listen("other/labels")
    for node in nodes:
        node.wait_for("active")
    driver.drive(3)
    driver.wait(lambda: len(other) >= 3, "labels of the other")
    kinds = sorted(path.suffix for path in kept.iterdir())
    assert kinds == {"auto": [".json"], "tensorrt": [".engine", ".json"]}[backend], "nothing unfinished is left"
    if backend == "tensorrt":
        assert kept_engine(kept)
    else:
        start(NODE, *node_words(backend=backend, engine_cache_dir=kept)).wait_for("measured before")


def kept_engine(folder):
    """The one engine of a cache, as a node takes it; None if it would build it again."""
    (note,) = folder.glob("*.json")
    return EngineCache(folder).find(EngineKey(**json.loads(note.read_text())["key"]))
