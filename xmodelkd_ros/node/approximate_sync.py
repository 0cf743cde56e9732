"""``sync.policy: approximate``: images matched by the ApproximateTimeSynchronizer of ROS's message_filters."""

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
"""Messages of each topic that wait for others."""


def message_filters() -> Any:
    """The library.

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
    """What the synchronizer looks at: a header with a stamp, here on the LiDAR's clock."""

    header: _Header
    content: Any

    @classmethod
    def at(cls, stamp_ns: int, content: Any) -> _Stamped:
        return cls(_Header(Time(nanoseconds=stamp_ns)), content)

    @property
    def stamp_ns(self) -> int:
        return int(self.header.stamp.nanoseconds)


class ApproximateCollector:
    """Gives sweeps their images as message_filters matches them, in place of :class:`xmodelkd_ros.segmentation.image_matching.SweepCollector`.

    There is no deadline: a sweep goes when all cameras have an image of it, and never if one has none.

    Args:
        cameras: names of the cameras.
        unmatched: takes each sweep that will not go.

    Attributes:
        deadline_ns: nothing here; as there.

    Raises:
        ConfigError: message_filters is not installed.
    """

    def __init__(self, cameras: Sequence[str], unmatched: Callable[[Any], None]) -> None:
        self.deadline_ns = 0
        self._slop_ns = 0
        self._cameras, self._unmatched = tuple(cameras), unmatched
        self._waiting: deque[tuple[int, Any]] = deque()
        self._gone: list[MatchedSweep[Any, Any]] = []
        self._newest_ns: int | None = None
        self._start()

    def __len__(self) -> int:
        """None waits for a deadline."""
        return 0

    @property
    def slop_ns(self) -> int:
        """An image farther from the sweep than this is not of it; may be changed."""
        return self._slop_ns

    @slop_ns.setter
    def slop_ns(self, value: int) -> None:
        self._slop_ns = value
        self._synchronizer.slop = Duration(nanoseconds=value)

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """The synchronizer does not say what became of images."""
        return {}

    def add_sweep(self, stamp_ns: int, sweep: Any, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Take a sweep."""
        if self._newest_ns is not None and stamp_ns < self._newest_ns:
            # It would keep what is left of the time before, and throw away all that comes.
            self._drop(len(self._waiting))
            self._start()
        self._newest_ns = stamp_ns
        self._waiting.append((stamp_ns, sweep))
        self._filters[0].signalMessage(_Stamped.at(stamp_ns, sweep))
        self._drop(len(self._waiting) - _QUEUE)
        return self._taken()

    def add_image(self, camera: str, stamp_ns: int, image: Any, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Take an image of one of the cameras, stamped on the LiDAR's clock."""
        self._filters[1 + self._cameras.index(camera)].signalMessage(_Stamped.at(stamp_ns, image))
        return self._taken()

    def poll(self, now: Now) -> list[MatchedSweep[Any, Any]]:
        """Nothing: there is no deadline."""
        return []

    def flush(self) -> list[MatchedSweep[Any, Any]]:
        """Let all sweeps that wait go without images."""
        gone = [MatchedSweep[Any, Any](stamp_ns, sweep, {}, "flushed") for stamp_ns, sweep in self._waiting]
        self._waiting.clear()
        return gone

    def _start(self) -> None:
        library = message_filters()
        self._filters = [library.SimpleFilter() for _ in ("sweep", *self._cameras)]
        self._synchronizer = library.ApproximateTimeSynchronizer(self._filters, _QUEUE, self._slop_ns * 1e-9)
        self._synchronizer.registerCallback(self._on_match)

    def _on_match(self, sweep: _Stamped, *images: _Stamped) -> None:
        stamps = [stamp_ns for stamp_ns, _ in self._waiting]
        if sweep.stamp_ns not in stamps:
            return  # a newer one has gone
        self._drop(stamps.index(sweep.stamp_ns))
        self._waiting.popleft()
        found = {
            name: StampedImage(image.stamp_ns, image.content) for name, image in zip(self._cameras, images, strict=True)
        }
        self._gone.append(MatchedSweep(sweep.stamp_ns, sweep.content, found, "complete"))

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._unmatched(self._waiting.popleft()[1])

    def _taken(self) -> list[MatchedSweep[Any, Any]]:
        gone, self._gone = self._gone, []
        return gone
