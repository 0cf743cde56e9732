"""Training of the image branch."""

from __future__ import annotations

from dataclasses import dataclass

from training.config.data import DataConfig
from training.config.training import _PRECISIONS, _SEEDS
from training.config.yaml_config import YamlConfig, require


@dataclass(frozen=True)
class ImageOptimizerConfig:
    """The length and steps of the image branch's training.

    Attributes:
        epochs: how many times ``steps`` steps are taken; validation and a checkpoint follow each.
        steps: optimizer steps per epoch.
        batch: pictures per step.
        places: labelled places per picture that the loss sees.
        learning_rate: the peak of the one-cycle schedule.
        encoder_rate: the encoder's learning rate relative to that.
        weight_decay: of AdamW.
        ema_decay: of the moving average of the weights, which is what is validated and used.
        workers: processes that prepare pictures; 0 prepares them between steps.
    """

    epochs: int
    steps: int
    batch: int
    places: int
    learning_rate: float
    encoder_rate: float
    weight_decay: float
    ema_decay: float
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "places", "learning_rate", "encoder_rate"):
            require(name, getattr(self, name), getattr(self, name) > 0, "positive")
        require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "in 0..1")
        require("workers", self.workers, self.workers >= 0, ">= 0")


@dataclass(frozen=True)
class ImageTrainingConfig(YamlConfig):
    """A training run of the image branch.

    Attributes:
        name: of the network.
        run: folder of checkpoints and logs; a run that was interrupted resumes there.
        seed: of weights, pictures and their changes.
        features: number of features of a place.
        data: which pictures.
        optimizer: length and steps.
        precision: as in :class:`TrainingConfig`.
        devices: as in :class:`TrainingConfig`.
        nodes: as in :class:`TrainingConfig`.
        start: folder of another run of the image branch, whose weights this one begins with; empty: those of ImageNet.
    """

    name: str
    run: str
    seed: int
    features: int
    data: DataConfig
    optimizer: ImageOptimizerConfig
    precision: str = "auto"
    devices: int = 0
    nodes: int = 1
    start: str = ""

    def __post_init__(self) -> None:
        require("features", self.features, 0 < self.features <= 4096, "in 1..4096")
        require("seed", self.seed, 0 <= self.seed < _SEEDS, f"in 0..{_SEEDS - 1}")
        require("precision", self.precision, self.precision in _PRECISIONS, ", ".join(_PRECISIONS))
        require("devices", self.devices, self.devices >= 0, ">= 0")
        require("nodes", self.nodes, self.nodes > 0, "positive")
        hidden = self.data.held_out_sectors
        require("data.held_out_sectors", hidden, not hidden, "empty: pictures are not cut into sectors")
        with_labels = all(source.labels != "none" for source in self.data.train)
        require("data.train labels", "none", with_labels, "own or propagated")
