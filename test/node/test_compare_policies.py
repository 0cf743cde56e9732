import importlib.util

import numpy as np
import pytest

from xmodelkd_ros.bag import ROSBAGS_TYPES, BagWriter, message_class
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.messages import stamp_from_ns, truth_to_msg
from xmodelkd_ros.node.compare_policies import Arrival, main, outcome, scenarios
from xmodelkd_ros.sync import SweepCollector

MS = 1_000_000
CAMERAS = """/**:
  ros__parameters:
    cameras: [left, right]
    cameras.left.image_topic: /left
    cameras.left.time_offset: 0.02
    cameras.right.image_topic: /right
    cameras.right.time_offset: 0.0
"""


def arrivals(sweeps=12):
    """Sweeps that arrive 100 ms after their stamps, and images that arrive 10 ms after theirs."""
    found = [Arrival((100 * n + 100) * MS, "/points", 100 * n * MS) for n in range(sweeps)]
    found += [Arrival((100 * n + 10) * MS, topic, 100 * n * MS) for n in range(sweeps) for topic in ("/left", "/right")]
    return sorted(found)


def made(name):
    return dict(scenarios(arrivals(), ["/left", "/right"], seed=0))[name]


@pytest.mark.parametrize(
    ("name", "labelled", "whole", "images"),
    [("as recorded", 12, 12, 24), ("a camera stops halfway", 12, 6, 18), ("twice, as a bag that loops", 24, 24, 48)],
)
def test_the_collector_lets_every_sweep_go(name, labelled, whole, images):
    *counts, cost_ms = outcome(SweepCollector(["/left", "/right"], 0, 0), made(name), "/points")
    assert counts == [labelled, whole, images] and cost_ms > 0


def test_what_is_lost_is_lost():
    lost = dict(scenarios(arrivals(50), ["/left", "/right"], seed=0))["one image in ten lost"]
    assert 2 < len(arrivals(50)) - len(lost) < 25
    *counts, _ = outcome(SweepCollector(["/left", "/right"], 0, 0), lost, "/points")
    assert counts[0] == 50 and counts[2] == len(lost) - 50


@pytest.fixture
def bag(tmp_path):
    """Three sweeps of one point, and images of two cameras, of which the left one is 20 ms early."""
    cloud = PointCloud(np.ones((1, 3), np.float32), np.ones(1, np.float32))
    time = message_class("builtin_interfaces/msg/Time")
    image = message_class("sensor_msgs/msg/CompressedImage")
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/points", "sensor_msgs/msg/PointCloud2")
        for name in ("/left", "/right"):
            writer.add_topic(name, "sensor_msgs/msg/CompressedImage")
        for n in range(3):
            for name, early in (("/left", 20), ("/right", 0)):
                header = message_class("std_msgs/msg/Header")(stamp_from_ns((1000 + 100 * n - early) * MS, time), name)
                writer.write(name, (1000 + 100 * n) * MS, image(header, "jpeg", np.zeros(3, np.uint8)))
            header = message_class("std_msgs/msg/Header")(stamp_from_ns((1000 + 100 * n) * MS, time), "lidar")
            writer.write(
                "/points", (1005 + 100 * n) * MS, truth_to_msg(cloud, np.zeros(1, np.uint8), header, ROSBAGS_TYPES)
            )
    return tmp_path / "bag"


def test_a_bag_gives_a_table_of_both(bag, tmp_path, capsys):
    (tmp_path / "cameras.yaml").write_text(CAMERAS)
    assert main([str(bag), str(tmp_path / "cameras.yaml")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 2 * 5
    assert rows[2].startswith("| as recorded | collector | 3 | 3 | 3 | 6 |")
    installed = importlib.util.find_spec("message_filters") is not None
    assert rows[3].startswith("| as recorded | approximate | 3 | " + ("3 | 3 | 6 |" if installed else "not run: "))


def test_a_file_without_cameras_is_said(bag, tmp_path, capsys):
    (tmp_path / "other.yaml").write_text("a: 1")
    assert main([str(bag), str(tmp_path / "other.yaml")]) == 1
    assert "names no cameras (KeyError('/**')); make it with 'xmodelkd fit-cameras BAG'" in capsys.readouterr().err
    (tmp_path / "cameras.yaml").write_text(CAMERAS.replace("/left", "/front"))
    assert main([str(bag), str(tmp_path / "cameras.yaml")]) == 1
    assert "has no topic /front; it has" in capsys.readouterr().err
