"""nuScenes-lidarseg in its official layout: labels, geometry, stamps, splits, and errors for damaged folders."""

import json

import numpy as np
import pytest

from test.training.folders import point_visibility
from training.config.data import SourceConfig
from training.data.registry import open_drives
from training.data.sources import load_source
from training.datasets import nuscenes, nuscenes_tables
from training.datasets.nuscenes import NuScenesSequence
from training.datasets.nuscenes_tables import read_tables
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector

# Names of the challenge's classes 1 to 16 (0: ignored) by the numbers in the label files, from the devkit's table.
OFFICIAL = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
XYZ = np.column_stack([np.linspace(5, 36, 32), np.linspace(-3, 3, 32), np.linspace(-1, 1, 32)])
XYZ[-1] = (0.3, 0.2, 0.1)  # of the vehicle itself
FIRST_NS = 1_532_402_927_647_951_000


@pytest.fixture
def root(write_nuscenes):
    return write_nuscenes(["scene-0061", "scene-0103", "scene-0553"], XYZ, np.arange(32))


@pytest.fixture
def scene(root):
    (scene,) = open_drives("nuscenes", root / "v1.0-mini" / "scene-0061", max_drives=1)
    return scene


def test_points_are_rotated_to_rep103_and_none_is_dropped(scene):
    cloud = scene.cloud(1)
    np.testing.assert_array_equal(cloud.xyz, XYZ.astype(np.float32))
    np.testing.assert_allclose(cloud.intensity, np.linspace(0, 255, 32), rtol=1e-6)
    assert cloud.ring.tolist() == list(range(32))
    projector = RangeProjector(ProjectionSpec((2.0, 0.0), 64))
    assert projector.project(type(cloud)(np.array([[10, 0, 0]], np.float32))).pixel[0] % 64 == 32


def test_file_axes_are_x_right_and_y_forward(scene, root):
    (file,) = (root / "samples" / "LIDAR_TOP").glob("scene-0061-1-*")
    own = np.fromfile(file, np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(own[:, 1], scene.cloud(1).xyz[:, 0])
    np.testing.assert_array_equal(own[:, 0], -scene.cloud(1).xyz[:, 1])


def test_labels_are_those_of_the_challenge(scene):
    labels = scene.labels(0)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [255 if number == 0 else number - 1 for number in OFFICIAL]
    assert [c.id for c in scene.label_map.classes] == list(range(16)), "in the challenge's order, from 0"


def test_raw_labels_are_defined_by_category_json(root):
    path = root / "v1.0-mini" / "category.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["index"] = 31 - row["index"]
    path.write_text(json.dumps(rows))
    (scene,) = open_drives("nuscenes", path.parent / "scene-0061")
    assert scene.labels(0).tolist() == [255 if number == 0 else number - 1 for number in OFFICIAL[::-1]]


def test_a_known_point_projects_to_the_known_pixel(scene):
    assert [camera.name for camera in scene.cameras] == sorted(camera.name for camera in scene.cameras)
    front = next(camera for camera in scene.cameras if camera.name == "CAM_FRONT")
    assert (len(scene.cameras), front.width, front.height) == (6, 1600, 900)
    pixels, inside = front.project(np.array([[10.0, 0.0, 0.0], [10.0, 2.0, 0.0], [-10.0, 0.0, 0.0]]))
    assert inside.tolist() == [True, True, False]
    depth, above = 10 + 0.94 - 1.7, 1.84 - 1.5
    v = 491 - 1266 * above / depth
    np.testing.assert_allclose(pixels[:2], [[816, v], [816 - 1266 * 2 / depth, v]], atol=1e-6)


def test_cameras_face_the_direction_of_their_name(scene):
    heading = {c.name: np.degrees(np.arctan2(*c.from_lidar[2, :2][::-1])) for c in scene.cameras}
    expected = {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_FRONT_RIGHT": -55, "CAM_BACK_LEFT": 110}
    for name, degrees in expected.items():
        assert heading[name] == pytest.approx(degrees, abs=3)
    assert abs(heading["CAM_BACK"]) == pytest.approx(180)


def test_sensor_height_and_pose_at_the_stamp(scene):
    np.testing.assert_allclose(scene.base_from_lidar, [[1, 0, 0, 0.94], [0, 1, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]],
                               atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(scene.world_from_lidar(1)[:3, 3], [401.94, 1100, 1.84], atol=1e-6)
    np.testing.assert_allclose(scene.world_from_lidar(1)[:3, :3], np.eye(3), atol=1e-9)


def test_images_have_their_own_stamps_and_poses(scene):
    assert scene.stamp_ns(0) == FIRST_NS and scene.stamp_ns(1) - scene.stamp_ns(0) == 500_000_000
    assert scene.time_s(0).tolist() == [0.0] * 32
    images = scene.images(1)
    assert [image.camera.name for image in images] == [camera.name for camera in scene.cameras]
    assert {image.stamp_ns for image in images} == {FIRST_NS + 460_000_000}
    assert images[0].pixels().shape == (900, 1600, 3) and images[0].jpeg() == images[0].path.read_bytes()
    (shutter,) = scene.poses(1, np.array([-0.04]))
    assert shutter[0, 3] == pytest.approx(401.94 - 0.08), "the camera's own pose, not interpolated between sweeps"
    assert (point_visibility(scene, 1).camera[:, 0] >= 0).sum() > 10


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["scene-0061", "scene-0553"]),
        ("val", ["scene-0103"]),
        ("", ["scene-0061", "scene-0103", "scene-0553"]),
    ],
)
def test_opens_a_version_by_its_split(root, split, names):
    for path in (root, root / "v1.0-mini"):
        drives = open_drives("nuscenes", path, split=split)
        assert [drive.name for drive in drives] == [f"nuScenes {name}" for name in names]


