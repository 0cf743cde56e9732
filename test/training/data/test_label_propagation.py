import numpy as np
import pytest

from training.data.label_propagation import VoxelVotes, movable_ids, points_in_world, propagated_labels
from training.datasets.exposures import motion_compensated
from training.world.sequence import live_drive
from training.worldgen.drive import Drive
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

CAR, ROAD, WALL = 0, 1, 2
HERE, BESIDE, FAR = [0.05, 0.05, 0.05], [0.05, 0.05, 0.25], [-30.0, 4.0, 1.0]


def one_hot(*labels):
    return np.eye(3, dtype=np.float32)[list(labels)]


@pytest.fixture
def votes():
    return VoxelVotes(0.2, 3, [CAR])


def test_votes_are_summed_per_voxel(votes):
    votes.add(np.array([HERE, HERE, FAR]), one_hot(ROAD, WALL, WALL), 0.0)
    votes.add(np.array([HERE]), one_hot(ROAD), 0.1)
    found = votes.votes_at(np.array([HERE, BESIDE, FAR]))
    np.testing.assert_array_equal(found, [(0, 2, 1), (0, 0, 0), (0, 0, 1)])


def test_labels_require_enough_agreeing_votes(votes):
    votes.add(np.array([HERE, HERE, FAR]), one_hot(ROAD, ROAD, WALL), 0.0)
    assert votes.labels(np.array([HERE, FAR, BESIDE])).tolist() == [ROAD, IGNORE, IGNORE], "one vote is not enough"
    votes.add(np.array([HERE]), one_hot(WALL), 0.0)
    assert votes.labels(np.array([HERE])).tolist() == [IGNORE], "two of three votes are not enough"


def test_movable_classes_count_only_where_parked(votes):
    votes.add(np.array([HERE, FAR]), one_hot(CAR, CAR), 0.0)
    votes.add(np.array([HERE, FAR]), one_hot(CAR, CAR), 0.5)
    assert not votes.votes_at(np.array([HERE, FAR])).any(), "it may be passing by"
    votes.add(np.array([HERE]), one_hot(CAR), 3.0)
    assert votes.labels(np.array([HERE, FAR])).tolist() == [CAR, IGNORE]


def test_passing_object_leaves_no_label(votes):
    votes.add(np.array([HERE] * 22), one_hot(*[CAR] * 20, ROAD, ROAD), 0.0)
    votes.add(np.array([HERE]), one_hot(ROAD), 5.0)
    assert votes.labels(np.array([HERE])).tolist() == [IGNORE]


def test_distinguishes_voxels_far_from_the_origin(votes):
    utm = np.array([500_000.0, 5_400_000.0, 300.0])
    votes.add(np.add(utm, [HERE, HERE, FAR, FAR]), one_hot(ROAD, ROAD, WALL, WALL), 0.0)
    assert votes.labels(np.add(utm, [HERE, FAR, (80.0, 0, 0)])).tolist() == [ROAD, WALL, IGNORE]


def test_rows_of_zeros_do_not_vote(votes):
    votes.add(np.array([HERE, HERE]), np.zeros((2, 3), np.float32), 0.0)
    assert not votes.votes_at(np.array([HERE])).any()
    assert votes.votes_at(np.zeros((0, 3))).shape == (0, 3)


@pytest.fixture(scope="module")
def drive():
    return live_drive(Drive(5, 3, every=2, lidar="OS1-128"))


def test_world_points_use_the_pose_at_their_firing_time(drive):
    at_stamp = motion_compensated(drive, 1, drive.cloud(1).xyz, drive.time_s(1), 0.0)
    pose = drive.world_from_lidar(1)
    np.testing.assert_allclose(points_in_world(drive, 1), at_stamp @ pose[:3, :3].T + pose[:3, 3], atol=1e-5)


def test_labels_propagated_to_the_next_sweep_match_its_own(drive):
    (propagated,) = propagated_labels([(drive, 2)], [(drive, 0), (drive, 1)])
    truth, known = drive.labels(2), propagated != IGNORE
    assert known.mean() > 0.2  # foliage and rough grass return from another point in each sweep
    assert (propagated[known] == truth[known]).mean() > 0.97
    assert not np.isin(propagated[known], movable_ids()).any(), "0.6 s are too short for movable classes"


def test_labels_are_not_propagated_to_another_drive(drive):
    other = live_drive(Drive(6, 1))
    (propagated,) = propagated_labels([(other, 0)], [(drive, 0)])
    assert (propagated == IGNORE).all()
    assert len(label_map("drive13")) > max(movable_ids())
