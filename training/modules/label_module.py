"""What every training of a network that gives classes has: class weights, and the validation of each source."""

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
    """A network that gives classes to points or places; its data module knows their ``class_counts``.

    Args:
        validation: the sources of the validation's sweeps, each of which is scored by itself.
        labels: the label set that is learnt.
    """

    class_weights: Tensor

    def __init__(self, validation: Sequence[SourceConfig], labels: str = LABELS) -> None:
        super().__init__()
        self.labels = label_map(labels)
        self.register_buffer("class_weights", torch.ones(len(self.labels)))
        self._translate = translation(self.labels, label_map(scored_labels(labels)))
        self._validation = tuple(validation)
        self._confusions = self._fresh_confusions()

    def on_fit_start(self) -> None:
        """Take the class weights from the data, also when a run is resumed."""
        self.class_weights.copy_(class_weights(self.trainer.datamodule.class_counts))  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        """Let all devices validate with the same statistics of batch normalisation; each has gathered its own."""
        if self.trainer.world_size > 1:
            for statistics in self.buffers():
                torch.distributed.broadcast(statistics, src=0)

    def count(self, logits: Tensor, labels: Tensor, source: int) -> None:
        """Count the confusion of (C, N) logits and (N,) labels of a validation source."""
        predicted = self._translate.apply(logits.argmax(dim=0).cpu().numpy())
        self._confusions[source].update(self._translate.apply(labels.cpu().numpy()), predicted)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and the IoU of each class over each validation source."""
        for number, (source, confusion) in enumerate(zip(self._validation, self._confusions, strict=True)):
            mine = torch.from_numpy(confusion.counts).to(self.device)
            # With several devices, each has seen a part.
            everyone = self.all_gather(mine).reshape(-1, *mine.shape).sum(dim=0)
            confusion.counts = everyone.cpu().numpy()
            prefix = f"val{number}_{source.dataset}"  # two sources may be of one dataset
            self.log(f"{prefix}/miou", confusion.miou() or 0.0, prog_bar=True, sync_dist=True)
            ious = {f"{prefix}/{name}": v for name, v in confusion.iou().items() if v is not None}
            self.log_dict(ious, sync_dist=True)
        self._confusions = self._fresh_confusions()

    def _fresh_confusions(self) -> list[ConfusionMatrix]:
        return [ConfusionMatrix(self._translate.target) for _ in self._validation]
