"""Damaged dataset files are rejected with one line that names the file; found by fuzzing."""

import errno
import gzip
import io
import json
import pickle
import pickletools
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test.guards import MemoryBomb
from test.training.folders import write_kitti, write_nuscenes, write_pandaset
from training.config.data import SourceConfig
from training.data.registry import open_drives
from training.data.sources import stored_frames
from training.datasets.nuscenes_tables import read_tables
from training.datasets.sequence import JpegFile
from training.world.stored import StoredDrive
from xmodelkd_ros.core.errors import ConfigError

XYZ = np.random.default_rng(0).uniform([-20, -20, -2], [20, 20, 4], (50, 3))


@pytest.fixture
def pandaset_folder(tmp_path):
    pytest.importorskip("pandas")
    return write_pandaset(tmp_path / "small", XYZ, np.arange(50) % 42 + 1, size=(192, 108))


def everything(drive):
    return [(drive.cloud(k), drive.labels(k), drive.time_s(k), drive.images(k)) for k in range(len(drive))]


def test_the_small_sequence_can_be_read(pandaset_folder):
    (drive,) = open_drives("pandaset", pandaset_folder)
    assert [len(cloud) for cloud, *_ in everything(drive)] == [50, 50] and len(drive.cameras) == 2
    assert len(np.unique(drive.labels(0))) > 5
    assert -0.1 <= drive.time_s(1).min() < drive.time_s(1).max() <= 1e-6


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("lidar/timestamps.json", 3),
        ("lidar/timestamps.json", [2.0, 1.0]),
        ("lidar/timestamps.json", ["x", "y"]),
        ("lidar/poses.json", [1, 2]),
        ("lidar/poses.json", []),
        ("lidar/poses.json", [{"position": {"x": 1e999, "y": 0, "z": 0}, "heading": {}}] * 2),
        ("camera/front_camera/poses.json", {}),
    ],
)
def test_rejects_pandaset_json_with_wrong_content(pandaset_folder, file, content):
    (pandaset_folder / file).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=file.replace(".", r"\.")):
        everything(open_drives("pandaset", pandaset_folder)[0])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("intrinsics.json", {"fx": 1, "fy": 1, "cx": 1}),
        ("timestamps.json", [1.0]),
        ("timestamps.json", None),
    ],
)
def test_a_camera_with_damaged_files_is_left_out(pandaset_folder, file, content):
    (pandaset_folder / "camera/front_camera" / file).write_text(json.dumps(content))
    (drive,) = open_drives("pandaset", pandaset_folder)
    assert [camera.name for camera in drive.cameras] == ["back_camera"]
    (note,) = drive.notes
    assert "front_camera is left out: " in note and file in note


def table(**columns):
    import pandas

    found = pandas.DataFrame(columns)
    found.columns = pandas.Index(list(columns), dtype=object)
    return found


@pytest.mark.parametrize("change", ["no_classes", "few", "of_no_class", "no_table", "no_time", "other_time"])
def test_rejects_pandaset_tables_with_wrong_content(pandaset_folder, change):
    labels, sweep = pandaset_folder / "annotations/semseg/00.pkl.gz", pandaset_folder / "lidar/00.pkl.gz"
    points = pickle.loads(gzip.decompress(sweep.read_bytes()))
    file, content = {
        "no_classes": (labels, table(other=np.zeros(50, np.int64))),
        "few": (labels, table(**{"class": np.zeros(49, np.int64)})),
        "of_no_class": (labels, table(**{"class": np.full(50, -7)})),
        "no_table": (labels, [1, 2]),
        "no_time": (sweep, points.drop(columns=["t"])),
        "other_time": (sweep, points.assign(t=np.nan)),
    }[change]
    file.write_bytes(gzip.compress(pickle.dumps(content)))
    (drive,) = open_drives("pandaset", pandaset_folder)
    with pytest.raises(ConfigError, match=r"00\.pkl\.gz has unexpected content: .*; fetch the sequence again"):
        everything(drive)


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        (Path, PermissionError(errno.EACCES, "Permission denied"), "Permission denied; give this user read permission"),
        (Path, OSError(errno.EIO, "Input/output error"), "Input/output error; check its disk"),
        (Path, FileNotFoundError(errno.ENOENT, "No such file"), "there is no such file; fetch the sequence again"),
        (pickletools, MemoryError(), "out of memory; stop other programs, or use a machine with more memory"),
        (pickletools, ImportError("No module named 'numpy._core'"), "No module named 'numpy._core'; install or update"),
    ],
)
def test_errors_outside_the_file_do_not_suggest_fetching_it(pandaset_folder, monkeypatch, place, error, said):
    (drive,) = open_drives("pandaset", pandaset_folder)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(place, "read_bytes" if place is Path else "genops", fail)
    with pytest.raises(ConfigError) as refusal:
        drive.cloud(0)
    assert str(refusal.value).startswith(f"cannot read {pandaset_folder}/lidar/00.pkl.gz: {said}")


