"""Warnings that nothing arrives on an input, with the reason: log and diagnostics of a running node."""

from types import SimpleNamespace

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image, LaserScan, PointCloud, PointCloud2
from std_msgs.msg import String

from xmodelkd_ros.node import input_watch, sweep_reporter
from xmodelkd_ros.node.qos import reliable


@pytest.fixture
def lonely(make_bench, monkeypatch):
    """Function that makes an active segmenter without any publisher of points; it loses patience soon."""
    assert (input_watch._SILENT_S, input_watch._NO_PUBLISHER_S) == (3.0, 5.0)
    monkeypatch.setattr(input_watch, "_SILENT_S", 0.3)
    monkeypatch.setattr(input_watch, "_NO_PUBLISHER_S", 0.5)
    monkeypatch.setattr(sweep_reporter, "_SILENCE_PERIOD_S", 0.2)

    # A context of its own, because Fast DDS allows one type per topic in a context.
    context = rclpy.Context()
    rclpy.init(context=context)
    others = Node("others", context=context)

    def make(*publishers, **parameters):
        bench = make_bench(**parameters)
        bench.probe.destroy_publisher(bench.points)
        for message_type, topic in publishers:
            others.create_publisher(message_type, topic, reliable(5))
        assert bench.node.start()
        return bench

    yield make
    others.destroy_node()
    rclpy.shutdown(context=context)


def problem(bench, capfd, state, reason):
    """Wait for a message of the diagnostics that begins with a state and a reason; the reason is in the log too."""
    _LOGS[capfd] = ""
    bench.wait(lambda: bench.diagnostics and bench.diagnostics[-1].message.startswith(state))
    bench.wait(lambda: f": {reason}" in bench.diagnostics[-1].message, reason)
    bench.wait(lambda: f"no sweep arrives: {reason}" in log(capfd), f"in the log: {reason}")
    assert bench.diagnostics[-1].level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    return bench.diagnostics[-1].message


YET, STALE = "no sweep has arrived yet", "stale: no sweep for "
_LOGS = {}


def log(capfd):
    _LOGS[capfd] = _LOGS.get(capfd, "") + capfd.readouterr().err
    return _LOGS[capfd]


def test_wrong_topic_lists_the_clouds_there_are_nearest_first(lonely, capfd):
    bench = lonely((PointCloud2, "/lidar/points"), (PointCloud2, "/radar"), (String, "/chatter"))
    message = problem(bench, capfd, YET, "nobody publishes /points")
    assert "topics with sensor_msgs/msg/PointCloud2: /lidar/points, /radar; set points_topic" in message
    assert "segmenter/" not in message, "own outputs are no input"


def test_no_cloud_at_all_names_domain_and_discovery(lonely, capfd):
    message = problem(lonely(), capfd, YET, "nobody publishes /points, and no topic has sensor_msgs/msg/PointCloud2")
    assert "ROS_DOMAIN_ID" in message and "start the driver" in message


def test_topics_that_can_be_converted_are_named(lonely, capfd):
    bench = lonely((LaserScan, "/scan"), (PointCloud, "/old_points"))
    message = problem(bench, capfd, YET, "nobody publishes /points")
    assert "/old_points (sensor_msgs/msg/PointCloud): convert it to PointCloud2" in message
    assert "/scan (sensor_msgs/msg/LaserScan): a scan in one plane" in message


def test_topic_with_another_type_is_named(lonely, capfd):
    bench = lonely((LaserScan, "points"), (PointCloud2, "/other"))
    problem(
        bench, capfd, YET, "/points is sensor_msgs/msg/LaserScan, not sensor_msgs/msg/PointCloud2; a scan in one plane"
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("livox_ros_driver2/msg/CustomMsg", "set xfer_format to 0"),
        ("velodyne_msgs/msg/VelodyneScan", "velodyne_transform_node"),
        ("ouster_sensor_msgs/msg/PacketMsg", "os_cloud"),
        ("rslidar_msg/msg/RslidarPacket", "send_point_cloud_ros"),
        ("own_msgs/msg/Strange", "set points_topic to another topic"),
    ],
)
def test_types_of_drivers(name, advice):
    subscription = type("S", (), {"topic": "/points", "type_name": "sensor_msgs/msg/PointCloud2"})
    text = input_watch._other_type(subscription, [name], "set points_topic")
    assert text.startswith(f"/points is {name}, not sensor_msgs/msg/PointCloud2; ") and advice in text


