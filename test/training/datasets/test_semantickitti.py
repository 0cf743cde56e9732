"""SemanticKITTI in its official layout: labels, geometry, times, splits, and errors for damaged folders."""

import io

import numpy as np
import pytest
from PIL import Image

from test.training.folders import point_visibility
from training.config.data import SourceConfig
from training.data.registry import open_drives
from training.data.sources import load_source
from training.datasets.semantickitti import SemanticKittiSequence
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector

# The numbers of the label files and the benchmark's classes 1 to 19 (0: ignored), from its own configuration.
OFFICIAL = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8,
    256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
XYZ = np.column_stack([np.linspace(5, 38, 34), np.linspace(-3, 3, 34), np.linspace(-1, 1, 34)])


@pytest.fixture
def root(write_kitti):
    return write_kitti([0, 8, 9], XYZ, list(OFFICIAL))


@pytest.fixture
def sequence(root):
    return SemanticKittiSequence(root / "sequences" / "08")


def test_points_equal_the_file_with_intensity_in_sensor_scale(sequence):
    cloud = sequence.cloud(1)
    np.testing.assert_array_equal(cloud.xyz, XYZ.astype(np.float32))
    np.testing.assert_allclose(cloud.intensity, np.linspace(0, 255, 34), rtol=1e-6)
    assert sequence.intensity_range == (0.0, 255.0)


def test_labels_merge_moving_classes_and_ignore_instances(sequence):
    expected = [255 if number == 0 else number - 1 for number in OFFICIAL.values()]
    labels = sequence.labels(0)
    assert labels.dtype == np.uint8 and labels.tolist() == expected
    assert sequence.label_map.names[labels[list(OFFICIAL).index(253)]] == "bicyclist", "moving or not"


def test_a_known_point_projects_to_the_known_pixel(sequence):
    (camera,) = sequence.cameras
    assert (camera.name, camera.width, camera.height) == ("image_2", 64, 48)
    pixels, inside = camera.project(np.array([[10.27, 0.0, 0.0], [5.27, 1.0, 0.42], [-10.0, 0.0, 0.0]]))
    assert inside.tolist() == [True, True, False]
    # Camera 0 is 27 cm ahead of the sensor and 8 cm below: depth 10 and 5; P2 adds 3 / depth to u.
    np.testing.assert_allclose(pixels[:2], [[32 + 0.3, 24 - 0.4], [32 - 10 + 0.6, 24 - 5]], atol=1e-9)


def test_poses_are_relative_to_the_first_sweep(sequence):
    np.testing.assert_allclose(sequence.world_from_lidar(0), np.eye(4), atol=1e-9)
    c, s = np.cos(0.1), np.sin(0.1)
    tr = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    camera = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 1], [0, 0, 0, 1]])
    moved = sequence.world_from_lidar(1)
    np.testing.assert_allclose(moved, np.linalg.inv(tr) @ camera @ tr, atol=1e-9)
    assert moved[0, 3] > 0.9 and np.arctan2(moved[1, 0], moved[0, 0]) == pytest.approx(-0.1), "ahead, to the right"
    half = sequence.poses(0, np.array([0.103736 / 2]))[0]
    assert np.arctan2(half[1, 0], half[0, 0]) == pytest.approx(-0.05, abs=1e-4)


def test_sweeps_images_and_points_share_one_stamp(sequence):
    assert sequence.stamp_ns(1) - sequence.stamp_ns(0) == 103_736_000
    assert sequence.stamp_ns(0) > 1_300_000_000_000_000_000, "not near zero, which ROS treats as unset"
    assert sequence.time_s(0).tolist() == [0.0] * 34
    assert [image.stamp_ns for image in sequence.images(1)] == [sequence.stamp_ns(1)]
    assert (point_visibility(sequence, 1).camera[:, 0] == 0).sum() > 10


def test_png_decodes_exactly_and_encodes_to_jpeg(sequence):
    (image,) = sequence.images(0)
    pixels = image.pixels()
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(image.path)))
    encoded = Image.open(io.BytesIO(image.jpeg()))
    assert encoded.format == "JPEG" and image.jpeg() == image.jpeg()
    assert np.abs(np.asarray(encoded).astype(int) - pixels).mean() < 2
    image.path.write_bytes(image.path.read_bytes()[:60])
    for read in (image.pixels, image.jpeg):
        with pytest.raises(ConfigError, match=r"cannot read image .*000000\.png: .*; fetch or write it again"):
            read()


