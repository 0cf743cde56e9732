import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from test.example_drive import START_NS, make_header, sweep_and_truth  # noqa: E402
from training import compare, evaluate  # noqa: E402
from training.config.data import SourceConfig  # noqa: E402
from training.config.image_training import ImageTrainingConfig  # noqa: E402
from training.experiments.comparison_config import Comparison, ScoreEntry  # noqa: E402
from training.experiments.comparison_report import results, summary, tables  # noqa: E402
from training.predict.predictor import load_predictor  # noqa: E402
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class  # noqa: E402
from xmodelkd_ros.bags.bag_writer import BagWriter  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402
from xmodelkd_ros.core.labels import IGNORE  # noqa: E402
from xmodelkd_ros.messages.clouds import truth_to_msg  # noqa: E402
from xmodelkd_ros.messages.headers import label_info_json  # noqa: E402
from xmodelkd_ros.resources import find_config, find_model, label_map  # noqa: E402

CONFIG = Path(__file__).parents[3] / "config" / "comparison" / "pandaset.yaml"
FOREIGN = SimpleNamespace(module=SimpleNamespace(labels=SimpleNamespace(name="semantickitti19")))
STUDENT = Path(__file__).parents[3] / "config" / "training" / "pandaset_student.yaml"


def test_intervals_use_students_t():
    """Values 1, 2, 3: standard deviation 1, half width t(0.975, 2) = 4.3027 times 1 / sqrt(3)."""
    result = summary([1.0, 2.0, 3.0])
    assert (result["mean"], result["sd"]) == (2.0, 1.0)
    assert result["interval"] == pytest.approx(2.4841, abs=1e-4)
    assert summary([0.5]) == {"mean": 0.5, "sd": None, "interval": None, "values": [0.5]}


def counts(right, wrong):
    """Confusion matrix of road and vegetation: correct points of each class, and points labelled as the other."""
    matrix = np.zeros((9, 10), int)
    matrix[3, 3], matrix[3, 6], matrix[6, 6], matrix[6, 3] = right, wrong, right, wrong
    return matrix.tolist()


@pytest.fixture
def scores():
    """Scores of two runs; the second has an additional seed, which the paired gain leaves out."""

    def of(right, wrong):
        return {"far": {"all": counts(right, wrong), "seen": counts(right, 0), "ece": 0.05}}

    return {"plain": {0: of(50, 50), 1: of(60, 40)}, "distilled": {0: of(80, 20), 1: of(70, 30), 2: of(1, 99)}}


def test_gains_are_paired_by_seed(scores):
    rows = results(scores, {"far": "pandaset9"}, "plain")["far"]
    plain, distilled = rows["plain"], rows["distilled"]
    # right / (right + 2 wrong) for both classes
    np.testing.assert_allclose(plain["measures"]["miou"]["values"], [50 / 150, 60 / 140])
    np.testing.assert_allclose(distilled["gains"]["miou"]["values"], [80 / 120 - 50 / 150, 70 / 130 - 60 / 140])
    assert len(distilled["measures"]["miou"]["values"]) == 3
    assert plain["gains"]["miou"]["mean"] == 0
    assert distilled["measures"]["miou_seen"]["mean"] == 1
    assert set(distilled["measures"]) == {
        "miou",
        "miou_without_vegetation",
        "miou_seen",
        "ece",
        "road",
        "vegetation",
    }


def test_table_has_a_row_for_each_run(scores):
    sets = {"far": "pandaset9"}
    text = tables(results(scores, sets, "plain"), sets)
    assert text.startswith("**far**")
    head, _, plain, distilled = (line for line in text.splitlines() if line.startswith("|"))
    assert head.endswith("| road | vegetation |")
    assert plain.startswith("| plain | 2 | 38.1 ± 6.7 | +0.0 (+0.0 to +0.0) |")
    assert distilled.startswith("| distilled | 3 | ")


