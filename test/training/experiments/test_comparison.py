import json
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from training import compare  # noqa: E402
from training.config.image_training import ImageTrainingConfig  # noqa: E402
from training.experiments.comparison_config import Comparison  # noqa: E402
from training.experiments.comparison_report import results, summary, tables  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402

CONFIG = Path(__file__).parents[3] / "config" / "comparison" / "pandaset.yaml"
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
    with pytest.raises(ConfigError, match="logits builds on 'base', but no such run of seed 1 comes before it"):
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


def test_evaluations_on_held_back_sweeps_are_logged(small, pandaset):
    data = yaml.safe_load(small.read_text())
    data["score"][-1]["source"] = {"dataset": "pandaset", "path": str(pandaset), "frames": [58, 59]}
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0, "already scored, not evaluated again"
    lines = [json.loads(line) for line in (small.parent / "out" / compare.OPENINGS).read_text().splitlines()]
    assert [line["model"] for line in lines] == ["plain_0", "fast_0"]
    assert all(len(line["sha256"]) == 64 and 0 <= line["miou"] <= 1 for line in lines)
