"""Sweeps and images with arbitrary stamps and arrival times in the SweepCollector."""

from __future__ import annotations

from typing import Any

from test.fuzz.mutation import Mutator
from test.fuzz.target import Target, ensure
from xmodelkd_ros.segmentation.image_matching import STEADY_FACTOR, MatchedSweep, Now, SweepCollector

_CAMERAS = ("a", "b", "c")
_MS = 1_000_000
_DECISIONS = ("complete", "deadline", "overtaken", "clock_jump", "flushed")


class Sync(Target):
    """A sequence of messages and polls; only steady time is monotonic."""

    name = "sync"

    def seed_input(self) -> Any:
        steps = [("image", "a", 0, 0, 0), ("sweep", "", 0, 0, 0), ("poll", "", 0, 100 * _MS, 100 * _MS)]
        return ("a",), 50 * _MS, 50 * _MS, steps

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        cameras = _CAMERAS[: mutator.below(4)]
        slop, deadline = (mutator.pick((0, 1, 50 * _MS, 1000 * _MS)) for _ in range(2))
        steady, steps = mutator.integer(40), []
        wild = mutator.random.random()  # share of arbitrary times
        for index in range(mutator.pick((5, *(20,) * 8, 300))):
            steady += mutator.pick((0, _MS, 10 * _MS, 300 * _MS))
            ros = self._time(mutator, wild * 0.2, steady)
            stamp = self._time(mutator, wild, 100 * _MS * (index // 4))
            kind = mutator.pick(("sweep", "image", "image", "image", "poll") if cameras else ("sweep", "poll"))
            steps.append((kind, mutator.pick(cameras) if cameras else "", stamp, ros, steady))
        return (cameras, slop, deadline, steps), 32 * len(steps)

    @staticmethod
    def _time(mutator: Mutator, wild: float, ordinary: int) -> int:
        if mutator.chance(wild):
            return mutator.integer(32, signed=True) * 1_000_000_000 + mutator.integer(32)
        return ordinary + mutator.below(30) * _MS

    def execute(self, value: Any) -> None:
        cameras, slop, deadline, steps = value
        collector: SweepCollector[int, str] = SweepCollector(cameras, slop, deadline)
        arrived: list[tuple[int, int]] = []
        gone: list[MatchedSweep[int, str]] = []
        for kind, camera, stamp, ros, steady in steps:
            now = Now(ros, steady)
            if kind == "sweep":
                arrived.append((stamp, steady))
                gone += collector.add_sweep(stamp, len(arrived) - 1, now)
            elif kind == "image":
                gone += collector.add_image(camera, stamp, camera, now)
            else:
                gone += collector.poll(now)
            late = [at for _, at in arrived[len(gone) :] if at + STEADY_FACTOR * deadline <= steady]
            ensure(not late, "a sweep waits beyond its deadline")
            ensure(len(collector) == len(arrived) - len(gone), "a sweep is lost")
        gone += collector.flush()
        self._check(gone, [stamp for stamp, _ in arrived], slop)

    def _check(self, gone: list[MatchedSweep[int, str]], stamps: list[int], slop: int) -> None:
        ensure([m.sweep for m in gone] == list(range(len(stamps))), "not every sweep once and in order")
        for matched in gone:
            ensure(
                matched.stamp_ns == stamps[matched.sweep] and matched.release_reason in _DECISIONS,
                "stamp or release reason of a sweep is wrong",
            )
            for camera, image in matched.images.items():
                ensure(image.image == camera, "an image of another camera")
                ensure(abs(image.stamp_ns - matched.stamp_ns) <= slop, "an image beyond the slop")
