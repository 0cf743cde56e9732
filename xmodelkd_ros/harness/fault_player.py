"""Fault player: publishes a bag repeatedly as one long drive and injects faults of cameras, TF and clocks.

    python -m xmodelkd_ros.harness.fault_player BAG --points /points --cameras /front/image_raw:/front/camera_info ...
        [--transforms /tf /tf_static] [--faults camera_stops ...] [--rate 1.0] [--warm-up 3] [--fault-seconds 2]
        [--rest-seconds 2] [--timeout 20] [--log FILE] [--ros-args ...]

Every pass continues the stamps of the previous one. ``/clock`` is published. Sweeps are changed in their stamps only.
``--log`` records the publication of each sweep (format of :mod:`xmodelkd_ros.harness.bag_player`) and the start and end
of each fault:

    {"event": "begin", "fault": "camera_stops", "monotonic_ns": 456}

Exit code 0 after the last rest, or on SIGINT or SIGTERM; 1 after an error, which is one line on stderr.
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
from xmodelkd_ros.console import non_negative_float, positive_float
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import serialized_stamp_ns, with_stamp
from xmodelkd_ros.harness.fault_schedule import FAULTS, FaultWindow, fault_schedule
from xmodelkd_ros.harness.looped_drive import DriveMessage, LoopedDrive, camera_topics
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog, message_class
from xmodelkd_ros.messages.topics import TF
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.opencv import opencv

_LATE_S = 0.3
_JUMP_NS = 10_033_000_000
"""No multiple of the sweep period, so that no stamp repeats."""


class FaultInjector:
    """Applies faults to messages.

    Args:
        types: message class by topic.
        cameras: CameraInfo topic by image topic.
    """

    def __init__(self, types: Mapping[str, Any], cameras: Mapping[str, str]) -> None:
        self._types, self._images, self._infos = types, list(cameras), set(cameras.values())
        self._frozen: dict[str, bytes] = {}
        self._held: dict[str, bytes] = {}

    def inject(self, fault: str, topic: str, data: bytes) -> list[tuple[float, str, bytes]]:
        """Messages to publish in place of one: delay in seconds, topic, serialized message."""
        if topic == TF and fault == "transforms_stop":
            return []
        if topic in self._infos and fault == "calibration_zero":
            info = self._read(topic, data)
            info.k = info.k * 0
            return [(0.0, topic, serialize_message(info))]
        if topic not in self._images:
            return [(0.0, topic, data)]
        apply = getattr(self, f"_{fault}", None)
        return [(0.0, topic, data)] if apply is None else list(apply(topic, data))

    def reset(self) -> None:
        """Drop the state of a fault that has ended."""
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
        frozen = self._frozen.setdefault(topic, data)
        yield 0.0, topic, with_stamp(frozen, serialized_stamp_ns(data))

    def _images_corrupt(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        image = self._read(topic, data)
        image.data = bytes(image.data)[len(image.data) // 2 :][::-1]
        yield 0.0, topic, serialize_message(image)

    def _images_resized(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        yield 0.0, topic, serialize_message(_resized(self._read(topic, data)))

    def _images_reordered(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        if topic in self._held:
            yield 0.0, topic, data
            yield 0.0, topic, self._held.pop(topic)
        else:
            self._held[topic] = data

    def _cameras_swapped(self, topic: str, data: bytes) -> Iterator[tuple[float, str, bytes]]:
        other = {self._images[0]: self._images[-1], self._images[-1]: self._images[0]}
        yield 0.0, other.get(topic, topic), data


def _resized(image: Any) -> Any:
    """Upper half of an image, whose aspect ratio differs from the calibration."""
    if hasattr(image, "format"):
        cv2 = opencv()
        pixels = np.asarray(cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR))
        image.data = cv2.imencode(".jpg", pixels[: len(pixels) // 2])[1].tobytes()
        return image
    image.height //= 2
    image.data = bytes(image.data)[: image.height * image.step]
    return image


class FaultPlayer:
    """Publishes a drive with faults."""

    def __init__(self, node: Node, drive: LoopedDrive, injector: FaultInjector, log: SweepLog) -> None:
        self._drive, self._injector, self._log = drive, injector, log
        self._clock = SimClock(node)
        self.publishers = drive.publishers(node)
        self._jumped_ns = 0
        self._delayed: list[tuple[float, int, str, bytes]] = []

    def play(self, windows: Sequence[FaultWindow], rest_s: float, rate: float, stop: Future) -> None:
        """Play until ``rest_s`` (bag time) after the last fault window."""
        self._start_s, self._rate = time.monotonic(), rate
        pending = list(windows)
        active: FaultWindow | None = None
        for message in self._drive.messages():
            at_s = message.time_ns * 1e-9
            if active is not None and at_s >= active.end_s:
                self._injector.reset()
                self._log_fault("end", active.fault)
                active = None
            if active is None and pending and at_s >= pending[0].start_s:
                active = pending.pop(0)
                self._log_fault("begin", active.fault)
                self._jumped_ns += _JUMP_NS * (active.fault == "clock_jumps_back")
            if not pending and active is None and at_s >= windows[-1].end_s + rest_s:
                return
            self._wait(at_s, clock_runs=active is None or active.fault != "clock_stops", stop=stop)
            if stop.done():
                return
            self._publish(message, active)

    def _publish(self, message: DriveMessage, active: FaultWindow | None) -> None:
        offset_ns = message.offset_ns - self._jumped_ns
        data = self._drive.data(message, offset_ns)
        if message.points is not None and message.stamp_ns is not None:
            self._log.row(message.topic, message.stamp_ns + offset_ns, message.points, time.monotonic_ns())
        fault = active.fault if active else ""
        for delay_s, topic, injected in self._injector.inject(fault, message.topic, data):
            if delay_s:
                due = time.monotonic() + delay_s / self._rate
                heapq.heappush(self._delayed, (due, len(self._delayed), topic, injected))
            else:
                self.publishers[topic].publish(injected)

    def _wait(self, at_s: float, clock_runs: bool, stop: Future) -> None:
        """Sleep until a message is due; meanwhile publish ``/clock`` and delayed messages."""
        due = self._start_s + at_s / self._rate
        while not stop.done():
            now = time.monotonic()
            while self._delayed and self._delayed[0][0] <= now:
                _, _, topic, data = heapq.heappop(self._delayed)
                self.publishers[topic].publish(data)
            remaining_s = max(due - now, 0.0)
            if clock_runs:
                time_ns = round((at_s - remaining_s * self._rate) * 1e9)
                self._clock.publish(self._drive.start_ns + time_ns - self._jumped_ns)
            if remaining_s == 0:
                return
            time.sleep(min(remaining_s, CLOCK_PERIOD_S))

    def _log_fault(self, event: str, fault: str) -> None:
        self._log.event(event, fault=fault, monotonic_ns=time.monotonic_ns())


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag with faults and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    cameras = dict(options.cameras)
    windows = fault_schedule(options.faults, options.warm_up, options.fault_seconds, options.rest_seconds)
    with BagReader(options.bag) as reader, SweepLog(options.log) as log, ros(arguments):
        drive = LoopedDrive(reader, options.points, cameras, options.transforms)
        node = Node("fault_player")
        injector = FaultInjector({name: message_class(topic.type) for name, topic in drive.topics.items()}, cameras)
        player = FaultPlayer(node, drive, injector, log)
        topics = (options.points, *cameras, *cameras.values(), *options.transforms)
        wait_for_subscribers(node, player.publishers, dict.fromkeys(topics, 1), options.timeout, stop)
        player.play(windows, options.rest_seconds, options.rate, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser("fault_player", description="Publish a bag with injected faults.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--points", required=True, metavar="TOPIC", help="topic of the sweeps")
    parser.add_argument(
        "--cameras", nargs="+", required=True, type=camera_topics, metavar="IMAGE:INFO", help="topics of each camera"
    )
    parser.add_argument("--transforms", nargs="+", default=(), metavar="TOPIC", help="TF topics to publish")
    parser.add_argument("--faults", nargs="+", choices=names, default=names, metavar="FAULT", help="faults in order")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="playback speed")
    parser.add_argument(
        "--warm-up", type=non_negative_float, default=3.0, help="seconds of bag time before the first fault"
    )
    parser.add_argument("--fault-seconds", type=positive_float, default=2.0, help="duration of each fault")
    parser.add_argument("--rest-seconds", type=positive_float, default=2.0, help="time without faults after each fault")
    parser.add_argument("--timeout", type=positive_float, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file of published sweeps and faults")
    return parser


if __name__ == "__main__":
    sys.exit(main())
