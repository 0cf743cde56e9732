import importlib.util

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.time import Time
from std_msgs.msg import Header

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.node.extrinsics import (
    CameraPoses,
    ExtrinsicError,
    TfExtrinsic,
    Transforms,
    camera_poses,
    choose_extrinsic,
    transform_cloud,
)


class FakeBuffer:
    """Stand-in for tf2_ros.Buffer with the two methods in use."""

    def __init__(self):
        self.lookups = []
        self.poses = {}
        self.latest_ns = 0

    def lookup_transform(self, target_frame, source_frame, time):
        self.lookups.append((target_frame, source_frame, time.nanoseconds))
        if source_frame not in self.poses:
            raise LookupError(f'"{source_frame}" passed to lookupTransform argument source_frame does not exist.')
        return stamped(*self.poses[source_frame], self.latest_ns)

    def lookup_transform_full(self, target_frame, target_time, source_frame, source_time, fixed_frame):
        if max(target_time.nanoseconds, source_time.nanoseconds) > self.latest_ns:
            raise LookupError("Lookup would require extrapolation into the future.")
        metres = (target_time.nanoseconds - source_time.nanoseconds) * 1e-9 * 10  # 10 m/s along x
        return stamped((-metres, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))

    def all_frames_as_yaml(self):
        """The format of tf2's BufferCore::allFramesAsYAML."""
        lines = "\n  parent: 'base_link'\n  broadcaster: 'Authority undetectable'\n  rate: 10000.000\n"
        return "".join(f"{frame}: {lines}" for frame in self.poses) or "[]"


def stamped(translation, rotation, time_ns=0):
    return TransformStamped(
        header=Header(stamp=Time(nanoseconds=time_ns).to_msg(), frame_id="target"),
        child_frame_id="source",
        transform=Transform(
            translation=Vector3(**dict(zip("xyz", translation, strict=True))),
            rotation=Quaternion(**dict(zip("xyzw", map(float, rotation), strict=True))),
        ),
    )


POSE = ((1.0, 2.0, -1.8), (0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)))


def test_looks_up_pose_of_the_cloud_frame_once():
    buffer = FakeBuffer()
    buffer.poses["base_link"] = POSE
    extrinsic = TfExtrinsic(buffer, "lidar")
    for _ in range(2):
        np.testing.assert_allclose(extrinsic("base_link"), transform(*POSE))
    assert buffer.lookups == [("lidar", "base_link", 0)]  # time 0: the latest


def test_finds_a_transform_that_arrives_late():
    buffer = FakeBuffer()
    extrinsic = TfExtrinsic(buffer, "lidar")
    with pytest.raises(ExtrinsicError, match="no transform from 'base_link' to projection_frame 'lidar'"):
        extrinsic("base_link")
    buffer.poses["base_link"] = POSE
    np.testing.assert_allclose(extrinsic("base_link"), transform(*POSE))


@pytest.mark.parametrize("cloud_frame", ["base_link", "/base_link", "//base_link", " base_link", "/base_link "])
@pytest.mark.parametrize("projection_frame", ["lidar", "/lidar", "lidar "])
def test_asks_tf_for_frames_as_tf_names_them(cloud_frame, projection_frame):
    buffer = FakeBuffer()
    buffer.poses["base_link"] = POSE
    np.testing.assert_allclose(TfExtrinsic(buffer, projection_frame)(cloud_frame), transform(*POSE))
    poses = CameraPoses({}, buffer, "/odom")
    poses.from_lidar("front", "/front_optical", cloud_frame, 5)
    buffer.latest_ns = IMAGE_NS
    assert poses.motion(cloud_frame, SWEEP_NS, IMAGE_NS) is not None
    assert {name for lookup in buffer.lookups for name in lookup[:2]} == {"base_link", "lidar", "front_optical", "odom"}


