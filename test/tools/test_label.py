"""``xmodelkd label``: labelled bags and folders, many bags, interruptions and bad input."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from test.example_drive import POINTS, SWEEPS, street_drive
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import label_info_json, label_map_from_json, prediction_from_json
from xmodelkd_ros.messages.objects import box_json
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.objects import object_boxes
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools import label_bags
from xmodelkd_ros.tools.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def label(height_model, tmp_path):
    """Runs ``xmodelkd label`` into a folder; returns the exit code."""

    def run(*bags_and_options, out="out"):
        return main(["label", *map(str, bags_and_options), "--model", str(height_model), "--out", str(tmp_path / out)])

    return run


def messages_of(bag, *topics):
    with BagReader(bag) as reader:
        return list(reader.messages(topics or None)), dict(reader.topics), reader.notes


def info_of(bag):
    (message,) = [m.message.data for m in messages_of(bag)[0] if m.topic == "/points/label_info_json"]
    return label_map_from_json(message), prediction_from_json(message)


def test_clouds_keep_their_topic_and_fields_and_gain_labels(label, make_drive, height_model, tmp_path):
    bag = make_drive("street", sweeps=3, with_truth=False, label_set="")
    assert label(bag) == 0
    before, topics, _ = messages_of(bag)
    after, labelled_topics, notes = messages_of(tmp_path / "out" / "street.mcap")
    assert notes == []
    assert labelled_topics.keys() == {*topics, "/points/label_info_json"}
    assert labelled_topics["/points/label_info_json"].latched and labelled_topics["/tf_static"].latched
    others = [m for m in after if m.topic not in ("/points", "/points/label_info_json")]
    assert [(m.topic, m.log_time_ns) for m in others] == [
        (m.topic, m.log_time_ns) for m in before if m.topic != "/points"
    ]
    pipeline = SegmentationPipeline.load(height_model)
    clouds = [m for m in before if m.topic == "/points"]
    labelled = [m for m in after if m.topic == "/points"]
    assert len(clouds) == len(labelled) == 3
    for old, new in zip(clouds, labelled, strict=True):
        assert old.log_time_ns == new.log_time_ns and old.message.header == new.message.header
        names = [field.name for field in old.message.fields]
        assert [f.name for f in new.message.fields] == [*names, "label", "probability", "entropy"]
        for name in names:
            np.testing.assert_array_equal(read_field(new.message, name), read_field(old.message, name))
        expected = pipeline.segment(to_cloud(old.message)).segmentation
        np.testing.assert_array_equal(read_field(new.message, "label"), expected.label)
        np.testing.assert_array_equal(read_field(new.message, "entropy"), expected.entropy)
    labels, prediction = info_of(tmp_path / "out" / "street.mcap")
    spec = pipeline.spec
    assert labels == spec.labels
    assert (prediction.model, prediction.sha256, prediction.field) == (spec.name, spec.files["fp32"].sha256, "label")


def test_labelled_bag_scores_1_against_its_own_model(label, make_drive, height_model, tmp_path, capsys):
    label(make_drive("street", sweeps=2, with_truth=False, label_set=""))
    bag, out = tmp_path / "out" / "street.mcap", tmp_path / "score"
    assert main(["evaluate", str(bag), "--model", str(height_model), "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["miou"] == 1.0 and metrics["reference"]["source"] == "prediction"
    assert "predictions of model" in capsys.readouterr().err


def test_truth_stays_truth(label, drive, height_model, tmp_path):
    """A bag with labels keeps them, and is scored against them."""
    assert label(drive.path) == 0
    bag, out = tmp_path / "out" / "drive.mcap", tmp_path / "score"
    (cloud, *_) = [m.message for m in messages_of(bag, "/points")[0]]
    np.testing.assert_array_equal(read_field(cloud, "label"), drive.truths[0])
    assert (read_field(cloud, "predicted_label") != read_field(cloud, "label")).any()
    assert info_of(bag)[1].field == "predicted_label"
    assert main(["evaluate", str(bag), "--model", str(height_model), "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["miou"] < 0.9 and "reference" not in metrics


def test_options_of_the_labels(label, drive, tmp_path):
    words = ["--label-set", "outdoor8", "--field", "ours", "--min-probability", "0.999999", "--topics", "labels"]
    assert label(drive.path, *words) == 0
    bag = tmp_path / "out" / "drive.mcap"
    messages, topics, _ = messages_of(bag)
    assert not any("camera" in name for name in topics) and "/tf_static" in topics
    (cloud, *_) = [m.message for m in messages if m.topic == "/points"]
    ours, probability = read_field(cloud, "ours"), read_field(cloud, "probability")
    assert (ours[probability < 0.999999] == IGNORE).all() and (ours != IGNORE).any()
    labels, prediction = info_of(bag)
    assert labels == label_map("outdoor8") and prediction.field == "ours"
    summary = json.loads((tmp_path / "out" / "drive.mcap.json").read_text())["summary"]
    assert 0 < summary["uncertain"] < 1 and summary["label_set"] == "outdoor8"


def test_summary_names_what_is_uncertain(label, drive, tmp_path, capsys):
    assert label(drive.path) == 0
    out = tmp_path / "out"
    (bag,) = json.loads((out / "summary.json").read_text())["bags"]
    assert (bag["sweeps"], bag["points"]) == (SWEEPS, sum(POINTS + k for k in range(SWEEPS)))
    assert sum(bag["shares"].values()) == pytest.approx(1) and 0 < bag["entropy"] < 1
    assert bag["unlabelled"] == pytest.approx(SWEEPS / bag["points"])
    stamps, entropies = zip(*bag["most_uncertain"], strict=True)
    assert len(stamps) == SWEEPS and list(entropies) == sorted(entropies, reverse=True)
    assert {"read", "label", "write", "total"} == bag["seconds"].keys()
    page = (out / "summary.html").read_text()
    assert str(stamps[0]) in page and "Most uncertain sweeps" in page
    said = capsys.readouterr().out
    assert f"[1/1] drive: {SWEEPS} sweeps, mean entropy" in said and "1 of 1 bags" in said


# --- many bags ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(make_drive):
    return [make_drive(f"bag{k}.mcap", sweeps=2 + k, cameras=()) for k in range(3)]


def points_of(bag):
    return [bytes(m.data) for m in _raw(bag, "/points")]


def _raw(bag, topic):
    with BagReader(bag) as reader:
        return list(reader.raw([topic]))


def test_processes_give_the_same_labels(label, fleet, tmp_path):
    assert label(*fleet) == 0 and label(*fleet, "--jobs", 2, out="parallel") == 0
    for bag in fleet:
        assert points_of(tmp_path / "out" / bag.name) == points_of(tmp_path / "parallel" / bag.name)


def test_what_is_finished_is_skipped_and_failures_stand_alone(label, fleet, tmp_path, capsys):
    broken, missing = tmp_path / "broken.mcap", tmp_path / "missing.mcap"
    broken.write_bytes(fleet[0].read_bytes()[:5000])
    assert label(broken, fleet[0], missing) == 1
    said = capsys.readouterr()
    assert "[2/3] bag0.mcap: 2 sweeps" in said.out and "1 of 3 bags" in said.out
    failed = [line for line in said.err.splitlines() if "failed" in line]
    assert len(failed) == 2 and "broken.mcap: failed: cannot read bag" in failed[0] and "does not exist" in failed[1]
    assert [one["bag"] for one in json.loads((tmp_path / "out" / "summary.json").read_text())["failed"]] == [
        str(broken),
        str(missing),
    ]
    first = (tmp_path / "out" / "bag0.mcap").stat()
    assert label(*fleet) == 0
    said = capsys.readouterr().out
    assert "bag0.mcap: 2 sweeps, mean entropy" in said and "labelled before" in said
    assert (tmp_path / "out" / "bag0.mcap").stat().st_mtime_ns == first.st_mtime_ns
    left = {path.name for path in (tmp_path / "out").iterdir()}
    names = {f"bag{k}.mcap" for k in range(3)}
    assert left == names | {f"{name}.json" for name in names} | {"summary.json", "summary.html"}


def test_other_options_do_not_overwrite(label, fleet, capsys):
    assert label(fleet[0]) == 0
    assert label(fleet[0], "--min-probability", "0.5") == 1
    assert "was labelled with other options; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-probability", "2"], "2 is not a number from 0 to 1"),
        (["--jobs", "0"], "0 is not a positive"),
        (["--label-set", "drive14"], "no label set 'drive14'"),
        (["--points-topic", "/lidar"], "no PointCloud2 messages on '/lidar'"),
        (["--mode", "teacher"], "--mode teacher needs --model teacher"),
        (["--field", "intensity"], "the cloud has a field 'intensity' already"),
    ],
)
def test_bad_options_are_one_line(label, fleet, words, said, capsys):
    try:
        code = label(fleet[0], *words)
    except SystemExit as error:  # of argparse
        code = error.code
    assert code != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1] and "Traceback" not in "".join(lines)


def test_bags_of_the_same_name(label, fleet, tmp_path, capsys):
    other = tmp_path / "elsewhere" / fleet[0].name
    other.parent.mkdir()
    other.write_bytes(fleet[0].read_bytes())
    assert label(fleet[0], other) == 1
    assert "several bags are called bag0; label them into different folders" in capsys.readouterr().err


def test_folder_takes_one_command_at_a_time(label, fleet, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with label_bags._locked(tmp_path / "out"):
        assert label(fleet[0]) == 1
    assert "another process labels bags into" in capsys.readouterr().err
    assert label(fleet[0]) == 0


def _command(height_model, out, *bags):
    return [sys.executable, "-m", "xmodelkd_ros.tools.cli", "label", *bags, "--model", str(height_model), "--out", out]


def test_killed_at_any_moment_it_ends_complete_when_given_again(height_model, make_drive, label, tmp_path):
    bags = [make_drive(f"bag{k}.mcap", sweeps=60, cameras=()) for k in range(2)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for delay in (0.0, 0.15, 0.4):
        process = subprocess.Popen([*map(str, _command(height_model, tmp_path / "out", *bags))], env=environment)
        _wait_for(lambda: any((tmp_path / "out").glob("*.unfinished-*")), process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for finished in (tmp_path / "out").glob("*.mcap"):
            assert len(points_of(finished)) == 60, "a bag has its name when it is complete only"
    assert label(*bags) == 0
    assert label(*bags, out="undisturbed") == 0
    for bag in bags:
        assert points_of(tmp_path / "out" / bag.name) == points_of(tmp_path / "undisturbed" / bag.name)
    assert not list((tmp_path / "out").glob("*.unfinished-*"))


def _wait_for(condition, process):
    deadline = time.monotonic() + 30
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_process_that_dies_costs_its_bag_only(height_model, fleet, tmp_path, monkeypatch):
    """A worker that is killed twice with a bag, as for lack of memory; the others are labelled."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = (
        "import os, signal, sys\n"
        "from xmodelkd_ros.tools import label\n"
        "own = label.BagLabeller.label\n"
        "def dies(self, bag, out):\n"
        "    if bag.name == 'bag1.mcap': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return own(self, bag, out)\n"
        "label.BagLabeller.label = dies\n"
    )
    (tmp_path / "sitecustomize.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [*map(str, _command(height_model, tmp_path / "out", *fleet)), "--jobs", "2"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "2 of 3 bags" in done.stdout
    assert "bag1.mcap: failed: the process that labelled it died, twice" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mcap")) == ["bag0.mcap", "bag2.mcap"]


def test_full_disk_costs_that_bag_only(height_model, make_drive, tmp_path):
    """Files may not grow beyond a size: the larger bag fails in one line."""
    small, large = make_drive("small.mcap", sweeps=1, cameras=()), make_drive("large.mcap", sweeps=40, cameras=())

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    words = [*map(str, _command(height_model, tmp_path / "out", large, small))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=limit)
    assert done.returncode == 1 and "1 of 2 bags" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "failed" in line]
    assert "large.mcap: failed: cannot write" in line and "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.unfinished-*"))


