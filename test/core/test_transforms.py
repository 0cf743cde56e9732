import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import PoseTrack, inverse, quaternion, transform

HALF = np.sqrt(0.5)

positions = arrays(np.float64, (4, 3), elements=st.floats(-1e3, 1e3))
quaternions = arrays(np.float64, (4, 4), elements=st.floats(-1, 1)).filter(
    lambda q: np.linalg.norm(q, axis=1).min() > 0.1
)


@pytest.mark.parametrize("rotation", [(0, 0, 0, 0), (0, 0, 0, np.nan), (0, 0, 0, 1e-200), (np.inf, 0, 0, 1)])
def test_rejects_invalid_quaternions(rotation):
    with pytest.raises(ConfigError, match=r"quaternion \[.+\] is not a rotation"):
        transform((0, 0, 0), rotation)


@pytest.mark.parametrize("translation", [(0, np.nan, 0), (np.inf, 0, 0)])
def test_rejects_infinite_translations(translation):
    with pytest.raises(ConfigError, match=r"translation \[.+\] is not finite"):
        transform(translation, (0, 0, 0, 1))


@given(positions, quaternions)
def test_interpolation_is_exact_at_the_given_times(position, rotation):
    times = [0.0, 0.1, 0.25, 1.0]
    poses = PoseTrack(times, position, rotation).poses(times)
    np.testing.assert_allclose(poses[:, :3, :3], Rotation.from_quat(rotation).as_matrix(), atol=1e-9)
    np.testing.assert_array_equal(poses[:, :3, 3], position)
    np.testing.assert_array_equal(poses[:, 3], np.broadcast_to((0, 0, 0, 1), (4, 4)))


@given(positions, quaternions, arrays(np.bool_, 4), st.floats(-1, 5))
def test_quaternion_signs_do_not_matter(position, rotation, flipped, time):
    # Between two poses half a turn apart there is no shorter way.
    assume((np.abs((rotation[1:] * rotation[:-1]).sum(axis=1)) > 1e-6).all())
    signs = np.where(flipped, -1.0, 1.0)[:, None]
    plain = PoseTrack(range(4), position, rotation).poses(time)
    np.testing.assert_allclose(PoseTrack(range(4), position, rotation * signs).poses(time), plain, atol=1e-9)


def test_interpolates_along_the_shorter_rotation():
    quarter_turn = [(0, 0, 0, 1), (0, 0, -HALF, -HALF)]  # the same as (0, 0, HALF, HALF): +90 degrees about z
    track = PoseTrack([0.0, 2.0], [(0, 0, 0), (4, 2, -2)], quarter_turn)
    expected = transform((2, 1, -1), (0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)))
    np.testing.assert_allclose(track.poses(1.0), expected[None], atol=1e-12)
    rotations = track.poses(np.linspace(0, 2, 21))[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (21, 3, 3)), atol=1e-12)


def test_poses_are_constant_outside_the_time_range():
    track = PoseTrack([1.0, 2.0], [(0, 0, 0), (1, 0, 0)], [(0, 0, 0, 1), (HALF, 0, 0, HALF)])
    np.testing.assert_array_equal(track.poses([0.0, 5.0]), track.poses([1.0, 2.0]))


def test_track_of_matrices_round_trip():
    rng = np.random.default_rng(0)
    poses = np.array([transform(rng.normal(size=3), rng.normal(size=4)) for _ in range(20)])
    np.testing.assert_allclose(PoseTrack.of_matrices(np.arange(20), poses).poses(np.arange(20)), poses, atol=1e-12)


def test_track_does_not_modify_its_arguments():
    rotation = np.array([[0, 0, 0, 1.0], [0, 0, 0, -1.0]])
    PoseTrack([0, 1], np.zeros((2, 3)), rotation)
    assert rotation[1, 3] == -1


@given(quaternions, positions)
def test_quaternion_and_inverse_invert_a_transform(rotation, position):
    pose = transform(position[0], rotation[0])
    np.testing.assert_allclose(transform(position[0], quaternion(pose[:3, :3])), pose, atol=1e-9)
    np.testing.assert_allclose(inverse(pose) @ pose, np.eye(4), atol=1e-9)