@pytest.mark.parametrize(
    ("wanted", "topic", "there", "advice"),
    [
        ("Image", "/cam/image", {"/cam/image/compressed": "CompressedImage"}, "compressed to true"),
        ("Image", "/cam/image", {"/cam/image/compressed": "CompressedImage", "/other": "Image"}, "compressed to true"),
        ("CompressedImage", "/cam/image/compressed", {"/cam/image": "Image"}, "compressed to false"),
        ("Image", "/cam/image", {"/scan": "LaserScan"}, "start the driver"),
        ("PointCloud2", "/points", {"/image": "Image"}, "start the driver"),
        ("PointCloud2", "/points", {"/car2/segmenter/labels": "PointCloud2"}, "start the driver"),
    ],
)
def test_an_image_published_in_the_other_form_is_named(wanted, topic, there, advice):
    subscription = SimpleNamespace(topic=topic, type_name=f"sensor_msgs/msg/{wanted}")
    node = SimpleNamespace(
        get_fully_qualified_name=lambda: "/segmenter",
        get_topic_names_and_types=lambda: [(name, [f"sensor_msgs/msg/{kind}"]) for name, kind in there.items()],
        count_publishers=lambda name: 1,
    )
    text = input_watch._no_publisher(node, subscription, "set cameras.front.image_topic")
    assert text.startswith(f"nobody publishes {topic}") and advice in text


def test_publisher_without_data_names_shared_memory_until_a_sweep_arrives(lonely, sweep, capfd):
    bench = lonely()
    driver = bench.probe.create_publisher(PointCloud2, "points", reliable(5))
    message = problem(bench, capfd, YET, "/points has a publisher (probe), but nothing has arrived")
    assert "--ipc=host" in message and "firewall" in message
    bench.wait(driver.get_subscription_count)
    driver.publish(sweep(10))
    bench.wait(lambda: bench.diagnostics[-1].message == "labelling sweeps")
    message = problem(bench, capfd, STALE, "/points has a publisher (probe), which has sent nothing for")
    assert "--ipc" not in message, "its data has arrived before"
    bench.probe.destroy_publisher(driver)
    problem(bench, capfd, STALE, "nobody publishes /points")
    bench.probe.create_publisher(PointCloud2, "points", reliable(5))  # restarted, without data
    message = problem(bench, capfd, STALE, "/points has a publisher (probe), but nothing has arrived from it for")
    assert "--ipc=host" in message


def test_slow_input_is_no_problem(lonely, sweep, capfd):
    """One sweep every 0.5 s, with a patience of 0.3 s."""
    bench = lonely()
    driver = bench.probe.create_publisher(PointCloud2, "points", reliable(5))
    bench.wait(driver.get_subscription_count)
    ticks = []
    bench.probe.create_timer(0.5, lambda: (ticks.append(0), driver.publish(sweep(10, stamp=float(len(ticks))))))
    bench.wait(lambda: len(bench.labels) >= 4)
    assert "sent nothing" not in capfd.readouterr().err


def test_incompatible_qos_is_named(lonely, capfd):
    bench = lonely(points_reliability="reliable")
    best_effort = reliable(5)
    best_effort.reliability = ReliabilityPolicy.BEST_EFFORT
    bench.probe.create_publisher(PointCloud2, "points", best_effort)
    message = problem(bench, capfd, YET, "QoS of /points is incompatible with its publisher probe")
    assert "reliab" in message.lower() and "set points_reliability to auto" in message


def test_camera_without_images_is_explained(lonely, light_model, sweep, capfd):
    bench = lonely(
        (Image, "/camera/image_raw"),
        **{
            "teacher_model": str(light_model),
            "mode": "teacher",
            "cameras": ["front"],
            "cameras.front.image_topic": "/camera/image",
            "cameras.front.extrinsic": [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5],
        },
    )
    driver = bench.probe.create_publisher(PointCloud2, "points", reliable(5))
    bench.wait(driver.get_subscription_count)
    bench.wait(lambda: "camera front: nobody publishes /camera/image; topics with" in log(capfd))
    driver.publish(sweep(10))
    bench.wait(lambda: bench.status)
    reason = bench.status[-1].values["front.missing"]
    assert reason.startswith(
        "no image: nobody publishes /camera/image; topics with sensor_msgs/msg/Image: /camera/image_"
    )
    assert reason.endswith("set cameras.front.image_topic to one of them")
