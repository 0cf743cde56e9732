"""Datasets of which only a part was downloaded: what a command does not need may be missing."""

import json
import shutil

import numpy as np
import pytest

from test.training import folders
from training import evaluate, to_bag
from training.config.data import SourceConfig
from training.data.registry import open_drives
from training.data.sources import load_source
from training.datasets.exposures import EncodedSweepImages
from training.datasets.nuscenes_tables import read_tables
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

XYZ = np.random.default_rng(0).uniform([-20, -20, -2], [20, 20, 4], (64, 3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole small dataset of each kind."""
    root = tmp_path_factory.mktemp("whole")
    raw = np.arange(64)
    folders.write_kitti(root / "semantickitti", [8], XYZ, np.where(raw % 2, 40, 50), sweeps=3)
    folders.write_nuscenes(root / "nuscenes", ["scene-0061", "scene-0103"], XYZ, raw % 32, samples=3, size=(160, 90))
    folders.write_pandaset(root / "pandaset", XYZ, raw % 42 + 1, frames=3, size=(192, 108))
    return root


PLACES = {"semantickitti": "sequences/08", "nuscenes": "v1.0-mini/scene-0061", "pandaset": ""}
LIDAR_ONLY = {
    "semantickitti": ["calib.txt", "poses.txt", "times.txt", "image_2"],
    "nuscenes": ["samples/CAM_*"],
    "pandaset": ["camera", "static_extrinsic_calibration.yaml"],
}


@pytest.fixture
def partial(whole, tmp_path):
    """Copies a dataset without some files; returns the path of a drive."""

    def make(dataset, *without):
        read_tables.cache_clear()
        root = tmp_path / dataset
        shutil.copytree(whole / dataset, root)
        base = root / PLACES[dataset] if dataset != "nuscenes" else root
        for pattern in without:
            found = list(base.glob(pattern))
            assert found, pattern
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return root / PLACES[dataset]

    return make


def notes_of(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize("dataset", LIDAR_ONLY)
def test_scoring_a_student_needs_sweeps_and_labels_only(partial, dataset, height_model, tmp_path, capsys):
    path = partial(dataset, *LIDAR_ONLY[dataset])
    out = tmp_path / "out"
    words = [dataset, str(path), "--model", str(height_model), "--backend", "onnxruntime", "--out", str(out)]
    assert evaluate.main(words) == 0
    (note,) = (note for note in notes_of(capsys) if "not scored" not in note and "predicted" not in note)
    assert "left out" in note or "no cameras" in note
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["miou"] is not None and metrics["sweeps"]["input"] == 3
    assert not (out / "cameras.png").exists()


@pytest.mark.parametrize("dataset", LIDAR_ONLY)
def test_export_and_training_of_a_student_need_no_cameras(partial, dataset, tmp_path, capsys):
    path = partial(dataset, *LIDAR_ONLY[dataset])
    assert to_bag.main([dataset, str(path), str(tmp_path / "drive.mcap")]) == 0
    assert "ground truth" not in capsys.readouterr().err
    with BagReader(tmp_path / "drive.mcap") as bag:
        assert bag.topics["/points"].count == 3
        assert bag.topics["/tf"].count == (0 if dataset == "semantickitti" else 3)
        assert not [name for name in bag.topics if "image" in name]
    source = load_source(SourceConfig(dataset, str(path)), "train", images=True)
    assert len(source.sweeps) == 3 and not source.encoded_images


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [("pandaset", "annotations/semseg/*"), ("semantickitti", "labels/*"), ("nuscenes", "lidarseg/v1.0-mini/*")],
)
def test_export_without_ground_truth_says_so(partial, dataset, labels, tmp_path, capsys):
    path = partial(dataset, labels)
    assert to_bag.main([dataset, str(path), str(tmp_path / "drive.mcap")]) == 0
    (note,) = notes_of(capsys)
    assert note.endswith(": these sweeps have no ground truth: field label is 255 throughout the bag")


@pytest.mark.parametrize("dataset", LIDAR_ONLY)
def test_a_teacher_without_images_says_so(partial, dataset, light_model, capsys):
    (drive,) = open_drives(dataset, partial(dataset, *LIDAR_ONLY[dataset]))
    scores, _, (*_, unused) = evaluate.evaluate([(drive, 0)], SegmentationPipeline.load(light_model, "onnxruntime"))
    assert scores.modes["student"] == 1
    (missing,) = notes_of(capsys)
    assert {"semantickitti": "calib.txt", "nuscenes": "samples/CAM_FRONT", "pandaset": "static_ext"}[dataset] in missing
    assert "had a usable image: all were labelled by LiDAR alone" in unused


@pytest.mark.parametrize(
    ("dataset", "without", "cameras", "images", "said"),
    [
        ("nuscenes", ["samples/CAM_BACK*"], 3, 3, "no images in samples/CAM_BACK, samples/CAM_BACK_LEFT"),
        ("nuscenes", ["samples/CAM_FRONT/scene-0061-1-*"], 6, 5, "1 of 3 images of CAM_FRONT are missing"),
        ("semantickitti", ["image_2/000001.png"], 1, 0, "1 of 3 images of image_2 are missing (image_2/000001.png)"),
        ("pandaset", ["camera/back_camera/*.jpg"], 1, 1, "no images of back_camera (camera/back_camera/00.jpg)"),
        ("pandaset", ["camera/back_camera/01.jpg"], 2, 1, "1 of 3 images of back_camera are missing"),
        ("pandaset", ["camera/back_camera/intrinsics.json"], 1, 1, "back_camera is left out: "),
        ("pandaset", ["camera/*/poses.json"], 2, 2, "LiDAR counts as mounted as in sequence 002"),
    ],
)
def test_images_that_are_there_are_used(partial, dataset, without, cameras, images, said):
    (drive,) = open_drives(dataset, partial(dataset, *without))
    assert len(drive.cameras) == cameras and len(drive.images(1)) == images
    assert any(said in note for note in drive.notes), drive.notes
    loaded = EncodedSweepImages.load(drive, 1)
    assert sum(map(bool, loaded.jpegs)) == images and len(loaded.jpegs) == cameras


@pytest.mark.parametrize("dataset", LIDAR_ONLY)
def test_a_whole_dataset_needs_no_note(partial, dataset):
    (drive,) = open_drives(dataset, partial(dataset))
    assert drive.notes == [] and len(drive) == 3 and drive.cameras


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        ("semantickitti", "velodyne/000001.bin"),
        ("nuscenes", "samples/LIDAR_TOP/scene-0061-1-*"),
        ("pandaset", "lidar/01.pkl.gz"),
    ],
)
def test_missing_sweeps_are_left_out(partial, whole, dataset, file):
    (drive,), (complete,) = (
        open_drives(dataset, p) for p in (partial(dataset, file), whole / dataset / PLACES[dataset])
    )
    assert len(drive) == 2 and "1 of 3 " in drive.notes[0]
    for index, original in ((0, 0), (1, 2)):
        assert drive.stamp_ns(index) == complete.stamp_ns(original)
        np.testing.assert_array_equal(drive.cloud(index).xyz, complete.cloud(original).xyz)
        np.testing.assert_array_equal(drive.labels(index), complete.labels(original))
        np.testing.assert_allclose(drive.world_from_lidar(index), complete.world_from_lidar(original), atol=1e-9)
        assert [i.stamp_ns for i in drive.images(index)] == [i.stamp_ns for i in complete.images(original)]
    with pytest.raises(ConfigError, match="has no frame 2; it has 0 to 1"):
        drive.cloud(2)


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        ("semantickitti", "labels/000000.label"),
        ("nuscenes", "lidarseg/v1.0-mini/scene-0061-0-*"),
        ("pandaset", "annotations/semseg/00.pkl.gz"),
    ],
)
def test_sweeps_without_label_file_are_unlabelled(partial, dataset, file, height_model):
    (drive,) = open_drives(dataset, partial(dataset, file))
    assert (drive.labels(0) == 255).all() and (drive.labels(1) != 255).any()
    assert "unlabelled" in drive.notes[0] and "1 of 3 " in drive.notes[0]
    pipeline = SegmentationPipeline.load(height_model, "onnxruntime")
    scores, *_ = evaluate.evaluate([(drive, 0), (drive, 1)], pipeline)
    assert scores.has_truth and [record.miou is None for record in scores.sweeps] == [True, False]
    assert evaluate.evaluate([(drive, 0)], pipeline)[1].truth is None


# --- SemanticKITTI ---


@pytest.mark.parametrize(
    ("file", "content", "cameras", "poses"),
    [
        ("calib.txt", None, 0, 0),
        ("calib.txt", "P2: 1 2 3\n", 0, 0),
        ("calib.txt", "nonsense\n", 0, 0),
        ("calib.txt", "P2: 50 0 32 3 0 50 24 0 0 0 1 0\n", 0, 0),
        ("calib.txt", "P2: 50 0 32 3 0 50 24 0 0 0 1 0\nTr: 0 0 0 0 0 0 0 0 0 0 0 0\n", 0, 0),
        ("calib.txt", "Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n", 0, 3),
        ("calib.txt", "P2: 0 0 0 0 0 0 0 0 0 0 0 0\nTr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n", 0, 3),
        ("poses.txt", None, 1, 0),
        ("poses.txt", "1 0 0\n", 1, 0),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, 1, 2),
        ("times.txt", None, 1, 3),
        ("times.txt", "0\n", 1, 3),
        ("image_2/000000.png", "no picture", 0, 3),
    ],
)
def test_semantickitti_without_calibration_poses_or_times(partial, file, content, cameras, poses):
    path = partial("semantickitti", file)
    if content is not None:
        (path / file).write_text(content)
    (drive,) = open_drives("semantickitti", path)
    assert len(drive.cameras) == cameras and (drive.labels(2) != 255).all()
    assert any(file.split("/")[0] in note for note in drive.notes) and all("\n" not in note for note in drive.notes)
    for index in range(3):
        EncodedSweepImages.load(drive, index)  # points and images are of one instant
        if index < poses:
            assert drive.world_from_lidar(index).shape == (4, 4)
        else:
            with pytest.raises(ConfigError, match=f"no pose of sweep 00000{index}: .*; fetch it"):
                drive.world_from_lidar(index)


def test_semantickitti_calibration_with_more_lines_and_files_of_windows_are_read(partial):
    path = partial("semantickitti")
    (complete,) = open_drives("semantickitti", path)
    calibration = (path / "calib.txt").read_text()
    (path / "calib.txt").write_text(f"calib_time: 09-Jan-2012 13:57:47\n{calibration}\nmade by hand\nS_02: 1392 512\n")
    for name in ("calib.txt", "poses.txt", "times.txt"):
        (path / name).write_text((path / name).read_text(), encoding="utf-8-sig", newline="\r\n")
    (drive,) = open_drives("semantickitti", path)
    assert drive.notes == [] and len(drive.cameras) == 1
    np.testing.assert_array_equal(drive.world_from_lidar(2), complete.world_from_lidar(2))


def test_propagated_labels_name_the_missing_poses(partial):
    from training.data.label_propagation import propagated_labels

    (drive,) = open_drives("semantickitti", partial("semantickitti", "poses.txt"))
    with pytest.raises(ConfigError, match="propagated needs poses, but SemanticKITTI sequence 08 has none"):
        propagated_labels([(drive, 0)], [(drive, 1)])


def test_poses_beside_the_sequences_are_found(partial):
    path = partial("semantickitti")
    (complete,) = open_drives("semantickitti", path)
    (path.parents[1] / "poses").mkdir()
    (path / "poses.txt").rename(path.parents[1] / "poses" / "08.txt")
    (drive,) = open_drives("semantickitti", path)
    np.testing.assert_array_equal(drive.world_from_lidar(2), complete.world_from_lidar(2))


def test_sweeps_named_by_time_or_with_jpeg_images(partial):
    path = partial("semantickitti")
    for folder, suffix in (("velodyne", ".bin"), ("labels", ".label"), ("image_2", ".png")):
        for k in range(3):
            (path / folder / f"{k:06d}{suffix}").rename(path / folder / f"{1_700_000_000_000 + k}{suffix}")
    (drive,) = open_drives("semantickitti", path)
    assert len(drive) == 3 and drive.notes == [] and len(drive.images(2)) == 1
    assert drive.world_from_lidar(2)[0, 3] > 1 and (drive.labels(2) != 255).all()


def test_kittis_raw_layout_is_named(tmp_path):
    (tmp_path / "velodyne_points" / "data").mkdir(parents=True)
    with pytest.raises(ConfigError, match="KITTI's raw layout"):
        from training.datasets.semantickitti import SemanticKittiSequence

        SemanticKittiSequence(tmp_path)


# --- nuScenes ---


def test_scenes_whose_sweeps_were_not_downloaded_are_left_out(partial, capsys):
    path = partial("nuscenes", "samples/LIDAR_TOP/scene-0103*")
    (drive,) = open_drives("nuscenes", path.parent)
    assert drive.name == "nuScenes scene-0061"
    assert notes_of(capsys) == ["note: nuScenes scene-0061: 1 of 2 scenes have no sweeps and are left out"]
    with pytest.raises(ConfigError, match=r"scene-0103: none of its sweeps in samples/LIDAR_TOP is there"):
        open_drives("nuscenes", path.with_name("scene-0103"))


def test_one_note_for_all_scenes_without_images(partial, capsys):
    assert len(open_drives("nuscenes", partial("nuscenes", "samples/CAM_*").parent)) == 2
    (note,) = notes_of(capsys)
    assert "nuScenes scene-0061 and 1 more drives: no images in samples/CAM_BACK, " in note


@pytest.mark.parametrize("missing", ["v1.0-mini/lidarseg.json", "v1.0-mini/category.json"])
def test_label_files_are_found_by_their_names_and_official_numbers(partial, whole, missing):
    (drive,) = open_drives("nuscenes", partial("nuscenes", missing))
    read_tables.cache_clear()
    (complete,) = open_drives("nuscenes", whole / "nuscenes" / "v1.0-mini" / "scene-0061")
    assert drive.labels(1).tolist() == complete.labels(1).tolist() and drive.notes == []


def test_categories_of_nuscenes_without_lidarseg_get_the_official_numbers(partial, whole):
    path = partial("nuscenes")
    file = path.parent / "category.json"
    file.write_text(
        json.dumps([{k: v for k, v in row.items() if k != "index"} for row in json.loads(file.read_text())])
    )
    (drive,) = open_drives("nuscenes", path)
    read_tables.cache_clear()
    (complete,) = open_drives("nuscenes", whole / "nuscenes" / "v1.0-mini" / "scene-0061")
    assert drive.labels(1).tolist() == complete.labels(1).tolist()


def test_panoptic_labels_are_read_where_there_is_no_lidarseg(partial, whole):
    path = partial("nuscenes", "lidarseg", "v1.0-mini/lidarseg.json")
    place = path.parents[1] / "panoptic" / "v1.0-mini"
    place.mkdir(parents=True)
    for file in (whole / "nuscenes" / "lidarseg" / "v1.0-mini").iterdir():
        labels = np.fromfile(file, np.uint8).astype(np.uint16) * 1000 + 7
        np.savez_compressed(place / file.name.replace("_lidarseg.bin", "_panoptic.npz"), data=labels)
    (drive,) = open_drives("nuscenes", path)
    read_tables.cache_clear()
    (complete,) = open_drives("nuscenes", whole / "nuscenes" / "v1.0-mini" / "scene-0061")
    assert drive.labels(1).tolist() == complete.labels(1).tolist()
    (file,) = place.glob("scene-0061-0-*")
    for content, problem in ((b"no arrays", "is not a file of Panoptic"), (None, "has 3 labels for the 64 points")):
        np.savez(file, data=np.zeros(3, np.uint16)) if content is None else file.write_bytes(content)
        with pytest.raises(ConfigError, match=problem):
            drive.labels(0)


def test_without_labels_nuscenes_is_unlabelled(partial):
    (drive,) = open_drives("nuscenes", partial("nuscenes", "lidarseg", "v1.0-mini/lidarseg.json"))
    assert (drive.labels(0) == 255).all() and drive.notes == []


def test_poses_are_needed_for_images_of_another_instant_only(partial):
    (drive,) = open_drives("nuscenes", partial("nuscenes", "v1.0-mini/ego_pose.json"))
    assert (drive.labels(0) != 255).any() and "ego_pose.json is missing" in drive.notes[0]
    with pytest.raises(ConfigError, match=r"has no poses: v1\.0-mini/ego_pose\.json is missing; fetch it"):
        EncodedSweepImages.load(drive, 0)


# --- PandaSet ---


def test_stamps_are_also_in_the_folder_meta(partial, whole):
    path = partial("pandaset")
    (path / "meta").mkdir()
    (path / "lidar" / "timestamps.json").rename(path / "meta" / "timestamps.json")
    (drive,) = open_drives("pandaset", path)
    (complete,) = open_drives("pandaset", whole / "pandaset")
    assert drive.stamp_ns(2) == complete.stamp_ns(2)


def test_the_fallback_mounting_is_that_of_sequence_002(pandaset):
    from training.datasets.pandaset import _EGO_FROM_LIDAR, PandaSetSequence
    from xmodelkd_ros.core.transforms import transform

    np.testing.assert_allclose(transform(*_EGO_FROM_LIDAR), PandaSetSequence(pandaset)._ego_from_lidar, atol=1e-6)


@pytest.mark.parametrize("file", ["lidar/poses.json", "lidar/timestamps.json"])
def test_pandaset_sweeps_need_poses_and_stamps(partial, file):
    with pytest.raises(ConfigError, match=file.replace(".", r"\.")):
        open_drives("pandaset", partial("pandaset", file))


def test_to_bag_checks_the_range_before_it_writes(whole, tmp_path, capsys):
    out = tmp_path / "new" / "drive.mcap"
    assert to_bag.main(["pandaset", str(whole / "pandaset"), str(out), "--frames", "0:200"]) == 1
    assert "has no frame 199; it has 0 to 2" in capsys.readouterr().err
    assert not out.parent.exists()
