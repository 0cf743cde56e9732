"""Short in-process fuzzing of every target: no failures, and the seed input is accepted before and after."""

import sys
import time

import pytest

from test.fuzz.cost import trace_allocations
from test.fuzz.mutation import Mutator
from test.fuzz.oracle import ACCEPTED, FAILED, REJECTED, run_input
from test.fuzz.target import InvariantError, load_target
from test.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")

SECONDS, VARIANT_SECONDS = 0.25, 1.0
"""CPU time per target, with at least ``MIN_INPUTS`` inputs; more for variants, each of which is valid and different."""
MIN_INPUTS = 5


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_fails(name):
    for library in ("onnx", "rclpy", "sensor_msgs", "rosbags", "openvino", "mcap", "pandas"):
        pytest.importorskip(library)
    kinds = []
    with load_target(TARGETS[name].path) as target:
        target.execute(target.seed_input())
        end = time.process_time() + (VARIANT_SECONDS if ".variants." in TARGETS[name].path else SECONDS)
        while len(kinds) < MIN_INPUTS or time.process_time() < end:
            value, size = target.generate(Mutator.of(name, 1, len(kinds)))
            with trace_allocations():
                outcome = run_input(target, value, size, len(kinds))
            assert outcome.kind != FAILED, f"{name}, input {outcome.number}: {outcome.why}\n{outcome.detail}"
            kinds.append(outcome.kind)
        target.execute(target.seed_input())
    assert set(kinds) <= {ACCEPTED, REJECTED}


@pytest.mark.parametrize("kept", [0, 1])
def test_recovery_that_loses_messages_fails(monkeypatch, kept):
    """A recovery of no chunk, or only the first of two, is detected."""
    pytest.importorskip("rclpy")
    from test.fuzz.targets import recordings

    with load_target(TARGETS["recover"].path) as target:
        whole, first, second = target._whole, *target._whole.flushes
        whole_recover = recordings.recover

        def losing(path, out, say):
            (file,) = path.iterdir()
            file.write_bytes(whole.data[: first[0] if kept else 60])
            return whole_recover(path, out, say)

        target.execute(target.seed_input())
        target.execute(target.cut(second[0] - 1))
        monkeypatch.setattr(recordings, "recover", losing)
        for value in (target.seed_input(), target.cut(second[0]), *([] if kept else [target.cut(first[0])])):
            with pytest.raises(InvariantError, match="before the cut"):
                target.execute(value)
