import json

import numpy as np
import pytest

from test.example_bags import on_tai, with_damaged_jpegs, without_topics
from test.example_drive import PERIOD_NS, START_NS, make_header, scaled_drive, street_drive
from test.street import street
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.segmentation.backend_selection import LIBRARIES
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools.cli import main


def run(*arguments):
    return main(["evaluate", *map(str, arguments)])


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def expected_iou(drive):
    """IoU of road and building, if every tenth point is a car that the model labels as one of the two."""
    iou = {}
    height, truth = (np.concatenate(parts) for parts in ([c.xyz[:, 2] for c in drive.clouds], drive.truths))
    for name, class_id, predicted in (("road", 4, height <= 0), ("building", 9, height > 0)):
        true = truth == class_id
        iou[name] = (true & predicted).sum() / ((true | predicted) & (truth != 255)).sum()
    return iou


def test_scores_match_hand_computed_values(drive, height_model, tmp_path, capsys):
    assert run(drive.path, "--model", height_model, "--out", tmp_path) == 0
    metrics = metrics_of(tmp_path)
    expected = expected_iou(drive)
    assert metrics["iou"]["road"] == pytest.approx(expected["road"])
    assert metrics["iou"]["building"] == pytest.approx(expected["building"])
    assert metrics["miou"] == pytest.approx((expected["road"] + expected["building"] + 0) / 3)
    assert metrics["sweeps"] == {"input": len(drive.clouds), "output": len(drive.clouds)}
    assert list(metrics["stages_ms"]) == ["decode", "project", "normalize", "infer", "decide"]
    assert metrics["backend"] in LIBRARIES and metrics["precision"] == "fp32"
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"mIoU {metrics['miou']:.3f} (drive13)" in last
    assert last.endswith(str(tmp_path / "report.html"))
    assert (tmp_path / "cameras.png").is_file()


def test_label_set_and_comparison_model(drive, height_model, tmp_path):
    options = ["--label-set", "pandaset9", "--against", height_model]
    assert run(drive.path, "--model", height_model, "--out", tmp_path, *options) == 0
    metrics = metrics_of(tmp_path)
    assert metrics["label_set"] == "pandaset9"
    assert len(metrics["iou"]) == 9
    assert metrics["agreement"]["equal"] == 1.0


def test_bag_without_truth_gives_report(make_drive, height_model, tmp_path, capsys):
    bag = make_drive(label_set="", with_truth=False, cameras=())
    assert run(bag, "--model", height_model, "--out", tmp_path / "out") == 0
    metrics = metrics_of(tmp_path / "out")
    assert metrics["miou"] is None
    assert metrics["ece"] is None
    note = "no score: the clouds have no ground-truth field"
    assert note in capsys.readouterr().err and note in (tmp_path / "out" / "report.html").read_text()
    assert metrics["sweeps"] == {"input": 2, "output": 2}
    assert not (tmp_path / "out" / "confusion.png").exists()


def test_selects_points_topic(make_drive, height_model, tmp_path):
    bag = make_drive(topics=("/front", "/rear"))
    assert run(bag, "--model", height_model, "--out", tmp_path / "out", "--points-topic", "/rear") == 0
    assert metrics_of(tmp_path / "out")["sweeps"]["input"] == 2


def test_real_drive(real_evaluation):
    metrics = metrics_of(real_evaluation)
    assert metrics["sweeps"] == {"input": 3, "output": 3}
    assert sum(metrics["points"].values()) > 300_000 * 0.9
    assert 0.05 < metrics["iou"]["road"] < metrics["iou"]["building"] < 0.6, "as good as height alone can be"
    assert (real_evaluation / "cameras.png").stat().st_size > 500_000, "six real images"


def test_warms_up_before_first_sweep(drive, height_model, tmp_path, monkeypatch):
    calls = []
    segment = SegmentationPipeline.segment
    monkeypatch.setattr(
        SegmentationPipeline, "segment", lambda self, *a, **k: calls.append(len(a[0])) or segment(self, *a, **k)
    )
    run(drive.path, "--model", height_model, "--out", tmp_path)
    assert len(calls) == len(drive.clouds) + 2


