"""A tool that ends in any way leaves no process behind: neither its ROS programs nor training's workers."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from test.processes import children_of, left_after
from test.waiting import wait_until
from xmodelkd_ros.harness.processes import dds_environment

pytestmark = [
    pytest.mark.usefixtures("own_domain"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
ROOT = Path(__file__).parents[2]

SUSPENDED = """
import sys, time
from pathlib import Path
from xmodelkd_ros.harness.processes import Program, dds_environment
log = Path(sys.argv[1]) / "received.jsonl"
arguments = ["--topics", "/nobody", "--log", str(log)]
with Program("harness.recorder", arguments, dds_environment(), log.with_suffix(".log")) as program:
    time.sleep(3)
    program.suspend()
    time.sleep(60)
"""

LOADER = """
import time
from torch.utils.data import Dataset
from training.runs.trainer import training_loader
class Slow(Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, index):
        time.sleep(60)
next(iter(training_loader(Slow(), None, 1, 2)))
"""


def heed_signals():
    """Background jobs of a shell inherit an ignored SIGINT, those of nohup an ignored SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def started(*words):
    """A tool in a process of its own; afterwards it and what it started are gone in any case."""
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=dds_environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=heed_signals,
    )
    try:
        yield process
    finally:
        left = children_of(process.pid)
        process.kill()
        process.communicate()
        left_after(left, 1)


def xmodelkd(*words):
    return ("-m", "xmodelkd_ros.tools.cli", *words)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_replay_leaves_no_process(drive, height_model, tmp_path, number, code):
    pytest.importorskip("rclpy")
    command = xmodelkd("replay", drive.path, "--model", height_model, "--rate", "0.01", "--out", tmp_path)
    with started(*command) as process:
        wait_until(lambda: len(children_of(process.pid)) == 3, "node, recorder and player", 40)
        programs = children_of(process.pid)
        process.send_signal(number)
        assert process.wait(30) == code
        assert left_after(programs) == []
        assert b"Traceback" not in process.stderr.read()
    assert number == signal.SIGKILL or not list(tmp_path.glob(".replay.*"))


def test_killed_load_leaves_no_process(height_model, tmp_path):
    pytest.importorskip("rclpy")
    command = xmodelkd("load", "--model", height_model, "--points", "3000", "--seconds", "30", "--out", tmp_path)
    with started(*command) as process:
        wait_until(lambda: len(children_of(process.pid)) == 3, "node, recorder and player", 40)
        programs = children_of(process.pid)
        process.kill()
        assert left_after(programs) == []


def test_suspended_program_ends_with_its_tool(tmp_path):
    pytest.importorskip("rclpy")
    with started("-c", SUSPENDED, tmp_path) as process:
        (program,) = wait_until(lambda: children_of(process.pid), "the recorder", 40)
        wait_until(lambda: "T" in Path(f"/proc/{program}/stat").read_text().rsplit(")", 1)[1][:3], "its suspension", 40)
        process.kill()
        assert left_after([program]) == []


def test_workers_that_prepare_crops_end_with_the_training():
    pytest.importorskip("torch")
    pytest.importorskip("pytorch_lightning")
    with started("-c", LOADER) as process:
        workers = wait_until(lambda: len(found := children_of(process.pid)) == 2 and found, "two workers", 60)
        time.sleep(1)  # they are at work
        process.kill()
        assert left_after(workers) == []
