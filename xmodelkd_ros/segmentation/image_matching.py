"""Matching of images to sweeps, and the decision when to stop waiting for images.

No ROS and no clock: times are arguments, so that tests and offline tools control them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

S = TypeVar("S")
I = TypeVar("I")  # noqa: E741 - an image

JUMP_NS = 1_000_000_000
"""Time going back by more than this is a clock jump or a looping bag, not reordering on the way."""

STEADY_FACTOR = 4
"""Durations in ROS time are also limited in steady time, to this multiple: a slow replay still gets its images, and a
stopped ``/clock`` does not block sweeps."""

_MIN_RETENTION_NS = 500_000_000
"""Retention of images in ROS time; longer if sweeps arrive later than that."""
_MAX_RETENTION_NS = 3_000_000_000
_MAX_BUFFERED = 256
"""Maximum number of buffered images per camera, whatever it publishes."""
_LAGS = 32
"""Number of recent sweeps whose lag behind the images determines the retention."""
_RELEASED = 32
"""Number of released sweeps remembered to distinguish late images from surplus ones."""


class Now(NamedTuple):
    """Readings of the clocks.

    Attributes:
        ros_ns: ROS time, which may stop, run at any rate, or jump.
        steady_ns: a monotonic clock.
    """

    ros_ns: int
    steady_ns: int


@dataclass(frozen=True, eq=False)
class StampedImage(Generic[I]):
    """An image and its stamp on the LiDAR's clock."""

    stamp_ns: int
    image: I


class ImageGap(NamedTuple):
    """How far the images of a camera are from a sweep that none of them fits.

    Attributes:
        nearest_ns: stamp of the nearest image, on the LiDAR's clock.
        last_ns: stamp of the image that arrived last; at the time of the sweep, if clocks and not images are late.
        age_ns: time from the arrival of the camera's last image to that of the sweep, in steady time.
        slop_ns: maximum time difference that was allowed.
    """

    nearest_ns: int
    last_ns: int
    age_ns: int
    slop_ns: int


@dataclass(frozen=True, eq=False)
class MatchedSweep(Generic[S, I]):
    """A released sweep with its images.

    Attributes:
        stamp_ns: stamp of the sweep.
        sweep: the sweep.
        images: matched images by camera.
        release_reason: ``complete``; ``deadline``; ``overtaken`` by the release of a newer sweep; ``clock_jump``; or
            ``flushed``.
        gaps: gap of each camera that has sent images, but none that fits.
    """

    stamp_ns: int
    sweep: S
    images: Mapping[str, StampedImage[I]]
    release_reason: str
    gaps: Mapping[str, ImageGap] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _WaitingSweep(Generic[S]):
    stamp_ns: int
    sweep: S
    arrived: Now


