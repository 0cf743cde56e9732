"""Stored generated drives equal live ones, and damaged folders are rejected."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from training.data.registry import open_drives
from training.datasets.bag_export import write_bag
from training.world.census import Agreement, compare_labels
from training.world.generate import store_each
from training.world.sequence import live_drive
from training.world.stored import StoredDrive, store, stored_drives
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import Drive, Frame, drives_of
from training.worldgen.mesh import pose
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.resources import label_map


@pytest.fixture(scope="module")
def drive(generated):
    """A live drive with the same arguments as the stored one."""
    return Drive(**generated.drive)


@pytest.fixture(scope="module")
def live(drive):
    return live_drive(drive)


@pytest.fixture(scope="module")
def stored(generated):
    return stored_drives(generated.folder)[0]


@pytest.fixture
def copy(generated, tmp_path):
    """A copy of the stored drive, to be damaged."""
    return shutil.copytree(generated.folder, tmp_path / "drive")


def test_live_and_stored_drives_have_equal_metadata(live, stored):
    assert (live.name, live.source, live.intensity_range) == (stored.name, stored.source, stored.intensity_range)
    assert live.name == f"world {WORLD_VERSION} seed 18"
    assert live.label_map == stored.label_map == label_map("drive13")
    assert len(live) == len(stored) == 2
    assert live.rig.lidar == stored.rig.lidar
    assert live.rig.shutter_s == stored.rig.shutter_s
    assert live.base_from_lidar.tobytes() == stored.base_from_lidar.tobytes()
    for one, other in zip(live.cameras, stored.cameras, strict=True):
        assert (one.name, one.width, one.height) == (other.name, other.width, other.height)
        assert one.intrinsic.tobytes() == other.intrinsic.tobytes()
        assert one.from_lidar.tobytes() == other.from_lidar.tobytes()


@pytest.mark.parametrize("index", range(2))
def test_stored_sweeps_equal_live_ones_byte_for_byte(live, stored, index):
    one, other = live.cloud(index), stored.cloud(index)
    assert len(one) > 5000
    assert one.xyz.tobytes() == other.xyz.tobytes() and one.xyz.dtype == other.xyz.dtype
    assert one.intensity.tobytes() == other.intensity.tobytes()
    np.testing.assert_array_equal(one.ring, other.ring)
    assert live.labels(index).tobytes() == stored.labels(index).tobytes()
    assert live.compensated(index).tobytes() == stored.compensated(index).tobytes()
    assert live.stamp_ns(index) == stored.stamp_ns(index)
    assert live.world_from_lidar(index).tobytes() == stored.world_from_lidar(index).tobytes()
    assert live.lidar_in_camera(index, 2).tobytes() == stored.lidar_in_camera(index, 2).tobytes()


def test_stored_images_equal_live_ones_byte_for_byte(drive, live, stored, generated):
    folder = StoredDrive(generated.folder)
    for camera, (one, other) in enumerate(zip(live.images(1), stored.images(1), strict=True)):
        assert one.jpeg() == other.jpeg()
        assert (one.stamp_ns, one.camera.name) == (other.stamp_ns, other.camera.name)
        if camera < 2:
            np.testing.assert_array_equal(folder.image(1, camera).labels(), drive.image(1, camera).label)


def test_points_agree_with_pixel_labels(drive, stored, generated):
    """Geometry, ego motion and exposure times together: LiDAR and camera agree."""
    folder, moved, fixed = StoredDrive(generated.folder), Agreement.none(), Agreement.none()
    xyz, labels = stored.compensated(1), stored.labels(1)
    still = np.ones(len(labels), bool)
    for number, camera in enumerate(stored.cameras):
        picture = replace(drive.image(1, number), label=folder.image(1, number).labels())
        model = replace(camera, from_lidar=stored.lidar_in_camera(1, number))
        moved += compare_labels(xyz, labels, model, picture, still)
        fixed += compare_labels(stored.cloud(1).xyz, labels, camera, picture, still)
    agreement, without_ego_motion = (found.to_dict()["border_2_px"]["agreement"] for found in (moved, fixed))
    assert moved.projected > 1000
    assert agreement > 0.985
    assert agreement > without_ego_motion + 0.005


def test_points_are_ordered_by_beam_and_time(stored):
    cloud, lidar = stored.cloud(0), stored.rig.lidar
    elevation = np.degrees(np.arcsin(cloud.xyz[:, 2] / np.linalg.norm(cloud.xyz, axis=1)))
    np.testing.assert_allclose(elevation, np.asarray(lidar.elevations_deg)[cloud.ring], atol=0.01)
    assert cloud.intensity.max() <= 255 and np.ptp(cloud.intensity) > 50


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    """Drives with another LiDAR for each sweep, and the folder that the command writes of them."""
    drives = drives_of(3, 4, cameras=0, columns=400, every=25, lidar="each")
    drives[1].rig = replace(drives[1].rig, lidar=replace(drives[1].rig.lidar, returns=2))
    folder = tmp_path_factory.mktemp("each") / "drive"
    store_each(drives, folder)
    return drives, folder


def test_stored_sweeps_of_many_lidars_equal_live_ones_byte_for_byte(each):
    drives, folder = each
    assert sorted(path.name for path in folder.iterdir()) == ["000", "001", "002", "003"]
    stored = stored_drives(folder)
    assert [len(drive) for drive in stored] == [1] * 4
    assert len({drive.sensor().name for drive in stored}) == 4
    for one, other in zip(map(live_drive, drives), stored, strict=True):
        assert one.name == other.name and one.sensor() == other.sensor()
        assert one.rig.lidar == other.rig.lidar
        cloud, read = one.cloud(0), other.cloud(0)
        assert cloud.xyz.tobytes() == read.xyz.tobytes() and cloud.intensity.tobytes() == read.intensity.tobytes()
        assert (cloud.ring is None) == (read.ring is None) == (not one.rig.lidar.has_rings)
        assert one.labels(0).tobytes() == other.labels(0).tobytes()
        assert one.compensated(0).tobytes() == other.compensated(0).tobytes()
        assert one.stamp_ns(0) == other.stamp_ns(0)
        assert one.world_from_lidar(0).tobytes() == other.world_from_lidar(0).tobytes()
    stamps = np.array([drive.stamp_ns(0) for drive in stored])
    assert (np.diff(stamps) == 2_500_000_000).all()
    assert len(stored_drives(folder.parent)) == 4


def test_sensors_state_the_mounting(each):
    for drive in map(live_drive, each[0]):
        spec, rotation = drive.sensor(), drive.base_from_lidar[:3, :3]
        assert spec.beam_elevations_deg == drive.rig.lidar.elevations_deg
        assert spec.ring_elevations_deg == (spec.beam_elevations_deg if drive.rig.lidar.has_rings else ())
        assert spec.height_m == drive.base_from_lidar[2, 3]
        without_yaw = pose(0, 0, 0, 0, *np.radians((spec.pitch_deg, spec.roll_deg)))[:3, :3]
        np.testing.assert_allclose(without_yaw[2], rotation[2], atol=1e-9)


def test_sweeps_of_one_lidar_can_be_exported_to_a_bag_without_rings(tmp_path):
    drive = Drive(3, 2, cameras=0, lidar="Avia")
    write_bag(live_drive(drive), range(2), tmp_path / "drive.mcap")
    (read,) = open_drives("bag", tmp_path / "drive.mcap")
    live = live_drive(drive)
    for index in range(2):
        assert read.cloud(index).ring is None
        assert read.cloud(index).xyz.tobytes() == live.cloud(index).xyz.tobytes()
    np.testing.assert_array_equal(read.labels(0), live.labels(0))


def test_opens_a_folder_of_drives_in_order(copy):
    for number, seed in ((2, 38), (1, 28)):
        other = shutil.copytree(copy, copy.parent / f"drive_{number}")
        change(other, seed=seed)
    (copy.parent / "something else").mkdir()
    names = [f"world {WORLD_VERSION} seed {seed}" for seed in (18, 28, 38)]
    assert [drive.name for drive in stored_drives(copy.parent)] == names
    assert [drive.name for drive in open_drives("world", copy.parent)] == names
    with pytest.raises(ConfigError, match="holds 3 drives; give the folder of one of them"):
        open_drives("world", copy.parent, max_drives=1)


def change(folder, **entries):
    path = folder / "drive.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_rejects_a_folder_without_drives(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="holds no generated drive; write one with"):
            stored_drives(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"version": %d, "seed": 1}'])
def test_rejects_a_folder_that_is_not_a_drive(copy, text):
    (copy / "drive.json").write_text(text.replace("%d", str(WORLD_VERSION)))
    with pytest.raises(ConfigError, match=r"is not a generated drive \(drive.json: .*write one with") as said:
        stored_drives(copy)
    assert str(said.value).count("\n") == 0


@pytest.mark.parametrize(
    "entries",
    [
        {"lidar": []},
        {"lidar": {"name": "x"}},
        {"cameras": [{}]},
        {"track": {"times_s": [0], "positions": [], "quaternions": [0]}},
        {"period_s": "fast"},
    ],
)
def test_rejects_drive_json_with_wrong_entries(copy, entries):
    change(copy, **entries)
    with pytest.raises(ConfigError, match="is not a generated drive"):
        stored_drives(copy)


def test_rejects_a_drive_of_another_version(copy):
    (copy / "drive.json").write_text('{"version": 0}')
    with pytest.raises(ConfigError, match=f"is of world version 0, this is {WORLD_VERSION}; write it again"):
        stored_drives(copy)


@pytest.mark.parametrize("kept", [None, 0, 0.01, 0.5, 0.99])
def test_rejects_truncated_or_missing_sweeps(copy, kept):
    path = copy / "lidar" / "001.npz"
    data = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(data[: int(kept * len(data))])
    (drive,) = stored_drives(copy)
    assert len(drive.cloud(0)) > 0
    for read in (drive.cloud, drive.labels, drive.compensated):
        with pytest.raises(ConfigError, match=r"cannot read sweep .*001\.npz: .*; write the drive again"):
            read(1)


def test_rejects_damaged_sweeps(copy):
    path = copy / "lidar" / "001.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="cannot read sweep"):
        stored_drives(copy)[0].cloud(1)


@pytest.mark.parametrize("kept", [None, 0, 0.5])
def test_rejects_truncated_or_missing_images(copy, kept):
    for path in (copy / "camera" / "front_camera" / "000.jpg", copy / "labels" / "front_camera" / "000.png"):
        data = path.read_bytes()
        path.unlink()
        if kept is not None:
            path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ConfigError, match=r"cannot read .*front_camera/000\.jpg"):
        stored_drives(copy)[0].images(0)[0].pixels()
    with pytest.raises(ConfigError, match=r"cannot read .*front_camera/000\.png"):
        StoredDrive(copy).image(0, 0).labels()


def test_interrupted_writing_leaves_no_drive(drive, tmp_path):
    class StopError(Exception):
        pass

    def torn():
        yield Frame(0, drive.scan(0), tuple(drive.image(0, 0) for _ in drive.rig.cameras))
        raise StopError

    with pytest.raises(StopError):
        store(drive, tmp_path / "drive", torn())
    assert not list(tmp_path.iterdir())
    (tmp_path / "drive").mkdir()
    with pytest.raises(ConfigError, match="exists already; remove it or choose another folder"):
        store(drive, tmp_path / "drive", [])


def test_rejects_unwritable_folders(drive, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot make folder .*file: .*; choose another"):
        store(drive, tmp_path / "file" / "drive", [])