def test_the_official_split_of_trainval():
    """Scene 553 is for training in v1.0-mini and for validation in v1.0-trainval."""
    scenes = [f"scene-{number:04d}" for number in range(1, 1111)]
    val = [scene for scene in scenes if nuscenes._split_of(scene, "v1.0-trainval") == "val"]
    assert len(val) == 150
    assert {"scene-0003", "scene-0553", "scene-0770", "scene-1073"} <= set(val)
    assert not {"scene-0001", "scene-0628", "scene-0918", "scene-1074"} & set(val)


def test_training_uses_its_split_and_translates_labels(root):
    source = load_source(SourceConfig("nuscenes", str(root)), "train")
    assert [drive.name for drive, _ in source.frames[::2]] == ["nuScenes scene-0061", "nuScenes scene-0553"]
    assert source.sweeps[0].labels[12] == 11, "a traffic cone is a hazard in drive13"
    assert load_source(SourceConfig("nuscenes", str(root)), "validation", labels="nuscenes16").sweeps[0].labels[12] == 7
    assert source.origin.license == "CC BY-NC-SA 4.0"


def test_tables_are_read_once_and_reduced_to_key_frames(root, monkeypatch):
    read = []
    rows = nuscenes_tables._rows
    monkeypatch.setattr(nuscenes_tables, "_rows", lambda path: read.append(path.stem) or rows(path))
    for scene in ("scene-0061", "scene-0103"):
        open_drives("nuscenes", root / "v1.0-mini" / scene)
    assert len(read) == len(set(read)) and {"sample_data", "ego_pose"} <= set(read) and "log" not in read
    tables = read_tables((root / "v1.0-mini").resolve())
    assert len(tables.ego) == sum(map(len, tables.records.values())) == 3 * 2 * 7


@pytest.mark.parametrize("chunk", [700, 1000])
def test_rows_may_span_buffers(root, monkeypatch, chunk):
    path = root / "v1.0-mini" / "sample_data.json"
    monkeypatch.setattr(nuscenes_tables, "_CHUNK", chunk)
    assert list(nuscenes_tables._rows(path)) == json.loads(path.read_text())


def test_the_test_version_has_no_labels(write_nuscenes):
    root = write_nuscenes(["scene-0077"], XYZ, None, version="v1.0-test")
    (scene,) = open_drives("nuscenes", root / "v1.0-test")
    assert scene.labels(0).tolist() == [255] * 32
    with pytest.raises(ConfigError, match="nuscenes scene-0077, all frames has no labels for validation"):
        load_source(SourceConfig("nuscenes", str(root / "v1.0-test" / "scene-0077")), "validation")
    with pytest.raises(ConfigError, match=r"v1\.0-test holds no scene of the split 'val'; give another version"):
        open_drives("nuscenes", root / "v1.0-test", split="val")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("v1.0-mini/scene.json", None, r"not a version of nuScenes \(scene.json: No such file or directory\)"),
        (
            "v1.0-mini/category.json",
            b'[{"name": "animal", "index": 1}, {"name": "noise"}]',
            "has 'noise' as number None",
        ),
        ("v1.0-mini/sample_data.json", b'[{"token": "a",', r"not a version of nuScenes \(sample_data.json: "),
        ("v1.0-mini/sensor.json", b"{}", r"not a version of nuScenes \(sensor.json: not a list of rows\)"),
        ("v1.0-mini/scene.json", b'[{"token": "a"}]', "scene.json has a row without 'name'"),
        ("v1.0-mini/category.json", b'[{"name": "cow", "index": 3}]', "category.json has 'cow' as number 3"),
        ("v1.0-mini/sample.json", b"[]", "v1.0-mini is incomplete: scene-0061 refers to 't-scene-0061', which"),
        (
            "samples/LIDAR_TOP/scene-0061-0-LIDAR_TOP.pcd.bin",
            b"\0" * 21,
            "is truncated: its size of 21 bytes is not a multiple of 20",
        ),
        ("lidarseg/v1.0-mini/scene-0061-0-LIDAR_TOP_lidarseg.bin", b"\0" * 3, "has 3 labels for the 32 points of "),
    ],
)
def test_rejects_damaged_folders_with_one_line(root, file, content, message):
    if content is None:
        (root / file).unlink()
    else:
        (root / file).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        (scene,) = open_drives("nuscenes", root / "v1.0-mini" / "scene-0061")
        scene.cloud(0), scene.labels(0)
    assert "\n" not in str(caught.value)


def test_rejects_folders_without_tables_or_with_two_versions_and_missing_scenes(root, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no nuScenes tables \(v1\.0-\*/scene\.json\); give the folder of one"):
        open_drives("nuscenes", tmp_path)
    with pytest.raises(ConfigError, match=r"v1\.0-mini has no scene-0001; it has scene-0061 to scene-0553"):
        open_drives("nuscenes", root / "v1.0-mini" / "scene-0001")
    (root / "v1.0-test").mkdir()
    (root / "v1.0-test" / "scene.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"holds more than one version \(v1\.0-mini, v1\.0-test\); give the folder"):
        open_drives("nuscenes", root)


def test_rejects_a_frame_out_of_range(scene):
    assert isinstance(scene, NuScenesSequence)
    for index in (-1, 2):
        with pytest.raises(ConfigError, match=f"nuScenes scene-0061 has no frame {index}; it has 0 to 1"):
            scene.images(index)
