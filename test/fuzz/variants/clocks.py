"""A LiDAR and a camera whose stamps come from different clocks."""

from __future__ import annotations

import re
from typing import Any

from test.fuzz.mutation import Mutator
from test.fuzz.target import Target, ensure
from xmodelkd_ros.segmentation.image_gaps import CLOCKS_DIFFER, why_no_image
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, Now, SweepCollector

_MS, _S = 1_000_000, 1_000_000_000
_SLOP_NS, _PERIOD_NS, _SWEEPS = 50 * _MS, 100 * _MS, 5
_UNIX_NS = 1_700_000_000 * _S
_OFFSETS_S = (2.0, 9.0, 18.0, 37.0, 3600.0, 19800.0, 86400.0, 315964782.0)
"""Leap seconds, time zones and epochs, and no known one."""


class Clocks(Target):
    """With equal clocks every sweep has its image; else the reason for none says so, with the difference."""

    name = "clocks"

    def seed_input(self) -> Any:
        return _UNIX_NS, _UNIX_NS

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        kind = mutator.below(4)
        if kind == 0:  # since its start
            pair = _UNIX_NS, mutator.below(10**6) * _S + mutator.below(_S)
        elif kind == 1:
            pair = _UNIX_NS, _UNIX_NS + int(mutator.pick(_OFFSETS_S) * _S) * mutator.pick((1, -1))
        elif kind == 2:
            pair = _UNIX_NS, _UNIX_NS + int(mutator.random.uniform(1.5, 1e6) * _S)
        else:
            pair = _UNIX_NS, _UNIX_NS + mutator.below(20) * _MS
        return (pair if mutator.chance(0.5) else pair[::-1]), 16 * _SWEEPS

    def execute(self, value: Any) -> None:
        sweeps_ns, images_ns = value
        collector: SweepCollector[int, str] = SweepCollector(("front",), _SLOP_NS, _SLOP_NS)
        gone: list[MatchedSweep[int, str]] = []
        for number in range(_SWEEPS):
            at_ns = number * _PERIOD_NS
            now = Now(_UNIX_NS + at_ns, at_ns)
            gone += collector.add_image("front", images_ns + at_ns, "front", now)
            gone += collector.add_sweep(sweeps_ns + at_ns, number, now)
        gone += collector.flush()
        offset_s = (images_ns - sweeps_ns) / _S
        for matched in gone[1:]:
            if abs(images_ns - sweeps_ns) <= _SLOP_NS:
                ensure("front" in matched.images, "a sweep lacks its image")
                continue
            ensure("front" not in matched.images, "an image of another time")
            reason = why_no_image("front", matched.stamp_ns, matched.gaps["front"])
            ensure(CLOCKS_DIFFER in reason, f"the reason does not name the clocks: {reason}"[:200])
            said = re.search(r"stamped (\d+(?:\.\d+)?) s.* (before|after) the sweeps", reason)
            ensure(said, f"the reason does not give the difference: {reason}"[:200])
            assert said is not None
            found_s = float(said[1]) * (1 if said[2] == "after" else -1)
            ensure(abs(found_s - offset_s) < 1.0, f"it says {found_s} s instead of {offset_s} s")