# --- the layout of SemanticKITTI ------------------------------------------------------------------------------------


@pytest.mark.parametrize("label_set", ["drive13", "semantickitti19", "pandaset9"])
def test_folder_in_the_kitti_layout_reads_back(label, make_drive, height_model, tmp_path, label_set):
    pytest.importorskip("training.datasets.semantickitti")
    from training.datasets.semantickitti import SemanticKittiSequence

    bag = make_drive("street", sweeps=3, speed=5.0)
    own = ["--label-set", label_set] if label_set != "semantickitti19" else []
    assert label(bag, "--format", "semantickitti", *own) == 0
    folder = tmp_path / "out" / "street"
    sequence = SemanticKittiSequence(folder)
    assert len(sequence) == 3 and sequence.predicted and sequence.label_map.name == (label_set if own else "drive13")
    assert [camera.name for camera in sequence.cameras] == ["image_2"] and len(sequence.images(0)) == 1
    assert sequence.notes == []
    clouds = [m.message for m in messages_of(bag, "/points")[0]]
    pipeline = SegmentationPipeline.load(height_model)
    into = None if not own or label_set == "drive13" else _translation(pipeline, label_set)
    for k, message in enumerate(clouds):
        cloud = to_cloud(message)
        valid = np.isfinite(cloud.xyz).all(axis=1)
        np.testing.assert_array_equal(sequence.cloud(k).xyz, cloud.xyz[valid])
        np.testing.assert_allclose(sequence.cloud(k).intensity, cloud.intensity[valid], rtol=1e-5)
        np.testing.assert_array_equal(sequence.labels(k), pipeline.segment(cloud, into).segmentation.label[valid])
    moved = np.linalg.inv(sequence.world_from_lidar(0)) @ sequence.world_from_lidar(2)
    assert np.linalg.norm(moved[:3, 3]) == pytest.approx(1.0, abs=1e-3)
    assert sequence.stamp_ns(1) - sequence.stamp_ns(0) == 100_000_000