def test_input_that_the_model_does_not_expect_is_reported(drive, height_model, write_test_drive, tmp_path, capsys):
    """On the terminal, in the report and in metrics.json; a sweep of zeros counts as in the node."""
    assert run(drive.path, "--model", height_model, "--out", tmp_path / "good") == 0
    assert metrics_of(tmp_path / "good")["warnings"] == []
    assert "warning" not in (tmp_path / "good" / "report.html").read_text().split("</style>")[1]
    bag = scaled_drive(tmp_path / "bad", [(1, 1 / 255), (1, 1 / 255), (1000, 1 / 255), (0, 1), (np.nan, 1)])
    capsys.readouterr()
    assert run(bag, "--model", height_model, "--out", tmp_path / "out") == 0
    metrics = metrics_of(tmp_path / "out")
    assert metrics["sweeps"] == {"input": 5, "output": 5}
    texts = {"looks like a scale of 0 to 1, but model height expects 0 to 255", "have no usable position"}
    for text in texts:
        assert any(text in warning for warning in metrics["warnings"])
        assert text in (tmp_path / "out" / "report.html").read_text()
    printed = capsys.readouterr()
    assert printed.err.count("warning: ") == len(metrics["warnings"]) >= 2
    assert "warnings about the input" in printed.out.splitlines()[-1]


