"""Training of the image branch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.config.image_training import ImageTrainingConfig
from training.losses.segmentation import segmentation_loss
from training.models.image_branch import ImageBranch, sample, to_tensor
from training.modules.checkpoint import read_weights
from training.modules.label_module import SegmentationModule
from training.modules.schedule import one_cycle
from xmodelkd_ros.core.errors import ConfigError


class ImageBranchModule(SegmentationModule):
    """The image branch with its loss and optimizer.

    Args:
        config: the run, as :meth:`ImageTrainingConfig.to_dict` gives it (it is stored in checkpoints).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = ImageTrainingConfig.from_dict(config)
        super().__init__(self.config.data.validation)
        self.save_hyperparameters()
        self.branch = ImageBranch(self.config.features, len(self.labels))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the training data come from: their licences bind what learns from this."""
        checkpoint["origins"] = [asdict(origin) for origin in self.trainer.datamodule.origins]

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, C, P)."""
        features = sample(self.branch(to_tensor(batch["image"])), batch["uv"])
        return self.branch.classify(features.transpose(1, 2)).transpose(1, 2)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of a batch of pictures."""
        loss = segmentation_loss(self._logits(batch), batch["labels"], self.class_weights)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """Count the confusion of one picture."""
        self.count(self._logits(batch)[0], batch["labels"][0], dataloader_idx)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a one-cycle schedule; the encoder, which knows images already, learns more slowly."""
        o = self.config.optimizer
        encoder = list(self.branch.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.branch.parameters() if id(parameter) not in known]
        optimizer = torch.optim.AdamW([{"params": encoder}, {"params": others}], weight_decay=o.weight_decay)
        return one_cycle(optimizer, o, [o.encoder_rate * o.learning_rate, o.learning_rate])


def trained_branch(run: Path) -> ImageBranch:
    """The image branch of a run, ready to look.

    Raises:
        ConfigError: the run's folder holds no checkpoint of an image branch.
    """
    settings, weights = read_weights(run)
    try:
        # Its size is looked at first: room is made for it before weights are loaded.
        features = ImageTrainingConfig.from_dict(settings).features
        if weights["branch.classify.weight"].shape[1:] != (features,):
            raise ConfigError(f"its weights are not those of {features} features")
        module = ImageBranchModule(settings)
    except (ConfigError, KeyError) as error:
        raise ConfigError(f"{run} holds no run of training.train_images; name one of an image branch") from error
    _load(module, run)
    return module.branch.eval()


def _load(module: ImageBranchModule, run: Path) -> None:
    try:
        module.load_state_dict(read_weights(run)[1])
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"{run} holds a network other than the image branch, or one with other features") from error
