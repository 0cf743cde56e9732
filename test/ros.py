"""Real rclpy and Fast DDS, on this machine only, in a domain of this process."""

import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.harness.dds_domain import reserve_domain
from xmodelkd_ros.messages.clouds import MessageTypes, colored_to_msg, truth_to_msg
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node.qos import reliable
from xmodelkd_ros.node.segment_node import SegmentNode
from xmodelkd_ros.resources import label_map

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0"))

TYPES = MessageTypes(PointCloud2, PointField)
DEADLINE_S = 20


def wait_until(condition, step=lambda: time.sleep(0.01), what="it"):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE_S} s"
        step()


def random_points(count):
    """(count, 3) positions 5 to 25 m away, every other one above the sensor."""
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(-np.pi, np.pi, count), rng.uniform(5, 25, count)
    height = np.where(np.arange(count) % 2 == 0, 1.0, -1.0) * rng.uniform(0.5, 1.0, count)
    return np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height], axis=1).astype(np.float32)


def make_sweep(points=1000, stamp=1.0, frame_id="lidar", height=1, intensity=True):
    """A PointCloud2 with one field more than x, y, z and intensity; ``points`` is their number, or positions."""
    xyz = random_points(points) if isinstance(points, int) else np.asarray(points, np.float32)
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = int(stamp), round(stamp % 1 * 1e9)
    cloud = PointCloud(xyz, np.full(len(xyz), 20, np.float32), height=height)
    extra = np.zeros(len(xyz), np.uint8)
    if intensity:
        return truth_to_msg(cloud, extra, header, TYPES)
    return colored_to_msg(cloud, extra, label_map("drive13"), header, TYPES)


@pytest.fixture(scope="session")
def sweep():
    """:func:`make_sweep`"""
    return make_sweep


def _plain(array):
    """A DiagnosticArray with one status, as plain values."""
    (status,) = array.status
    return SimpleNamespace(
        stamp_ns=stamp_ns(array.header.stamp),
        level=status.level,
        message=status.message,
        values={pair.key: pair.value for pair in status.values},
    )


class Bench:
    """A segmenter and a probe that talks to it, both spun by the test's own thread."""

    def __init__(self, parameters):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = SegmentNode(context=self.context, parameter_overrides=overrides)
        self.probe = Node("probe", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.probe)
        self.points = self.probe.create_publisher(PointCloud2, "points", reliable(100))
        self.labels = self.listen(PointCloud2, "segmenter/labels")
        self.status = self.listen(DiagnosticArray, "segmenter/status", _plain)
        self.diagnostics = self.listen(DiagnosticArray, "/diagnostics", _plain)

    def listen(self, message_type, topic, read=lambda msg: msg, qos=None):
        """The list that messages will be added to."""
        received = []
        self.probe.create_subscription(message_type, topic, lambda m: received.append(read(m)), qos or reliable(100))
        return received

    def start(self):
        assert self.node.start()
        self.wait(self.connected, "a match of all topics")
        return self

    def connected(self):
        """Whether publishers and subscribers have found each other, on both sides."""
        listened_to = {subscription.topic_name for subscription in self.probe.subscriptions}
        outputs = [p for p in self.node.publishers if p.topic_name in listened_to]
        return (
            self.points.get_subscription_count() > 0
            and all(p.get_subscription_count() > 0 for p in outputs)
            and all(self.probe.count_publishers(p.topic_name) > 0 for p in outputs)
        )

    def wait(self, condition, what="it"):
        wait_until(condition, lambda: self.executor.spin_once(timeout_sec=0.05), what)

    def segment(self, msg):
        """Publish a sweep and return its labelled cloud."""
        before = len(self.labels)
        self.points.publish(msg)
        self.wait(lambda: len(self.labels) > before, "labels")
        return self.labels[-1]

    def outcome(self, msg):
        """Publish a sweep and return the status that says what became of it."""
        before = len(self.status)
        self.points.publish(msg)
        self.wait(lambda: len(self.status) > before, "a status")
        return self.status[-1]

    def close(self):
        self.executor.shutdown()
        self.node.close()
        self.probe.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def make_bench(height_model):
    """Call it with parameters (dots in their names as in ROS); gives a Bench that is not started yet.

    Its input is reliable from the start, so that no sweep of a test falls into a change of delivery.
    """
    benches = []

    def make(**parameters):
        benches.append(Bench({"model": str(height_model), "points_reliability": "reliable", **parameters}))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    """A segmenter, active."""
    return make_bench().start()