def notes_of(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize("fault", ["none", "camera_info", "tf_static", "clock"])
def test_student_gets_one_short_note_on_cameras(make_drive, height_model, fault, tmp_path, capsys):
    """It takes no images: they are drawn in the report only."""
    bag = make_drive(cameras=("front", "rear"))
    if fault != "none":
        bag = on_tai(bag, tmp_path / "b") if fault == "clock" else without_topics(bag, tmp_path / "b", fault)
    assert run(bag, "--model", height_model, "--out", tmp_path / "out") == 0
    expected = f"note: 2 of 2 cameras are not drawn in the report; 'xmodelkd fit-cameras {bag}' says why"
    assert [n for n in notes_of(capsys) if "camera" in n or "clock" in n] == ([] if fault == "none" else [expected])


def test_teacher_names_the_missing_camera_info(make_drive, light_model, tmp_path, capsys):
    bag = without_topics(make_drive(cameras=("front", "rear")), tmp_path / "bag", "camera_info")
    assert run(bag, "--model", light_model, "--mode", "teacher", "--out", tmp_path / "out") == 0
    assert [note for note in notes_of(capsys) if "CameraInfo" in note] == [
        f"note: /camera/{name}/image_raw not used: the bag has no CameraInfo of this camera; record "
        f"/camera/{name}/camera_info too"
        for name in ("front", "rear")
    ]


@pytest.mark.parametrize("command", ["evaluate", "fit-cameras"])
def test_cameras_on_the_same_other_clock_share_one_note(make_drive, light_model, command, tmp_path, capsys):
    bag = on_tai(make_drive(cameras=("front", "rear"), times=("time", 7, 1.0)), tmp_path / "bag")
    options = ["--model", str(light_model), "--mode", "teacher"] if command == "evaluate" else []
    assert main([command, str(bag), *options, "--out", str(tmp_path / "out")]) == 0
    (note,) = [note for note in notes_of(capsys) if "clocks of LiDAR and cameras differ" in note]
    assert note.startswith("note: cameras front, rear: no image: ") and "the camera uses TAI" in note


def test_damaged_images_of_a_camera_share_one_note(real_drive, light_model, tmp_path, capsys):
    bag = with_damaged_jpegs(real_drive, tmp_path / "bag")
    options = ["--mode", "teacher", "--drop-cameras", "left_camera,right_camera,back_camera"]
    assert run(bag, "--model", light_model, *options, "--out", tmp_path / "out") == 0
    notes = [note for note in notes_of(capsys) if "the JPEG data is damaged" in note]
    used = [note for note in notes if note.startswith("note: camera front")]
    assert len(used) == 3 and all(": 3 images are not used: cannot decode image 'jpeg' of " in note for note in used)
    assert len(notes) == 6, "the others are drawn only"


@pytest.fixture(scope="module")
def street_bag(tmp_path_factory):
    """Bag of twelve sweeps of a pitched LiDAR, with intensities as fractions."""
    path = tmp_path_factory.mktemp("street") / "bag"
    with BagWriter(path) as bag:
        bag.add_topic("/points", POINT_CLOUD_TYPE)
        for k in range(12):
            cloud = street(x=0.8 * k, seed=k, pitch=8)
            cloud = PointCloud(cloud.xyz, cloud.intensity / np.float32(255), cloud.ring)
            stamp = START_NS + k * PERIOD_NS
            truth = np.full(len(cloud), 255, np.uint8)
            bag.write("/points", stamp, truth_to_msg(cloud, truth, make_header(stamp), ROSBAGS_TYPES))
    return path


def test_lidar_is_estimated_and_reported(street_bag, any_lidar_model, tmp_path, capsys):
    assert run(street_bag, "--model", any_lidar_model, "--out", tmp_path / "auto") == 0
    sensor = metrics_of(tmp_path / "auto")["sensor"]
    assert (sensor["source"], sensor["final"], sensor["beams"], sensor["sweeps"]) == ("auto", True, 32, 10)
    assert sensor["height_m"] == pytest.approx(1.8, abs=0.05) and sensor["pitch_deg"] == pytest.approx(8, abs=0.3)
    assert sensor["ground_intensity"] == pytest.approx(10 / 255, rel=0.05)
    said = f"sensor: {sensor['description']}"
    assert said in capsys.readouterr().err and said in (tmp_path / "auto" / "report.html").read_text()
    assert metrics_of(tmp_path / "auto")["warnings"] == []
    stages, latency = metrics_of(tmp_path / "auto")["stages_ms"], metrics_of(tmp_path / "auto")["latency_ms"]
    assert latency["p99"] < stages["sensor"]["p99"], "the fits of the beams are no latency"


def test_sensor_file_fitted_to_a_bag_says_what_the_estimate_does(street_bag, any_lidar_model, tmp_path, capsys):
    file = tmp_path / "fitted.json"
    assert main(["fit-sensor", str(street_bag), "--out", str(file)]) == 0
    assert run(street_bag, "--model", any_lidar_model, "--sensor", file, "--out", tmp_path / "file") == 0
    assert run(street_bag, "--model", any_lidar_model, "--out", tmp_path / "auto") == 0
    fitted, estimated = metrics_of(tmp_path / "file")["sensor"], metrics_of(tmp_path / "auto")["sensor"]
    assert fitted["description"] == f"file {street_bag.stem}"
    assert fitted["pitch_deg"] == estimated["pitch_deg"]
    assert fitted["height_m"] == pytest.approx(estimated["height_m"], abs=0.01)
    assert run(street_bag, "--model", any_lidar_model, "--sensor", "none", "--out", tmp_path / "none") == 0
    assert metrics_of(tmp_path / "none")["sensor"]["source"] == "none"
    assert "sensor: none: rows of model any_lidar" in capsys.readouterr().err


def test_models_with_rows_of_fixed_elevation_take_no_estimate(street_bag, height_model, tmp_path, capsys):
    assert run(street_bag, "--model", height_model, "--out", tmp_path) == 0
    assert metrics_of(tmp_path)["sensor"]["source"] == "none"
    assert "sensor:" not in capsys.readouterr().err


def test_cloud_without_intensity_is_refused_only_by_models_that_need_it(
    make_drive, any_lidar_model, height_model, tmp_path, capsys
):
    bag = make_drive(rename={"intensity": "echo"}, cameras=())
    assert run(bag, "--model", height_model, "--out", tmp_path / "needs") == 1
    assert "--missing-intensity fill" in capsys.readouterr().err
    assert run(bag, "--model", any_lidar_model, "--out", tmp_path / "without") == 0
    assert "intensity is 0 for all points" in metrics_of(tmp_path / "without")["sensor"]["description"]
    refused = [bag, "--model", any_lidar_model, "--missing-intensity", "reject", "--out", tmp_path / "reject"]
    assert run(*refused) == 1


def test_boxes_are_scored_by_those_around_true_labels(car_model, tmp_path, capsys):
    """The model calls both walls and a lorry cars, as far as they rise above the sensor; truth the left wall only."""
    bag = street_drive(tmp_path / "street")
    assert run(bag, "--model", car_model, "--out", tmp_path, "--boxes") == 0
    expected = {"precision": pytest.approx(1 / 3), "recall": 1.0, "predicted": 6, "true": 2}
    assert metrics_of(tmp_path)["boxes"] == {"car": expected}
    assert "boxes of car: precision 0.333 of 6, recall 1.000 of 2" in capsys.readouterr().out
    assert "Boxes around road users" in (tmp_path / "report.html").read_text()


def test_boxes_need_truth(make_drive, height_model, tmp_path, capsys):
    bag = make_drive("plain", with_truth=False, label_set="")
    assert run(bag, "--model", height_model, "--out", tmp_path, "--boxes") == 1
    assert "--boxes needs ground truth" in capsys.readouterr().err


def test_losses_of_a_filter_are_counted_by_class_and_probability(drive, height_model, tmp_path, capsys):
    assert run(drive.path, "--model", height_model, "--out", tmp_path, "--filter-drop", "building") == 0
    losses = metrics_of(tmp_path)["filter"]
    assert losses["drop"] == ["building"] and losses["min_probability"][0] == 0
    removed = losses["removed"]
    assert removed["building"][0] > 0.5 and removed["road"][0] < 0.1
    assert all(list(shares) == sorted(shares, reverse=True) for shares in removed.values())
    assert "that a filter without building removes" in capsys.readouterr().out
    assert "<h2>Filter</h2>" in (tmp_path / "report.html").read_text()


def test_filters_name_known_classes(drive, height_model, tmp_path, capsys):
    assert run(drive.path, "--model", height_model, "--out", tmp_path, "--filter-drop", "roda") == 1
    assert "has no class 'roda'" in capsys.readouterr().err
