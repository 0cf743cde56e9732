import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.node.extrinsics import ExtrinsicError, TfExtrinsic, choose_extrinsic, moved


class Buffer:
    """Answers as tf2_ros.Buffer does, of which it has the one method that is used."""

    def __init__(self):
        self.asked = []
        self.known = {}

    def lookup_transform(self, target_frame, source_frame, time):
        self.asked.append((target_frame, source_frame, time.nanoseconds))
        if source_frame not in self.known:
            raise LookupError(f'"{source_frame}" passed to lookupTransform argument source_frame does not exist.')
        (x, y, z), (qx, qy, qz, qw) = self.known[source_frame]
        translation = SimpleNamespace(x=x, y=y, z=z)
        rotation = SimpleNamespace(x=qx, y=qy, z=qz, w=qw)
        return SimpleNamespace(transform=SimpleNamespace(translation=translation, rotation=rotation))


POSE = ((1.0, 2.0, -1.8), (0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)))


def test_tf_is_asked_for_the_pose_of_the_cloud_in_the_projection_frame_once():
    buffer = Buffer()
    buffer.known["base_link"] = POSE
    extrinsic = TfExtrinsic(buffer, "lidar")
    for _ in range(2):
        np.testing.assert_allclose(extrinsic("base_link"), transform(*POSE))
    assert buffer.asked == [("lidar", "base_link", 0)]  # time 0: whatever is known


def test_a_transform_that_comes_late_is_found():
    buffer = Buffer()
    extrinsic = TfExtrinsic(buffer, "lidar")
    with pytest.raises(ExtrinsicError, match="no transform from 'base_link' to projection_frame 'lidar'"):
        extrinsic("base_link")
    buffer.known["base_link"] = POSE
    np.testing.assert_allclose(extrinsic("base_link"), transform(*POSE))


def test_parameters_win_over_tf():
    extrinsic = choose_extrinsic(None, "lidar", (*POSE[0], *POSE[1]))
    np.testing.assert_allclose(extrinsic("any"), transform(*POSE))
    assert choose_extrinsic(None, "", ()) is None


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_without_tf2_the_error_names_the_other_way():
    with pytest.raises(ConfigError, match="tf2_ros is not installed; set projection_extrinsic"):
        choose_extrinsic(None, "lidar", ())


def test_moved_points():
    xyz = np.array([[1, 0, 0], [0, 0, 2], [np.nan, 0, 0], [np.inf, 0, 0]], np.float32)
    ring = np.arange(4)
    cloud = moved(PointCloud(xyz, xyz[:, 0], ring, height=2), transform(*POSE))
    np.testing.assert_allclose(cloud.xyz[:2], [[1, 3, -1.8], [1, 2, 0.2]], atol=1e-6)
    assert not np.isfinite(cloud.xyz[2:]).all(axis=1).any()
    assert (cloud.height, cloud.width) == (2, 2)
    assert cloud.ring is ring
