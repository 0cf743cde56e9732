"""Fixtures with a running segmenter: real rclpy and Fast DDS, on this host only, in a domain of this process."""

import os
import sys
from contextlib import contextmanager
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

from test.waiting import wait_until
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.harness.dds_domain import reserve_domain
from xmodelkd_ros.messages.clouds import MessageTypes, colored_to_msg, truth_to_msg
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node import segment_node
from xmodelkd_ros.node.qos import reliable
from xmodelkd_ros.node.segment_node import SegmentNode
from xmodelkd_ros.resources import label_map

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0"))

TYPES = MessageTypes(PointCloud2, PointField)


def random_points(count):
    """(count, 3) positions 5 to 25 m away, every other one above the sensor."""
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(-np.pi, np.pi, count), rng.uniform(5, 25, count)
    height = np.where(np.arange(count) % 2 == 0, 1.0, -1.0) * rng.uniform(0.5, 1.0, count)
    return np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height], axis=1).astype(np.float32)


def make_sweep(points=1000, stamp=1.0, frame_id="lidar", height=1, intensity=True):
    """A PointCloud2 with x, y, z, intensity and one extra field; ``points`` is their number, or positions."""
    xyz = random_points(points) if isinstance(points, int) else np.asarray(points, np.float32)
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = int(stamp), round(stamp % 1 * 1e9)
    cloud = PointCloud(xyz, np.arange(len(xyz), dtype=np.float32) % 97, height=height)
    extra = np.zeros(len(xyz), np.uint8)
    if intensity:
        return truth_to_msg(cloud, extra, header, TYPES)
    return colored_to_msg(cloud, extra, label_map("drive13"), header, TYPES)


@pytest.fixture(scope="session")
def sweep():
    """Function that makes a PointCloud2; see :func:`make_sweep`."""
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
    """A segmenter and a probe node that communicates with it, both spun by the test's thread."""

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
        """Subscribe; returns the list to which messages are appended."""
        received = []
        self.probe.create_subscription(message_type, topic, lambda m: received.append(read(m)), qos or reliable(100))
        return received

    def start(self):
        assert self.node.start()
        self.wait(self.connected, "discovery of all topics")
        return self

    def connected(self):
        """Whether publishers and subscribers have discovered each other, on both sides."""
        subscribed = {subscription.topic_name for subscription in self.probe.subscriptions}
        outputs = [p for p in self.node.publishers if p.topic_name in subscribed]
        return (
            self.points.get_subscription_count() > 0
            and all(p.get_subscription_count() > 0 for p in outputs)
            and all(self.probe.count_publishers(p.topic_name) > 0 for p in outputs)
        )

    def wait(self, condition, what="the condition"):
        wait_until(condition, what, step=lambda: self.executor.spin_once(timeout_sec=0.05))

    def segment(self, msg):
        """Publish a sweep and return its labelled cloud."""
        before = len(self.labels)
        self.points.publish(msg)
        self.wait(lambda: len(self.labels) > before, "labels")
        return self.labels[-1]

    def outcome(self, msg):
        """Publish a sweep and return its status."""
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
    """Function from parameters (named as in ROS) to a Bench that is not started yet."""
    with _benches(height_model) as make:
        yield make


@pytest.fixture
def bench(make_bench):
    """An active segmenter."""
    return make_bench().start()


@pytest.fixture(scope="module")
def module_bench(height_model):
    """An active segmenter for all tests of a file; no other one may run meanwhile, because topics would be shared."""
    with _benches(height_model) as make:
        yield make().start()


@contextmanager
def _benches(height_model):
    """Factory of benches with frequent diagnostics.

    Their input is reliable, so that no sweep is lost in a change of QoS. Their back end is given, so that none is
    measured.
    """
    benches = []
    given = {"model": str(height_model), "points_reliability": "reliable", "backend": "onnxruntime"}

    def make(**parameters):
        benches.append(Bench({**given, **parameters}))
        return benches[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_node, "_DIAGNOSTICS_PERIOD_S", 0.05)
        yield make
        for bench in benches:
            bench.close()