@pytest.mark.parametrize("file", sorted(CONFIG.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_comparisons_are_valid(file):
    comparison = Comparison.read(file)
    for entry in comparison.runs:
        for seed in () if entry.model else comparison.seeds_of(entry):
            assert comparison.settings(entry, seed).run == str(comparison.folder(entry, seed))


def test_runs_depend_on_runs_of_the_same_seed():
    comparison = Comparison.read(CONFIG, ["run=out"])
    by_name = {entry.name: entry for entry in comparison.runs}
    images = comparison.settings(by_name["images"], 2)
    assert isinstance(images, ImageTrainingConfig) and images.run == "out/images_0", "one run serves all seeds"
    teacher = comparison.settings(by_name["teacher"], 2)
    assert (teacher.run, teacher.seed, teacher.teacher.image_branch) == ("out/teacher_2", 2, "out/images_0")
    student = comparison.settings(by_name["logits"], 2)
    assert student.distill.teacher == "out/teacher_2"
    plain = comparison.settings(by_name["labels"], 2)
    assert (plain.optimizer, plain.augment, plain.model) == (student.optimizer, student.augment, student.model)
    assert [score.held_back for score in comparison.score] == [False, False, True]


def test_overrides_of_a_run_follow_the_common_ones():
    comparison = Comparison.read(CONFIG, ["overrides=[optimizer.batch=3, seed=9]"])
    by_name = {entry.name: comparison.settings(entry, 0) for entry in comparison.runs}
    assert {settings.optimizer.batch for name, settings in by_name.items() if name != "images"} == {3}
    assert by_name["images"].optimizer.batch != 3
    assert {settings.seed for settings in by_name.values()} == {0}, "the seed of the run comes last"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"baseline": "nobody"}, "baseline is 'nobody', but must be one of"),
        ({"baseline": "images"}, "baseline is 'images', but must be one of base, teacher"),
        ({"runs": [{"name": "labels", "config": "x", "scored": False}]}, "baseline is 'labels', but must be one of"),
        ({"seeds": []}, r"seeds is \(\), but must be at least one"),
        ({"runs": [{"name": "a b", "config": "x"}]}, "name is 'a b', but must be letters, digits"),
    ],
)
def test_invalid_settings_are_reported(change, complaint, tmp_path):
    data = {**yaml.safe_load(CONFIG.read_text()), **change}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=complaint):
        Comparison.read(tmp_path / "bad.yaml")


def test_dependency_on_a_later_run_is_reported():
    data = yaml.safe_load(CONFIG.read_text())
    data["runs"].reverse()
    comparison = Comparison.from_dict(data)
    logits = next(entry for entry in comparison.runs if entry.name == "logits")
    with pytest.raises(ConfigError, match="logits builds on 'base', which is neither a run before it"):
        comparison.settings(logits, 1)


@pytest.fixture
def small(tmp_path, drives, generated):
    """A comparison of two students on a generated drive, with different learning rates."""
    tiny = [
        "model.widths=[8, 8, 8, 8, 8]",
        "model.blocks=[0, 0, 0, 0]",
        "model.head_channels=8",
        "model.width=256",
        "model.beams=Pandar64",
    ]
    tiny += ["optimizer.crop_columns=256", "optimizer.points=500", "optimizer.steps=1", "optimizer.epochs=1"]
    source = {"dataset": "world", "path": str(generated.folder), "frames": [0, 1]}
    tiny += [f"data.train=[{{dataset: world, path: '{drives.folder}', frames: [0, 1]}}]", "precision=32-true"]
    tiny += [f"data.validation=[{{dataset: world, path: '{generated.folder}', frames: [0, 1]}}]"]
    runs = [
        {"name": name, "config": str(STUDENT), "overrides": [*tiny, f"optimizer.learning_rate={rate}"]}
        for name, rate in (("plain", 0.004), ("fast", 0.008))
    ]
    data = {"run": str(tmp_path / "out"), "seeds": [0, 1], "baseline": "plain", "runs": runs}
    data["score"] = [
        {"name": "choose", "source": source},
        {"name": "lost_beams", "source": source, "corruption": "lost_beams"},
        {"name": "test", "source": source, "held_back": True},
    ]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "small.yaml"


def test_several_devices_are_rejected(small, capsys):
    """Each process would score the runs and log the evaluation on held-back sweeps."""
    data = yaml.safe_load(small.read_text())
    data["runs"][1]["overrides"].append("devices=2")
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small)]) == 1
    assert "one device at a time is used here, not 2 of 1 machines; leave devices" in capsys.readouterr().err


