"""Image matching with the ApproximateTimeSynchronizer of message_filters (``sync.policy: approximate``)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.time import Time

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, Now, StampedImage

_QUEUE = 10
"""Queue size per topic."""


def message_filters() -> Any:
    """Import message_filters.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import message_filters as library
    except ImportError as error:
        raise ConfigError(
            f"sync.policy is approximate and message_filters is not installed ({error}); set it to collector"
        ) from error
    return library


@dataclass(frozen=True)
class _Header:
    stamp: Time


@dataclass(frozen=True, eq=False)
class _Stamped:
    """Content with a header stamp, on the LiDAR's clock, as the synchronizer requires."""

    header: _Header
    content: Any

    @classmethod
    def at(cls, stamp_ns: int, content: Any) -> _Stamped:
        return cls(_Header(Time(nanoseconds=stamp_ns)), content)

    @property
    def stamp_ns(self) -> int:
        return int(self.header.stamp.nanoseconds)


class ApproximateCollector:
    """Adapter of message_filters to the interface of the default collector.

    See :class:`xmodelkd_ros.segmentation.image_matching.SweepCollector`. There is no deadline: a sweep is released
    when all cameras have an image for it, and dropped if one has none.

    Args:
        cameras: names of the cameras.
        on_unmatched: callback for each dropped sweep.

    Attributes:
        deadline_ns: unused; part of the interface.

    Raises:
        ConfigError: message_filters is not installed.
    """

    def __init__(self, cameras: Sequence[str], on_unmatched: Callable[[Any], None]) -> None:
        self.deadline_ns = 0
        self._slop_ns = 0
        self._cameras, self._on_unmatched = tuple(cameras), on_unmatched
        self._waiting: deque[tuple[int, Any]] = deque()
        self._released: list[MatchedSweep[Any, Any]] = []
        self._newest_ns: int | None = None
        self._restart()

    def __len__(self) -> int:
        """Number of sweeps that wait for a deadline: always 0."""
        return 0

    @property
    def slop_ns(self) -> int:
        """Maximum image-to-sweep time difference; may be changed."""
        return self._slop_ns

    @slop_ns.setter
    def slop_ns(self, value: int) -> None:
        self._slop_ns = value
        self._synchronizer.slop = Duration(nanoseconds=value)

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """Unused images by camera and reason: the synchronizer does not report them."""
        return {}

    def add_sweep(self, stamp_ns: int, sweep: Any, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Add a sweep; returns the released sweeps."""
        if self._newest_ns is not None and stamp_ns < self._newest_ns:
            # After a jump back in time, the synchronizer would keep old messages and discard new ones.
            self._drop(len(self._waiting))
            self._restart()
        self._newest_ns = stamp_ns
        self._waiting.append((stamp_ns, sweep))
        self._filters[0].signalMessage(_Stamped.at(stamp_ns, sweep))
        self._drop(len(self._waiting) - _QUEUE)
        return self._take_released()

    def add_image(self, camera: str, stamp_ns: int, image: Any, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Add an image, stamped on the LiDAR's clock; returns the released sweeps."""
        self._filters[1 + self._cameras.index(camera)].signalMessage(_Stamped.at(stamp_ns, image))
        return self._take_released()

    def poll(self, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Return nothing: there are no deadlines."""
        return []

    def flush(self) -> list[MatchedSweep[Any, Any]]:
        """Release all waiting sweeps without images."""
        released = [MatchedSweep[Any, Any](stamp_ns, sweep, {}, "flushed") for stamp_ns, sweep in self._waiting]
        self._waiting.clear()
        return released

    def _restart(self) -> None:
        library = message_filters()
        self._filters = [library.SimpleFilter() for _ in ("sweep", *self._cameras)]
        self._synchronizer = library.ApproximateTimeSynchronizer(self._filters, _QUEUE, self._slop_ns * 1e-9)
        self._synchronizer.registerCallback(self._on_match)

    def _on_match(self, sweep: _Stamped, *images: _Stamped) -> None:
        stamps = [stamp_ns for stamp_ns, _ in self._waiting]
        if sweep.stamp_ns not in stamps:
            return  # a newer one was released
        self._drop(stamps.index(sweep.stamp_ns))
        self._waiting.popleft()
        matched = {
            name: StampedImage(image.stamp_ns, image.content) for name, image in zip(self._cameras, images, strict=True)
        }
        self._released.append(MatchedSweep(sweep.stamp_ns, sweep.content, matched, "complete"))

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._on_unmatched(self._waiting.popleft()[1])

    def _take_released(self) -> list[MatchedSweep[Any, Any]]:
        released, self._released = self._released, []
        return released
