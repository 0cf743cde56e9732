"""Lightning module of the image branch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from training.config.image_training import ImageTrainingConfig
from training.losses.segmentation import segmentation_loss
from training.models.image_branch import ImageBranch, sample, to_tensor
from training.modules.checkpoint import RunState
from training.modules.label_module import SegmentationModule
from training.modules.schedule import one_cycle
from xmodelkd_ros.core.errors import ConfigError


class ImageBranchModule(SegmentationModule):
    """The image branch with its loss and optimizer.

    Args:
        config: the run's settings from :meth:`ImageTrainingConfig.to_dict`, which are stored in checkpoints.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = ImageTrainingConfig.from_dict(config)
        super().__init__(self.config.data.validation)
        self.save_hyperparameters()
        self.branch = ImageBranch(self.config.features, len(self.labels))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the origins of the training data, whose licences bind models derived from this one."""
        checkpoint["origins"] = [asdict(origin) for origin in self.trainer.datamodule.origins]

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, C, P)."""
        features = sample(self.branch(to_tensor(batch["image"])), batch["uv"])
        return self.branch.classify(features.transpose(1, 2)).transpose(1, 2)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of a batch of images."""
        loss = segmentation_loss(self._logits(batch), batch["labels"], self.class_weights)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """Count the confusion of one image."""
        self.count(self._logits(batch)[0], batch["labels"][0], dataloader_idx)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a one-cycle schedule; the pre-trained encoder has a lower learning rate."""
        o = self.config.optimizer
        encoder = list(self.branch.encoder.parameters())
        encoder_ids = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.branch.parameters() if id(parameter) not in encoder_ids]
        optimizer = torch.optim.AdamW([{"params": encoder}, {"params": others}], weight_decay=o.weight_decay)
        return one_cycle(optimizer, o, [o.encoder_rate * o.learning_rate, o.learning_rate])


def is_image_branch(state: RunState) -> bool:
    """Whether a run is one of an image branch."""
    return "branch.classify.weight" in state.weights


def image_branch_of(state: RunState) -> ImageBranch:
    """The trained image branch of a run, in evaluation mode.

    Raises:
        ConfigError: the run is not one of an image branch.
    """
    try:
        # The size is checked before the module allocates memory.
        features = ImageTrainingConfig.from_dict(state.settings).features
        if state.weights["branch.classify.weight"].shape[1:] != (features,):
            raise ConfigError(f"its weights are not those of {features} features")
        module = ImageBranchModule(state.settings)
    except (ConfigError, KeyError) as error:
        raise ConfigError(
            f"{state.path.parent} holds no run of training.train_images; name one of an image branch"
        ) from error
    load_weights(module, state)
    return module.branch.eval()


def load_weights(module: ImageBranchModule, state: RunState) -> None:
    """Load a checkpoint's weights into a module.

    Raises:
        ConfigError: the checkpoint is of another network.
    """
    try:
        module.load_state_dict(state.weights)
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"{state.path.parent} holds a network other than the image branch, or one with other features"
        ) from error