def _translation(pipeline, label_set):
    from xmodelkd_ros.resources import translation

    return translation(pipeline.labels, label_map(label_set))


def test_training_takes_predictions_as_such_only(label, make_drive, tmp_path):
    pytest.importorskip("torch")
    from training.config.data import SourceConfig
    from training.data.sources import load_source
    from xmodelkd_ros.core.errors import ConfigError

    bag = make_drive("street", sweeps=2, with_truth=False, label_set="")
    assert label(bag) == 0 and label(bag, "--format", "semantickitti", out="folder") == 0
    labelled, folder = str(tmp_path / "out" / "street.mcap"), str(tmp_path / "folder" / "street")
    for dataset, path in (("bag", labelled), ("semantickitti", folder)):
        with pytest.raises(ConfigError, match="predictions of a model, not ground truth"):
            load_source(SourceConfig(dataset, path), "train")
        sweeps = load_source(SourceConfig(dataset, path, labels="predicted"), "train").sweeps
        known = np.mean([sweep.labels != IGNORE for sweep in sweeps[:1]])
        assert known == 1 if dataset == "semantickitti" else 0.6 < known < 1
    with pytest.raises(ConfigError, match="no labels that 'xmodelkd label' wrote"):
        load_source(SourceConfig("bag", str(make_drive("true", sweeps=1)), labels="predicted"), "train")
    settings = Path(folder) / "labels.yaml"
    settings.write_text(settings.read_text().replace("source: prediction", "source: truth"))
    assert len(load_source(SourceConfig("semantickitti", folder), "train").sweeps) == 2
    data = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump({**data, "label_set": "drive14"}))
    with pytest.raises(ConfigError, match=r"cannot read .*labels\.yaml: .*drive14"):
        load_source(SourceConfig("semantickitti", folder), "train")


