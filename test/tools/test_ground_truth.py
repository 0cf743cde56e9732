"""Ground truth in another label set than the model's, and the attribution of the data that a bag holds."""

import json
from pathlib import Path

import numpy as np
import pytest

from test.example_drive import START_NS, make_header, sweep_and_truth
from training import evaluate as training_evaluate
from training.data.registry import open_drives
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, BagReader, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelClass, LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import data_source_from_json, label_info_json
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.tools.cli import main

OWN = LabelMap(
    "harbour",
    (
        LabelClass(1, "Road", (1, 1, 1)),
        LabelClass(2, "crane", (2, 2, 2)),
        LabelClass(3, "hall", (3, 3, 3), aliases=("building",)),
        LabelClass(4, "container", (4, 4, 4)),
    ),
)
TO_OWN = np.full(256, 255, np.uint8)
TO_OWN[[0, 4, 9]] = 2, 1, 3  # cars become cranes


def write(path, labels=OWN, lookup=TO_OWN, source="", undefined=False, label_topics=None, cut=()):
    """A bag in which the height model is wrong on every tenth point; ``cut``: id and count of first points."""
    string = message_class("std_msgs/msg/String")
    with BagWriter(path) as bag:
        bag.add_topic("/points", POINT_CLOUD_TYPE)
        label_topics = label_topics or {"/label_info_json": labels}
        texts = {topic: label_info_json(own) for topic, own in label_topics.items()}
        for topic, text in {**texts, "/data_source_json": source}.items():
            if text:
                bag.add_topic(topic, "std_msgs/msg/String", latched=True)
                bag.write(topic, START_NS, string(text))
        for index in range(2):
            cloud, truth = sweep_and_truth(index)
            own = lookup[truth]
            own[:30] = 77 if undefined else own[:30]
            start = 0
            for class_id, count in cut:
                own[start : start + count] = class_id
                start += count
            stamp_ns = START_NS + index * 100_000_000
            bag.write("/points", stamp_ns, truth_to_msg(cloud, own, make_header(stamp_ns), ROSBAGS_TYPES))
    return path


def run(capsys, bag, model, out, *options):
    assert (
        main(["evaluate", str(bag), "--model", str(model), "--backend", "onnxruntime", "--out", str(out), *options])
        == 0
    )
    notes = [line.removeprefix("note: ") for line in capsys.readouterr().err.splitlines()]
    return json.loads((out / "metrics.json").read_text()), notes, (out / "report.html").read_text(encoding="utf-8")


def test_truth_without_counterpart_is_named_with_its_share(height_model, tmp_path, capsys):
    bag = write(tmp_path / "own.mcap", undefined=True)
    metrics, notes, page = run(capsys, bag, height_model, tmp_path / "out")
    lost, undefined = notes
    assert lost.startswith("not scored, since drive13 has no counterpart: crane (id 2, 9.") and "container" not in lost
    assert undefined.startswith("not scored, since the label set harbour does not define the ids: 77 (1.00% of the ")
    assert "crane (id 2" in page and "does not define the ids: 77" in page
    assert sum(metrics["points"].values()) == metrics["points"]["road"] + metrics["points"]["building"]


def test_truth_without_any_label_says_so(height_model, tmp_path, capsys):
    bag = write(tmp_path / "own.mcap", lookup=np.full(256, 255, np.uint8))
    metrics, notes, _ = run(capsys, bag, height_model, tmp_path / "out")
    assert metrics["miou"] is None and notes == ["no score: the ground truth labels no point, all have 255"]


def test_label_sets_of_other_namespaces_are_used_if_they_are_equal_else_named(height_model, tmp_path, capsys):
    bag = write(tmp_path / "same.mcap", label_topics={"/a/label_info_json": OWN, "/b/label_info_json": OWN})
    assert run(capsys, bag, height_model, tmp_path / "out")[0]["miou"] is not None
    others = {"/a/label_info_json": OWN, "/b/label_info_json": label_map("drive13")}
    metrics, (note,), _ = run(capsys, write(tmp_path / "other.mcap", label_topics=others), height_model, tmp_path / "o")
    assert metrics["miou"] is None and note == (
        "field 'label' is not used as ground truth: /a/label_info_json, /b/label_info_json differ, and none is in a "
        "namespace of /points; record one of them only"
    )


