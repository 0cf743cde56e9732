import numpy as np
import pytest

from test.training.folders import point_visibility
from training.datasets.pandaset import PandaSetSequence
from xmodelkd_ros.core.beam_table import elevations_deg, fit_beams
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector
from xmodelkd_ros.resources import label_map, translation


@pytest.fixture(scope="module")
def sequence(pandaset):
    return PandaSetSequence(pandaset)


@pytest.fixture(scope="module")
def beams(sequence):
    return fit_beams(np.concatenate([elevations_deg(sequence.cloud(i).xyz) for i in (0, 4, 8)]))


def test_axes_are_rep103_and_the_road_lies_below_the_sensor(sequence):
    cloud, labels = sequence.cloud(0), sequence.labels(0)
    road = cloud.xyz[(labels == sequence.label_map.id_of("road")) & (np.linalg.norm(cloud.xyz[:, :2], axis=1) < 10)]
    assert np.median(road[:, 2]) == pytest.approx(-2.27, abs=0.05)
    elevations = elevations_deg(cloud.xyz)
    assert np.percentile(elevations, [0.01, 99.99]) == pytest.approx([-24.9, 14.9], abs=0.2)


def test_the_car_moves_towards_positive_x(sequence):
    start, end = sequence.world_from_lidar(0), sequence.world_from_lidar(66)
    x, y, _ = start[:3, :3].T @ (end[:3, 3] - start[:3, 3])
    assert x > 10
    assert abs(y) < 0.2 * x


def test_beams_are_separated_only_from_the_optical_centre(sequence, beams):
    """Without the correction of the optical centre, peaks split and merge."""
    assert len(beams) == 64
    assert (beams[0], beams[-1]) == pytest.approx((14.88, -24.9), abs=0.05)
    elsewhere = sequence.cloud(0).xyz + np.array([-0.02125, 0.00125, 0.01375], np.float32)
    assert _spread(sequence.cloud(0).xyz, beams) < 0.6 * _spread(elsewhere, beams)


def _spread(xyz, beams):
    """Median distance of a point from its beam, degrees."""
    elevations = elevations_deg(xyz)
    return np.median(np.abs(elevations[:, None] - np.asarray(beams)[None]).min(axis=1))


@pytest.mark.parametrize("frame", [4, 42, 58])
def test_points_as_fired_lie_on_the_beams_while_the_car_moves(sequence, beams, frame):
    assert _spread(sequence.cloud(frame).xyz, beams) < 0.025


def test_pixel_labels_at_64_by_1024_reach_90_percent_miou(sequence, beams):
    """Upper bound of a network that labels pixels: each pixel's points get the true label of the nearest one."""
    projector = RangeProjector(ProjectionSpec(beams, 1024))
    to_nine = translation(sequence.label_map, label_map("pandaset9"))
    confusion = ConfusionMatrix(to_nine.target)
    for frame in range(2, 67, 8):
        projection = projector.project(sequence.cloud(frame))
        truth = to_nine.apply(sequence.labels(frame))
        confusion.update(truth, truth[projection.point[projection.pixel]])
    assert confusion.miou() >= 0.90


def test_cameras_face_the_direction_of_their_name(sequence):
    heading = {}
    for camera in sequence.cameras:
        x, y, _ = camera.from_lidar[2, :3]  # the optical axis in the LiDAR frame
        heading[camera.name] = np.degrees(np.arctan2(y, x))
    assert heading["front_camera"] == pytest.approx(0, abs=5)
    assert heading["left_camera"] == pytest.approx(90, abs=15)
    assert heading["right_camera"] == pytest.approx(-90, abs=15)
    assert abs(heading["back_camera"]) == pytest.approx(180, abs=5)
    assert 20 < heading["front_left_camera"] < 70


def test_images_are_taken_within_the_sweep(sequence):
    stamp = sequence.stamp_ns(10)
    for image in sequence.images(10):
        assert image.path.is_file()
        assert -100_000_000 <= image.stamp_ns - stamp <= 0


def test_static_extrinsics_agree_with_the_camera_poses(sequence):
    """The camera poses give world to camera without the extrinsic of the calibration file."""
    import json

    from training.datasets.pandaset import _pose_track
    from xmodelkd_ros.core.transforms import inverse

    xyz = sequence.cloud(0).xyz
    for camera in sequence.cameras:
        poses = json.loads((sequence.path / "camera" / camera.name / "poses.json").read_text())
        world_from_camera = _pose_track(poses[:1], np.zeros(1)).poses(0.0)[0]
        by_pose = inverse(world_from_camera) @ sequence.world_from_lidar(0)
        pixels, inside = camera.project(xyz)
        far = inside & (np.linalg.norm(xyz, axis=1) > 5)
        points = xyz[far] @ by_pose[:3, :3].T + by_pose[:3, 3]
        expected = points @ camera.intrinsic.T / points[:, 2:]
        assert np.percentile(np.abs(pixels[far] - expected[:, :2]), 99) < 4


def test_labels_are_drive13_ids_or_ignore(sequence):
    cloud, labels = sequence.cloud(30), sequence.labels(30)
    assert labels.shape == (len(cloud),)
    assert set(np.unique(labels)) <= {*range(13), 255}
    assert cloud.intensity.min() >= 0
    assert 128 < cloud.intensity.max() <= 255


@pytest.mark.parametrize("index", [-1, 67])
def test_rejects_a_frame_out_of_range(sequence, index):
    with pytest.raises(ConfigError, match=f"no frame {index}; it has 0 to 66"):
        sequence.cloud(index)


def test_reads_each_sweep_file_once_per_frame(pandaset, monkeypatch):
    sequence, read = PandaSetSequence(pandaset), []
    table = sequence._table
    monkeypatch.setattr(sequence, "_table", lambda file, *names: read.append(file) or table(file, *names))
    for index in (8, 9):
        sequence.cloud(index)
        sequence.labels(index)
        sequence.time_s(index)
        point_visibility(sequence, index)
    files = [
        name.format(index) for index in (8, 9) for name in ("lidar/{:02d}.pkl.gz", "annotations/semseg/{:02d}.pkl.gz")
    ]
    assert read == files


def test_clouds_of_a_frame_do_not_share_memory(sequence):
    cloud = sequence.cloud(8)
    cloud.xyz[:] = 0
    assert sequence.cloud(8).xyz.any()


def test_rejects_a_folder_without_a_sequence(tmp_path):
    with pytest.raises(ConfigError, match=r"not a PandaSet sequence \(lidar/timestamps.json"):
        PandaSetSequence(tmp_path)