def test_complete_comparison_and_its_repetition(small, capsys, monkeypatch):
    assert compare.main([str(small)]) == 0
    out = small.parent / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["results"]) == {"choose", "lost_beams"}, "held-back sweeps are not scored"
    rows = metrics["results"]["choose"]
    assert set(rows) == {"plain", "fast"}
    assert len(rows["fast"]["gains"]["miou"]["values"]) == 2
    assert "| fast | 2 |" in capsys.readouterr().out
    scored = json.loads((out / "fast_0" / "scores.json").read_text())["counts"].values()
    whole, half = (np.sum(entry["all"]) for entry in scored)
    assert 0.3 < half / whole < 0.7, "points with ground truth"
    assert (out / "curves.png").stat().st_size > 5000
    assert not (out / compare.OPENINGS).exists()
    monkeypatch.setattr(compare, "train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(compare, "score_network", lambda *_: pytest.fail("scored again"))
    assert compare.main([str(small)]) == 0


def test_interrupted_comparison_is_resumed(small, capsys, monkeypatch):
    train, trained = compare.train, []

    def interrupted(settings):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(Path(settings.run).name)
        return train(settings)

    monkeypatch.setattr(compare, "train", interrupted)
    assert compare.main([str(small)]) != 0
    assert trained == ["plain_0", "plain_1"]
    monkeypatch.setattr(compare, "train", lambda settings: trained.append(Path(settings.run).name) or train(settings))
    assert compare.main([str(small)]) == 0
    assert trained == ["plain_0", "plain_1", "fast_0", "fast_1"], "no run twice"
    assert "| fast | 2 |" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": 3, "counts": {}}'])
def test_damaged_scores_are_reported_in_one_line(small, capsys, text):
    assert compare.main([str(small), "seeds=[0]"]) == 0
    scores = small.parent / "out" / "plain_0" / "scores.json"
    scores.write_text(text)
    assert compare.main([str(small), "seeds=[0]"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and str(scores) in error and "remove it" in error
    scores.unlink()
    assert compare.main([str(small), "seeds=[0]"]) == 0


@pytest.fixture
def shipped(tmp_path, generated):
    """A comparison without training: the shipped student on a bag, as it comes and without intensity."""
    runs = [{"name": "before", "model": "student"}]
    bag = {"dataset": "bag", "path": str(generated.bag)}
    score = [
        {"name": "bag", "source": bag, "label_set": "outdoor8"},
        {"name": "dark", "source": bag, "label_set": "outdoor8", "corruption": "weak_intensity", "severity": "heavy"},
        {"name": "nine", "source": {"dataset": "world", "path": str(generated.folder)}},
    ]
    data = {"run": str(tmp_path / "out"), "seeds": [0, 1], "baseline": "before", "runs": runs, "score": score}
    (tmp_path / "shipped.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "shipped.yaml"


def test_finished_networks_are_scored_on_bags_as_evaluate_does(shipped, generated, tmp_path, capsys):
    assert compare.main([str(shipped)]) == 0
    out = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["label_sets"] == {"bag": "outdoor8", "dark": "outdoor8", "nine": "pandaset9"}
    rows = {score: table["before"]["measures"] for score, table in metrics["results"].items()}
    words = ["bag", str(generated.bag), "--model", "student", "--label-set", "outdoor8", "--backend", "onnxruntime"]
    assert evaluate.main([*words, "--out", str(tmp_path / "evaluated")]) == 0
    expected = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())
    occurring = {name: iou for name, iou in expected["iou"].items() if iou is not None}
    assert {name: rows["bag"][name]["mean"] for name in occurring} == pytest.approx(occurring, abs=0.005)
    assert rows["bag"]["miou"]["mean"] == pytest.approx(expected["miou"], abs=0.005)
    assert rows["dark"]["miou"]["mean"] != rows["bag"]["miou"]["mean"], "without intensity"
    assert rows["bag"]["miou"]["values"] and len(rows["bag"]["miou"]["values"]) == 1, "a finished network has one seed"
    assert (
        "| mIoU | bag (8) | dark (8) | nine (9) |" in out
        and "seeds | mIoU (outdoor8) | gain | in a camera's view | gain | ECE" in out
    )
    assert "miou_seen" in rows["nine"] and "miou_without_vegetation" not in rows["bag"]
    assert not (tmp_path / "out" / "before_0" / "last.ckpt").exists() and not (tmp_path / "out" / "curves.png").exists()


def test_ground_truth_of_a_bag_is_scored_by_the_tables_of_its_own_set(tmp_path):
    kitti, lookup = label_map("semantickitti19"), np.full(256, IGNORE, np.uint8)
    lookup[[0, 4, 9]] = [kitti.id_of(name) for name in ("bicyclist", "parking", "fence")]
    text = message_class("std_msgs/msg/String")
    with BagWriter(tmp_path / "own.mcap") as bag:
        bag.add_topic("/points", POINT_CLOUD_TYPE)
        bag.add_topic("/label_info_json", "std_msgs/msg/String", latched=True)
        bag.write("/label_info_json", START_NS, text(label_info_json(kitti)))
        cloud, truth = sweep_and_truth(0)
        bag.write("/points", START_NS, truth_to_msg(cloud, lookup[truth], make_header(START_NS), ROSBAGS_TYPES))
    source = SourceConfig("bag", str(tmp_path / "own.mcap"))
    score = ScoreEntry("own", source, label_set="outdoor8")
    counts = np.array(compare.score_network(load_predictor(find_model("student")), score, "own")["all"])
    names = [c.name for c, count in zip(label_map("outdoor8").classes, counts.sum(axis=1), strict=True) if count]
    assert names == ["two_wheeler", "road", "manmade"]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"name": "both", "model": "student", "config": str(STUDENT)}, "config is .* given for both, or model instead"),
        ({"name": "none"}, "config is '', but must be given for none, or model instead"),
        ({"name": "seeded", "model": "student", "seeds": [3]}, "model is 'student', but must be without overrides"),
    ],
)
def test_rows_are_either_trained_or_finished(shipped, entry, complaint):
    data = yaml.safe_load(shipped.read_text())
    data["runs"].append(entry)
    with pytest.raises(ConfigError, match=complaint):
        Comparison.from_dict(data)