def test_training_evaluate_names_only_the_truth_that_it_does_not_score(height_model, tmp_path, capsys):
    words = ["bag", str(write(tmp_path / "own.mcap")), "--model", str(height_model), "--backend", "onnxruntime"]
    for label_set, count in (("harbour", 0), ("drive13", 1)):
        assert training_evaluate.main([*words, "--label-set", label_set, "--out", str(tmp_path / label_set)]) == 0
        assert capsys.readouterr().err.count("not scored") == count


def test_a_label_set_of_the_bag_scores_in_its_own_classes(height_model, tmp_path, capsys):
    bag = write(tmp_path / "own.mcap")
    metrics, notes, _ = run(capsys, bag, height_model, tmp_path / "out", "--label-set", "harbour")
    assert metrics["label_set"] == "harbour" and list(metrics["iou"]) == ["Road", "crane", "hall", "container"]
    assert metrics["points"]["crane"] > 500 and metrics["iou"]["crane"] == 0.0, "cranes count, though never predicted"
    assert metrics["iou"]["Road"] > 0.8 and metrics["iou"]["hall"] > 0.8 and metrics["iou"]["container"] is None
    assert metrics["miou"] == pytest.approx((metrics["iou"]["Road"] + metrics["iou"]["hall"]) / 3)
    assert notes == []


@pytest.mark.parametrize("with_truth", [True, False])
def test_an_unknown_label_set_names_the_shipped_ones_and_the_bags(
    make_drive, height_model, tmp_path, capsys, with_truth
):
    bag = write(tmp_path / "own.mcap") if with_truth else make_drive(label_set="", with_truth=False, cameras=())
    words = ["evaluate", str(bag), "--model", str(height_model), "--backend", "onnxruntime"]
    assert main([*words, "--label-set", "harbor", "--out", str(tmp_path / "out")]) == 1
    own = "the bag has 'harbour'" if with_truth else "the bag has none of its own"
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("error: no label set 'harbor'; known are ") and "semantickitti19" in line and line.endswith(own)
    )


def test_truth_in_a_shipped_set_is_scored_unchanged_in_that_set(height_model, tmp_path, capsys):
    kitti = label_map("semantickitti19")
    lookup = np.full(256, 255, np.uint8)
    lookup[[0, 4, 9]] = kitti.id_of("other-ground"), kitti.id_of("parking"), kitti.id_of("building")
    bag = write(tmp_path / "kitti.mcap", kitti, lookup)
    metrics, notes, _ = run(capsys, bag, height_model, tmp_path / "out", "--label-set", "semantickitti19")
    assert metrics["points"]["other-ground"] > 500 and metrics["points"]["parking"] > 500
    assert metrics["iou"]["parking"] == 0.0 and not any("not scored" in note for note in notes)
    _, notes, _ = run(capsys, bag, height_model, tmp_path / "own")
    assert notes == [
        note for note in notes if note.startswith("not scored, since drive13 has no counterpart: other-ground")
    ]


@pytest.mark.parametrize("truth_set", ["semantickitti19", "nuscenes16"])
def test_markings_where_the_truth_has_none(write_marking_model, tmp_path, capsys, truth_set):
    """They are misses of road, which a note says, unless the scores are in the truth's own set."""
    truth = label_map(truth_set)
    road = "road" if truth_set == "semantickitti19" else "driveable_surface"
    lookup = np.full(256, 255, np.uint8)
    lookup[[4, 9]] = truth.id_of(road), truth.id_of("building" if truth.has_class("building") else "manmade")
    bag = write(tmp_path / "roads.mcap", truth, lookup)
    metrics, notes, page = run(capsys, bag, write_marking_model, tmp_path / "out")
    assert metrics["iou"]["road"] == 0.0
    (note,) = notes
    assert "road_marking is predicted for " in note and "the ground truth never has it: these count as errors" in note
    assert (
        note.endswith(f"mostly of road; with --label-set {truth_set} they count as {road}")
        and "road_marking is" in page
    )
    metrics, notes, _ = run(capsys, bag, write_marking_model, tmp_path / "own", "--label-set", truth_set)
    assert metrics["iou"][road] > 0.9 and notes == []


