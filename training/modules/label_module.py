"""Base of all segmentation modules: class weights, and validation of each source."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from training.config.data import SourceConfig
from training.config.label_sets import LABELS, scored_labels
from training.losses.segmentation import class_weights
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import label_map, translation


class SegmentationModule(pl.LightningModule):
    """A network that classifies points or pixels; its data module must have ``class_counts``.

    Args:
        validation: the validation sources, each of which is scored separately.
        labels: name of the label set to learn.
    """

    class_weights: Tensor

    def __init__(self, validation: Sequence[SourceConfig], labels: str = LABELS) -> None:
        super().__init__()
        self.labels = label_map(labels)
        self.register_buffer("class_weights", torch.ones(len(self.labels)))
        self._translate = translation(self.labels, label_map(scored_labels(labels)))
        self._validation = tuple(validation)
        self._confusions = self._empty_confusions()

    def on_fit_start(self) -> None:
        """Compute the class weights from the data, also when a run is resumed."""
        self.class_weights.copy_(class_weights(self.trainer.datamodule.class_counts))  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        """Synchronise the batch normalisation statistics, which each device has estimated separately."""
        if self.trainer.world_size > 1:
            for statistics in self.buffers():
                torch.distributed.broadcast(statistics, src=0)

    def count(self, logits: Tensor, labels: Tensor, source: int) -> None:
        """Add (C, N) logits and (N,) labels of a validation source to its confusion matrix."""
        predicted = self._translate.apply(logits.argmax(dim=0).cpu().numpy())
        self._confusions[source].update(self._translate.apply(labels.cpu().numpy()), predicted)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU and the IoU of each class for each validation source."""
        for number, (source, confusion) in enumerate(zip(self._validation, self._confusions, strict=True)):
            local = torch.from_numpy(confusion.counts).to(self.device)
            # Each of several devices has validated a part of the sweeps.
            total = self.all_gather(local).reshape(-1, *local.shape).sum(dim=0)
            confusion.counts = total.cpu().numpy()
            prefix = f"val{number}_{source.dataset}"  # two sources may be of one dataset
            self.log(f"{prefix}/miou", confusion.miou() or 0.0, prog_bar=True, sync_dist=True)
            ious = {f"{prefix}/{name}": v for name, v in confusion.iou().items() if v is not None}
            self.log_dict(ious, sync_dist=True)
        self._confusions = self._empty_confusions()

    def _empty_confusions(self) -> list[ConfusionMatrix]:
        return [ConfusionMatrix(self._translate.target) for _ in self._validation]