def test_label_info_of_truth_says_nothing_of_a_model():
    assert prediction_from_json(label_info_json(label_map("drive13"))) is None


def test_boxes_are_written_beside_the_labels(car_model, tmp_path):
    """They are those that the node publishes: found in the written labels, in the frame of the sweep."""
    bag, out = street_drive(tmp_path / "street"), tmp_path / "out"
    assert main(["label", str(bag), "--model", str(car_model), "--out", str(out), "--boxes", f"{out}/boxes.json"]) == 0
    content = json.loads((out / "boxes.json").read_text())
    pipeline = SegmentationPipeline.load(car_model)
    assert content["model"] == pipeline.spec.name and content["label_set"] == pipeline.labels.name
    clouds = [m.message for m in messages_of(bag)[0] if m.topic == "/points"]
    assert len(content["sweeps"]) == 2
    for written, msg in zip(content["sweeps"], clouds, strict=True):
        cloud = to_cloud(msg)
        boxes = object_boxes(cloud.xyz, pipeline.segment(cloud).segmentation, pipeline.labels)
        assert written["boxes"] == [box_json(box) for box in boxes] and boxes
        assert written["frame_id"] == msg.header.frame_id


def test_boxes_of_several_bags_need_a_file_each(label, make_drive, tmp_path, capsys):
    bags = [make_drive(name, sweeps=1) for name in ("one", "two")]
    assert label(*bags, "--boxes", tmp_path / "boxes.json") == 1
    assert "boxes-{bag}.json" in capsys.readouterr().err
    assert label(*bags, "--boxes", tmp_path / "boxes" / "{bag}.json") == 0
    assert sorted(path.name for path in (tmp_path / "boxes").iterdir()) == ["one.json", "two.json"]