@pytest.fixture
def write_marking_model(height_model, tmp_path):
    """The height model with road and road_marking exchanged."""
    import shutil

    folder = tmp_path / "marking"
    shutil.copytree(height_model, folder)
    data = json.loads((folder / "model.json").read_text())
    rows = {row["name"]: row for row in data["labels"]["classes"]}
    rows["road"]["name"], rows["road_marking"]["name"] = "road_marking", "road"
    rows["road"]["aliases"], rows["road_marking"]["aliases"] = rows["road_marking"]["aliases"], rows["road"]["aliases"]
    (folder / "model.json").write_text(json.dumps(data))
    return folder


def test_training_from_bags_and_its_evaluation_say_the_same(height_model, tmp_path, capsys):
    bag = write(tmp_path / "own.mcap", undefined=True)
    (drive,) = open_drives("bag", bag)
    said = capsys.readouterr().err
    assert "no counterpart: crane (id 2, " in said and "does not define the ids: 77" in said
    assert drive.label_map == OWN and set(np.unique(drive.labels(0))) == {1, 2, 3, 255}
    drive.close()
    words = ["bag", str(bag), "--model", str(height_model), "--backend", "onnxruntime", "--label-set", "harbour"]
    assert training_evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["points"]["crane"] > 500 and metrics["label_set"] == "harbour"
    words[-1] = "harbor"
    assert training_evaluate.main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "no label set 'harbor'; known are " in capsys.readouterr().err.splitlines()[-1]


def test_training_evaluate_takes_the_topic_of_the_sweeps(make_drive, height_model, tmp_path, capsys):
    bag, out = make_drive(topics=("/a/points", "/b/points"), cameras=()), tmp_path / "out"
    words = ["bag", str(bag), "--model", str(height_model), "--backend", "onnxruntime", "--out", str(out)]
    assert training_evaluate.main(words) == 1
    assert (
        "has several PointCloud2 topics; name one by --points-topic (in training configurations: topic): /a/points"
        in capsys.readouterr().err
    )
    assert training_evaluate.main([*words, "--points-topic", "/b/points"]) == 0
    assert json.loads((out / "metrics.json").read_text())["sweeps"]["input"] == 2
    words[0] = "pandaset"
    assert training_evaluate.main([*words, "--points-topic", "/b/points"]) == 1
    assert "--points-topic: pandaset has no topics" in capsys.readouterr().err


def test_options_of_cameras_without_effect_are_said(make_drive, height_model, tmp_path, capsys):
    _, notes, _ = run(capsys, make_drive(), height_model, tmp_path / "out", "--drop-cameras", "nope")
    assert notes[0] == "--drop-cameras has no effect: --mode student uses no images"


# --- attribution ---

SOURCE = '{"name": "Harbour drives", "license": "CC BY 4.0", "attribution": "Harbour drives by Us"}'


def test_a_bag_brings_the_attribution_of_its_data(height_model, tmp_path, capsys):
    bag = write(tmp_path / "own.mcap", source=SOURCE)
    _, _, page = run(capsys, bag, height_model, tmp_path / "out")
    assert "<p>Data: own.mcap: Harbour drives by Us (CC BY 4.0)</p>" in page
    (drive,) = open_drives("bag", bag)
    assert drive.source == DataSource("Harbour drives", "CC BY 4.0", "Harbour drives by Us")
    drive.close()


def test_an_unknown_bag_is_credited_to_nobody(height_model, tmp_path, capsys):
    _, _, page = run(capsys, write(tmp_path / "own.mcap"), height_model, tmp_path / "out")
    assert "<p>Data: own.mcap</p>" in page and "<p>Model height, trained on: written by a test (CC0-1.0)</p>" in page


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{}", '{"name": 3}', '{"name": "x", "license": {}}'])
def test_a_damaged_attribution_is_left_out_with_a_note(tmp_path, text):
    with BagReader(write(tmp_path / "own.mcap", source=text)) as reader:
        drive = RecordedDrive(reader)
        assert drive.source is None and drive.notes[0].startswith("/data_source_json not used: it")
    with pytest.raises(ConfigError):
        data_source_from_json(text)


