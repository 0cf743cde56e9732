"""The stored parity sweep, also with a damaged file."""

import cv2
import numpy as np
import pytest

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep, write_parity_sweep

CAMERA = CameraModel("front", 48, 32, np.array([[32.0, 0, 23.5], [0, 32.0, 15.5], [0, 0, 1]]), np.eye(4))


@pytest.fixture
def stored(tmp_path, monkeypatch, installed_first):
    """A file that replaces the package's."""
    path = tmp_path / "share" / "xmodelkd_ros" / "config" / "check_sweep.npz"
    path.parent.mkdir(parents=True)
    cloud = PointCloud(np.full((100, 3), 5, np.float32), np.full(100, 7, np.float32))
    write_parity_sweep(path, cloud, [(CAMERA, cv2.imencode(".jpg", np.zeros((32, 48, 3), np.uint8))[1].tobytes())])
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return path


def change(path, **arrays):
    with np.load(path) as whole:
        np.savez_compressed(path, **{**whole, **arrays})


def test_reads_back(stored):
    cloud, camera_frames = read_parity_sweep(2)
    assert (len(cloud), cloud.intensity[0], [camera_frame.camera.name for camera_frame in camera_frames]) == (
        100,
        7,
        ["front"],
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"xyz", b"xyy", 1)),
        lambda path: path.write_bytes(bytes(b ^ (i == 60) for i, b in enumerate(path.read_bytes()))),
        lambda path: change(path, xyz=np.zeros(3)),
        lambda path: change(path, cameras=np.int8(1)),
        lambda path: change(path, **{"front.jpeg": np.zeros(0, np.uint8)}),
        lambda path: change(path, **{"front.jpeg": np.zeros((2, 2, 2), np.float32)}),
        lambda path: change(path, **{"front.intrinsic": np.full((3, 3), "x")}),
    ],
)
def test_unusable_file_is_one_line_error(stored, damage):
    damage(stored)
    with pytest.raises(ConfigError, match=r"check_sweep\.npz.*install the package again$"):
        read_parity_sweep(2)
