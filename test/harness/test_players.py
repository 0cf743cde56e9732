"""Schedule player, closed-loop player and looped drive."""

import argparse
import json
import threading
import time
from itertools import islice, pairwise

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, PointCloud2

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness import bag_player, closed_loop_player, fault_player, schedule_player
from xmodelkd_ros.harness.cdr import serialized_stamp_ns, with_stamp
from xmodelkd_ros.harness.looped_drive import LoopedDrive, camera_topics
from xmodelkd_ros.messages.headers import stamp_from_ns, stamp_ns
from xmodelkd_ros.node.qos import reliable

S = 1_000_000_000
pytestmark = pytest.mark.usefixtures("restored_signals")


@pytest.fixture(scope="module")
def bag(tmp_path_factory, sweep):
    """Sweeps of 10, 20 and 30 points, a tenth of a second apart."""
    path = tmp_path_factory.mktemp("bags") / "sweeps.mcap"
    with BagWriter(path) as writer:
        writer.add_topic("/points", POINT_CLOUD_TYPE)
        for k in range(3):
            writer.write_raw("/points", k * S // 10, serialize_message(sweep(10 * (k + 1), stamp=1 + k / 10)))
    return path


@pytest.fixture
def probe():
    """Another participant, spun by a thread."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node, executor = Node("probe", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.destroy_node()
    context.shutdown()


def play(program, *arguments):
    return program.main([program.__name__, *map(str, arguments)])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, arrivals):
    path.write_text(
        "".join(json.dumps(dict(zip(("at_s", "stamp_ns", "points"), a, strict=True))) + "\n" for a in arrivals)
    )
    return path


@pytest.mark.parametrize("frame_id", ["", "lidar", "lidar_top", "abc", "abcdefg"])
def test_stamp_and_size_of_a_serialized_cloud(sweep, frame_id):
    data = serialize_message(sweep(60, stamp=3.5, frame_id=frame_id, height=4))
    assert serialized_stamp_ns(data) == 3_500_000_000
    assert serialized_stamp_ns(with_stamp(data, -S)) == -S


def test_sweeps_are_published_at_their_times(probe, bag, tmp_path):
    got, clock = [], []
    probe.create_subscription(
        PointCloud2, "points", lambda m: got.append((stamp_ns(m.header.stamp), m.width)), reliable(10)
    )
    probe.create_subscription(Clock, "/clock", lambda m: clock.append(stamp_ns(m.clock) / S), QoSProfile(depth=1000))
    schedule = [(0.0, 5, 10), (0.3, 5, 30), (0.3, 9, 10), (0.9, 2, 20)]
    arguments = [bag, write(tmp_path / "schedule", schedule), "--log", tmp_path / "log"]
    assert play(schedule_player, *arguments, "--clock", "0:100:1", "0.4:100:0", "0.6:50:10") == 0
    assert got == [(stamp, points) for _, stamp, points in schedule]
    logged = rows(tmp_path / "log")
    assert [(row["stamp_ns"], row["points"]) for row in logged] == got
    sent_s = np.array([row["monotonic_ns"] - logged[0]["monotonic_ns"] for row in logged]) / S
    assert sent_s == pytest.approx([0, 0.3, 0.3, 0.9], abs=0.25)
    # The clock runs, is set back to 100 and stops, is set to 50 and runs ten times as fast.
    assert 100 <= clock[0] < 100.3 and 100.2 < max(clock) <= 100.41
    assert clock.count(100.0) > 3
    assert min(clock) >= 50 and clock[-1] == pytest.approx(58, abs=3)  # half a second after the last sweep


def test_step_of_the_recorders_clock_is_not_waited_for(sweep, tmp_path, capsys):
    """Latched messages recorded before the clock was set, in 1970."""
    with BagWriter(tmp_path / "bag.mcap") as writer:
        writer.add_topic("/points", POINT_CLOUD_TYPE)
        for index, at_ns in enumerate((0, 1_700_000_000 * S, 1_700_000_000 * S + S // 5)):
            writer.write_raw("/points", at_ns, serialize_message(sweep(10, stamp=index)))
    assert play(bag_player, tmp_path / "bag.mcap", "--log", tmp_path / "log") == 0
    sent_s = np.array([row["monotonic_ns"] for row in rows(tmp_path / "log")]) / S
    assert sent_s[2] - sent_s[0] == pytest.approx(0.2, abs=0.2)
    assert "note: a gap of 1700000000 s in the bag is skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"at_s": 0, "stamp_ns": 1', "line 2: give"),
        ('{"at_s": 0, "stamp_ns": 1.5, "points": 10}', "line 2: give"),
        ('{"at_s": -1, "stamp_ns": 1, "points": 10}', "line 2: give"),
        ('{"at_s": 0, "points": 10}', "line 2: give"),
        ("[]", "line 2: give"),
        ('{"at_s": 0, "stamp_ns": 2147483648000000000, "points": 10}', "line 2: give"),
        ('{"at_s": 0, "stamp_ns": 1, "points": 11}', "the bag has no sweep of 11 points"),
    ],
)
def test_rejects_invalid_schedule(probe, bag, tmp_path, capsys, line, message):
    probe.create_subscription(PointCloud2, "points", lambda m: None, reliable(10))
    schedule = write(tmp_path / "schedule", [(0, 1, 10)])
    schedule.write_text(schedule.read_text() + line + "\n")
    assert play(schedule_player, bag, schedule) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and message in error


def test_rejects_unordered_schedule(bag, tmp_path, capsys):
    assert play(schedule_player, bag, write(tmp_path / "schedule", [(0, 1, 10), (1, 2, 10), (0.5, 3, 10)])) == 1
    assert "line 3: at_s is before that of the line above" in capsys.readouterr().err


def test_rejects_missing_schedule(bag, tmp_path, capsys):
    assert play(schedule_player, bag, tmp_path / "none") == 1
    assert capsys.readouterr().err == f"error: cannot read schedule {tmp_path / 'none'}: No such file or directory\n"


@pytest.mark.parametrize("clock", [["0:1"], ["0:1:x"], ["nan:0:1"], ["0:inf:1"], ["1:0:1", "0:0:1"]])
def test_rejects_invalid_clock(clock, capsys):
    with pytest.raises(SystemExit):
        play(schedule_player, "bag", "schedule", "--clock", *clock)
    assert "--clock" in capsys.readouterr().err.splitlines()[-1]


def test_sweeps_follow_labels_and_all_labels_are_logged(probe, bag, tmp_path):
    """The bag is repeated as one drive; the third sweep is labelled twice."""
    labels, got = probe.create_publisher(PointCloud2, "labels", reliable(10)), []

    def answer(message):
        got.append((stamp_ns(message.header.stamp), message.width))
        for _ in range(2 if len(got) == 3 else 1):
            labels.publish(message)

    probe.create_subscription(PointCloud2, "points", answer, reliable(10))
    arguments = ["--points", "/points", "--labels", "/labels", "--sweeps", "7", "--log", tmp_path / "log"]
    assert play(closed_loop_player, bag, *arguments) == 0
    assert got == [(S + k * S // 10, 10 * (k % 3 + 1)) for k in range(7)]
    logged = [(row["topic"], row["stamp_ns"], row["points"]) for row in rows(tmp_path / "log")]
    assert [row[1:] for row in logged if row[0] == "/points"] == got
    assert [row[1:] for row in logged if row[0] == "/labels"] == [*got[:3], got[2], *got[3:]]
    assert [row[0] for row in logged][:4] == ["/points", "/labels"] * 2


def test_playback_fails_without_labels(probe, bag, monkeypatch, capsys):
    monkeypatch.setattr(closed_loop_player, "_LABEL_TIMEOUT_S", 0.2)
    probe.create_subscription(PointCloud2, "points", lambda m: None, reliable(10))
    begin = time.monotonic()
    assert play(closed_loop_player, bag, "--points", "/points", "--labels", "/labels", "--sweeps", "1000") == 1
    assert "no labels on /labels for the last 3 of 3 sweeps; see the node's log" in capsys.readouterr().err
    assert time.monotonic() - begin < 15


# --- looped drive --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_bag(tmp_path_factory, sweep):
    """Five sweeps from 10.0 s on, images twice as often from a second before to a second after, a calibration."""
    path = tmp_path_factory.mktemp("bags") / "long.mcap"
    kinds = {"/points": "PointCloud2", "/image": "Image", "/info": "CameraInfo", "/other": "Imu"}
    with BagWriter(path) as writer:
        for topic, kind in kinds.items():
            writer.add_topic(topic, f"sensor_msgs/msg/{kind}")
        rows = [("/points", 10 + k / 10, sweep(10, stamp=10 + k / 10)) for k in range(5)]
        rows += [("/info", 8.9, CameraInfo()), ("/other", 8.9, Imu())]
        for k in range(48):
            image = Image()
            image.header.stamp = stamp_from_ns(round((9.02 + k / 20) * S), type(image.header.stamp))
            rows.append(("/image", 9.02 + k / 20, image))
        for topic, at_s, message in sorted(rows, key=lambda row: row[1]):
            writer.write_raw(topic, round(at_s * S), serialize_message(message))
    return path


def test_time_increases_and_nothing_is_duplicated(long_bag):
    with BagReader(long_bag) as reader:
        drive = LoopedDrive(reader, "/points", {"/image": "/info"})
    messages = list(islice(drive.messages(), 200))
    assert all(b.time_ns >= a.time_ns for a, b in pairwise(messages))
    assert messages[0].topic == "/info"
    for topic, period_s in (("/points", 0.1), ("/image", 0.05)):
        stamps = [m.stamp_ns + m.offset_ns for m in messages if m.topic == topic]
        assert {round((b - a) / S, 6) for a, b in pairwise(stamps)} == {period_s}
    assert drive.start_ns == 9_900_000_000


def test_delayed_sweeps_follow_their_images(long_bag):
    with BagReader(long_bag) as reader:
        drive = LoopedDrive(reader, "/points", {"/image": "/info"})
    delay_ns = drive.sweep_ns // 2
    images = []
    for message in islice(drive.messages(delay_ns), 200):
        if message.topic == "/image":
            images.append(message.stamp_ns + message.offset_ns)
        elif message.points is not None:
            stamp = message.stamp_ns + message.offset_ns
            assert 0 <= stamp + delay_ns - images[-1] < S // 20


@pytest.mark.parametrize(
    ("points", "cameras", "message"),
    [
        ("/image", {}, "/image of bag .* is a sensor_msgs/msg/Image; give a topic of sensor_msgs/msg/PointCloud2"),
        ("/none", {}, "has no topic /none"),
        ("/points", {"/image": "/nowhere"}, "has no topic /nowhere"),
    ],
)
def test_rejects_bag_without_the_topics(long_bag, points, cameras, message):
    with BagReader(long_bag) as reader, pytest.raises(ConfigError, match=message):
        LoopedDrive(reader, points, cameras)


def test_closed_loop_player_rejects_unknown_topic_and_camera(bag, capsys):
    assert play(closed_loop_player, bag, "--points", "/top", "--labels", "/labels", "--sweeps", "1") == 1
    assert "has no topic /top; it has /points" in capsys.readouterr().err
    with pytest.raises(argparse.ArgumentTypeError, match="'/image' is not IMAGE_TOPIC:INFO_TOPIC"):
        camera_topics("/image")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "fast"])
@pytest.mark.parametrize("option", ["--rate", "--timeout", "--fault-seconds", "--rest-seconds"])
def test_times_and_rates_are_positive_numbers(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        play(fault_player, "bag", "--points", "/points", "--cameras", "/image:/info", f"{option}={value}")
    assert f"argument {option}: {value} is not a positive number" in capsys.readouterr().err