def test_reads_two_one_or_no_cameras(write_kitti):
    root = write_kitti([1], XYZ, None, images=("image_2", "image_3"))
    left, right = SemanticKittiSequence(root / "sequences" / "01").cameras
    (u_left, _), (u_right, _) = (camera.project(np.array([[10.27, 0.0, 0.0]]))[0][0] for camera in (left, right))
    assert u_left - u_right == pytest.approx(2.0)
    for file in (root / "sequences" / "01" / "image_3").iterdir():
        file.unlink()
    assert [camera.name for camera in SemanticKittiSequence(root / "sequences" / "01").cameras] == ["image_2"]


def test_the_image_centre_faces_forward(sequence):
    ahead, left = np.array([[10, 0, 0]], np.float32), np.array([[0, 10, 0]], np.float32)
    projector = RangeProjector(ProjectionSpec((2.0, 0.0), 64))
    columns = [projector.project(type(sequence.cloud(0))(xyz)).pixel[0] % 64 for xyz in (ahead, left)]
    assert columns == [32, 16]


@pytest.mark.parametrize(("split", "names"), [("train", ["00", "09"]), ("val", ["08"]), ("", ["00", "08", "09"])])
def test_opens_a_data_set_by_its_split(root, split, names):
    for path in (root, root / "sequences"):
        drives = open_drives("semantickitti", path, split=split)
        assert [drive.name for drive in drives] == [f"SemanticKITTI sequence {name}" for name in names]


def test_training_and_validation_use_their_split_and_every_nth_frame(root):
    def names(use, **settings):
        source = load_source(SourceConfig("semantickitti", str(root), **settings), use)
        return [(drive.path.name, index) for drive, index in source.frames]

    assert names("train") == [("00", 0), ("00", 1), ("09", 0), ("09", 1)]
    assert names("validation") == names("test") == [("08", 0), ("08", 1)]
    assert names("train", every=2) == [("00", 0), ("09", 0)]
    (sweep, _) = load_source(SourceConfig("semantickitti", str(root)), "validation").sweeps
    assert sweep.labels.tolist()[list(OFFICIAL).index(13)] == 1, "a bus is a truck in drive13"
    (sweep, _) = load_source(SourceConfig("semantickitti", str(root)), "validation", labels="semantickitti19").sweeps
    assert sweep.labels.tolist()[list(OFFICIAL).index(13)] == 4, "other-vehicle"


def test_a_test_sequence_has_no_labels(write_kitti):
    root = write_kitti([11], XYZ, None, images=())
    (drive,) = open_drives("semantickitti", root)
    assert drive.labels(0).tolist() == [255] * 34 and drive.cameras == () and drive.images(0) == ()
    config = SourceConfig("semantickitti", str(root / "sequences" / "11"))
    with pytest.raises(ConfigError, match="semantickitti 11, all frames has no labels for train"):
        load_source(config, "train")
    assert len(load_source(SourceConfig("semantickitti", config.path, labels="none"), "train").sweeps) == 2


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("velodyne/000000.bin", b"\0" * 17, "000000.bin is truncated: its size of 17 bytes is not a multiple of 16"),
        ("labels/000000.label", b"\0" * 7, "000000.label is truncated: its size of 7 bytes is not a multiple of 4"),
        ("labels/000000.label", b"\0" * 8, "000000.label has 2 labels for the 34 points of "),
        ("velodyne", None, "is not a SemanticKITTI sequence"),
    ],
)
def test_rejects_damaged_folders_with_one_line(root, file, content, message):
    path = root / "sequences" / "08" / file
    if content is not None:
        path.write_bytes(content)
    elif path.is_dir():
        path.rename(path.with_name("elsewhere"))
    else:
        path.unlink()
    with pytest.raises(ConfigError, match=message) as caught:
        sequence = SemanticKittiSequence(root / "sequences" / "08")
        sequence.cloud(0), sequence.labels(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("split", "of"), [("", "sequence;"), ("val", "sequence of the split 'val';")])
def test_rejects_a_folder_without_sequences(tmp_path, split, of):
    with pytest.raises(ConfigError, match=f"holds no SemanticKITTI {of} give the folder"):
        open_drives("semantickitti", tmp_path, split=split)
