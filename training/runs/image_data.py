"""Data module of the image branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.config.image_training import ImageTrainingConfig
from training.config.label_sets import LABELS
from training.data.image_samples import ImageSampleDataset, LabelledImage
from training.data.sources import load_labelled_images, origin_of
from training.models.image_branch import IMAGE_SIZE
from training.runs.trainer import own_part, training_loader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import label_map


class ImageData(pl.LightningDataModule):
    """Augmented training images, and unchanged validation images of each source.

    Args:
        config: the run.
        before: origins of the data that the initial weights were trained on.

    Attributes:
        class_counts: (C,) labelled training pixels of each class, weighted by source share, after :meth:`setup`.
        origins: origins of the training images and of ``before``, after :meth:`setup`.
    """

    class_counts: Tensor
    origins: list[DataSource]

    def __init__(self, config: ImageTrainingConfig, before: Sequence[DataSource] = ()) -> None:
        super().__init__()
        self._config, self._before = config, before
        self._train: list[list[LabelledImage]] = []
        self._validation: list[list[LabelledImage]] = []

    def setup(self, stage: str) -> None:
        """Read or generate the images, once."""
        if self._train:
            return
        data = self._config.data
        self._train = [load_labelled_images(source, "train", data.train) for source in data.train]
        self._validation = [load_labelled_images(source, "validation") for source in data.validation]
        for source, images in zip(data.train, self._train, strict=True):
            if not any(len(image.labels) for image in images):
                raise ConfigError(f"{source} has no images with labels; give drives with cameras and labels")
        self.origins = list(dict.fromkeys([*self._before, *(origin_of(source) for source in data.train)]))
        counts = np.zeros(IGNORE + 1)
        for source, images in zip(data.train, self._train, strict=True):
            labels = sum(np.bincount(image.labels, minlength=IGNORE + 1) for image in images)
            counts += source.share / len(images) * labels
        self.class_counts = torch.tensor(counts[: len(label_map(LABELS))], dtype=torch.float32)

    def train_dataloader(self) -> DataLoader[Any]:
        """Images of one epoch. The trainer requests a loader per epoch, so that a resumed run gets the same images."""
        o = self._config.optimizer
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        shares = [source.share for source in self._config.data.train]
        seed = self._config.seed * 100_003 + epoch
        processes = self.trainer.world_size if self.trainer is not None else 1
        images = ImageSampleDataset(self._train, shares, IMAGE_SIZE, o.places, o.steps * o.batch * processes, seed)
        return training_loader(images, self.trainer, o.batch, o.workers)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The images of each validation source, one at a time."""
        places = self._config.optimizer.places
        whole = [ImageSampleDataset([p], [1.0], IMAGE_SIZE, places, len(p), None) for p in self._validation]
        return [DataLoader(own_part(images, self.trainer)) for images in whole]
