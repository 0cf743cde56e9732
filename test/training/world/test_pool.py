import contextlib
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from test.processes import children_of, left_after
from training.world.pool import each_drive
from xmodelkd_ros.core.errors import XModelKDError


def test_results_come_in_order():
    assert list(each_drive(math.factorial, [3, 1, 4])) == [6, 1, 24]


def test_killed_worker_is_reported_in_one_line():
    with pytest.raises(XModelKDError, match="terminated from outside, perhaps out of memory; close other programs"):
        list(each_drive(signal.raise_signal, [signal.SIGKILL]))


def test_errors_cancel_the_other_workers():
    start = time.monotonic()
    with pytest.raises(ValueError, match="must be non-negative"):
        list(each_drive(time.sleep, [-1, 60, 60, 60]))
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("after_s", [0.5, 8.0])
def test_ctrl_c_terminates_all_processes(after_s, tmp_path):
    """While processes start and while they work; a terminal sends the signal to all of them."""
    words = ["--seed", "0", "1", "2", "3", "4", "5", "--sweeps", "100", "--out", str(tmp_path / "drives")]
    child = subprocess.Popen(
        [sys.executable, "-m", "training.world", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Who starts the tests in the background has SIGINT ignored, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        waited = time.monotonic() + 60
        while not (tmp_path / "drives").exists() and time.monotonic() < waited:
            time.sleep(0.05)
        time.sleep(after_s)
        os.killpg(child.pid, signal.SIGINT)
        _, error = child.communicate(timeout=20)
        assert (child.returncode, error) == (130, "interrupted\n")
        assert not list((tmp_path / "drives").iterdir())
        assert all_end(child.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):  # a test that fails leaves nobody at work
            os.killpg(child.pid, signal.SIGKILL)


def all_end(group):
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_exit_when_their_parent_is_killed():
    program = "import time; from training.world.pool import each_drive; list(each_drive(time.sleep, [60, 60]))"
    parent = subprocess.Popen([sys.executable, "-c", f"if __name__ == '__main__':\n    {program}"])
    found = []
    deadline = time.monotonic() + 60
    while len(found) < 2 and time.monotonic() < deadline:  # the other child keeps track of resources
        found = children_of(parent.pid)
        time.sleep(0.2)
    time.sleep(2)  # they are at work
    parent.kill()
    parent.wait()
    assert len(found) >= 2
    assert not left_after(found)
