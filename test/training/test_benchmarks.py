"""Training and evaluation on benchmark folders, in their own classes and in drive13."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import evaluate, export, to_bag, train  # noqa: E402
from training.config.training import TrainingConfig  # noqa: E402
from training.data.registry import open_drives  # noqa: E402
from training.datasets import bag_export  # noqa: E402
from xmodelkd_ros.bags.bag import BagReader  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402
from xmodelkd_ros.core.model_spec import ModelSpec  # noqa: E402
from xmodelkd_ros.messages.clouds import read_field  # noqa: E402
from xmodelkd_ros.resources import label_map, translation  # noqa: E402

CONFIGS = Path(__file__).parents[2] / "config" / "training"
TINY = [
    "model.widths=[8, 8, 16, 16, 16]",
    "model.blocks=[0, 0, 0, 0]",
    "model.head_channels=8",
    "model.width=64",
    "model.max_points=4096",
    "optimizer.crop_columns=64",
    "optimizer.points=500",
    "optimizer.steps=1",
    "optimizer.epochs=1",
    "optimizer.workers=0",
    "precision=32-true",
]


@pytest.fixture(params=["semantickitti", "nuscenes"])
def benchmark(request, sweep_of):
    """The name of the dataset, its folder with training and validation sweeps, and one drive of it."""
    xyz = sweep_of({"semantickitti": "HDL-64E", "nuscenes": "HDL-32E"}[request.param])
    height = xyz[:, 2]
    level = np.abs(height) < 1e-6  # no label: neither high nor low
    if request.param == "semantickitti":
        root = request.getfixturevalue("write_kitti")([0, 8], xyz, np.where(level, 0, np.where(height > 0, 50, 40)))
        return "semantickitti", root, root / "sequences" / "08"
    raw = np.where(level, 0, np.where(height > 0, 28, 24))
    root = request.getfixturevalue("write_nuscenes")(["scene-0061", "scene-0103"], xyz, raw)
    return "nuscenes", root / "v1.0-mini", root / "v1.0-mini" / "scene-0103"


def settings(dataset, root, run, *overrides):
    paths = [f"data.train.0.path={root}", f"data.validation.0.path={root}", f"run={run}"]
    return TrainingConfig.read(CONFIGS / f"{dataset}_student.yaml", [*TINY, *paths, *overrides])


def test_trains_exports_and_evaluates_a_student_of_benchmark_classes(benchmark, tmp_path, capsys):
    dataset, root, _ = benchmark
    labels = {"semantickitti": "semantickitti19", "nuscenes": "nuscenes16"}[dataset]
    run = train.train(settings(dataset, root, tmp_path / "run", "data.validation.0.every=1"))
    with pytest.raises(ConfigError, match="a run with another label_set; give this one the same"):
        train.train(settings(dataset, root, tmp_path / "next", f"start={run}", "label_set=drive13"))
    spec = export.export(run, tmp_path / "model")
    assert spec.labels == label_map(labels)
    assert [source.license for source in spec.training_data] == ["CC BY-NC-SA 4.0"]
    assert spec.metrics["choose"][0]["label_set"] == labels
    assert len(spec.projection.beam_elevations_deg) == {"semantickitti": 64, "nuscenes": 32}[dataset]
    assert ModelSpec.read(tmp_path / "model").labels == spec.labels
    words = [
        dataset,
        str(root),
        "--model",
        str(tmp_path / "model"),
        "--label-set",
        labels,
        "--out",
        str(tmp_path / "out"),
    ]
    assert evaluate.main(words) == 0, capsys.readouterr().err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["sweeps"] == {"input": 2, "output": 2}, "of the validation split"
    assert metrics["label_set"] == labels
    known = [v for v in metrics["iou"].values() if v is not None]
    assert len(known) == 2
    assert metrics["miou"] == pytest.approx(sum(known) / (19 if dataset == "semantickitti" else 2))


def test_evaluates_a_drive13_model_in_both_label_sets(benchmark, height_model, tmp_path):
    """Ground truth in the benchmark's own classes is not translated twice."""
    dataset, _, drive = benchmark
    scores = {}
    for label_set in ("drive13", {"semantickitti": "semantickitti19", "nuscenes": "nuscenes16"}[dataset]):
        out = tmp_path / label_set
        words = [dataset, str(drive), "--frames", "0:1", "--model", str(height_model), "--label-set", label_set]
        assert evaluate.main([*words, "--out", str(out)]) == 0
        scores[label_set] = json.loads((out / "metrics.json").read_text())
        assert (out / "cameras.png").is_file()
    own, theirs = scores.values()
    names = {"semantickitti": ("building", "road"), "nuscenes": ("manmade", "driveable_surface")}[dataset]
    assert [own["points"][n] for n in ("building", "road")] == [theirs["points"][n] for n in names]
    assert [own["iou"][n] for n in ("building", "road")] == [theirs["iou"][n] for n in names] == [1.0, 1.0]


