"""Configuration of the image branch's training."""

from __future__ import annotations

from training.config.data import DataConfig
from training.config.training import Channels, Precision, Seed
from training.config.yaml_config import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    YamlConfig,
    require,
    settings,
)


@settings
class ImageOptimizerConfig:
    """Length of the training, batch size and learning rates.

    Attributes:
        epochs: epochs of ``steps`` steps; each ends with validation and a checkpoint.
        steps: optimizer steps per epoch.
        batch: images per step.
        places: labelled pixel samples per image in the loss.
        learning_rate: peak of the one-cycle schedule.
        encoder_rate: learning rate of the encoder relative to ``learning_rate``.
        weight_decay: of AdamW.
        ema_decay: decay of the moving average of the weights, which is validated and used.
        workers: processes that prepare images; 0 prepares them in the training process.
    """

    epochs: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    places: PositiveInt
    learning_rate: Positive
    encoder_rate: Positive
    weight_decay: NonNegative
    ema_decay: Fraction
    workers: Count = 0


@settings
class ImageTrainingConfig(YamlConfig):
    """A training run of the image branch.

    Attributes:
        name: name of the network.
        run: folder of checkpoints and logs; an interrupted run resumes there.
        seed: of weights, images and their augmentation.
        features: channels of the feature map.
        data: training and validation sources.
        optimizer: length and learning rates.
        precision: as in :class:`training.config.training.TrainingConfig`.
        devices: as there.
        nodes: as there.
        start: folder of another run of the image branch, whose weights this run starts from; empty: ImageNet weights.
    """

    name: str
    run: str
    seed: Seed
    features: Channels
    data: DataConfig
    optimizer: ImageOptimizerConfig
    precision: Precision = "auto"
    devices: Count = 0
    nodes: PositiveInt = 1
    start: str = ""

    def __post_init__(self) -> None:
        sectors = self.data.held_out_sectors
        require("data.held_out_sectors", sectors, not sectors, "empty: images are not divided into sectors")
        has_labels = all(source.labels != "none" for source in self.data.train)
        require("data.train labels", "none", has_labels, "own or propagated")
