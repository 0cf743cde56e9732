"""Training, export and evaluation of a short run on real and generated sweeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from test.example_drive import scaled_drive  # noqa: E402
from test.training.speed import without_reduced_precision  # noqa: E402
from training import evaluate, export, precisions, statistics, train  # noqa: E402
from training.config.data import SourceConfig  # noqa: E402
from training.config.training import TrainingConfig  # noqa: E402
from training.data.sources import load_source  # noqa: E402
from training.datasets.pandaset import PandaSetSequence  # noqa: E402
from training.deploy import model_folder  # noqa: E402
from training.modules import point_modules as modules  # noqa: E402
from training.modules.checkpoint import CHECKPOINT  # noqa: E402
from training.predict.predictor import load_predictor  # noqa: E402
from training.runs import sweep_data  # noqa: E402
from training.runs.trainer import resolved  # noqa: E402
from training.world.sequence import WORLD_SOURCE  # noqa: E402
from training.world.stored import stored_drives  # noqa: E402
from training.worldgen import WORLD_VERSION  # noqa: E402
from training.worldgen.sensing.products import VLP32C  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError, ModelError  # noqa: E402
from xmodelkd_ros.core.metrics import ConfusionMatrix  # noqa: E402
from xmodelkd_ros.core.model_spec import ModelSpec, sha256  # noqa: E402
from xmodelkd_ros.core.projection import RangeProjector  # noqa: E402
from xmodelkd_ros.core.sensor import SensorSpec  # noqa: E402
from xmodelkd_ros.inference.backend import load_networks  # noqa: E402
from xmodelkd_ros.resources import label_map, translation  # noqa: E402
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline  # noqa: E402

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "training" / "pandaset_student.yaml"


@pytest.fixture(scope="module")
def tiny_config(pandaset, drives, generated, tiny):
    """Makes the settings of a short run with twice as many generated sweeps as real ones."""
    real, world = f"dataset: pandaset, path: '{pandaset}'", f"dataset: world, path: '{drives.folder}'"
    train = f"[{{{real}, frames: [0, 2]}}, {{{world}, frames: [0, 1], share: 2}}]"
    validation = f"[{{{real}, frames: [58, 59]}}, {{dataset: world, path: '{generated.folder}'}}]"

    def make(run, *overrides):
        words = [*tiny, f"data.train={train}", f"data.validation={validation}", f"run={run}", *overrides]
        return TrainingConfig.read(SHIPPED, words)

    return make


def checkpoint(run):
    return torch.load(run / CHECKPOINT, weights_only=True)


@pytest.fixture(scope="module")
def reads():
    """The use of each source that was loaded during the run."""
    return []


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory, reads):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sweep_data, "load_source", lambda source, use, *_, **__: reads.append(use) or load_source(source, use)
        )
        return train.train(tiny_config(folder))


@pytest.fixture(scope="module")
def model(run):
    export.export(run, run.parent / "model")
    return run.parent / "model"


def test_run_has_checkpoint_and_settings(run, tiny_config):
    saved = checkpoint(run)
    assert saved["global_step"] == 4
    assert TrainingConfig.read(run / "config.yaml") == replace(tiny_config(run), devices=1), "the resolved settings"
    assert all(torch.isfinite(v).all() for v in saved["state_dict"].values())


def test_each_validation_source_is_scored_by_itself(run):
    (log,) = (run / "tensorboard").glob("events.out.tfevents.*")
    events = EventAccumulator(str(log)).Reload()
    scored = [tag for tag in events.Tags()["scalars"] if tag.endswith("/miou")]
    assert sorted(scored) == ["val0_pandaset/miou", "val1_world/miou"]
    assert all(len(events.Scalars(tag)) == 2 for tag in scored), "after each epoch"


def test_sweeps_are_loaded_once(run, reads):
    assert sorted(reads) == ["train"] * 2 + ["validation"] * 2


@pytest.mark.parametrize(
    ("gpu", "capabilities", "precision"),
    [
        (None, {"avx512_bf16": True}, "bf16-mixed"),
        (None, {"bf16": True}, "bf16-mixed"),
        (None, {"avx2": True}, "32-true"),
        (True, {}, "bf16-mixed"),
        (False, {"avx512_bf16": True}, "32-true"),
    ],
)
def test_auto_precision_depends_on_the_hardware(monkeypatch, tiny_config, tmp_path, gpu, capabilities, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolved(tiny_config(tmp_path, "precision=auto")).precision == precision
    assert resolved(tiny_config(tmp_path, "precision=bf16-mixed")).precision == "bf16-mixed", (
        "explicit settings are kept"
    )


def test_resumed_run_keeps_its_precision(run, tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert resolved(tiny_config(run, "precision=auto")).precision == "32-true"


class InterruptionError(Exception):
    pass


def interrupt(config):
    """Train for an epoch of two steps and one more step."""
    step = modules.StudentModule.training_step

    def stop(self, batch, batch_index):
        if self.trainer.global_step == 3:
            raise InterruptionError
        return step(self, batch, batch_index)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptionError):
        patch.setattr(modules.StudentModule, "training_step", stop)
        train.train(config)


def test_resumed_run_ends_with_the_same_weights(run, tiny_config, tmp_path):
    # The crops do not depend on the number of workers.
    config = tiny_config(tmp_path / "resumed", "optimizer.workers=1")
    interrupt(config)
    assert checkpoint(tmp_path / "resumed")["global_step"] == 2
    resumed = checkpoint(train.train(config))
    whole = checkpoint(run)
    assert resumed["global_step"] == 4
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_run_folder_with_other_settings_is_rejected(run, tiny_config, capsys):
    with pytest.raises(ConfigError, match="holds a run with other settings; choose another folder with run="):
        train.train(tiny_config(run, "seed=1"))
    assert train.main([str(SHIPPED), "seed=x"]) == 1
    assert capsys.readouterr().err == f"error: {SHIPPED}: seed is 'x', but must be of type int\n"


@pytest.fixture
def continuation(run, tiny_config, drives, tmp_path):
    """The settings of a run on generated sweeps that starts from a copy of the run, with a negligible learning rate."""
    shutil.copytree(run, tmp_path / "first")
    world = f"data.train=[{{dataset: world, path: '{drives.folder}'}}]"
    still = ["optimizer.learning_rate=1e-12", "optimizer.ema_decay=0"]
    return tiny_config(tmp_path / "second", f"start={tmp_path / 'first'}", world, *still)


def test_run_starts_from_another_run(run, continuation):
    """It takes over weights, inputs and origins of the training data."""
    first, second = checkpoint(run), checkpoint(train.train(continuation))
    assert second["inputs"] == first["inputs"]
    assert [origin["name"] for origin in second["origins"]] == ["PandaSet", f"xmodelkd_ros world {WORLD_VERSION}"]
    for name, _ in modules.StudentModule(continuation.to_dict()).named_parameters():
        torch.testing.assert_close(second["state_dict"][name], first["state_dict"][name], msg=name)


def test_resumed_run_does_not_need_the_run_it_started_from(run, continuation):
    interrupt(continuation)
    shutil.rmtree(continuation.start)
    resumed = checkpoint(train.train(continuation))
    assert resumed["global_step"] == 4
    assert resumed["inputs"] == checkpoint(run)["inputs"]


def test_finished_run_keeps_a_share_of_its_start(run, tiny_config, tmp_path):
    def trained(share):
        config = tiny_config(tmp_path / f"run_{share}", f"start={run}", f"keep_start={share}", "optimizer.epochs=2")
        return checkpoint(train.train(config))

    start, plain, mixed = checkpoint(run)["state_dict"], trained(0.0), trained(0.25)
    for name, value in plain["state_dict"].items():
        if value.is_floating_point():
            expected = 0.75 * value + 0.25 * start[name] if name.startswith("student.") else value
            torch.testing.assert_close(mixed["state_dict"][name], expected, msg=name)
    for name, value in plain["current_model_state"].items():
        torch.testing.assert_close(mixed["current_model_state"][name], value, msg=name)
    assert any(
        (mixed["state_dict"][name] != value).any() for name, value in start.items() if name in mixed["state_dict"]
    )


def test_resumed_run_keeps_the_same_share_of_its_start(run, tiny_config, tmp_path):
    overrides = [f"start={run}", "keep_start=0.25", "optimizer.workers=1"]
    whole = checkpoint(train.train(tiny_config(tmp_path / "whole", *overrides)))
    config = tiny_config(tmp_path / "resumed", *overrides)
    interrupt(config)
    resumed = checkpoint(train.train(config))
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_share_of_the_start_needs_one(run, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=r"keep_start is 0\.5, but must be 0 without start, and for teachers"):
        tiny_config(tmp_path / "run", "keep_start=0.5")
    with pytest.raises(ConfigError, match="which holds no run"):
        train.train(tiny_config(tmp_path / "run", "keep_start=0.5", f"start={tmp_path}"))


def test_unsuitable_start_is_rejected(run, tiny_config, tmp_path):
    def start(*overrides):
        train.train(tiny_config(tmp_path / "run", *overrides))

    with pytest.raises(ConfigError, match=r"a run with another model\.head_channels; give this one the same"):
        start(f"start={run}", "model.head_channels=4")
    with pytest.raises(ConfigError, match="which holds no run; train that one first"):
        start(f"start={tmp_path}")
    half = tmp_path / "half"
    half.mkdir()
    torch.save({**checkpoint(run), "global_step": 2}, half / CHECKPOINT)
    with pytest.raises(ConfigError, match="an unfinished run; its own command resumes it"):
        start(f"start={half}")
    assert not (tmp_path / "run").exists()


def class_counts(config):
    data = sweep_data.SweepData(config)
    data.setup("fit")
    return data.class_counts.numpy()


def test_class_counts_are_weighted_by_source_share(drives, generated, tiny, tmp_path):
    """A rare class is frequent in training if its source is sampled often."""

    def source(path, share):
        return f"{{dataset: world, path: '{path}', share: {share}}}"

    def counts(*sources):
        validation = f"data.validation=[{{dataset: world, path: '{generated.folder}'}}]"
        return class_counts(
            TrainingConfig.read(
                SHIPPED,
                [*tiny, "model.beams=Pandar64", f"data.train=[{', '.join(sources)}]", validation, f"run={tmp_path}"],
            )
        )

    def mean_counts(path):
        sweeps = load_source(SourceConfig("world", str(path)), "train").sweeps
        return np.mean([np.bincount(sweep.labels, minlength=13) for sweep in sweeps], axis=0)

    one, other = (drives.folder / f"drive_{seed:06d}" for seed in (0, 1))
    np.testing.assert_allclose(counts(source(one, 1)), mean_counts(one), rtol=1e-6)
    np.testing.assert_allclose(
        counts(source(one, 1), source(other, 3)), mean_counts(one) + 3 * mean_counts(other), rtol=1e-6
    )


def test_rows_are_fitted_or_those_of_a_known_lidar(drives, generated, tiny, tmp_path):
    source = load_source(SourceConfig("world", str(generated.folder)), "validation")

    def config(beams):
        data = f"data.train=[{{dataset: world, path: '{generated.folder}'}}]"
        return TrainingConfig.read(SHIPPED, [*tiny, data, f"run={tmp_path}", f"model.beams={beams}"])

    fitted = sweep_data.fit_inputs(config("''"), source).projection.beam_elevations_deg
    own = stored_drives(generated.folder)[0].rig.lidar.elevations_deg
    np.testing.assert_allclose(fitted, own, atol=0.05)
    assert sweep_data.fit_inputs(config("VLP-32C"), source).projection.beam_elevations_deg == VLP32C.elevations_deg


def test_exported_network_gives_the_labels_of_the_trained_one(model):
    spec = ModelSpec.read(model)
    check = spec.metrics["parity"]
    assert check["equal_labels"] >= 0.999
    assert check["largest_logit_difference"] < 1e-3
    assert spec.labels == label_map("drive13")
    assert spec.temperature > 0


def test_exported_model_states_its_training_data_and_scores(model, pandaset):
    data = json.loads((model / "model.json").read_text())
    assert ModelSpec.read(model).training_data == (PandaSetSequence.source, WORLD_SOURCE)
    assert [source["name"] for source in data["training_data"]] == ["PandaSet", f"xmodelkd_ros world {WORLD_VERSION}"]
    real, world = data["metrics"]["choose"]
    assert (real["data"], world["data"]) == (f"pandaset {pandaset.name}, frames 58:59", "world drive, all frames")
    assert 0 <= real["miou"] <= 1 and 0 <= world["miou"] <= 1
    assert real["points"]["road"] != world["points"]["road"]


def test_exported_model_knows_its_training_data(model):
    noted = ModelSpec.read(model).statistics
    assert noted.sweeps > 4 and noted.command.startswith("python -m training.export")
    assert {"fill", "entropy", "share.car", "input.range"} <= set(noted.quantiles)


def test_statistics_are_added_to_an_exported_model(model, tmp_path, capsys):
    """The networks stay as they are; the same sweeps give the same numbers."""
    before, old = ModelSpec.read(model), tmp_path / "copy"
    shutil.copytree(model, old)
    replace(before, statistics=None).write(old)
    assert statistics.main([str(old)]) == 0
    assert f"of {before.statistics.sweeps} sweeps" in capsys.readouterr().out
    after = ModelSpec.read(old)
    assert after.statistics.quantiles == before.statistics.quantiles
    assert replace(after, statistics=None) == replace(before, statistics=None)


def test_exported_network_is_portable(model):
    network = onnx.load(model / "model.onnx")
    check_network(network)
    assert not any(p.key for node in network.graph.node for p in node.metadata_props)
    assert str(ROOT).encode() not in (model / "model.onnx").read_bytes()


def check_network(network):
    operators = {node.op_type for node in network.graph.node}
    assert not operators & {"NonZero", "ScatterND", "ScatterElements", "GatherND", "Unique", "Loop", "If"}
    gathers = [node for node in network.graph.node if node.op_type == "Gather"]
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(network).graph.value_info}
    types |= {v.name: v.type.tensor_type.elem_type for v in network.graph.input}
    assert len(gathers) == 1
    assert all(types[node.input[1]] == onnx.TensorProto.INT32 for node in gathers)
    assert all(d.dim_value > 0 for v in network.graph.input for d in v.type.tensor_type.shape.dim)
    assert max(o.version for o in network.opset_import if not o.domain) >= 17


def test_export_without_parity_is_rejected(run, model, pandaset):
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(58, 59)), "validation")
    logits = model_folder.torch_logits(load_predictor(run), source)
    correct = SegmentationPipeline.load(model)

    class Wrong:
        def infer(self, feeds):
            return {"logits": -correct.backend.infer(feeds)["logits"]}

    assert model_folder.parity(correct, [source], [logits], 0.999)["equal_labels"] > 0.9999
    with pytest.raises(ModelError, match="gives only"):
        model_folder.parity(SegmentationPipeline(correct.spec, Wrong()), [source], [logits], 0.999)


def test_precisions_that_fail_their_check_are_left_out_with_a_note(run, model, tmp_path, capsys, monkeypatch):
    spec = ModelSpec.read(model)
    assert sorted(spec.files) == ["fp16", "fp32", "int8"]
    assert [score["data"] for score in spec.metrics["int8"]["choose"]] == [s["data"] for s in spec.metrics["choose"]]
    assert spec.metrics["fp16"]["equal_labels"] > 0.995
    monkeypatch.setattr("training.deploy.reduced_precision.MAX_MIOU_LOSS", -2.0)
    monkeypatch.setattr("training.deploy.reduced_precision.MIN_EQUAL_FP16", 1.1)
    spec = export.export(run, tmp_path / "model")
    assert sorted(spec.files) == ["fp32"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["last.ckpt", "model.json", "model.onnx"]
    notes = capsys.readouterr().err.splitlines()
    assert [note.split(": ")[1] for note in notes if note.startswith("note: ")] == ["without fp16", "without int8"]


def test_precisions_are_added_to_an_exported_model(model, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    before = ModelSpec.read(folder)
    assert precisions.main([str(folder), "--precisions", "int8"]) == 0
    assert capsys.readouterr().out == f"{folder}: fp32, fp16, int8\n"
    after = ModelSpec.read(folder)
    commands = [spec.metrics["int8"].pop("command") for spec in (before, after)]
    assert after == before, "int8 is written again, everything else stays"
    assert commands == [before.metrics["command"], f"python -m training.precisions {folder} --precisions int8"]
    assert precisions.main([str(tmp_path)]) == 1
    assert "holds no last.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("program", [precisions, statistics])
def test_exported_models_are_completed_by_name_too(program, model, tmp_path, capsys, monkeypatch):
    shutil.copytree(model, tmp_path / "share" / "xmodelkd_ros" / "models" / "own")
    monkeypatch.setattr("xmodelkd_ros.resources._roots", lambda: [tmp_path / "share" / "xmodelkd_ros"])
    done = []
    monkeypatch.setattr(program, "add_to", lambda folder, *_: done.append(folder) or ModelSpec.read(folder))
    assert program.main(["own"]) == 0
    assert done == [tmp_path / "share" / "xmodelkd_ros" / "models" / "own"]
    assert program.main(["onw"]) == 1
    assert "ships (own); did you mean own?" in capsys.readouterr().err


def test_failed_export_keeps_the_old_model(run, model, monkeypatch):
    before = sha256(model / "model.json")

    def fail(*_):
        raise ModelError("no")

    monkeypatch.setattr(model_folder, "parity", fail)
    with pytest.raises(ModelError):
        export.export(run, model)
    assert sha256(model / "model.json") == before
    assert sorted(p.name for p in model.parent.iterdir()) == ["model", "whole"]


def test_export_replaces_model_folders_only(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model_folder, "load_source", lambda *_, **__: pytest.fail("the work has started"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("all of it")
    for name in ("file", "folder"):
        assert export.main([str(run), str(tmp_path / name)]) == 1
        assert "exists and is no model folder" in capsys.readouterr().err
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "all of it"


def test_unwritable_folders_are_reported_before_the_work(run, model, pandaset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model_folder, "load_source", lambda *_, **__: pytest.fail("the work has started"))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: pytest.fail("the work has started"))
    (tmp_path / "file").touch()
    assert export.main([str(run), str(tmp_path / "file" / "model")]) == 1
    words = ["pandaset", str(pandaset), "--frames", "58:59", "--model", str(model)]
    assert evaluate.main([*words, "--out", str(tmp_path / "file" / "report")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: cannot ") and second.startswith("error: cannot ")


def test_export_of_a_missing_or_damaged_run_gives_advice(tmp_path, capsys):
    assert export.main([str(tmp_path), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "name a run, or train one" in error and error.count("\n") == 1
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04 torn off")
    assert export.main([str(tmp_path), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot read checkpoint") and error.count("\n") == 1


def test_the_first_validation_source_gives_the_temperature(run, tmp_path, monkeypatch):
    fitted = []
    without_reduced_precision(monkeypatch)
    monkeypatch.setattr(model_folder, "fit_temperature", lambda logits, labels: fitted.append((logits, labels)) or 2.0)
    assert export.export(run, tmp_path / "model").temperature == 2.0
    ((logits, labels),) = fitted
    assert len(logits) == len(labels) == 1, "the real frame only, not the generated ones"
    assert logits[0].shape[1] == len(labels[0]) > 50_000


def test_evaluation_writes_metrics_and_report(model, pandaset, tmp_path, capsys):
    words = ["pandaset", str(pandaset), "--frames", "58:59", "--model", str(model), "--label-set", "pandaset9"]
    assert evaluate.main([*words, "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["miou"] == pytest.approx(ModelSpec.read(model).metrics["choose"][0]["miou"], abs=1e-9)
    assert metrics["sweeps"] == {"input": 1, "output": 1}
    assert metrics["model"]["sha256"] == sha256(model / "model.onnx")
    eight = [v for name, v in metrics["iou"].items() if v is not None and name != "vegetation"]
    assert metrics["miou_without_vegetation"] == pytest.approx(np.mean(eight))
    assert (tmp_path / "report.html").is_file()
    assert "warnings" in metrics
    assert "mIoU" in capsys.readouterr().out


def test_evaluation_of_a_bag_reports_input_that_the_model_does_not_expect(tmp_path, capsys):
    bag = scaled_drive(tmp_path / "bag", [(100, 1)] * 3)
    assert evaluate.main(["bag", str(bag), "--model", "student", "--out", str(tmp_path / "out")]) == 0
    (warning, *_) = json.loads((tmp_path / "out" / "metrics.json").read_text())["warnings"]
    assert "publish metres" in warning
    assert f"warning: {warning}" in capsys.readouterr().err
    assert "publish metres" in (tmp_path / "out" / "report.html").read_text()


def test_evaluation_for_another_lidar_takes_its_sensor_file(shipped, tmp_path, capsys):
    bag = scaled_drive(tmp_path / "bag", [(1, 1 / 255)] * 3)
    beams = ModelSpec.read(shipped).projection.beam_elevations_deg
    SensorSpec("fractions", beams, (), (0.0, 1.0)).write(tmp_path / "sensor.json")
    words = ["bag", str(bag), "--model", "student", "--out", str(tmp_path / "out"), "--sensor"]
    assert evaluate.main([*words, str(tmp_path / "sensor.json")]) == 0
    warnings = json.loads((tmp_path / "out" / "metrics.json").read_text())["warnings"]
    assert not any("intensity" in warning for warning in warnings)
    assert evaluate.main([*words, "OS1-129"]) == 1
    assert "did you mean OS1-128" in capsys.readouterr().err


def test_evaluation_of_the_shipped_student_on_a_generated_drive(shipped, generated, tmp_path, capsys):
    words = ["world", str(generated.folder), "--model", "student", "--out", str(tmp_path)]
    assert evaluate.main(words) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["sweeps"] == {"input": 2, "output": 2}
    truth = [np.count_nonzero(drive.labels(k) != 255) for drive in stored_drives(generated.folder) for k in (0, 1)]
    assert sum(metrics["points"].values()) == sum(truth)
    assert (tmp_path / "cameras.png").is_file() and "world drive, frames all" in (tmp_path / "report.html").read_text()
    assert "mIoU" in capsys.readouterr().out


def test_evaluation_of_a_folder_of_drives(shipped, drives, tmp_path):
    words = ["world", str(drives.folder), "--frames", "1:2", "--model", "student", "--out", str(tmp_path)]
    assert evaluate.main(words) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["sweeps"] == {"input": 2, "output": 2}
    assert not (tmp_path / "cameras.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--frames": "58"}, "--frames is '58', but must be A:B"),
        ({"--frames": "66:68"}, "no frame 67; it has 0 to 66"),
        ({"--model": "nowhere"}, "no model 'nowhere'"),
        ({"--label-set": "unknown"}, "no label set 'unknown'"),
        ({"--split": "val"}, "--split: pandaset has no official splits; leave it out"),
    ],
)
def test_evaluation_errors_are_one_line(model, pandaset, tmp_path, capsys, changes, message):
    options = {"--frames": "58:59", "--model": str(model), "--out": str(tmp_path), **changes}
    assert evaluate.main(["pandaset", str(pandaset), *(w for pair in options.items() for w in pair)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.fixture(scope="module")
def shipped():
    folder = ROOT / "models" / "student"
    if not (folder / "model.json").is_file():
        pytest.skip(f"no model in {folder}")
    return folder


def test_shipped_network_is_portable(shipped):
    check_network(onnx.load(shipped / "model.onnx"))
    assert (shipped / "model.onnx").stat().st_size < 5_000_000
    spec = ModelSpec.read(shipped)
    load_networks(spec, shipped)
    assert spec.metrics["parity"]["equal_labels"] >= 0.999


def test_point_head_is_better_than_the_label_of_the_pixel(shipped, pandaset):
    """Compares the mIoU over points that share a pixel with a nearer point, on the near frames."""
    pipeline, sequence = SegmentationPipeline.load(shipped), PandaSetSequence(pandaset)
    projector = RangeProjector(pipeline.spec.projection)
    to_nine = translation(pipeline.labels, label_map("pandaset9"))
    head, copy = ConfusionMatrix(to_nine.target), ConfusionMatrix(to_nine.target)
    for frame in (41, 44, 47):
        cloud = sequence.cloud(frame)
        truth, label = to_nine.apply(sequence.labels(frame)), pipeline.segment(cloud).segmentation.label
        projection = projector.project(cloud)
        nearest = projection.point[projection.pixel]
        hidden = nearest != np.arange(len(cloud))
        head.update(truth[hidden], to_nine.apply(label[hidden]))
        copy.update(truth[hidden], to_nine.apply(label[nearest[hidden]]))
    assert head.miou() > copy.miou() + 0.003
