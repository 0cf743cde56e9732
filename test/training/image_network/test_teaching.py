"""A student that an image network teaches: labels from its classes, in training."""

import numpy as np
import pytest

from test.training.image_network.networks import ORIGIN, write_network
from training.config.training import DistillConfig, TrainingConfig
from training.data.feature_bank import ImageFeatures
from training.distillation.image_labels import image_labels
from training.distillation.prerequisites import UpstreamModels
from training.image_network.classes import ImageClasses
from training.modules.checkpoint import read_checkpoint
from training.runs.sweep_data import SweepData
from training.train import train
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import find_config

TABLE = ImageClasses.read(find_config("image_classes/cityscapes19.json"))
GROUPS = TABLE.groups.names


def answers(*rows):
    """Features of points in one camera, each with the probabilities of some groups; None for a point in none."""
    features = np.zeros((len(rows), 2, len(GROUPS)), np.float16)
    camera = np.full((len(rows), 2), -1, np.int8)
    for k, row in enumerate(rows):
        if row is not None:
            camera[k, 0] = 0
            for name, probability in row.items():
                features[k, 0, GROUPS.index(name)] = probability
    return ImageFeatures(features, camera)


def test_labels_are_the_certain_classes_that_mean_something():
    one = answers({"building": 0.9, "vegetation": 0.1}, {"never": 1.0}, None, {"person": 0.3, "vegetation": 0.3})
    two = answers(*[{"building": 1.0}] * 30, {"person": 1.0}, {"person": 0.6, "building": 0.4})
    said, weights = image_labels([one, two], TABLE)
    assert len(said) == len(weights) == 1 + 4 + 32 and said[0] == IGNORE and weights[0] == 0
    names = [GROUPS[k] if k != IGNORE else None for k in said[1:]]
    assert names[:4] == ["building", None, None, None] and not weights[2:5].any()
    assert names[4:] == ["building"] * 30 + ["person"] * 2
    assert (
        weights[1] == pytest.approx(1) and weights[35] > 3 and weights[36] == pytest.approx(weights[35] / 2, rel=0.01)
    )


def test_mean_of_two_cameras_counts():
    both = answers({"building": 1.0})
    both.camera[0, 1] = 1
    both.features[0, 1, GROUPS.index("vegetation")] = 1.0
    said, weights = image_labels([both], TABLE)
    assert 0 < weights[1] < 0.5 and GROUPS[said[1]] in ("building", "vegetation")


@pytest.fixture
def settings(generated, drives, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = write_network(tmp_path / "network")
    return [
        *tiny,
        f"data.train=[{{dataset: world, path: '{drives.folder}', share: 0.5}}, "
        f"{{dataset: bag, path: '{generated.bag}', topic: /points, labels: none, share: 0.5}}]",
        f"data.validation=[{{dataset: world, path: '{generated.folder}'}}]",
        f"run={tmp_path / 'taught'}",
        f"distill={{teacher: none, image_network: '{network}', image_weight: 1.0, logits_weight: 0, lovasz_weight: 0}}",
    ]


def test_student_learns_from_an_image_network_alone(settings):
    config = TrainingConfig.read(find_config("training/world_student.yaml"), settings)
    upstream = UpstreamModels.of(config)
    data = SweepData(config, upstream=upstream)
    data.setup("fit")
    assert data.image_confusion.shape == (13, 3)
    bank = data.epoch_data().feature_bank
    assert (bank.image_class[1:] != IGNORE).mean() > 0.05 and bank.teacher_logits is None
    crops = next(iter(data.train_dataloader()))
    assert crops["image_class"].shape == crops["labels"].shape == crops["image_weight"].shape
    assert set(np.unique(bank.image_class)) <= {0, 1, IGNORE}, "blue means nothing"
    run = train(config, upstream=upstream)
    checkpoint = read_checkpoint(run)
    assert ORIGIN["name"] in [origin.name for origin in checkpoint.origins]
    assert not any("confusion" in name for name in checkpoint.weights)


@pytest.mark.parametrize("kind", ["usual", "estimated", "none"])
def test_errors_of_the_network_are_expected_estimated_or_denied(settings, kind, student):
    more = [f"distill.image_confusion={kind}", f"start={student}"]
    config = TrainingConfig.read(find_config("training/pandaset_student.yaml"), [*settings, *more])
    data = SweepData(config, read_checkpoint(student), UpstreamModels.of(config))
    data.setup("fit")
    confusion = data.image_confusion.numpy()
    assert confusion.shape == (13, 3) and (confusion > 0).all()
    if kind == "none":
        assert confusion[0, 0] == 1 and confusion.max() == 1
    else:
        np.testing.assert_allclose(confusion.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_confusion": "estimated", "logits_weight": 1.0}, "must be usual without image_weight"),
        ({"image_weight": 1.0}, "image_weight is 1.0, but must be 0 without image_network"),
        (
            {"teacher": "none", "image_network": "n", "image_weight": 1.0, "pseudo_share": 0.5},
            "all weights but image_weight",
        ),
        ({"teacher": "none"}, "all weights but image_weight"),
    ],
)
def test_settings_that_contradict(change, said):
    with pytest.raises(ConfigError, match=said):
        DistillConfig(**{"teacher": "runs/x", **change})