class SweepCollector(Generic[S, I]):
    """Matches to each sweep the nearest image of each camera, and releases sweeps in time.

    Every added sweep is released exactly once and in the order of addition: when each camera has an image within the
    slop, at its deadline with the images available, or before a newer sweep. Sweeps must be added in the order of their
    stamps (see :class:`xmodelkd_ros.node.stamp_order.StampOrder`); an older stamp counts as a clock jump. Each method
    returns the released sweeps. The caller polls while sweeps wait.

    Args:
        cameras: names of the cameras to wait for; if empty, sweeps are released at once.
        slop_ns: maximum image-to-sweep time difference.
        deadline_ns: maximum waiting time of a sweep after its arrival.

    Attributes:
        slop_ns: as above; may be changed.
        deadline_ns: as above; may be changed, also for waiting sweeps.
    """

    def __init__(self, cameras: Sequence[str], slop_ns: int, deadline_ns: int) -> None:
        self.slop_ns, self.deadline_ns = slop_ns, deadline_ns
        self._buffers = {name: _ImageBuffer[I]() for name in cameras}
        self._waiting: deque[_WaitingSweep[S]] = deque()
        self._released: deque[tuple[int, frozenset[str]]] = deque(maxlen=_RELEASED)  # stamp, cameras without image
        self._newest_ns: int | None = None
        self._lags_ns: deque[int] = deque(maxlen=_LAGS)
        self._ros_ns: int | None = None

    def __len__(self) -> int:
        """Number of waiting sweeps."""
        return len(self._waiting)

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """Number of unused images by camera and reason: ``late``, ``surplus``, ``duplicate`` or ``clock_jump``."""
        return {name: buffer.unused for name, buffer in self._buffers.items()}

    def add_sweep(self, stamp_ns: int, sweep: S, now: Now) -> list[MatchedSweep[S, I]]:
        """Add a sweep."""
        released = self._handle_jump(now)
        if self._newest_ns is not None and stamp_ns < self._newest_ns:
            released += self._restart(stamp_ns)
        self._newest_ns = stamp_ns
        newest = [buffer.newest_ns for buffer in self._buffers.values() if buffer.newest_ns is not None]
        self._lags_ns.append(max(newest, default=stamp_ns) - stamp_ns)
        self._waiting.append(_WaitingSweep(stamp_ns, sweep, now))
        return released + self._release_due(now)

    def add_image(self, camera: str, stamp_ns: int, image: I, now: Now) -> list[MatchedSweep[S, I]]:
        """Add an image of one of the cameras, stamped on the LiDAR's clock."""
        released = self._handle_jump(now)
        late = any(
            camera in missing and abs(stamp_ns - sweep_ns) <= self.slop_ns for sweep_ns, missing in self._released
        )
        buffer = self._buffers[camera]
        buffer.add(StampedImage(stamp_ns, image), late, now)
        buffer.expire(now, self._retention_ns, [waiting.stamp_ns for waiting in self._waiting], self.slop_ns)
        return released + self._release_due(now)

    def poll(self, now: Now) -> list[MatchedSweep[S, I]]:
        """Check the deadlines."""
        return self._handle_jump(now) + self._release_due(now)

    @property
    def _retention_ns(self) -> int:
        """How long images are buffered: 1.5 times the lag of sweeps behind images."""
        lag_ns = max(self._lags_ns, default=0)
        return min(max(_MIN_RETENTION_NS, lag_ns + lag_ns // 2 + self.slop_ns), _MAX_RETENTION_NS)

    def flush(self) -> list[MatchedSweep[S, I]]:
        """Release all sweeps with the images available."""
        return [self._matched(self._waiting.popleft(), "flushed") for _ in range(len(self._waiting))]

    def _remaining_ns(self, waiting: _WaitingSweep[S], now: Now) -> int:
        ros = waiting.arrived.ros_ns + self.deadline_ns - now.ros_ns
        steady = waiting.arrived.steady_ns + STEADY_FACTOR * self.deadline_ns - now.steady_ns
        return min(ros, steady)

    def _release_due(self, now: Now) -> list[MatchedSweep[S, I]]:
        """Release the sweeps that are due, and all older ones before them."""
        reasons = [self._release_reason(waiting, now) for waiting in self._waiting]
        last = max((number for number, reason in enumerate(reasons) if reason), default=-1)
        return [self._matched(self._waiting.popleft(), reasons[number] or "overtaken") for number in range(last + 1)]

    def _release_reason(self, waiting: _WaitingSweep[S], now: Now) -> str:
        if all(buffer.nearest(waiting.stamp_ns, self.slop_ns) for buffer in self._buffers.values()):
            return "complete"
        return "deadline" if self._remaining_ns(waiting, now) <= 0 else ""

    def _matched(self, waiting: _WaitingSweep[S], release_reason: str) -> MatchedSweep[S, I]:
        nearest = {name: buffer.nearest(waiting.stamp_ns, self.slop_ns) for name, buffer in self._buffers.items()}
        images = {name: buffered.use() for name, buffered in nearest.items() if buffered is not None}
        gaps = {name: self._buffers[name].gap(waiting, self.slop_ns) for name in self._buffers if name not in images}
        self._released.append((waiting.stamp_ns, frozenset(self._buffers) - frozenset(images)))
        for buffer in self._buffers.values():  # later sweeps have newer stamps, except after a clock jump
            buffer.drop(waiting.stamp_ns - JUMP_NS, waiting.stamp_ns - self.slop_ns)
        known = {name: gap for name, gap in gaps.items() if gap is not None}
        return MatchedSweep(waiting.stamp_ns, waiting.sweep, images, release_reason, known)

    def _handle_jump(self, now: Now) -> list[MatchedSweep[S, I]]:
        before, self._ros_ns = self._ros_ns, now.ros_ns
        return self._restart(now.ros_ns) if before is not None and now.ros_ns < before - JUMP_NS else []

    def _restart(self, around_ns: int) -> list[MatchedSweep[S, I]]:
        """Release the waiting sweeps without images, and reset the state after a jump to a new time."""
        released = [MatchedSweep[S, I](waiting.stamp_ns, waiting.sweep, {}, "clock_jump") for waiting in self._waiting]
        self._waiting.clear()
        self._released.clear()
        self._newest_ns = None
        for buffer in self._buffers.values():
            buffer.restart(around_ns)
        return released


@dataclass(eq=False)
class _BufferedImage(Generic[I]):
    """A buffered image, and the reason to count if it is dropped now; empty once a sweep has used it."""

    image: StampedImage[I]
    arrived: Now
    unused_reason: str = "surplus"

    def use(self) -> StampedImage[I]:
        """The image, for a released sweep. It stays in the buffer, since the next sweep may need it too."""
        self.unused_reason = ""
        return self.image


class _ImageBuffer(Generic[I]):
    """Buffered images of one camera, sorted by stamp.

    They expire by time of arrival rather than by stamp, so that a single wrong stamp does not expire the others.
    """

    def __init__(self) -> None:
        self.unused: Counter[str] = Counter()
        self._buffered: list[_BufferedImage[I]] = []
        self._last: tuple[int, Now] | None = None
        """Stamp and arrival of the last image, whether still buffered or not."""

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest image."""
        return self._buffered[-1].image.stamp_ns if self._buffered else None

    def add(self, image: StampedImage[I], late: bool, now: Now) -> None:
        """Buffer an image; a late one matches a sweep that was released without it."""
        self._last = image.stamp_ns, now
        index = bisect_left([buffered.image.stamp_ns for buffered in self._buffered], image.stamp_ns)
        if index < len(self._buffered) and self._buffered[index].image.stamp_ns == image.stamp_ns:
            self.unused["duplicate"] += 1
            return
        self._buffered.insert(index, _BufferedImage(image, now, "late" if late else "surplus"))

    def nearest(self, stamp_ns: int, slop_ns: int) -> _BufferedImage[I] | None:
        """The image nearest to a stamp, if it is within the slop."""
        nearest = min(self._buffered, key=lambda buffered: abs(buffered.image.stamp_ns - stamp_ns), default=None)
        return nearest if nearest is not None and abs(nearest.image.stamp_ns - stamp_ns) <= slop_ns else None

    def gap(self, waiting: _WaitingSweep[Any], slop_ns: int) -> ImageGap | None:
        """Gap between the images and a sweep; None if there never was an image."""
        if self._last is None:
            return None
        last_ns, arrived = self._last
        stamps = [last_ns, *(buffered.image.stamp_ns for buffered in self._buffered)]
        nearest_ns = min(stamps, key=lambda stamp_ns: abs(stamp_ns - waiting.stamp_ns))
        return ImageGap(nearest_ns, last_ns, max(waiting.arrived.steady_ns - arrived.steady_ns, 0), slop_ns)

    def expire(self, now: Now, retention_ns: int, waiting_ns: Sequence[int], slop_ns: int) -> None:
        """Drop old images, unless a waiting sweep may use them.

        Args:
            now: readings of the clocks.
            retention_ns: retention in ROS time; in steady time :data:`STEADY_FACTOR` times as long.
            waiting_ns: stamps of the waiting sweeps.
            slop_ns: maximum image-to-sweep time difference.
        """

        def stays(buffered: _BufferedImage[I]) -> bool:
            ros_ns, steady_ns = now.ros_ns - buffered.arrived.ros_ns, now.steady_ns - buffered.arrived.steady_ns
            if ros_ns <= retention_ns and steady_ns <= STEADY_FACTOR * retention_ns:
                return True
            return any(abs(buffered.image.stamp_ns - sweep_ns) <= slop_ns for sweep_ns in waiting_ns)

        staying = [buffered for buffered in self._buffered if stays(buffered)]
        if len(staying) > _MAX_BUFFERED:
            staying.remove(min(staying, key=lambda buffered: buffered.arrived.steady_ns))
        self._replace(staying)

    def drop(self, from_ns: int, before_ns: int) -> None:
        """Drop images with stamps in a range."""
        self._replace([one for one in self._buffered if not from_ns <= one.image.stamp_ns < before_ns])

    def restart(self, around_ns: int) -> None:
        """Drop images whose stamps are far from the new time."""
        dropped = [one for one in self._buffered if abs(one.image.stamp_ns - around_ns) > JUMP_NS]
        for buffered in dropped:
            buffered.unused_reason = buffered.unused_reason and "clock_jump"
        self._replace([buffered for buffered in self._buffered if buffered not in dropped])

    def _replace(self, remaining: list[_BufferedImage[I]]) -> None:
        staying = set(map(id, remaining))
        dropped = (one for one in self._buffered if id(one) not in staying)
        self.unused.update(one.unused_reason for one in dropped if one.unused_reason)
        self._buffered = remaining
