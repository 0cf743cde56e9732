"""Plays a bag again and again, as one long drive, and lets cameras and clocks fail on the way.

    python -m xmodelkd_ros.harness.fault_player BAG --points /points --cameras /front/image_raw:/front/camera_info ...
        --faults camera_stops ... [--rate 1.0] [--warm-up 3] [--fault-seconds 2] [--rest-seconds 2] --log FILE

Every pass goes on where the one before ended: stamps are those of one drive. ``/clock`` is published. Of sweeps
nothing is changed but their stamps. ``--log`` says when each sweep left (see :mod:`xmodelkd_ros.harness.bag_player`) and when
each fault began and ended:

    {"event": "begin", "fault": "camera_stops", "monotonic_ns": 456}

The program ends with 0 after the last rest, or on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import serialized_stamp_ns, stamped
from xmodelkd_ros.harness.fault_schedule import FAULTS, Window, schedule
from xmodelkd_ros.harness.looped_drive import LoopedDrive, Recorded, camera_topics
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog, message_class
from xmodelkd_ros.messages.topics import TF
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.opencv import opencv

_LATE_S = 0.3
_JUMP_NS = 10_033_000_000
"""Not a whole number of sweeps, so that no stamp comes twice."""


class FaultInjector:
    """Makes of each message what a fault leaves of it.

    Args:
        types: class of each topic's messages.
        cameras: topic of the CameraInfo of each image topic.
    """

    def __init__(self, types: Mapping[str, Any], cameras: Mapping[str, str]) -> None:
        self._types, self._images, self._infos = types, list(cameras), set(cameras.values())
        self._frozen: dict[str, bytes] = {}
        self._held: dict[str, bytes] = {}

    def inject(self, fault: str, topic: str, data: bytes) -> list[tuple[float, str, bytes]]:
        """What is published instead of a message: how many seconds later, on which topic, which bytes."""
        if topic == TF and fault == "transforms_stop":
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

    def __init__(
        self, node: Node, drive: LoopedDrive, spoiler: FaultInjector, log: SweepLog, points_topic: str
    ) -> None:
        self._drive, self._spoiler, self._log, self._points_topic = drive, spoiler, log, points_topic
        self._clock = SimClock(node)
        self.publishers = drive.publishers(node)
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

    def _publish(self, message: Recorded, active: Window | None) -> None:
        later_ns = message.later_ns - self._jumped_ns
        data = self._drive.data(message, later_ns)
        if message.points is not None and message.stamp_ns is not None:
            self._log.row(message.topic, message.stamp_ns + later_ns, message.points, time.monotonic_ns())
        fault = active.fault if active else ""
        for late_s, topic, bytes_ in self._spoiler.inject(fault, message.topic, data):
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
                after_ns = round((at_s - left_s * self._rate) * 1e9)
                self._clock.show(self._drive.start_ns + after_ns - self._jumped_ns)
            if left_s == 0:
                return
            time.sleep(min(left_s, CLOCK_PERIOD_S))

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
        drive = LoopedDrive(reader, options.points, cameras, options.transforms)
        node = Node("player")
        spoiler = FaultInjector({name: message_class(topic.type) for name, topic in drive.topics.items()}, cameras)
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
    parser.add_argument(
        "--cameras", nargs="+", required=True, type=camera_topics, metavar="IMAGE:INFO", help="their topics"
    )
    parser.add_argument("--transforms", nargs="+", default=(), metavar="T", help="topics of TF, where it is played too")
    parser.add_argument("--faults", nargs="+", choices=names, default=names, metavar="F", help="in this order")
    parser.add_argument("--rate", type=float, default=1.0, help="how many times faster than recorded")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before the first fault, of the bag's time")
    parser.add_argument("--fault-seconds", type=float, default=2.0, help="how long each fault lasts")
    parser.add_argument("--rest-seconds", type=float, default=2.0, help="how long all is well after each")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when sweeps left and what failed when")
    return parser


if __name__ == "__main__":
    sys.exit(main())