def test_a_run_can_start_from_a_finished_network(shipped):
    data = yaml.safe_load(shipped.read_text())
    data["runs"].append({"name": "further", "config": str(STUDENT), "overrides": ["start=$before"]})
    comparison = Comparison.from_dict(data)
    assert comparison.settings(comparison.runs[1], 1).start == str(find_model("student"))


@pytest.mark.parametrize(("model", "complaint"), [("nobody", "no model 'nobody'"), ("kitti", "must be drive13 to be")])
def test_unusable_finished_networks_are_reported_before_training(shipped, small, capsys, monkeypatch, model, complaint):
    monkeypatch.setattr(compare, "train", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(compare, "load_predictor", lambda _: FOREIGN)
    data = yaml.safe_load(small.read_text())
    data["runs"].append({"name": "before", "model": "student" if model == "kitti" else model})
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small)]) == 1
    assert complaint in capsys.readouterr().err


def test_evaluations_on_held_back_sweeps_are_logged(small, pandaset):
    data = yaml.safe_load(small.read_text())
    data["score"][-1]["source"] = {"dataset": "pandaset", "path": str(pandaset), "frames": [58, 59]}
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0, "already scored, not evaluated again"
    lines = [json.loads(line) for line in (small.parent / "out" / compare.OPENINGS).read_text().splitlines()]
    assert [line["model"] for line in lines] == ["plain_0", "fast_0"]
    assert all(len(line["sha256"]) == 64 and 0 <= line["miou"] <= 1 for line in lines)


def test_paths_stand_for_what_is_not_in_the_repository():
    words = ["paths.network=my net", "paths.drives=/d"]
    comparison = Comparison.read(find_config("comparison/image_network.yaml"), words)
    by_name = {entry.name: entry for entry in comparison.runs if not entry.model}
    settings = comparison.settings(by_name["labelled_and_drives"], 1)
    assert settings.distill.image_network == "my net"
    assert [source.path for source in settings.data.train[-2:]] == ["/d/kitti_hdl64.mcap", "/d/astyx_vlp16.mcap"]
    paths = {score.name: score.source.path for score in comparison.scores(opened=True)}
    assert paths["kitti"] == "/d/labelled_kitti.mcap" and "far" in paths
    assert "far" not in {score.name for score in comparison.scores(opened=False)}