def test_licence_and_attribution_may_be_missing():
    assert data_source_from_json('{"name": "mine"}') == DataSource("mine", "", "")


def test_raw_numbers_of_nuscenes_are_scored_with_the_official_classes(height_model, tmp_path, capsys):
    """Ids of category.json, as a converter of nuScenes-lidarseg writes them."""
    raw, lookup = label_map("nuscenes32"), np.full(256, 255, np.uint8)
    lookup[[4, 9]] = raw.id_of("flat.driveable_surface"), raw.id_of("static.manmade")
    bag = write(tmp_path / "raw.mcap", raw, lookup)
    for words, names in (((), ("road", "building")), (("--label-set", "outdoor8"), ("road", "manmade"))):
        metrics, _, _ = run(capsys, bag, height_model, tmp_path / names[1], *words)
        assert all(metrics["points"][name] > 500 and metrics["iou"][name] > 0.8 for name in names)


def test_classes_with_few_points_in_outdoor8_are_named_and_not_counted(height_model, tmp_path, capsys):
    kitti, few = label_map("semantickitti19"), np.full(256, 255, np.uint8)
    few[[4, 9]] = kitti.id_of("road"), kitti.id_of("building")
    bag = write(tmp_path / "few.mcap", kitti, few, cut=((kitti.id_of("bicyclist"), 5),))
    metrics, notes, page = run(capsys, bag, height_model, tmp_path / "out", "--label-set", "outdoor8")
    assert metrics["points"]["two_wheeler"] == 10 and metrics["iou"]["two_wheeler"] == 0.0
    assert metrics["miou"] == pytest.approx((metrics["iou"]["road"] + metrics["iou"]["manmade"]) / 2)
    note = "left out of the mean IoU, with fewer than 50 points of ground truth: two_wheeler (10)"
    assert note in notes and "two_wheeler (10)" in page


def test_classes_of_an_unknown_set_are_found_in_outdoor8_by_name(height_model, tmp_path, capsys):
    """Names as converters write them: outdoor8 also knows parking and trunks."""
    names = ("Driveable_Surface", "Traffic Sign", "parking", "trunk", "water")
    own = LabelMap("converter", tuple(LabelClass(k, name, (0, 0, 0)) for k, name in enumerate(names)))
    lookup = np.full(256, 255, np.uint8)
    for number, of_drive13 in enumerate((4, 9)):
        lookup[of_drive13] = number
    bag = write(tmp_path / "own.mcap", own, lookup, cut=((2, 100), (3, 100), (4, 100)))
    metrics, notes, _ = run(capsys, bag, height_model, tmp_path / "out", "--label-set", "outdoor8")
    points = {name: count for name, count in metrics["points"].items() if count}
    assert points["plants"] == 200 and points["road"] > 700 and points["manmade"] > 500 and len(points) == 3
    assert any(note.startswith("not scored, since outdoor8 has no counterpart: water (id 4") for note in notes)
    metrics, _, _ = run(capsys, bag, height_model, tmp_path / "native")
    assert metrics["points"]["traffic_sign"] > 500 and metrics["points"]["road"] > 500


DRIVES = Path(__file__).parents[2].parent / "shared" / "drives"


@pytest.mark.skipif(not DRIVES.is_dir(), reason="needs the drives of other vehicles in ../shared/drives")
@pytest.mark.parametrize("name", ["labelled_kitti", "labelled_nuscenes", "labelled_vlp32"])
def test_training_and_package_score_a_labelled_bag_alike(name, tmp_path):
    """In the classes that three datasets share, as it comes."""
    bag, out = str(DRIVES / f"{name}.mcap"), tmp_path
    words = ["--model", "student", "--backend", "onnxruntime", "--label-set", "outdoor8", "--out"]
    assert main(["evaluate", bag, *words, str(out / "package")]) == 0
    assert training_evaluate.main(["bag", bag, *words, str(out / "training")]) == 0
    both = [json.loads((out / part / "metrics.json").read_text()) for part in ("package", "training")]
    assert both[0]["iou"] == both[1]["iou"] and both[0]["points"] == both[1]["points"]
    assert both[0]["miou"] == both[1]["miou"] > 0.05