@pytest.mark.parametrize(
    ("known", "asked", "hint"),
    [
        ("car1/lidar_top", "lidar_top", "; no transform has the frame 'lidar_top', but 'car1/lidar_top'"),
        ("lidar_top", "car1/lidar_top", "; no transform has the frame 'car1/lidar_top', but 'lidar_top'"),
        ("Lidar_Top", "lidar_top", "; no transform has the frame 'lidar_top', but 'Lidar_Top'"),
        ("lidar_top", "lidar_tpo", "; no transform has the frame 'lidar_tpo', but 'lidar_top'"),
        ("gps", "lidar_top", "; no transform has the frame 'lidar_top'"),
    ],
)
def test_error_names_the_nearest_frame(known, asked, hint):
    buffer = FakeBuffer()
    buffer.poses[known] = POSE
    for look_up in (
        lambda: TfExtrinsic(buffer, "base_link")(asked),
        lambda: CameraPoses({}, buffer).from_lidar("front", "base_link", asked, 5),
        lambda: CameraPoses({}, buffer, "base_link").motion(asked, SWEEP_NS, IMAGE_NS),
    ):
        with pytest.raises(ExtrinsicError) as error:
            look_up()
        assert str(error.value).endswith(hint)


def test_empty_frames_name_the_driver_and_the_parameter():
    with pytest.raises(ExtrinsicError, match=r"the cloud has no frame_id, .* or set projection_extrinsic"):
        TfExtrinsic(FakeBuffer(), "lidar")("")
    for frames, what in ((("", "lidar"), "CameraInfo of camera 'front'"), (("optical", "/"), "cloud")):
        with pytest.raises(ExtrinsicError, match=f"the {what} has no frame_id; .* or set cameras.front.extrinsic"):
            CameraPoses({}, FakeBuffer()).from_lidar("front", *frames, 5)


@pytest.mark.filterwarnings("error")
def test_pose_beyond_float32_range_gives_infinite_points():
    cloud = transform_cloud(PointCloud(np.ones((2, 3), np.float32)), transform((1e300, 0, 0), (0, 0, 0, 1)))
    assert np.isinf(cloud.xyz[:, 0]).all() and (cloud.xyz[:, 1:] == 1).all()


def test_parameters_take_precedence_over_tf():
    extrinsic = choose_extrinsic(Transforms(None), "lidar", (*POSE[0], *POSE[1]))
    np.testing.assert_allclose(extrinsic("any"), transform(*POSE))
    assert choose_extrinsic(Transforms(None), "", ()) is None


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_error_without_tf2_names_the_alternative():
    with pytest.raises(ConfigError, match="tf2_ros is not installed; set projection_extrinsic"):
        choose_extrinsic(Transforms(None), "lidar", ())


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
@pytest.mark.parametrize(
    ("extrinsics", "fixed_frame", "message"),
    [
        ({"front": (0.0,) * 6 + (1.0,), "left": ()}, "", "cameras.left.extrinsic is empty .*not installed; set it"),
        ({"front": (0.0,) * 6 + (1.0,)}, "odom", "fixed_frame is 'odom' .*not installed; leave it empty"),
    ],
)
def test_cameras_without_tf2_need_parameters(extrinsics, fixed_frame, message):
    with pytest.raises(ConfigError, match=message):
        camera_poses(Transforms(None), extrinsics, fixed_frame)


def test_camera_pose_from_parameters():
    poses = camera_poses(Transforms(None), {"front": (*POSE[0], *POSE[1])}, "")
    np.testing.assert_allclose(poses.from_lidar("front", "front_optical", "lidar", 5), transform(*POSE))
    assert poses.motion("lidar", 0, 50_000_000) is None


def test_looks_up_static_camera_once():
    buffer = FakeBuffer()
    poses = CameraPoses({}, buffer)
    with pytest.raises(ExtrinsicError, match="no transform from 'lidar' to 'front_optical' of camera 'front'"):
        poses.from_lidar("front", "front_optical", "lidar", 5)
    buffer.poses["lidar"] = POSE
    for image_ns in (6, 7):
        np.testing.assert_allclose(poses.from_lidar("front", "front_optical", "lidar", image_ns), transform(*POSE))
    assert buffer.lookups == [("front_optical", "lidar", 0)] * 2


def test_looks_up_moving_camera_for_every_image():
    buffer = FakeBuffer()
    buffer.poses["lidar"], buffer.latest_ns = POSE, 9
    poses = CameraPoses({}, buffer)
    for image_ns in (6, 7):
        poses.from_lidar("front", "front_optical", "lidar", image_ns)
    assert [lookup[2] for lookup in buffer.lookups] == [0, 6, 0, 7]


SWEEP_NS, IMAGE_NS = 1_000_000_000, 1_050_000_000


