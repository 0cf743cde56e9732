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


def test_intervals_are_students():
    """Three values 1, 2, 3: sd 1, and t(0.975, 2) = 4.3027 times 1 / sqrt(3)."""
    found = summary([1.0, 2.0, 3.0])
    assert (found["mean"], found["sd"]) == (2.0, 1.0)
    assert found["interval"] == pytest.approx(2.4841, abs=1e-4)
    assert summary([0.5]) == {"mean": 0.5, "sd": None, "interval": None, "values": [0.5]}


def counts(right, wrong):
    """Of road and vegetation alone: points that are right, and points that are taken for the other."""
    matrix = np.zeros((9, 10), int)
    matrix[3, 3], matrix[3, 6], matrix[6, 6], matrix[6, 3] = right, wrong, right, wrong
    return matrix.tolist()


@pytest.fixture
def found():
    """Two rows; the second has a seed more, which the paired gain leaves out."""

    def of(right, wrong):
        return {"far": {"all": counts(right, wrong), "seen": counts(right, 0), "ece": 0.05}}

    return {"plain": {0: of(50, 50), 1: of(60, 40)}, "distilled": {0: of(80, 20), 1: of(70, 30), 2: of(1, 99)}}


def test_gains_are_paired_by_seed(found):
    rows = results(found, ["far"], "plain")["far"]
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


def test_the_table_has_a_row_for_each(found):
    text = tables(results(found, ["far"], "plain"))
    assert text.startswith("**far**")
    head, _, plain, distilled = (line for line in text.splitlines() if line.startswith("|"))
    assert head.endswith("| road | vegetation |")
    assert plain.startswith("| plain | 2 | 38.1 ± 6.7 | +0.0 (+0.0 to +0.0) |")
    assert distilled.startswith("| distilled | 3 | ")


@pytest.mark.parametrize("file", sorted(CONFIG.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_comparison_that_is_shipped_can_be_read(file):
    comparison = Comparison.read(file)
    for entry in comparison.runs:
        for seed in comparison.seeds_of(entry):
            assert comparison.settings(entry, seed).run == str(comparison.folder(entry, seed))


def test_runs_find_those_of_their_seed_that_they_build_on():
    comparison = Comparison.read(CONFIG, ["run=there"])
    by_name = {entry.name: entry for entry in comparison.runs}
    images = comparison.settings(by_name["images"], 2)
    assert isinstance(images, ImageTrainingConfig) and images.run == "there/images_0", "one serves all seeds"
    teacher = comparison.settings(by_name["teacher"], 2)
    assert (teacher.run, teacher.seed, teacher.teacher.image_branch) == ("there/teacher_2", 2, "there/images_0")
    student = comparison.settings(by_name["logits"], 2)
    assert student.distill.teacher == "there/teacher_2"
    plain = comparison.settings(by_name["labels"], 2)
    assert (plain.optimizer, plain.augment, plain.model) == (student.optimizer, student.augment, student.model)
    assert [score.held_back for score in comparison.score] == [False, False, True]


def test_what_all_runs_share_comes_before_what_one_says():
    comparison = Comparison.read(CONFIG, ["overrides=[optimizer.batch=3, seed=9]"])
    by_name = {entry.name: comparison.settings(entry, 0) for entry in comparison.runs}
    assert {settings.optimizer.batch for name, settings in by_name.items() if name != "images"} == {3}
    assert by_name["images"].optimizer.batch != 3
    assert {settings.seed for settings in by_name.values()} == {0}, "its own word is the last"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"baseline": "nobody"}, "baseline is 'nobody', but must be one of"),
        ({"seeds": []}, r"seeds is \(\), but must be at least one"),
        ({"runs": [{"name": "a b", "config": "x"}]}, "name is 'a b', but must be letters, digits"),
    ],
)
def test_mistakes_are_said(change, complaint, tmp_path):
    data = {**yaml.safe_load(CONFIG.read_text()), **change}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=complaint):
        Comparison.read(tmp_path / "bad.yaml")


def test_a_run_that_builds_on_a_later_one_is_said():
    data = yaml.safe_load(CONFIG.read_text())
    data["runs"].reverse()
    comparison = Comparison.from_dict(data)
    logits = next(entry for entry in comparison.runs if entry.name == "logits")
    with pytest.raises(ConfigError, match="logits builds on 'base', but no such run of seed 1 comes before it"):
        comparison.settings(logits, 1)


@pytest.fixture
def small(tmp_path, drives, generated):
    """Two students of one generated drive, one of them with twice the rate."""
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


def test_several_devices_are_refused(small, capsys):
    """Each of their processes would score, and write down that held-back sweeps were opened."""
    data = yaml.safe_load(small.read_text())
    data["runs"][1]["overrides"].append("devices=2")
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small)]) == 1
    assert "one device at a time is used here, not 2 of 1 machines; leave devices" in capsys.readouterr().err


def test_a_comparison_from_beginning_to_end_and_again(small, capsys, monkeypatch):
    assert compare.main([str(small)]) == 0
    out = small.parent / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["results"]) == {"choose", "lost_beams"}, "held-back sweeps stay closed"
    rows = metrics["results"]["choose"]
    assert set(rows) == {"plain", "fast"}
    assert len(rows["fast"]["gains"]["miou"]["values"]) == 2
    assert "| fast | 2 |" in capsys.readouterr().out
    known = json.loads((out / "fast_0" / "scores.json").read_text())["counts"].values()
    whole, half = (np.sum(scored["all"]) for scored in known)
    assert 0.3 < half / whole < 0.7, "points with truth"
    assert (out / "curves.png").stat().st_size > 5000
    assert not (out / compare.OPENINGS).exists()
    monkeypatch.setattr(compare, "train", lambda *_: pytest.fail("it is trained already"))
    monkeypatch.setattr(compare, "score_network", lambda *_: pytest.fail("it is scored already"))
    assert compare.main([str(small)]) == 0


def test_an_interrupted_comparison_goes_on_where_it_stopped(small, capsys, monkeypatch):
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
    assert trained == ["plain_0", "plain_1", "fast_0", "fast_1"], "none twice"
    assert "| fast | 2 |" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": 3, "counts": {}}'])
def test_scores_that_cannot_be_read_are_one_line(small, capsys, text):
    assert compare.main([str(small), "seeds=[0]"]) == 0
    scores = small.parent / "out" / "plain_0" / "scores.json"
    scores.write_text(text)
    assert compare.main([str(small), "seeds=[0]"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and str(scores) in error and "remove it" in error
    scores.unlink()
    assert compare.main([str(small), "seeds=[0]"]) == 0


def test_openings_are_written_down(small, pandaset):
    data = yaml.safe_load(small.read_text())
    data["score"][-1]["source"] = {"dataset": "pandaset", "path": str(pandaset), "frames": [58, 59]}
    small.write_text(yaml.safe_dump(data))
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0
    assert compare.main([str(small), "--open", "seeds=[0]"]) == 0, "scored already, not opened again"
    lines = [json.loads(line) for line in (small.parent / "out" / compare.OPENINGS).read_text().splitlines()]
    assert [line["model"] for line in lines] == ["plain_0", "fast_0"]
    assert all(len(line["sha256"]) == 64 and 0 <= line["miou"] <= 1 for line in lines)
