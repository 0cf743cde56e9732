"""Adaptation of a student to a drive without labels."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from test.training.image_network.networks import ORIGIN, write_network  # noqa: E402
from test.training.speed import without_reduced_precision  # noqa: E402
from training import adapt  # noqa: E402
from training.config.data import SourceConfig  # noqa: E402
from training.data.sources import few_sweeps  # noqa: E402
from training.datasets.bag import BagSequence  # noqa: E402
from training.datasets.bag_export import write_bag  # noqa: E402
from training.datasets.pandaset import PandaSetSequence  # noqa: E402
from training.experiments.adaptation import AdaptConfig  # noqa: E402
from training.experiments.verdict import verdict  # noqa: E402
from training.models.image_encoder import PRETRAINED  # noqa: E402
from training.modules import checkpoint  # noqa: E402
from training.modules.checkpoint import CHECKPOINT, read_checkpoint  # noqa: E402
from training.world.sequence import WORLD_SOURCE  # noqa: E402
from xmodelkd_ros.core.model_spec import ModelSpec  # noqa: E402
from xmodelkd_ros.resources import find_model  # noqa: E402


@pytest.fixture(scope="module")
def settings(generated, drives, tmp_path_factory):
    """The shipped settings with small drives and few steps."""
    data = yaml.safe_load(adapt.DEFAULTS.read_text())
    data["remember"] = [{"dataset": "world", "path": str(drives.folder)}]
    data["check"] = [{"dataset": "world", "path": str(generated.folder)}]
    data["optimizer"] |= {"epochs": 1, "steps": 2, "crop_columns": 256, "points": 500}
    path = tmp_path_factory.mktemp("settings") / "adapt.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def bag(pandaset, tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "drive.mcap"
    write_bag(PandaSetSequence(pandaset), range(40, 50), path)
    return path


def options(*settings):
    """Settings as options; other words as they are."""
    return [word for one in settings for word in (["--set", one] if "=" in one else [one])]


@pytest.fixture(scope="module")
def command(student, bag, teacher, settings):
    def words(out, *more):
        fixed = [str(student), str(bag), "--teacher", str(teacher), "--config", str(settings), "--out", str(out)]
        return [*fixed, *options("most_sweeps=4", *more)]

    return words


@pytest.fixture(scope="module")
def opened():
    """Counts of the checkpoints read and of the bags opened and closed by the run of ``adapted``."""
    return {"checkpoints": Counter(), "opened": Counter(), "closed": Counter()}


@pytest.fixture(scope="module")
def adapted(command, opened, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapted")
    load, init, close = checkpoint._loaded, BagSequence.__init__, BagSequence.close

    def counted_load(run):
        opened["checkpoints"][Path(run)] += 1
        return load(run)

    def counted_init(self, path, *arguments):
        opened["opened"][Path(path)] += 1
        init(self, path, *arguments)

    def counted_close(self):
        opened["closed"][self.path] += 1
        close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_loaded", counted_load)
        patch.setattr(BagSequence, "__init__", counted_init)
        patch.setattr(BagSequence, "close", counted_close)
        assert adapt.main(command(out)) == 0
    return out


def test_reads_each_checkpoint_once_and_closes_the_bag(adapted, opened, student, teacher, bag):
    # The student once more, for the share of its weights that is kept.
    assert opened["checkpoints"] == {student: 2, teacher: 1, adapted / "run": 1}
    assert opened["opened"] == opened["closed"] == {bag: 1}


def test_reports_agreement_truth_and_check_drives(adapted):
    metrics = json.loads((adapted / adapt.METRICS).read_text())
    assert metrics["drive"]["learnt"] == "bag drive.mcap, frames 0:8, one in 2"
    assert metrics["drive"]["held_out"] == "bag drive.mcap, frames 8:10, one in 2"
    assert metrics["drive"]["sweeps"] == 1, "every second one, as in training"
    for who in ("before", "after"):
        agreement = metrics["agreement"]["teacher"][who]
        assert 0 <= agreement["seen"]["equal"] <= 1
        assert agreement["seen"]["points"] < agreement["all"]["points"]
    assert metrics["agreement"]["images"] is None
    assert metrics["verdict"].split(" (")[0] in ("better", "same", "worse")
    assert "mIoU against the ground truth" in metrics["verdict"]
    assert set(metrics["truth"]) == {"before", "after", "teacher"}
    assert [set(old) for old in metrics["old"]] == [{"data", "before", "after"}]
    assert metrics["warnings"] == [], "PandaSet is like the training data"
    report = (adapted / adapt.REPORT).read_text()
    assert 'src="change_0.png"' in report and (adapted / "change_0.png").stat().st_size > 10_000
    assert 'src="images_0.jpg"' in report and (adapted / "images_0.jpg").stat().st_size > 10_000


def test_warns_of_a_drive_in_the_frame_of_the_vehicle_before_training(pandaset, tmp_path, capsys):
    write_bag(SequenceOnTheGround(pandaset), range(40, 44), tmp_path / "drive.mcap")
    part = SourceConfig(dataset="bag", path=str(tmp_path / "drive.mcap"), frames=(0, 2), labels="none")
    held_out = few_sweeps(replace(part, frames=(2, 4)), 2, images=False)
    capsys.readouterr()
    warnings = adapt._input_warnings(find_model("student"), [part], [held_out])
    assert "as in the vehicle's frame" in warnings[0]
    assert capsys.readouterr().err.endswith("".join(f"warning: {warning}\n" for warning in warnings))


class SequenceOnTheGround(PandaSetSequence):
    """A drive whose points are in a frame on the ground."""

    def cloud(self, index):
        cloud = super().cloud(index)
        return replace(cloud, xyz=cloud.xyz + np.array([0, 0, 2.1], np.float32))


def test_adapted_model_can_be_adapted_again(adapted, command, tmp_path, monkeypatch):
    without_reduced_precision(monkeypatch)
    spec = ModelSpec.read(adapted / adapt.MODEL)
    assert spec.name == "pandaset_distilled_adapted"
    # The bag says that its data are of PandaSet.
    assert {source.name for source in spec.training_data} == {"PandaSet", WORLD_SOURCE.name, PRETRAINED.name}
    page = (adapted / "report.html").read_text(encoding="utf-8")
    assert "Data: drive.mcap (PandaSet by Scale AI and Hesai, " in page and "Model: adapted model, trained on " in page
    again = command(tmp_path)
    calibrated = tmp_path / "calibrated"
    shutil.copytree(adapted / adapt.MODEL, calibrated)
    replace(spec, temperature=1.25).write(calibrated)
    again[0] = str(calibrated)
    assert adapt.main(again) == 0
    kept = ModelSpec.read(Path(again[again.index("--out") + 1]) / adapt.MODEL)
    assert kept.temperature == 1.25, "the temperature of a calibrated model is kept"
    assert (adapted / adapt.MODEL / CHECKPOINT).stat().st_size < (adapted / "run" / CHECKPOINT).stat().st_size / 4


def test_a_student_can_be_the_teacher_without_images(student, command, tmp_path, capsys, monkeypatch):
    without_reduced_precision(monkeypatch)
    words = command(tmp_path, "drives.0.frames=[0, 10]")
    words[words.index("--teacher") + 1] = str(student)
    assert adapt.main(words) == 0
    assert "agreement with the teacher" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["drives.0.frames=[0, 6]"], "has 6 sweeps; record at least 10"),
        (["drives.0.frames=[0, 60]"], "frames is (0, 60), but must be within the 10 of bag drive.mcap"),
        (["drives.0.topic=/other"], "has no PointCloud2 messages on '/other'; it has /points"),
        (["--sensor", "VLP-17"], "no sensor 'VLP-17'"),
        (["held_out=1.0"], "held_out is 1.0, but must be below 1"),
        (["drives.0.path=/nowhere.mcap"], "bag /nowhere.mcap does not exist"),
        (["model=/nowhere"], "/nowhere holds no last.ckpt"),
        (["distill.teacher=/nowhere"], "/nowhere holds no last.ckpt"),
        (["distill.teacher=teacher"], f"teacher holds no last.ckpt: name a run, such as {find_model('teacher')}, or"),
        (["distill.teacher=self"], "distill.teacher is 'self', but must be a model or run"),
    ],
)
def test_invalid_settings_are_one_line_before_training(changes, complaint, command, tmp_path, capsys):
    assert adapt.main(command(tmp_path, *changes)) == 1
    error = capsys.readouterr().err.strip()
    assert complaint in error and error.count("\n") == 0


def test_a_teacher_is_not_adapted(teacher, command, tmp_path, capsys):
    _, *others = command(tmp_path)
    assert adapt.main([str(teacher), *others]) == 1
    error = capsys.readouterr().err
    assert error == f"error: {teacher} is a camera teacher, but adapt trains a student: give MODEL student\n"


def test_split_of_a_drive(pandaset, settings):
    drive = f"dataset: pandaset, path: {pandaset}"
    words = [f"drives=[{{{drive}, frames: [10, 60]}}, {{{drive}, frames: [0, 10]}}]", "most_sweeps=12"]
    (part, held_out), (other, _) = AdaptConfig.read(settings, words).split()
    assert (part.frames, part.every) == ((10, 50), 4)
    assert (held_out.frames, held_out.every) == ((50, 60), 4)
    assert (other.frames, other.every) == ((0, 8), 4), "the limit is one of all drives together"


def test_options_replace_settings_and_overrides_replace_options(settings):
    given = {"model": "student", "drives": [{"dataset": "bag", "path": "other", "frames": (3, 40)}]}
    config = AdaptConfig.read(settings, ["drives.0.path=last"], given)
    assert (config.model, config.drives[0].path, config.drives[0].frames) == ("student", "last", (3, 40))


def test_settings_of_earlier_releases_are_read(settings, tmp_path, capsys):
    data = yaml.safe_load(settings.read_text())
    data["drive"] = data.pop("drives")[0]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(data))
    config = AdaptConfig.read(tmp_path / "old.yaml", ["drive.path=last"])
    assert [drive.path for drive in config.drives] == ["last"]
    said = capsys.readouterr().err
    assert "drive is now the list drives" in said and "drive.path is now named drives.0.path" in said


def test_settings_among_the_bags_are_read_with_a_note(command, tmp_path, capsys):
    words = command(tmp_path, "drives.0.frames=[0, 6]")
    words.remove("--set")
    place = words.index("most_sweeps=4")
    words[2:2] = [words.pop(place)]
    assert adapt.main(words) == 1
    error = capsys.readouterr().err
    assert "most_sweeps=4: give it as --set most_sweeps=4; this form goes with the next release" in error
    assert "has 6 sweeps; record at least 10" in error


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_network(tmp_path / "network")


def test_image_network_teaches_by_itself_on_several_bags(command, network, pandaset, tmp_path):
    """The second bag has other frames, and no images in its first sweeps."""
    other = tmp_path / "other.mcap"
    write_bag(PandaSetSequence(pandaset), range(50, 60), other)
    words = command(tmp_path / "out", "--images-by", str(network))
    words[2:2] = [str(other)]
    words[words.index("--teacher") + 1] = "none"
    assert adapt.main(words) == 0
    metrics = json.loads((tmp_path / "out" / adapt.METRICS).read_text())
    assert metrics["agreement"]["teacher"] is None and set(metrics["truth"]) == {"before", "after"}
    assert 0 <= metrics["agreement"]["images"]["before"] <= 1
    assert metrics["drive"]["learnt"].count("bag ") == 2 and metrics["drive"]["sweeps"] == 2
    assert {source.name for source in ModelSpec.read(tmp_path / "out" / adapt.MODEL).training_data} >= {ORIGIN["name"]}
    assert "By rows: before, after, image network." in (tmp_path / "out" / adapt.REPORT).read_text()


def test_labels_by_hand_are_learnt_where_there_are_some(command, tmp_path):
    assert adapt.main(command(tmp_path, "--use-labels")) == 0
    trained = read_checkpoint(tmp_path / "run").config
    assert trained.data.train[-1].labels == "own" and trained.distill.on_labelled


def test_teacher_none_needs_an_image_network(command, tmp_path, capsys):
    words = command(tmp_path)
    words[words.index("--teacher") + 1] = "none"
    assert adapt.main(words) == 1
    assert "--teacher none needs --images-by NETWORK" in capsys.readouterr().err


def scores(miou):
    return {"all": {"miou": miou}}


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({"truth": {"before": scores(0.4), "after": scores(0.45)}}, "better", "mIoU against the ground truth +5.0"),
        ({"truth": {"before": scores(0.4), "after": scores(0.405)}}, "same", "+0.5 points"),
        ({"truth": {"before": scores(0.4), "after": scores(0.3)}}, "worse", "-10.0 points"),
        ({"images": {"before": 0.6, "after": 0.8}}, "better", "agreement with the images +20.0 points"),
        (
            {"images": {"before": 0.6, "after": 0.8}, "over_time": {"before": 0.9, "after": 0.8}},
            "worse",
            "over time -10",
        ),
        ({"images": {"before": 0.6, "after": 0.8}, "old": [(0.5, 0.4)]}, "worse", "earlier drives -10.0"),
        ({}, "same", "no evidence"),
    ],
)
def test_verdict_needs_evidence_other_than_the_lidar(changes, word, said):
    old = [{"before": scores(b), "after": scores(a)} for b, a in changes.get("old", [(0.5, 0.5)])]
    metrics = {"truth": changes.get("truth"), "over_time": changes.get("over_time"), "old": old}
    line = verdict({**metrics, "agreement": {"teacher": None, "images": changes.get("images")}})
    assert line.startswith(f"{word} (") and said in line
