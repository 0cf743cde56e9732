"""The round trip of ``xmodelkd doctor``: clouds sent from one process to another."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.harness.processes import Program, dds_environment, wait_for
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import stamp_from_ns

_TOPIC = "/xmodelkd_doctor/points"
_CLOUDS, _RATE_HZ, _POINTS = 10, 10, 100_000
_POINT_BYTES = 20
_TIMEOUT_S = 40.0
SIZE = f"{_CLOUDS} clouds of {_POINTS * _POINT_BYTES / 1e6:.0f} MB"


def transport_times() -> list[float]:
    """Transport latency of each cloud in milliseconds.

    Raises:
        ProcessError: a process failed, or no cloud arrived in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _send_clouds(Path(folder))


def _send_clouds(folder: Path) -> list[float]:
    env = dds_environment()
    sent, received = SweepLogReader(folder / "sent.jsonl"), SweepLogReader(folder / "received.jsonl")
    _write_bag(folder / "clouds.mcap")
    play = [str(folder / "clouds.mcap"), "--wait-for-subscribers", f"{_TOPIC}:1", "--log", str(sent.path)]
    record = ["--topics", _TOPIC, "--log", str(received.path)]
    with (
        Program("harness.recorder", record, env, folder / "recorder.log") as recorder,
        Program("harness.bag_player", play, env, folder / "player.log") as player,
    ):
        wait_for(lambda: len(received.clouds(_TOPIC)) >= _CLOUDS, [player, recorder], _TIMEOUT_S, "the round trip")
    at_start = sent.clouds(_TOPIC)
    return [(end - at_start[key]) / 1e6 for key, end in received.clouds(_TOPIC).items()]


def _write_bag(path: Path) -> None:
    cloud = PointCloud(np.zeros((_POINTS, 3), np.float32), np.zeros(_POINTS, np.float32))
    label = np.zeros(_POINTS, np.uint8)
    time_type, header_type = message_class("builtin_interfaces/msg/Time"), message_class("std_msgs/msg/Header")
    with BagWriter(path) as writer:
        writer.add_topic(_TOPIC, POINT_CLOUD_TYPE)
        for i in range(_CLOUDS):
            stamp_ns = (i + 1) * 1_000_000_000 // _RATE_HZ
            header = header_type(stamp_from_ns(stamp_ns, time_type), "lidar")
            writer.write(_TOPIC, stamp_ns, truth_to_msg(cloud, label, header, ROSBAGS_TYPES))