def test_classes_missing_from_the_model_count_as_errors(write_kitti, sweep_of, height_model, tmp_path):
    xyz = sweep_of("HDL-64E")
    root = write_kitti([8], xyz, np.where(np.arange(len(xyz)) % 2, 80, 44), images=())  # pole and parking
    words = ["semantickitti", str(root), "--model", str(height_model), "--label-set", "semantickitti19"]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["iou"]["pole"], metrics["iou"]["parking"], metrics["miou"]) == (0.0, 0.0, 0.0)
    assert metrics["points"]["pole"] + metrics["points"]["parking"] == 2 * len(xyz)


def test_drives_without_labels_are_drawn_but_not_scored(write_kitti, sweep_of, height_model, tmp_path, capsys):
    root = write_kitti([11], sweep_of("HDL-64E"), None, images=())
    words = ["semantickitti", str(root / "sequences" / "11"), "--model", str(height_model)]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "note: no score: SemanticKITTI sequence 11 has no labels\n" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["miou"] is None and metrics["sweeps"] == {"input": 2, "output": 2}
    assert (tmp_path / "out" / "sweep.png").is_file()
    words[1] = str(root)
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "holds no SemanticKITTI sequence of the split 'val'" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_student_is_scored_although_images_cannot_be_read(
    write_nuscenes, sweep_of, height_model, tmp_path, capsys, content
):
    xyz = sweep_of("HDL-64E")
    root = write_nuscenes(["scene-0103"], xyz, np.full(len(xyz), 24), size=(160, 90))
    for image in (root / "samples/CAM_FRONT").iterdir():
        image.write_bytes(content)
    words = ["nuscenes", str(root), "--model", str(height_model), "--out", str(tmp_path / "out")]
    assert evaluate.main(words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "CAM_FRONT is not drawn" in line]
    assert len(notes) == 1 and "CAM_FRONT.jpg: OpenCV cannot decode it; fetch or write it again" in notes[0]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["miou"] is not None


def test_exports_a_benchmark_drive_to_a_bag(benchmark, tmp_path):
    dataset, _, drive = benchmark
    assert to_bag.main([dataset, str(drive), str(tmp_path / "drive.mcap"), "--frames", "0:1"]) == 0
    with BagReader(tmp_path / "drive.mcap") as bag:
        (cloud,) = [m.message for m in bag.messages(["/points"])]
        assert set(np.unique(read_field(cloud, "label"))) - {255} == (
            {8, 12} if dataset == "semantickitti" else {10, 14}
        )
        images = [m.message for name in bag.topics if name.endswith("compressed") for m in bag.messages([name])]
    assert len(images) == (1 if dataset == "semantickitti" else 6)
    assert all(bytes(image.data[:2]) == b"\xff\xd8" for image in images), "JPEG, as in the message's format"


def test_documented_bag_conversion_keeps_the_points(write_kitti, sweep_of, tmp_path):
    """Runs the code of docs/datasets.md."""
    xyz = sweep_of("HDL-64E")
    (drive,) = open_drives("semantickitti", write_kitti([8], xyz, np.full(len(xyz), 40)))
    bag_export.write_bag(drive, range(2), tmp_path / "mine.mcap")
    text = (CONFIGS.parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    poses = {drive.stamp_ns(k): drive.world_from_lidar(k) for k in range(2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(code, {"pose_of": poses.__getitem__})
    (mine,) = open_drives("semantickitti", tmp_path / "mine" / "sequences" / "00")
    assert (len(mine), mine.cameras) == (2, ())
    for k in range(2):
        np.testing.assert_array_equal(mine.cloud(k).xyz, drive.cloud(k).xyz)
        np.testing.assert_allclose(mine.cloud(k).intensity, drive.cloud(k).intensity, rtol=1e-5)
        np.testing.assert_allclose(mine.world_from_lidar(k), drive.world_from_lidar(k), atol=1e-6)
    assert mine.stamp_ns(1) - mine.stamp_ns(0) == drive.stamp_ns(1) - drive.stamp_ns(0)
    assert set(mine.labels(0)) == {255}


@pytest.mark.parametrize("override", ["augment.paste=0.5", "distill={teacher: self}", "teacher={image_branch: runs/x}"])
def test_rejects_benchmark_labels_with_drive13_features(override, tmp_path):
    with pytest.raises(ConfigError, match="label_set is 'nuscenes16', but must be drive13 with teacher"):
        settings("nuscenes", tmp_path, tmp_path, override)
    assert settings("nuscenes", tmp_path, tmp_path, override, "label_set=drive13").label_set == "drive13"


def test_rejects_benchmark_labels_with_other_datasets():
    path, world = CONFIGS / "nuscenes_student.yaml", "data.validation=[{dataset: world, seeds: [0, 10]}]"
    with pytest.raises(ConfigError, match="label_set is 'nuscenes16', but must be drive13 with sources of world"):
        TrainingConfig.read(path, [world])
    assert TrainingConfig.read(path, [world, "label_set=drive13"]).label_set == "drive13"


def test_label_tables_are_consistent_in_both_directions():
    for name in ("semantickitti19", "nuscenes16"):
        there = translation(label_map(name), label_map("drive13"))
        back = translation(label_map("drive13"), label_map(name))
        kept = [c.id for c in label_map(name).classes if back.apply(there.lookup[[c.id]])[0] == c.id]
        assert len(kept) == {"semantickitti19": 11, "nuscenes16": 10}[name]
