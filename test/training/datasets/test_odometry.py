"""Poses of bags that have none, estimated from the sweeps."""

import sys

import numpy as np
import pytest

from training.data.registry import open_drives
from training.datasets.bag_export import write_bag
from training.datasets.odometry import lidar_odometry
from training.world.sequence import WorldSequence, live_drive
from training.worldgen.drive import Drive
from xmodelkd_ros.core.errors import ConfigError

SWEEPS = 10


class WithoutPoses(WorldSequence):
    """A generated drive whose motion was not recorded."""

    def world_from_lidar(self, index):
        raise ConfigError("not recorded")


@pytest.fixture(scope="module")
def drive():
    return live_drive(Drive(4, SWEEPS, every=2, lidar="VLP-16"))


@pytest.fixture(scope="module")
def bag(drive, tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "drive.mcap"
    write_bag(WithoutPoses(drive._recording, drive._image), range(SWEEPS), path)
    return path


def test_motion_of_a_bag_without_poses_is_estimated(drive, bag):
    pytest.importorskip("kiss_icp")
    (plain,) = open_drives("bag", bag)
    assert not plain.has_poses and any("matched as if it stood still" in note for note in plain.notes)
    (estimated,) = open_drives("bag", bag, odometry=True)
    assert estimated.has_poses and any("it was estimated from the sweeps" in note for note in estimated.notes)

    def travelled(sequence):
        """Positions in the frame of the first sweep."""
        poses = np.array([sequence.world_from_lidar(k) for k in range(SWEEPS)])
        return (np.linalg.inv(poses[0]) @ poses)[:, :3, 3]

    length = np.linalg.norm(np.diff(travelled(drive), axis=0), axis=1).sum()
    assert length > 5
    np.testing.assert_allclose(travelled(estimated), travelled(drive), atol=0.05 * length)


def test_missing_odometry_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "kiss_icp.config", None)
    with pytest.raises(ConfigError, match=r"needs kiss-icp: pip install 'xmodelkd_ros\[odometry\]'"):
        lidar_odometry([])
