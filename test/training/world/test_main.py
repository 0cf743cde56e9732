"""``python -m training.world``: folders and bags of drives."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from training.datasets import bag_export
from training.world import __main__ as world
from training.world.sequence import WorldSequence
from training.world.stored import stored_drives
from training.worldgen import WORLD_VERSION
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.messages.camera_info import to_camera
from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import label_map_from_json, stamp_ns, static_transforms
from xmodelkd_ros.messages.images import image_to_array

CAMERAS = ["front_camera", "front_left_camera", "front_right_camera", "left_camera", "right_camera", "back_camera"]
SWEEPS = range(2)


@pytest.fixture(scope="module")
def drive(generated) -> WorldSequence:
    return stored_drives(generated.folder)[0]


@pytest.fixture
def bag(generated):
    with BagReader(generated.bag) as reader:
        yield reader


def messages(bag, topic):
    return [m.message for m in bag.messages([topic])]


def test_prints_a_summary(generated):
    (line,) = generated.said.splitlines()
    assert line.startswith(f"{generated.folder}: seed 18 (validation), ")
    assert re.search(r"2 frames: scene [\d.]+ s, then [\d.]+ s and \d+ KB a frame$", line)


def test_the_folder_holds_all_frames(generated):
    found = sorted(str(path.relative_to(generated.folder)) for path in generated.folder.rglob("*.*"))
    numbers = [f"{k:03d}" for k in SWEEPS]
    pictures = [f"camera/{camera}/{k}.jpg" for camera in CAMERAS for k in numbers]
    labels = [f"labels/{camera}/{k}.png" for camera in CAMERAS for k in numbers]
    assert found == sorted([*pictures, *labels, *(f"lidar/{k}.npz" for k in numbers), "drive.json"])
    assert json.loads((generated.folder / "drive.json").read_text())["lidar"]["columns"] == 300


def test_bag_topics(bag):
    cameras = {f"/{camera}/{topic}" for camera in CAMERAS for topic in ("image/compressed", "camera_info")}
    assert set(bag.topics) == cameras | {"/points", "/tf_static", "/tf", "/label_info_json"}
    assert {name for name, topic in bag.topics.items() if topic.latched} == {"/tf_static", "/label_info_json"}


def test_sweeps_have_ground_truth(bag, drive):
    (text,) = messages(bag, "/label_info_json")
    assert label_map_from_json(text.data) == drive.label_map
    sweeps = messages(bag, "/points")
    assert len(sweeps) == len(SWEEPS)
    for index, message in zip(SWEEPS, sweeps, strict=True):
        decoded, cloud = to_cloud(message), drive.cloud(index)
        assert decoded.xyz.tobytes() == cloud.xyz.tobytes()
        assert decoded.intensity.tobytes() == cloud.intensity.tobytes()
        np.testing.assert_array_equal(read_field(message, "label"), drive.labels(index))
        np.testing.assert_array_equal(read_field(message, "ring"), cloud.ring)
        np.testing.assert_array_equal(read_field(message, "time"), drive.time_s(index))
        assert (stamp_ns(message.header.stamp), message.header.frame_id) == (drive.stamp_ns(index), "lidar")


def test_images_equal_the_stored_files_and_are_calibrated(bag, drive):
    poses = static_transforms(messages(bag, "/tf_static")[0])
    assert len(poses) == 1 + len(CAMERAS)
    np.testing.assert_allclose(poses["base_link", "lidar"], drive.base_from_lidar, atol=1e-12)
    for number, camera in enumerate(drive.cameras):
        pictures, infos = (messages(bag, topic(camera)) for topic in (bag_export.image_topic, bag_export.info_topic))
        assert len(pictures) == len(infos) == len(SWEEPS)
        for index, picture, info in zip(SWEEPS, pictures, infos, strict=True):
            image = drive.images(index)[number]
            assert bytes(picture.data) == image.path.read_bytes()
            assert stamp_ns(picture.header.stamp) == stamp_ns(info.header.stamp) == image.stamp_ns
        assert image_to_array(picture).shape == (384, 640, 3)
        frame = picture.header.frame_id
        assert frame == info.header.frame_id == f"{camera.name}_optical_frame"
        read = to_camera(info, camera.name, inverse(poses["base_link", frame]) @ poses["base_link", "lidar"])
        np.testing.assert_allclose(read.from_lidar, camera.from_lidar, atol=1e-9)
        np.testing.assert_array_equal(read.intrinsic, camera.intrinsic)


def test_the_vehicle_has_a_pose_at_each_sweeps_stamp(bag, drive):
    poses = messages(bag, "/tf")
    assert len(poses) == len(SWEEPS)
    for index, message in zip(SWEEPS, poses, strict=True):
        (stamped,) = message.transforms
        assert stamp_ns(stamped.header.stamp) == drive.stamp_ns(index)
        map_from_lidar = static_transforms(message)["map", "base_link"] @ drive.base_from_lidar
        np.testing.assert_allclose(map_from_lidar, drive.world_from_lidar(index), atol=1e-9)


def test_messages_are_ordered_by_stamp(bag):
    times = [m.log_time_ns for m in bag.raw()]
    assert times == sorted(times)


def test_several_seeds_make_a_folder_of_drives(drives):
    assert sorted(path.name for path in drives.folder.iterdir()) == ["drive_000000", "drive_000001"]
    first, second = stored_drives(drives.folder)
    assert (first.name, second.name) == (f"world {WORLD_VERSION} seed 0", f"world {WORLD_VERSION} seed 1")
    assert first.cameras == () and list(first.images(0)) == []
    assert not np.array_equal(first.cloud(0).xyz, second.cloud(0).xyz)
    *said, last = drives.said.splitlines()
    assert [line.split(",")[0] for line in said] == ["seed 0 (train)", "seed 1 (train)"]
    assert last == f"{drives.folder}: 2 drives"


def test_interrupted_generation_resumes(drives, monkeypatch, capsys):
    """Existing drives with the same options are kept."""
    made = []
    monkeypatch.setattr("training.world.generate.each_drive", lambda work, seeds: made.extend(seeds) or [])
    words = ["--sweeps", "2", "--every", "50", "--cameras", "0", "--out", str(drives.folder)]
    assert world.main(["--seed", "0", "2", "1", "2", *words]) == 0
    assert made == [2] and capsys.readouterr().out == f"{drives.folder}: 3 drives, 2 of them existed\n"
    assert world.main(["--seed", "0", "1", *words, "--every", "7"]) == 1
    complaint = "drive_000000 exists already with other options; remove it or choose another path\n"
    assert capsys.readouterr().err.endswith(complaint) and made == [2]


def test_drives_with_a_lidar_for_each_sweep_are_kept_too(tmp_path, monkeypatch, capsys):
    words = ["--sweeps", "2", "--every", "50", "--cameras", "0", "--columns", "300", "--out"]
    assert world.main(["--seed", "0", *words, str(tmp_path / "drive_000000"), "--lidar", "each"]) == 0
    made = []
    monkeypatch.setattr("training.world.generate.each_drive", lambda work, seeds: made.extend(seeds) or [])
    assert world.main(["--seed", "0", "1", *words, str(tmp_path), "--lidar", "each"]) == 0
    assert made == [1] and capsys.readouterr().out.endswith(f"{tmp_path}: 2 drives, 1 of them existed\n")
    assert world.main(["--seed", "0", "1", *words, str(tmp_path)]) == 1
    assert "exists already with other options" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--bag"])
def test_rejects_existing_outputs_before_generating(option, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.world.generate.drives_of", lambda *_, **__: pytest.fail("it went to work"))
    (tmp_path / "there").mkdir()
    other = "--bag" if option == "--out" else "--out"
    words = ["--seed", "1", option, str(tmp_path / "there"), other, str(tmp_path / "new")]
    assert world.main(words) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'there'} exists already; remove it or choose another path\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seed", "1", "--sweeps", "0"], "a drive of 0 sweeps"),
        (["--seed", "1", "--sweeps", "101"], "it can have 1 to 100 turns in all; use more seeds"),
        (["--seed", "1", "--sweeps", "11", "--every", "10"], "a drive of 11 sweeps, one every 10 turns"),
        (["--seed", "1", "--every", "0"], "one every 0 turns"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_rejects_arguments_out_of_range_with_one_line(words, complaint, tmp_path, capsys):
    assert world.main([*words, "--out", str(tmp_path / "drive")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and complaint in error and error.count("\n") == 1
    assert not (tmp_path / "drive").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seed", "1"], "say where to write with --out or --bag"),
        (["--seed", "1", "2", "--bag", "b.mcap"], "a bag takes one seed"),
        (["--seed", "1", "--lidar", "each", "--bag", "b.mcap"], "a bag has one LiDAR; name it with --lidar, or write"),
        (["--seed", "one", "--out", "o"], "invalid int value: 'one'"),
        (["--seed", "1", "--cameras", "2", "--out", "o"], "invalid choice: 2"),
        (["--out", "o"], "--seed"),
    ],
)
def test_rejects_wrong_options(words, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        world.main(words)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_runs_as_a_program_without_torch(tmp_path):
    code = (
        "import sys; from training.world import __main__ as m; code = m.main(sys.argv[1:])\n"
        "print(code, sorted({'torch', 'pytorch_lightning', 'rclpy'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, "--seed", "-1", "--out", str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n"
