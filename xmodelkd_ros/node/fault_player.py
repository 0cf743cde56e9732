"""Plays a bag again and again, as one long drive, and lets cameras and clocks fail on the way.

    python -m xmodelkd_ros.node.fault_player BAG --points /points --cameras /front/image_raw:/front/camera_info ...
        --faults camera_stops ... [--rate 1.0] [--warm-up 3] [--fault-seconds 2] [--rest-seconds 2] --log FILE

Every pass goes on where the one before ended: stamps are those of one drive. ``/clock`` is published. Sweeps are never
touched. ``--log`` says when each sweep left (see :mod:`xmodelkd_ros.node.player`) and when each fault began and ended:

    {"event": "begin", "fault": "camera_stops", "monotonic_ns": 456}

The program ends with 0 after the last rest, or on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError, listed
from xmodelkd_ros.faults import FAULTS, Window, schedule
from xmodelkd_ros.messages import stamp_from_ns, stamp_ns
from xmodelkd_ros.node.outputs import latched, reliable
from xmodelkd_ros.node.player import wait_for_subscribers
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.serialized import serialized_stamp_ns, stamped
from xmodelkd_ros.node.sweep_log import SweepLog, message_class
from xmodelkd_ros.opencv import opencv

_TF = "/tf"
_LATE_S = 0.3
_JUMP_NS = 10_033_000_000
"""Not a whole number of sweeps, so that no stamp comes twice."""
_CLOCK_PERIOD_S = 0.01
_DEPTH = 10


class _Recorded(NamedTuple):
    """A message of the bag.

    Attributes:
        after_ns: nanoseconds from its start.
        topic: its topic.
        data: its bytes, as recorded.
        stamp_ns: its stamp; None for transforms, each of which has its own.
        points: their number, if it is a sweep.
        later_ns: how much later it is in this pass.
    """

    after_ns: int
    topic: str
    data: bytes
    stamp_ns: int | None
    points: int | None
    later_ns: int = 0


class Drive:
    """The messages of a bag as one endless drive.

    Args:
        reader: the open bag.
        points_topic: of the sweeps.
        cameras: topic of the CameraInfo of each image topic.
        transforms: topics of TF.

    Attributes:
        topics: those that are played.

    Raises:
        ConfigError: the bag lacks one of the topics.
    """

    def __init__(
        self, reader: BagReader, points_topic: str, cameras: Mapping[str, str], transforms: Sequence[str] = ()
    ) -> None:
        wanted = [points_topic, *cameras, *cameras.values(), *transforms]
        missing = [topic for topic in wanted if topic not in reader.topics]
        if missing:
            raise ConfigError(f"bag {reader.path} has no topic {', '.join(missing)}; it has {listed(reader.topics)}")
        self.topics = {topic: reader.topics[topic] for topic in wanted}
        raw = list(reader.raw(wanted))
        self._messages = [self._recorded(message, raw[0].log_time_ns, points_topic, transforms) for message in raw]
        self.start_ns = raw[0].log_time_ns
        sweeps = [message.after_ns for message in self._messages if message.topic == points_topic]
        # The first sweep of a pass follows the last one of the pass before as sweeps follow each other.
        self.period_ns = sweeps[-1] - sweeps[0] + int(np.median(np.diff(sweeps))) if len(sweeps) > 1 else 100_000_000

    def messages(self) -> Iterator[_Recorded]:
        """All of them, over and over, each pass later than the one before."""
        for number in count():
            later = number * self.period_ns
            for message in self._messages:
                yield message._replace(after_ns=message.after_ns + later, later_ns=later)

    def _recorded(self, message: Any, start_ns: int, points_topic: str, transforms: Sequence[str]) -> _Recorded:
        data = bytes(message.data)
        if message.topic in transforms:
            return _Recorded(message.log_time_ns - start_ns, message.topic, data, None, None)
        points = None
        if message.topic == points_topic:
            cloud = deserialize_message(data, PointCloud2)
            points = cloud.height * cloud.width
        return _Recorded(message.log_time_ns - start_ns, message.topic, data, serialized_stamp_ns(data), points)


class Spoiler:
    """Makes of each message what a fault leaves of it.

    Args:
        types: class of each topic's messages.
        cameras: topic of the CameraInfo of each image topic.
    """

    def __init__(self, types: Mapping[str, Any], cameras: Mapping[str, str]) -> None:
        self._types, self._images, self._infos = types, list(cameras), set(cameras.values())
        self._frozen: dict[str, bytes] = {}
        self._held: dict[str, bytes] = {}

    def spoiled(self, fault: str, topic: str, data: bytes) -> list[tuple[float, str, bytes]]:
        """What is published instead of a message: how many seconds later, on which topic, which bytes."""
        if topic == _TF and fault == "transforms_stop":
            return []
        if topic in self._infos and fault == "calibration_zero":
            info = self._read(topic, data)
            info.k = info.k * 0
            return [(0.0, topic, serialize_message(info))]
        if topic not in self._images:
            return [(0.0, topic, data)]
        make = getattr(self, f"_{fault}", None)
        return [(0.0, topic, data)] if make is None else list(make(topic, data))

    def mend(self) -> None:
        """A fault is over."""
        self._frozen.clear()
        self._held.clear()

    def _read(self, topic: str, data: bytes) -> Any:
        return deserialize_message(data, self._types[topic])

    def _camera_stops(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        if topic != self._images[0]:
            yield 0.0, topic, data

    def _cameras_stop(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        yield from ()

    def _images_late(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        yield _LATE_S, topic, data

    def _images_frozen(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        kept = self._frozen.setdefault(topic, data)
        yield 0.0, topic, stamped(kept, serialized_stamp_ns(data))

    def _images_corrupt(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        image = self._read(topic, data)
        image.data = bytes(image.data)[len(image.data) // 2 :][::-1]
        yield 0.0, topic, serialize_message(image)

    def _images_resized(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        yield 0.0, topic, serialize_message(_of_another_shape(self._read(topic, data)))

    def _images_reordered(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        if topic in self._held:
            yield 0.0, topic, data
            yield 0.0, topic, self._held.pop(topic)
        else:
            self._held[topic] = data

    def _cameras_swapped(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        other = {self._images[0]: self._images[-1], self._images[-1]: self._images[0]}
        yield 0.0, other.get(topic, topic), data


def _of_another_shape(image: Any) -> Any:
    """The upper half of a picture, twice as wide as it was calibrated for."""
    if hasattr(image, "format"):
        cv2 = opencv()
        pixels = np.asarray(cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR))
        image.data = cv2.imencode(".jpg", pixels[: len(pixels) // 2])[1].tobytes()
        return image
    image.height //= 2
    image.data = bytes(image.data)[: image.height * image.step]
    return image


def _later(data: bytes, type_: str, later_ns: int) -> bytes:
    """A TFMessage with all its stamps later."""
    message = deserialize_message(data, message_class(type_))
    for transform in message.transforms:
        stamp = transform.header.stamp
        transform.header.stamp = stamp_from_ns(stamp_ns(stamp) + later_ns, type(stamp))
    return bytes(serialize_message(message))


class FaultPlayer:
    """Publishes a drive with faults.

    Args:
        node: publishes.
        drive: the drive.
        spoiler: makes the faults.
        log: notes sweeps and faults.
        points_topic: of the sweeps.

    Attributes:
        publishers: by topic.
    """

    def __init__(self, node: Node, drive: Drive, spoiler: Spoiler, log: SweepLog, points_topic: str) -> None:
        self._drive, self._spoiler, self._log, self._points_topic = drive, spoiler, log, points_topic
        self._clock = node.create_publisher(Clock, "/clock", reliable(1))
        self.publishers: dict[str, Publisher] = {
            name: node.create_publisher(
                message_class(topic.type), name, latched() if topic.latched else reliable(_DEPTH)
            )
            for name, topic in drive.topics.items()
        }
        self._jumped_ns = 0
        self._late: list[tuple[float, int, str, bytes]] = []

    def play(self, windows: Sequence[Window], rest_s: float, rate: float, stop: Future) -> None:
        """Play until the last fault and the rest after it are over.

        Args:
            windows: the faults.
            rest_s: time after the last one.
            rate: how many times faster than recorded.
            stop: ends the play when done.
        """
        self._start_s, self._rate = time.monotonic(), rate
        pending = list(windows)
        active: Window | None = None
        for message in self._drive.messages():
            at_s = message.after_ns * 1e-9
            if active is not None and at_s >= active.end_s:
                self._spoiler.mend()
                self._note("end", active.fault)
                active = None
            if active is None and pending and at_s >= pending[0].start_s:
                active = pending.pop(0)
                self._note("begin", active.fault)
                self._jumped_ns += _JUMP_NS * (active.fault == "clock_jumps_back")
            if not pending and active is None and at_s >= windows[-1].end_s + rest_s:
                return
            self._wait(at_s, ticks=active is None or active.fault != "clock_stops", stop=stop)
            if stop.done():
                return
            self._publish(message, active)

    def _publish(self, message: _Recorded, active: Window | None) -> None:
        later_ns = message.later_ns - self._jumped_ns
        if message.stamp_ns is None:
            data = _later(message.data, self._drive.topics[message.topic].type, later_ns)
        else:
            stamp = message.stamp_ns + later_ns
            data = stamped(message.data, stamp)
            if message.points is not None:
                self._log.row(message.topic, stamp, message.points, time.monotonic_ns())
        fault = active.fault if active else ""
        for late_s, topic, bytes_ in self._spoiler.spoiled(fault, message.topic, data):
            if late_s:
                due = time.monotonic() + late_s / self._rate
                heapq.heappush(self._late, (due, len(self._late), topic, bytes_))
            else:
                self.publishers[topic].publish(bytes_)

    def _wait(self, at_s: float, ticks: bool, stop: Future) -> None:
        """Sleep until a message is due; meanwhile the clock runs, and late messages go out."""
        due = self._start_s + at_s / self._rate
        while not stop.done():
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, _, topic, data = heapq.heappop(self._late)
                self.publishers[topic].publish(data)
            left_s = max(due - now, 0.0)
            if ticks:
                self._tick(round((at_s - left_s * self._rate) * 1e9))
            if left_s == 0:
                return
            time.sleep(min(left_s, _CLOCK_PERIOD_S))

    def _tick(self, after_ns: int) -> None:
        message = Clock()
        now_ns = self._drive.start_ns + after_ns - self._jumped_ns
        message.clock = stamp_from_ns(now_ns, type(message.clock))
        self._clock.publish(message)

    def _note(self, event: str, fault: str) -> None:
        self._log.event(event, fault=fault, monotonic_ns=time.monotonic_ns())


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag with faults; the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    cameras = dict(options.cameras)
    windows = schedule(options.faults, options.warm_up, options.fault_seconds, options.rest_seconds)
    with BagReader(options.bag) as reader, SweepLog(options.log) as log, ros(arguments):
        drive = Drive(reader, options.points, cameras, options.transforms)
        node = Node("player")
        spoiler = Spoiler({name: message_class(topic.type) for name, topic in drive.topics.items()}, cameras)
        player = FaultPlayer(node, drive, spoiler, log, options.points)
        topics = (options.points, *cameras, *cameras.values(), *options.transforms)
        wait_for_subscribers(node, player.publishers, dict.fromkeys(topics, 1), options.timeout, stop)
        player.play(windows, options.rest_seconds, options.rate, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser("fault_player", description="Play a bag while cameras and clocks fail.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--points", required=True, metavar="T", help="topic of the sweeps")
    parser.add_argument("--cameras", nargs="+", required=True, type=_camera, metavar="IMAGE:INFO", help="their topics")
    parser.add_argument("--transforms", nargs="+", default=(), metavar="T", help="topics of TF, where it is played too")
    parser.add_argument("--faults", nargs="+", choices=names, default=names, metavar="F", help="in this order")
    parser.add_argument("--rate", type=float, default=1.0, help="how many times faster than recorded")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before the first fault, of the bag's time")
    parser.add_argument("--fault-seconds", type=float, default=2.0, help="how long each fault lasts")
    parser.add_argument("--rest-seconds", type=float, default=2.0, help="how long all is well after each")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when sweeps left and what failed when")
    return parser


def _camera(text: str) -> tuple[str, str]:
    image, _, info = text.partition(":")
    if not image or not info:
        raise argparse.ArgumentTypeError(f"'{text}' is not IMAGE_TOPIC:INFO_TOPIC")
    return image, info


if __name__ == "__main__":
    sys.exit(main())
