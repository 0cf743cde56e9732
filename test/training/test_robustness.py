import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("embreex", reason="generating drives needs the extra datasets")
pytest.importorskip("onnx")

from training import robustness
from training.config.data import SourceConfig
from training.data.sources import load_source
from training.experiments.robustness_metrics import _CachingBackend, _inputs, reference_pipeline
from training.experiments.robustness_report import corrupted_ece, mean_corrupted, mean_resilience, relative, resilience
from training.world import __main__ as world
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.resources import find_config, label_map, translation
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

KINDS = ("lost_beams", "crosstalk", "missing_echoes")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A coarse validation drive: two sweeps, and a camera in front."""
    folder = tmp_path_factory.mktemp("world") / "drive"
    words = ["--seed", "8", "--sweeps", "2", "--cameras", "1", "--columns", "120", "--lidar", "VLP-32C"]
    assert world.main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def models(height_model, light_model, tmp_path_factory):
    """A student whose temperature is 2, and a teacher."""
    student = tmp_path_factory.mktemp("models") / "warm"
    shutil.copytree(height_model, student)
    replace(ModelSpec.read(student), temperature=2.0).write(student)
    return student, light_model


@pytest.fixture(scope="module")
def command(drive, models):
    """Runs the command on the drive, with additional arguments and other models or corruptions."""

    def call(out, *words, only=models, kinds=KINDS):
        source = f"{{dataset: world, path: '{drive}'}}"
        sources = f"[{{name: nine, source: {source}}}]"
        options = ["--models", *map(str, only), "--corruptions", *kinds, "--out", str(out)]
        return robustness.main([f"sources={sources}", *words, *options])

    return call


@pytest.fixture(scope="module")
def measured(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert command(out) == 0
    return out


@pytest.fixture
def metrics(measured):
    return json.loads((measured / "metrics.json").read_text())


def test_clean_scores_are_those_of_the_pipeline(metrics, drive, models):
    source = load_source(SourceConfig("world", str(drive)), "validation")
    pipeline, nine = SegmentationPipeline.load(models[0], "onnxruntime"), label_map("pandaset9")
    confusion, calibration, lookup, each = (
        ConfusionMatrix(nine),
        CalibrationError(),
        translation(pipeline.labels, nine),
        [],
    )
    for sweep in source.sweeps:
        labels, of_sweep = pipeline.segment(sweep.cloud).segmentation, CalibrationError()
        confusion.update(lookup.apply(sweep.labels), lookup.apply(labels.label))
        for error in (calibration, of_sweep):
            error.update(sweep.labels, labels.label, labels.probability)
        each.append(of_sweep.value())
    clean = metrics["sources"]["nine"]["models"]["warm"]["clean"]
    assert clean["miou"] == pytest.approx(confusion.miou())
    assert clean["points"] == confusion.counts.sum()
    assert clean["ece"]["tempered"]["pooled"] == pytest.approx(calibration.value())
    assert clean["ece"]["tempered"]["mean_over_sweeps"] == pytest.approx(np.mean(each))
    np.testing.assert_allclose(clean["ece"]["tempered"]["bins"], calibration.bins)
    count, confidence, correct = np.sum(clean["ece"]["plain"]["bins"], axis=1)
    expected = calibration.bins.sum(axis=1)
    assert count == expected[0] and correct == expected[2], "the temperature does not change the classes"
    assert confidence > expected[1], "T = 1 is more confident than T = 2"


def test_corrupted_sweeps_are_scored_on_their_remaining_points(metrics):
    assert metrics["corruptions"].keys() == set(KINDS)
    models = metrics["sources"]["nine"]["models"]
    for model in models.values():
        clean = model["clean"]["points"]
        remaining = {kind: [one["points"] / clean for one in model["corrupted"][kind]] for kind in KINDS}
        assert remaining["lost_beams"] == pytest.approx([0.75, 0.5, 0.25], abs=0.2)
        assert remaining["crosstalk"] == pytest.approx([0.99, 0.97, 0.94], abs=0.01)
        assert 1 > remaining["missing_echoes"][0] > remaining["missing_echoes"][2] > 0.5
    assert models["warm"]["clean"]["miou"] != models["light"]["clean"]["miou"], "the teacher uses its images"


def test_report_has_tables_and_plots(measured, metrics):
    text = (measured / "robustness.md").read_text()
    result = metrics["sources"]["nine"]["models"]["warm"]
    for line in (
        "2 sweeps, pandaset9",
        f"| clean | {100 * result['clean']['miou']:.1f} |",
        "| lost_beams (0.25, 0.5, 0.75) | ",
        "| warm | 2.000 | ",
    ):
        assert text.count(line) >= 1, line
    for name in ("relative_nine", "reliability_nine"):
        assert f"({name}.png)" in text and (measured / f"{name}.png").stat().st_size > 5000


def test_earlier_results_are_kept_when_models_are_added(measured, command, models, height_model, monkeypatch):
    measured_models = []

    def measure(pipeline, *arguments):
        measured_models.append(pipeline.spec.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(robustness, "measure", measure)
    monkeypatch.setattr(robustness, "write_robustness", lambda *_: None)
    assert command(measured) == 0 and not measured_models
    assert command(measured, only=(*models, height_model)) == 130 and measured_models == ["height"]
    kept = json.loads((measured / "metrics.json").read_text())
    assert list(kept["sources"]["nine"]["models"]) == ["warm", "light"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--every", "2"), "metrics.json is of other corruptions, sweeps, or --every; choose another folder"),
        (("sources.0.label_set=drive13",), "is of other corruptions, sweeps, or --every"),
        (("sources.0.source.seeds=[0, 9]",), "seeds is (0, 9), but must be empty with a path"),
        (("sources.0.name=a b",), "name is 'a b', but must be letters, digits and underscores"),
        (("sources=[]",), "sources is [], but must be at least one, all with different names"),
        (("--sources", "far"), "--sources is 'far', but must be one of nine"),
        (("--config", "nowhere.yaml"), "cannot read nowhere.yaml"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(measured, command, words, complaint, capsys):
    assert command(measured, *words) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_unknown_corruptions_and_other_folders_are_rejected(command, tmp_path, capsys):
    assert command(tmp_path, kinds=("snow",)) == 1
    assert "--corruptions is 'snow', but must be one of lost_beams, crosstalk" in capsys.readouterr().err
    (tmp_path / "metrics.json").write_text('{"miou": 1}')
    assert command(tmp_path) == 1
    assert "choose another folder" in capsys.readouterr().err


def test_image_features_are_sampled_at_the_corrupted_positions(drive):
    source = load_source(SourceConfig("world", str(drive)), "validation", images=True)
    (_, clean, seen), (_, blurred, moved) = _inputs(source, [1], [("", 0), ("motion_blur", 2)])
    np.testing.assert_array_equal(seen.views.uv, source.encoded_images[1].views.uv)
    assert seen.pixels is moved.pixels, "decoded once"
    both = (seen.views.camera[:, 0] == 0) & (moved.views.camera[:, 0] == 0)
    assert both.sum() > 100
    near = np.linalg.norm(clean.cloud.xyz[both], axis=1) < 15
    off = np.abs(seen.views.uv[both, 0] - moved.views.uv[both, 0]).max(axis=1)
    assert off[near].min() > 0 and off[near].mean() > off[~near].mean()
    assert (blurred.labels == clean.labels).all()


def test_image_features_of_repeated_images_are_cached(light_model):
    branch = reference_pipeline(light_model)._image_features._backend
    assert isinstance(branch, _CachingBackend)
    runs, infer = [], branch._backend.infer
    branch._backend.infer = lambda inputs: runs.append(1) or infer(inputs)
    rng = np.random.default_rng(0)
    pictures = [{"picture": rng.random(branch.inputs[0].shape, np.float32)} for _ in range(4)]
    first = [branch.infer(picture)["features"] for picture in pictures[:3]]
    again = [branch.infer(picture)["features"] for picture in pictures[:3]]
    assert len(runs) == 3 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    branch.infer(pictures[3])
    branch.infer(pictures[0])
    assert len(runs) == 5, "the cache has one entry for each camera of a sweep"


def test_shipped_settings_use_no_held_back_sweeps():
    config = robustness.RobustnessConfig.read(find_config("robustness.yaml"))
    assert [entry.name for entry in config.sources] == ["near", "choose", "world"]
    for entry in config.sources:
        assert entry.source.dataset == "world" or entry.source.frames[1] <= 61, "far is held back"


def test_the_share_kept_without_intensity_is_one_command(command, tmp_path, models, capsys):
    assert command(tmp_path, only=models[:1], kinds=("weak_intensity",)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nine, warm")]
    assert line.endswith("; without intensity 100.0 % of the clean mIoU"), "the height model does not use it"


def counted(car, road, ece=0.1):
    ious = {"car": car, "road": road}
    there = [value for value in ious.values() if value is not None]
    return {"miou": sum(there) / len(there), "iou": ious, "ece": {"plain": {"pooled": ece}}}


def test_resilience_matches_a_calculation_by_hand():
    """At the highest severity no car remains in the ground truth, so only the road is compared."""
    lost = [counted(0.4, 0.8, 0.1), counted(0.2, 0.6, 0.2), counted(None, 0.4, 0.3)]
    noisy = [counted(0.6, 0.8, 0.1)] * 3
    result = {"clean": counted(0.6, 0.8), "corrupted": {"lost_beams": lost, "range_noise": noisy}}
    assert relative(lost[0], result["clean"]) == pytest.approx(0.6 / 0.7)
    assert relative(lost[2], result["clean"]) == pytest.approx(0.5)
    by_hand = (0.6 / 0.7 + 0.4 / 0.7 + 0.5) / 3
    assert resilience(result) == {"lost_beams": pytest.approx(by_hand), "range_noise": pytest.approx(1.0)}
    assert mean_resilience(result) == pytest.approx((by_hand + 1) / 2)
    assert mean_corrupted(result) == pytest.approx((0.6 + 0.4 + 0.4 + 3 * 0.7) / 6)
    assert corrupted_ece(result, "plain", "pooled") == pytest.approx((0.1 + 0.2 + 0.3 + 3 * 0.1) / 6)
