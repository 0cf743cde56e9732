"""Which images belong to a sweep, and when to stop waiting for them.

There is no ROS here and no clock: times come in as arguments, so that tests drive them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")
I = TypeVar("I")  # noqa: E741 - an image

JUMP_NS = 1_000_000_000
"""Time that goes back by more than this is a clock that was set, or a bag that loops, not disorder on the way."""

PATIENCE = 4
"""A deadline in ROS time holds in steady time too, this many times as long: a slow replay gets its images, and a
``/clock`` that stands still does not keep a sweep."""

_KEPT_NS = 500_000_000
"""How long after its arrival an image may find its sweep, in ROS time; longer where sweeps come later than that."""
_LONGEST_KEPT_NS = 3_000_000_000
_MOST_KEPT = 256
"""Whatever a camera sends, memory ends."""
_LAGS = 32
"""Sweeps whose lag behind the images tells how long images are kept."""
_REMEMBERED = 32
"""Sweeps that are remembered after they went out, to tell a late image from one that no sweep wanted."""


class Now(NamedTuple):
    """What the clocks say.

    Attributes:
        ros_ns: ROS time, which may stand still, run at any rate, or jump.
        steady_ns: a monotonic clock.
    """

    ros_ns: int
    steady_ns: int


@dataclass(frozen=True, eq=False)
class StampedImage(Generic[I]):
    """An image, and when it was taken, on the LiDAR's clock."""

    stamp_ns: int
    image: I


@dataclass(frozen=True, eq=False)
class MatchedSweep(Generic[S, I]):
    """A sweep on its way, with its images.

    Attributes:
        stamp_ns: of the sweep.
        sweep: the sweep.
        images: of each camera that has one.
        release_reason: why it goes now: ``complete``; ``deadline``; ``overtaken``, because a newer one goes; ``clock_jump``;
            or ``flushed``.
    """

    stamp_ns: int
    sweep: S
    images: Mapping[str, StampedImage[I]]
    release_reason: str


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[S]):
    stamp_ns: int
    sweep: S
    arrived: Now