def test_pickles_cannot_allocate_more_than_their_size(pandaset_folder):
    file = pandaset_folder / "lidar/00.pkl.gz"
    reconstruct = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftC\x01bt\x52."
    long_bytes = b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x."
    for pickled in (pickle.dumps(MemoryBomb(np.ndarray)), reconstruct, long_bytes):
        file.write_bytes(gzip.compress(pickled))
        (drive,) = open_drives("pandaset", pandaset_folder)
        tracemalloc.start()
        try:
            with pytest.raises(ConfigError, match="cannot read"):
                drive.cloud(0)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("table", "field", "value", "message"),
    [
        ("sample_data", "filename", 3.5, "3.5 is not a string"),
        ("sample_data", "sample_token", [], r"\[\] is not a string"),
        ("category", "name", 1.5, "1.5 is not a string"),
        ("sensor", "channel", 2, "2 is not a string"),
        ("ego_pose", "translation", [0, 0, 1e999], "must be finite"),
    ],
)
def test_rejects_nuscenes_rows_with_wrong_content(tmp_path, table, field, value, message):
    root = write_nuscenes(tmp_path / "nuscenes", ["scene-0061"], XYZ, np.arange(50) % 32, size=(160, 90))
    file = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    for row in rows:
        row[field] = value
    file.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=message):
        open_drives("nuscenes", root)
    read_tables.cache_clear()


def test_rejects_a_nuscenes_table_nested_too_deep(tmp_path):
    root = write_nuscenes(tmp_path / "nuscenes", ["scene-0061"], XYZ, np.arange(50) % 32, size=(160, 90))
    (root / "v1.0-mini" / "scene.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"is not a version of nuScenes \(scene\.json"):
        open_drives("nuscenes", root)


@pytest.mark.parametrize("line", ["nan", "1e999", "-5"])
def test_impossible_kitti_times_are_not_used(tmp_path, line):
    root = write_kitti(tmp_path / "kitti", [8], XYZ, np.full(50, 40))
    (root / "sequences/08/times.txt").write_text(f"0\n{line}\n")
    (drive,) = open_drives("semantickitti", root)
    assert drive.stamp_ns(1) - drive.stamp_ns(0) == 100_000_000
    assert "times.txt" in drive.notes[0] and "0.1 s apart" in drive.notes[0]


@pytest.mark.parametrize("word", ["nan", "1e999"])
def test_impossible_kitti_poses_are_not_used(tmp_path, word):
    root = write_kitti(tmp_path / "kitti", [8], XYZ, np.full(50, 40))
    (root / "sequences/08/poses.txt").write_text(f"1 0 0 {word} 0 1 0 0 0 0 1 0\n" * 2)
    (drive,) = open_drives("semantickitti", root)
    with pytest.raises(ConfigError, match=r"has no pose of sweep 000001: poses over time must be finite; fetch"):
        drive.world_from_lidar(1)


@pytest.mark.parametrize("change", ["shape", "type", "class"])
def test_rejects_arrays_of_another_lidar(generated, tmp_path, change):
    drive = StoredDrive(generated.folder)
    with np.load(generated.folder / "lidar/000.npz") as stored:
        arrays = dict(stored)
    arrays["label"] = {
        "shape": np.zeros(3, np.uint8),
        "type": arrays["label"].astype(np.float32),
        "class": np.full_like(arrays["label"], 77),
    }[change]
    drive.folder = tmp_path
    (tmp_path / "lidar").mkdir()
    np.savez(tmp_path / "lidar/000.npz", **arrays)
    with pytest.raises(ConfigError, match=r"cannot read sweep .*000\.npz: .*label.*; write the drive again"):
        drive.scan(0)


def test_rejects_huge_images_before_allocating_memory(tmp_path):
    picture = io.BytesIO()
    Image.new("L", (16, 16)).save(picture, "png")
    huge = bytearray(picture.getvalue())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(huge)
    for read in (JpegFile(None, 0, tmp_path / "x.png").pixels, JpegFile(None, 0, tmp_path, tmp_path / "x.png").labels):
        with pytest.raises(ConfigError, match=r"cannot read image .*x\.png: .*pixels"):
            read()


def test_frame_ranges_beyond_a_drive_are_rejected_before_expansion(pandaset_folder):
    config = SourceConfig("pandaset", str(pandaset_folder), frames=(0, 10**15))
    with pytest.raises(ConfigError, match=r"has no frame 999999999999999; it has 0 to 1"):
        stored_frames(config, "train")
