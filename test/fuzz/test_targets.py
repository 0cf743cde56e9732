"""A short attack on everything, in this process: no promise breaks, and good input is taken before and after."""

import sys
import time

import pytest

from test.fuzz.cost import tracing
from test.fuzz.mutation import Mutator
from test.fuzz.promises import ACCEPTED, BROKEN, REFUSED, fed
from test.fuzz.target import BrokenPromiseError, find
from test.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by what Linux says of a process")

SECONDS = 0.25
"""For each target: as many inputs as that allows, and a few at least."""
LEAST = 5


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise(name):
    for library in ("onnx", "rclpy", "sensor_msgs", "rosbags", "openvino"):
        pytest.importorskip(library)
    kinds = []
    with find(TARGETS[name].where) as target:
        target.use(target.good())
        end = time.process_time() + SECONDS
        while len(kinds) < LEAST or time.process_time() < end:
            value, size = target.make(Mutator.of(name, 1, len(kinds)))
            with tracing():
                outcome = fed(target, value, size, len(kinds))
            assert outcome.kind != BROKEN, f"{name}, input {outcome.number}: {outcome.why}\n{outcome.detail}"
            kinds.append(outcome.kind)
        target.use(target.good())
    assert set(kinds) <= {ACCEPTED, REFUSED}


@pytest.mark.parametrize("kept", [0, 1])
def test_a_recovery_that_loses_whole_messages_breaks_a_promise(monkeypatch, kept):
    """Of a recording of two chunks it would save none, or the first one only."""
    pytest.importorskip("rclpy")
    from test.fuzz.targets import recordings

    with find(TARGETS["recover"].where) as target:
        whole, first, second = target._whole, *target._whole.flushes
        whole_recover = recordings.recover

        def losing(path, out, say):
            (file,) = path.iterdir()
            file.write_bytes(whole.data[: first[0] if kept else 60])
            return whole_recover(path, out, say)

        target.use(target.good())
        target.use(target.cut(second[0] - 1))
        monkeypatch.setattr(recordings, "recover", losing)
        for value in (target.good(), target.cut(second[0]), *([] if kept else [target.cut(first[0])])):
            with pytest.raises(BrokenPromiseError, match="before the cut"):
                target.use(value)