class SweepCollector(Generic[S, I]):
    """Gives every sweep the image of each camera that is nearest to it, and lets it go in time.

    Every sweep that is added comes out once, in the order in which it came in: with all cameras as soon as each has
    an image within the slop; at its deadline with those that are there; and before any newer one. So sweeps must be
    added in the order of their stamps (:class:`xmodelkd_ros.node.stamp_order.StampOrder` sees to that); one that is older
    than the one before is of another time. Each method returns the sweeps that go. The caller polls while sweeps wait.

    Args:
        cameras: names of the cameras that are waited for; none: sweeps go at once.
        slop_ns: an image farther from the sweep than this is not of it.
        deadline_ns: how long a sweep waits from its arrival on.

    Attributes:
        slop_ns: as above; may be changed.
        deadline_ns: as above; may be changed, and holds for the sweeps that wait too.
    """

    def __init__(self, cameras: Sequence[str], slop_ns: int, deadline_ns: int) -> None:
        self.slop_ns, self.deadline_ns = slop_ns, deadline_ns
        self._cameras = {name: _Camera[I]() for name in cameras}
        self._waiting: deque[_Waiting[S]] = deque()
        self._gone: deque[tuple[int, frozenset[str]]] = deque(maxlen=_REMEMBERED)
        self._newest_ns: int | None = None
        self._lags_ns: deque[int] = deque(maxlen=_LAGS)
        self._ros_ns: int | None = None

    def __len__(self) -> int:
        """How many sweeps wait."""
        return len(self._waiting)

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """How many images of each camera no sweep got: ``late``, ``surplus``, ``duplicate``, or of a ``clock_jump``."""
        return {name: kept.unused for name, kept in self._cameras.items()}

    def add_sweep(self, stamp_ns: int, sweep: S, now: Now) -> list[MatchedSweep[S, I]]:
        """Take a sweep."""
        gone = self._after_jump(now)
        if self._newest_ns is not None and stamp_ns < self._newest_ns:
            gone += self._restart(stamp_ns)
        self._newest_ns = stamp_ns
        newest = [kept.newest_ns for kept in self._cameras.values() if kept.newest_ns is not None]
        self._lags_ns.append(max(newest, default=stamp_ns) - stamp_ns)
        self._waiting.append(_Waiting(stamp_ns, sweep, now))
        return gone + self._due(now)

    def add_image(self, camera: str, stamp_ns: int, image: I, now: Now) -> list[MatchedSweep[S, I]]:
        """Take an image of one of the cameras, stamped on the LiDAR's clock."""
        gone = self._after_jump(now)
        missed = any(camera in without and abs(stamp_ns - of) <= self.slop_ns for of, without in self._gone)
        kept = self._cameras[camera]
        kept.add(StampedImage(stamp_ns, image), missed, now)
        kept.expire(now, self._kept_ns, [waiting.stamp_ns for waiting in self._waiting], self.slop_ns)
        return gone + self._due(now)

    def poll(self, now: Now) -> list[MatchedSweep[S, I]]:
        """See whether time has come for a sweep."""
        return self._after_jump(now) + self._due(now)

    @property
    def _kept_ns(self) -> int:
        """How long an image is kept: half as long again as sweeps lag behind the images."""
        lag_ns = max(self._lags_ns, default=0)
        return min(max(_KEPT_NS, lag_ns + lag_ns // 2 + self.slop_ns), _LONGEST_KEPT_NS)

    def flush(self) -> list[MatchedSweep[S, I]]:
        """Let all sweeps go with what is there."""
        return [self._matched(self._waiting.popleft(), "flushed") for _ in range(len(self._waiting))]

    def _left_ns(self, waiting: _Waiting[S], now: Now) -> int:
        ros = waiting.arrived.ros_ns + self.deadline_ns - now.ros_ns
        steady = waiting.arrived.steady_ns + PATIENCE * self.deadline_ns - now.steady_ns
        return min(ros, steady)

    def _due(self, now: Now) -> list[MatchedSweep[S, I]]:
        """The sweeps that go now; an older one goes before any newer one, whatever it lacks."""
        decisions = [self._release_reason(waiting, now) for waiting in self._waiting]
        last = max((number for number, release_reason in enumerate(decisions) if release_reason), default=-1)
        return [self._matched(self._waiting.popleft(), decisions[number] or "overtaken") for number in range(last + 1)]

    def _release_reason(self, waiting: _Waiting[S], now: Now) -> str:
        if all(kept.find(waiting.stamp_ns, self.slop_ns) for kept in self._cameras.values()):
            return "complete"
        return "deadline" if self._left_ns(waiting, now) <= 0 else ""

    def _matched(self, waiting: _Waiting[S], release_reason: str) -> MatchedSweep[S, I]:
        found = {name: kept.find(waiting.stamp_ns, self.slop_ns) for name, kept in self._cameras.items()}
        images = {name: kept.take() for name, kept in found.items() if kept is not None}
        self._gone.append((waiting.stamp_ns, frozenset(self._cameras) - frozenset(images)))
        for kept in self._cameras.values():  # no later sweep is older, unless it is of another time
            kept.drop(waiting.stamp_ns - JUMP_NS, waiting.stamp_ns - self.slop_ns)
        return MatchedSweep(waiting.stamp_ns, waiting.sweep, images, release_reason)

    def _after_jump(self, now: Now) -> list[MatchedSweep[S, I]]:
        before, self._ros_ns = self._ros_ns, now.ros_ns
        return self._restart(now.ros_ns) if before is not None and now.ros_ns < before - JUMP_NS else []

    def _restart(self, around_ns: int) -> list[MatchedSweep[S, I]]:
        """Let the sweeps of another time go without images, and forget that time."""
        gone = [MatchedSweep[S, I](waiting.stamp_ns, waiting.sweep, {}, "clock_jump") for waiting in self._waiting]
        self._waiting.clear()
        self._gone.clear()
        self._newest_ns = None
        for kept in self._cameras.values():
            kept.restart(around_ns)
        return gone


@dataclass(eq=False)
class _Kept(Generic[I]):
    """An image that a sweep may still want, and what it is counted as if it goes now; empty: a sweep got it."""

    image: StampedImage[I]
    arrived: Now
    fate: str = "surplus"

    def take(self) -> StampedImage[I]:
        """The image, for a sweep that goes. It is kept all the same: the next sweep may want it too."""
        self.fate = ""
        return self.image


class _Camera(Generic[I]):
    """The images of one camera that a sweep may still want, in the order of their stamps.

    They go by the time of their arrival and not by their stamps: one wrong stamp must not cost the others.

    Attributes:
        unused: how many no sweep got, by reason.
    """

    def __init__(self) -> None:
        self.unused: Counter[str] = Counter()
        self._kept: list[_Kept[I]] = []

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest image."""
        return self._kept[-1].image.stamp_ns if self._kept else None

    def add(self, image: StampedImage[I], late: bool, now: Now) -> None:
        """Keep an image; a late one is one that a sweep waited for in vain."""
        place = bisect_left([kept.image.stamp_ns for kept in self._kept], image.stamp_ns)
        if place < len(self._kept) and self._kept[place].image.stamp_ns == image.stamp_ns:
            self.unused["duplicate"] += 1
            return
        self._kept.insert(place, _Kept(image, now, "late" if late else "surplus"))

    def find(self, stamp_ns: int, slop_ns: int) -> _Kept[I] | None:
        """The image nearest to a stamp, if one is within the slop."""
        nearest = min(self._kept, key=lambda kept: abs(kept.image.stamp_ns - stamp_ns), default=None)
        return nearest if nearest is not None and abs(nearest.image.stamp_ns - stamp_ns) <= slop_ns else None

    def expire(self, now: Now, kept_ns: int, wanted_ns: Sequence[int], slop_ns: int) -> None:
        """Drop what came too long ago, unless a sweep waits that may want it.

        Args:
            now: what the clocks say.
            kept_ns: how long images are kept, in ROS time, and :data:`PATIENCE` times as long in steady time.
            wanted_ns: stamps of the sweeps that wait.
            slop_ns: how far from them their images may be.
        """

        def stays(kept: _Kept[I]) -> bool:
            ros_ns, steady_ns = now.ros_ns - kept.arrived.ros_ns, now.steady_ns - kept.arrived.steady_ns
            if ros_ns <= kept_ns and steady_ns <= PATIENCE * kept_ns:
                return True
            return any(abs(kept.image.stamp_ns - wanted) <= slop_ns for wanted in wanted_ns)

        staying = [kept for kept in self._kept if stays(kept)]
        if len(staying) > _MOST_KEPT:
            staying.remove(min(staying, key=lambda kept: kept.arrived.steady_ns))
        self._keep(staying)

    def drop(self, from_ns: int, before_ns: int) -> None:
        """Drop what has its stamp in between."""
        self._keep([kept for kept in self._kept if not from_ns <= kept.image.stamp_ns < before_ns])

    def restart(self, around_ns: int) -> None:
        """Drop what is of another time."""
        gone = [kept for kept in self._kept if abs(kept.image.stamp_ns - around_ns) > JUMP_NS]
        for kept in gone:
            kept.fate = kept.fate and "clock_jump"
        self._keep([kept for kept in self._kept if kept not in gone])

    def _keep(self, remaining: list[_Kept[I]]) -> None:
        staying = set(map(id, remaining))
        self.unused.update(kept.fate for kept in self._kept if id(kept) not in staying and kept.fate)
        self._kept = remaining