@pytest.mark.parametrize("lag_ms", [-20, 0, 30, 150])
def test_motion_between_sweep_and_image_from_tf(lag_ms):
    """At 10 m/s for 50 ms, a point 5 m ahead at the sweep is 4.5 m ahead at the image.

    Where TF lags behind the image, the previous motion is used.
    """
    buffer = FakeBuffer()
    buffer.poses["lidar"], buffer.latest_ns = POSE, IMAGE_NS - lag_ms * 1_000_000
    motion = CameraPoses({}, buffer, "odom").motion("lidar", SWEEP_NS, IMAGE_NS)
    np.testing.assert_allclose(motion @ [5, 0, 0, 1], [4.5, 0, 0, 1])


def test_rejects_transform_with_long_lag():
    buffer = FakeBuffer()
    poses = CameraPoses({}, buffer, "odom")
    with pytest.raises(ExtrinsicError, match="no transform of 'lidar' in fixed_frame 'odom' from the sweep's stamp"):
        poses.motion("lidar", SWEEP_NS, IMAGE_NS)
    buffer.poses["lidar"], buffer.latest_ns = POSE, IMAGE_NS - 400_000_000
    with pytest.raises(ExtrinsicError, match=r"no transform of 'lidar' .*: the newest is 0.40 s older"):
        poses.motion("lidar", SWEEP_NS, IMAGE_NS)
    with pytest.raises(ExtrinsicError, match=r"of camera 'front': the newest is 0.40 s older"):
        poses.from_lidar("front", "front_optical", "lidar", IMAGE_NS)


def test_rejects_negative_time():
    buffer = FakeBuffer()
    buffer.poses["lidar"], buffer.latest_ns = POSE, 30_000_000
    with pytest.raises(ExtrinsicError, match="its time is negative"):
        CameraPoses({}, buffer, "odom").motion("lidar", 20_000_000, -30_000_000)


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not installed")
def test_node_has_one_tf_listener_while_configured(make_bench):
    pose = [0.0] * 6 + [1.0]
    bench = make_bench(
        fixed_frame="odom", projection_frame="lidar", cameras=["a", "b"], **{"cameras.a.extrinsic": pose}
    )

    def subscriptions_and_services():
        return bench.probe.count_subscribers("/tf"), len(list(bench.node.services))

    before = subscriptions_and_services()[1]
    for _ in range(3):
        bench.start()
        bench.wait(lambda: subscriptions_and_services()[0] == 1)
        bench.node.trigger_deactivate()
        bench.node.trigger_cleanup()
        bench.wait(lambda: subscriptions_and_services() == (0, before))
    assert subscriptions_and_services() == (0, before)


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not installed")
def test_motion_with_real_tf2():
    """At 10 m/s, with the LiDAR 1 m ahead of base_link and poses that end 30 ms before the image."""
    from tf2_ros import Buffer

    buffer = Buffer()
    lidar = stamped((1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    lidar.header.frame_id, lidar.child_frame_id = "base_link", "lidar"
    buffer.set_transform_static(lidar, "test")
    for time_ns in range(SWEEP_NS - 80_000_000, IMAGE_NS - 20_000_000, 50_000_000):
        vehicle = stamped((time_ns * 1e-8, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), time_ns)
        vehicle.header.frame_id, vehicle.child_frame_id = "odom", "base_link"
        buffer.set_transform(vehicle, "test")
    poses = CameraPoses({}, buffer, "odom")
    np.testing.assert_allclose(poses.motion("lidar", SWEEP_NS, IMAGE_NS) @ [5, 0, 0, 1], [4.5, 0, 0, 1], atol=1e-6)
    with pytest.raises(ExtrinsicError, match=r"is 0\.33 s older"):
        poses.motion("lidar", SWEEP_NS, IMAGE_NS + 300_000_000)
    np.testing.assert_allclose(poses.from_lidar("front", "base_link", "lidar", 5)[:3, 3], [1, 0, 0])


def test_transforms_points():
    xyz = np.array([[1, 0, 0], [0, 0, 2], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    ring = np.arange(4)
    cloud = transform_cloud(PointCloud(xyz, xyz[:, 0], ring, height=2), transform(*POSE))
    np.testing.assert_allclose(cloud.xyz[:2], [[1, 3, -1.8], [1, 2, 0.2]], atol=1e-6)
    assert not np.isfinite(cloud.xyz[2:]).all(axis=1).any()
    assert (cloud.height, cloud.width) == (2, 2)
    assert cloud.ring is ring
