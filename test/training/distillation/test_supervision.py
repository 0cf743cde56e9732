"""Distillation: short runs of image branch, teacher and students, and teacher targets."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite_pytorch")

from test.training.speed import without_reduced_precision  # noqa: E402
from training import export, train, train_images  # noqa: E402
from training.config.data import SourceConfig  # noqa: E402
from training.config.image_training import ImageTrainingConfig  # noqa: E402
from training.data.sources import load_labelled_images, load_source  # noqa: E402
from training.data.sweeps import with_point_ids  # noqa: E402
from training.datasets.exposures import CameraExposures, EncodedSweepImages, SweepMotion  # noqa: E402
from training.distillation import prerequisites, supervision  # noqa: E402
from training.distillation.prerequisites import UpstreamModels  # noqa: E402
from training.distillation.teacher_targets import TeacherTargets, teacher_targets, voxel_averaged  # noqa: E402
from training.modules import checkpoint, image_module  # noqa: E402
from training.modules import point_modules as modules  # noqa: E402
from training.modules.checkpoint import CHECKPOINT, read_checkpoint, read_run  # noqa: E402
from training.predict.predictor import load_predictor, predict_labels, shuffled_images  # noqa: E402
from training.runs import sweep_data  # noqa: E402
from training.runs.trainer import finished  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError, ModelError  # noqa: E402
from xmodelkd_ros.core.labels import IGNORE  # noqa: E402
from xmodelkd_ros.core.model_spec import ModelSpec  # noqa: E402
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "config" / "training"


def test_teacher_logits_depend_on_the_images(teacher, pandaset):
    """They change with the images, most at points that a camera sees."""
    network = load_predictor(teacher)
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(0, 1)), "train", images=True)
    (sweeps,) = with_point_ids([source.sweeps], [True])
    feature_bank = network.feature_bank(sweeps, source.encoded_images)
    others = network.feature_bank(sweeps, shuffled_images(source.encoded_images))
    (own,), (other,) = (teacher_targets(network, sweeps, known, "") for known in (feature_bank, others))
    seen = (source.encoded_images[0].views.camera >= 0).any(axis=1)
    change = np.abs(own.logits.astype(np.float32) - other.logits).max(axis=1)
    assert (change[seen] > 0).mean() > 0.9
    assert change[seen].mean() > 1.3 * change[~seen].mean(), "other points are affected through their neighbours only"


def sweep_images(*jpegs):
    exposures = CameraExposures(SweepMotion(np.zeros(0, np.uint8), np.zeros((0, 4, 4))), ())
    return EncodedSweepImages(tuple(jpegs), exposures.views(np.zeros((0, 3), np.float32)), exposures)


def test_shuffled_images_come_from_other_cameras():
    encoded_images = [sweep_images(*(f"{sweep}{camera}".encode() for camera in range(3))) for sweep in range(5)]
    for other in shuffled_images(encoded_images):
        assert all(int(jpeg[1:]) != camera for camera, jpeg in enumerate(other.jpegs))
    assert len({jpeg[:1] for other in shuffled_images(encoded_images) for jpeg in other.jpegs}) > 2, "of any sweep"
    for sweep, other in enumerate(shuffled_images([sweep_images(f"{k}".encode()) for k in range(4)])):
        assert other.jpegs != (f"{sweep}".encode(),), "a single camera gets images of other sweeps"


def test_teacher_training_needs_images(config, images, write_kitti):
    xyz = np.random.default_rng(0).uniform(-20, 20, (100, 3))
    drive = write_kitti([0], xyz, np.full(100, 40), images=())
    words = [f"teacher.image_branch={images}", f"data.train=[{{dataset: semantickitti, path: '{drive}'}}]"]
    settings = config("no_images", "teacher", *words)
    with pytest.raises(ConfigError, match="no training source has any; give drives with cameras"):
        sweep_data.SweepData(settings, upstream=UpstreamModels.of(settings)).setup("fit")


def test_rejects_a_student_as_image_branch(config, student):
    with pytest.raises(ConfigError, match=r"taught holds no run of training\.train_images"):
        train.train(config("no_branch", "teacher", f"teacher.image_branch={student}"))


def test_finished_run_is_not_repeated(student, monkeypatch):
    monkeypatch.setattr(train, "SweepData", lambda *_: pytest.fail("the run is finished"))
    assert train.train(read_checkpoint(student).config) == student


def test_teacher_checkpoint_contains_its_image_branch(teacher, images, monkeypatch):
    monkeypatch.setattr(prerequisites, "image_branch_of", lambda _: pytest.fail("that run may be deleted"))
    expected = image_module.image_branch_of(read_run(images)).state_dict()
    weights = load_predictor(teacher).reader.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_teacher_without_cameras_needs_no_images(config, pandaset):
    run = train.train(config("lidar_only", "teacher", "teacher.image_branch=''"))
    network = load_predictor(run)
    assert network.reader is None
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(0, 1)), "train")
    (sweeps,) = with_point_ids([source.sweeps], [True])
    (targets,) = teacher_targets(network, sweeps, network.feature_bank(sweeps, []), "")
    assert targets.logits.any(axis=1).mean() > 0.99


def test_unlabelled_sweeps_get_teacher_targets(student, student_config):
    weights = read_checkpoint(student).weights
    assert all(torch.isfinite(value).all() for value in weights.values())
    data = sweep_data.SweepData(student_config, upstream=UpstreamModels.of(student_config))
    data.setup("fit")
    crops = next(iter(data.train_dataloader()))
    assert crops["teacher_logits"].any()
    assert crops["teacher_features"].any() and crops["views"].any()
    assert "seen" not in crops, "the student has no image input"
    unlabelled = data.epoch_data().sources[1][0]
    assert (unlabelled.labels == IGNORE).all()


def test_exported_student_has_no_image_input(student, tmp_path, monkeypatch):
    without_reduced_precision(monkeypatch)
    export.export(student, tmp_path / "model")
    spec = ModelSpec.read(tmp_path / "model")
    assert {tensor.name for tensor in spec.inputs} == {"image", "points", "pixel"}
    assert spec.inputs[0].shape[1] == len(spec.channels) + 1, "LiDAR channels and a mask"


def test_exported_teacher_gives_the_labels_of_the_trained_one(teacher, pandaset, tmp_path):
    spec = export.export(teacher, tmp_path / "model")
    assert spec.metrics["parity"]["equal_labels"] > 0.999
    assert (spec.role, spec.image_branch.cameras) == ("teacher", 6)
    operators = {node.op_type for name in ("model", "image_branch") for node in network(tmp_path, name).graph.node}
    assert "GridSample" in operators
    assert not operators & {"NonZero", "ScatterND", "ScatterElements", "GatherND", "Unique", "Loop", "If"}
    pipeline = SegmentationPipeline.load(tmp_path / "model")
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(58, 59)), "validation", images=True)
    (expected,) = (
        labels.ids for labels in predict_labels(load_predictor(teacher), source.sweeps, source.encoded_images, "")
    )
    result = pipeline.segment(source.sweeps[0].cloud, images=source.images(0))
    assert result.mode == "teacher"
    assert (result.segmentation.label == expected).mean() > 0.999
    without_images = pipeline.segment(source.sweeps[0].cloud).segmentation
    changed = without_images.probability != result.segmentation.probability
    assert changed[source.visible_points(0)].mean() > 0.9, "it uses the images"


def network(folder, name):
    return onnx.load(folder / "model" / f"{name}.onnx")


def test_teacher_without_cameras_cannot_be_exported(config, tmp_path):
    run = train.train(config("lidar_only", "teacher", "teacher.image_branch=''"))
    with pytest.raises(ModelError, match="only a teacher with an image branch runs on a vehicle"):
        export.export(run, tmp_path / "model")


class InterruptionError(Exception):
    pass


def rename_layers_back(run):
    """Give the layers of a checkpoint the names that they had in older versions."""
    stored = torch.load(run / CHECKPOINT, weights_only=True)
    for key in ("state_dict", "current_model_state"):
        for old, new in checkpoint._RENAMED_LAYERS.items():
            stored[key] = {name.replace(new, old): value for name, value in stored[key].items()}
    assert any(".head.table." in name for name in stored["state_dict"])
    torch.save(stored, run / CHECKPOINT)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_resumed_run_of_an_older_version_ends_with_the_same_weights(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    settings = replace(read_checkpoint(run).config, run=str(tmp_path / "resumed"))
    module = modules.StudentModule if kind == "student" else modules.TeacherModule
    step = module.training_step

    def stop(self, batch, batch_index):
        if self.trainer.global_step == 3:
            raise InterruptionError
        return step(self, batch, batch_index)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptionError):
        patch.setattr(module, "training_step", stop)
        train.train(settings)
    rename_layers_back(tmp_path / "resumed")
    resumed, whole = (torch.load(place / CHECKPOINT, weights_only=True) for place in (train.train(settings), run))
    for weights in ("state_dict", "current_model_state"):
        for name, value in whole[weights].items():
            torch.testing.assert_close(resumed[weights][name], value, atol=1e-4, rtol=1e-2, msg=name)


def test_run_is_not_resumed_after_its_teacher_was_retrained(teacher, config, tmp_path):
    again = tmp_path / "teacher"
    shutil.copytree(teacher, again)
    settings = config("of_another", "distilled", f"distill.teacher={again}")
    run = train.train(settings)
    assert train.train(settings) == run, "the same teacher"
    state = torch.load(again / CHECKPOINT, weights_only=False)
    torch.save({**state, "epoch": 7}, again / CHECKPOINT)
    with pytest.raises(ConfigError, match="has changed since; remove"):
        train.train(settings)
    shutil.rmtree(again)
    assert finished(settings), "a deleted teacher is not checked"


def test_self_training_uses_the_last_checkpoint(config, monkeypatch):
    loaded = []
    monkeypatch.setattr(supervision, "load_predictor", lambda run: loaded.append(run) or load_predictor(run))
    run = train.train(config("self_taught", "distilled", "distill.teacher=self"))
    assert loaded == [run], "in its second epoch, not in the first"
    words = ["distill.teacher=self", "distill.pseudo_share=0.5", f"start={run}"]
    continued = train.train(config("continued", "distilled", *words))
    assert loaded == [run, run, continued], "in the first epoch, the run that it starts from"


def test_resumed_self_training_loads_the_last_checkpoint_once(config, monkeypatch):
    loaded = []
    settings = config("resumed", "distilled", "distill.teacher=self", "optimizer.epochs=2")
    step = modules.StudentModule.training_step

    def stop(self, batch, batch_index):
        if self.current_epoch == 1:
            raise InterruptionError
        return step(self, batch, batch_index)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptionError):
        patch.setattr(modules.StudentModule, "training_step", stop)
        train.train(settings)
    monkeypatch.setattr(supervision, "load_predictor", lambda run: loaded.append(run) or load_predictor(run))
    assert loaded == [train.train(settings)]


@pytest.mark.parametrize("on_labelled", [False, True])
def test_student_training_loads_images_only_for_its_teacher(teacher, config, on_labelled, monkeypatch):
    loaded = []
    load = sweep_data.load_source

    def load_and_note(source, use, images, labels, *, pixel_classes):
        loaded.append((use, source.labels, images))
        assert not pixel_classes
        return load(source, use, images, labels)

    monkeypatch.setattr(sweep_data, "load_source", load_and_note)
    settings = config("images", "distilled", f"distill.teacher={teacher}", f"distill.on_labelled={on_labelled}")
    sweep_data.SweepData(settings, upstream=UpstreamModels.of(settings)).setup("fit")
    assert set(loaded) == {("train", "own", on_labelled), ("train", "none", True), ("validation", "own", False)}


def test_targets_are_the_mean_of_a_sweep_and_its_mirror_image(teacher, pandaset):
    network = load_predictor(teacher)
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(0, 1)), "train", images=True)
    (sweeps,) = with_point_ids([source.sweeps], [True])
    mirrored = [sweep.with_cloud(sweep.cloud.xyz * (1, -1, 1), sweep.cloud.intensity) for sweep in sweeps]
    feature_bank = network.feature_bank(sweeps, source.encoded_images)
    (one,), (other,) = (teacher_targets(network, given, feature_bank, "") for given in (sweeps, mirrored))
    # Not exactly equal, because a few points are at the edge of a pixel.
    assert np.isclose(one.logits, other.logits, atol=2e-3).mean() > 0.99
    ((prediction, valid),) = network.predictions(sweeps, feature_bank)
    assert np.abs(one.logits[valid] - prediction.logits[0].T.numpy()).max() > 1e-2, "not those of the sweep alone"


def test_teacher_can_start_from_a_student(student, images, config):
    words = [f"start={student}", f"teacher.image_branch={images}", "optimizer.learning_rate=1e-12"]
    run = train.train(config("started", "teacher", *words, "optimizer.ema_decay=0"))
    ours, theirs = read_checkpoint(run).weights, read_checkpoint(student).weights
    name = "head.classify.weight"
    torch.testing.assert_close(ours[f"teacher.lidar.{name}"], theirs[f"student.{name}"])


def test_labels_are_propagated_to_unlabelled_sweeps(config, teacher):
    words = ["distill=null", "data.train.1.labels=propagated"]
    data = sweep_data.SweepData(config("propagated", "distilled", *words))
    data.setup("fit")
    labels = data.epoch_data().sources[1][0].labels
    assert 0.1 < (labels != IGNORE).mean() < 1
    truth = load_source(data._config.data.train[1], "train").sweeps[0].labels
    known = labels != IGNORE
    assert (labels[known] == truth[known]).mean() > 0.9


def test_voxel_averaging_of_static_points(pandaset):
    """Two frames from one position: their logits of static points are averaged, points of cars keep their own."""
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(0, 2)), "train")
    road, car = (np.full(13, -9.0, np.float16) for _ in range(2))
    names = source.frames[0][0].label_map
    road[names.id_of("road")], car[names.id_of("car")] = 9, 9
    terrain = np.full(13, -9.0, np.float16)
    terrain[names.id_of("terrain")] = 9
    first, second = (len(sweep.labels) for sweep in source.sweeps)
    targets = [TeacherTargets(np.tile(road, (first, 1)), np.zeros(first, np.float16), np.zeros((first, 1), np.float16))]
    targets.append(
        TeacherTargets(np.tile(terrain, (second, 1)), np.zeros(second, np.float16), np.zeros((second, 1), np.float16))
    )
    targets[1].logits[: second // 2] = car
    mixed = voxel_averaged(targets, source.frames, 0.5)
    np.testing.assert_array_equal(mixed[1].logits[: second // 2], targets[1].logits[: second // 2])
    share = np.exp(mixed[0].logits[:, names.id_of("terrain")].astype(np.float32))
    assert (share > 0.2).mean() > 0.2 and (share < 0.8).mean() > 0.8
    alone = voxel_averaged(targets, [None, None], 0.5)
    assert all(new is old for new, old in zip(alone, targets, strict=True))


def test_student_data_has_pseudo_labels(teacher, config):
    settings = config("pseudo", "distilled", f"distill.teacher={teacher}", "distill.pseudo_share=0.5")
    data = sweep_data.SweepData(settings, upstream=UpstreamModels.of(settings))
    data.setup("fit")
    labels = data.epoch_data().sources[1][0].labels
    assert (labels != IGNORE).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("on_labelled", [False, True])
def test_teacher_labels_labelled_sweeps_only_with_on_labelled(teacher, config, on_labelled):
    settings = config("on_labelled", "distilled", f"distill.teacher={teacher}", f"distill.on_labelled={on_labelled}")
    data = sweep_data.SweepData(settings, upstream=UpstreamModels.of(settings))
    data.setup("fit")
    assert [source[0].point_ids is not None for source in data.epoch_data().sources] == [on_labelled, True]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["distill.teacher=/nowhere"], r"/nowhere holds no last\.ckpt: name a run"),
        (["distill.teacher={student}", "distill.contrast_weight=1"], "uses no images; give 0, or a teacher with"),
    ],
)
def test_unusable_teacher_is_reported_before_training(overrides, complaint, student, config):
    words = [word.format(student=student) for word in overrides]
    with pytest.raises(ConfigError, match=complaint):
        train.train(config("never", "distilled", *words))
    assert not Path(config("never", "distilled", *words).run).exists()


def test_image_branch_can_start_from_another(images, pandaset, tmp_path, student):
    source = f"[{{dataset: pandaset, path: '{pandaset}', frames: [0, 1]}}]"
    words = [f"data.train={source}", f"data.validation={source}"]
    words += ["optimizer.steps=1", "optimizer.epochs=1", "features=8"]
    words += ["optimizer.learning_rate=1e-12", "optimizer.ema_decay=0", "optimizer.workers=0", "precision=32-true"]
    words += [f"start={images}", f"run={tmp_path / 'images'}"]
    config = ImageTrainingConfig.read(CONFIGS / "pandaset_images.yaml", words)
    second, first = (image_module.image_branch_of(read_run(run)) for run in (train_images.train_images(config), images))
    torch.testing.assert_close(second.classify.weight, first.classify.weight)
    with pytest.raises(ConfigError, match="holds a network other than the image branch"):
        train_images.train_images(replace(config, start=str(student), run=str(tmp_path / "other")))


def test_damaged_image_branch_is_reported(images, config, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / CHECKPOINT).write_bytes(b"PK torn off")
    with pytest.raises(ConfigError, match="cannot read checkpoint"):
        train.train(config("never", "teacher", f"teacher.image_branch={tmp_path / 'images'}"))


def test_images_take_propagated_labels(pandaset):
    """The labels of earlier frames, propagated to the same positions, and no others."""
    labelled = SourceConfig("pandaset", str(pandaset), frames=(0, 2))
    unlabelled = SourceConfig("pandaset", str(pandaset), frames=(41, 42), labels="propagated")
    propagated = load_labelled_images(unlabelled, "train", [labelled, unlabelled])
    own = load_labelled_images(replace(unlabelled, labels="own"), "train")
    counts = [sum(len(image.labels) for image in images) for images in (propagated, own)]
    assert 0 < counts[0] < counts[1]
    without_source = load_labelled_images(unlabelled, "train", [unlabelled])
    assert not any(len(image.labels) for image in without_source), "there are no labels to propagate"
