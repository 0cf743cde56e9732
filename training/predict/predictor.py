"""Trained networks in evaluation mode, and the labels they predict for sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.cache import memoize
from training.data.feature_bank import ImageFeatures, PointFeatureBank
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, projector_of, with_point_ids
from training.datasets.exposures import EncodedSweepImages
from training.image_network.reader import ImageReader
from training.modules.checkpoint import Checkpoint, read_checkpoint, unusable
from training.modules.point_modules import Batch, PointModule, Prediction, StudentModule, TeacherModule
from training.predict.device import inference, on_fastest_device
from training.predict.image_features import point_image_features
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.projection import NO_PIXEL


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained student or teacher, with everything that it needs to label sweeps.

    Attributes:
        module: the network.
        inputs: the network's inputs.
        reader: what makes a teacher's features from images; None for a network without images.
        shuffled: whether the network gets the images of other sweeps, as a control.
        origins: origins of the training data.
    """

    module: PointModule
    inputs: InputSpec
    reader: ImageReader | None
    shuffled: bool = False
    origins: tuple[DataSource, ...] = ()

    def feature_bank(self, sweeps: Sequence[Sweep], encoded_images: Sequence[EncodedSweepImages]) -> PointFeatureBank:
        """The image features that the network needs beside sweeps; arguments as of :func:`image_features_of`."""
        if not isinstance(self.module, TeacherModule):
            return PointFeatureBank()
        return PointFeatureBank(image_features_of(self.reader, sweeps, encoded_images, self.shuffled))

    def predictions(
        self, sweeps: Sequence[Sweep], feature_bank: PointFeatureBank
    ) -> Iterator[tuple[Prediction, NDArray[np.bool_]]]:
        """Predictions for sweeps, and an (N,) mask of the points that they cover: those with a usable position."""
        whole = WholeSweeps(sweeps, self.inputs, feature_bank)
        module = on_fastest_device(self.module)
        for number, sweep in enumerate(sweeps):
            with inference():
                batch = {name: value.to(module.device) for name, value in tensors(whole[number]).items()}
                prediction = module.predict(batch)
            projector = projector_of(self.inputs.projection, sweep.sensor)
            yield prediction.cpu(), projector.project(sweep.cloud).pixel != NO_PIXEL


def load_predictor(run: Path) -> Predictor:
    """The trained network of a run.

    Raises:
        ConfigError: the folder holds no checkpoint, or one of another kind of network.
    """
    return predictor_of(read_checkpoint(run))


def predictor_of(checkpoint: Checkpoint) -> Predictor:
    """The trained network of a checkpoint; errors as in :meth:`Checkpoint.load_into`."""
    settings = checkpoint.config.teacher
    kind = TeacherModule if settings else StudentModule
    _check_sizes(checkpoint, kind)
    module: PointModule = kind(**checkpoint.arguments)
    checkpoint.load_into(module)
    shuffled = settings is not None and settings.shuffled
    return Predictor(module.eval(), checkpoint.inputs, checkpoint.reader, shuffled, checkpoint.origins)


def _check_sizes(checkpoint: Checkpoint, kind: type[PointModule]) -> None:
    """Raise a ConfigError if settings and weights are of different networks, before memory is allocated."""
    try:
        with torch.device("meta"):
            expected = kind(**checkpoint.arguments).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise unusable(checkpoint.path) from error
    if _shapes(expected) != _shapes(checkpoint.weights):
        raise unusable(checkpoint.path)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def image_features_of(
    reader: ImageReader | None,
    sweeps: Sequence[Sweep],
    encoded_images: Sequence[EncodedSweepImages],
    shuffled: bool = False,
) -> ImageFeatures:
    """The image features of sweeps with rows (:func:`training.data.sweeps.with_point_ids`).

    Args:
        reader: what makes features from images; None for a teacher without cameras.
        sweeps: the sweeps.
        encoded_images: the images of each.
        shuffled: take images of other sweeps and cameras, as a control.
    """
    if reader is None or not encoded_images:
        features = reader.features if reader else 0
        return ImageFeatures.join([ImageFeatures.empty(len(sweep.labels), features) for sweep in sweeps], features)
    images = shuffled_images(encoded_images) if shuffled else encoded_images
    return ImageFeatures.join(point_image_features(reader, images), reader.features)


def shuffled_images(encoded_images: Sequence[EncodedSweepImages]) -> list[EncodedSweepImages]:
    """The images with each one replaced by that of another camera, from a random sweep.

    The same camera would not do: on a drive that stands still it takes the same image in every sweep.
    """
    # The cache keeps the images beside the result, so that their id() is not reused.
    return memoize(("shuffled", *map(id, encoded_images)), lambda: (encoded_images, _shuffled(encoded_images)))[1]


def _shuffled(encoded_images: Sequence[EncodedSweepImages]) -> list[EncodedSweepImages]:
    rng = np.random.default_rng(0)

    def other(sweep: int, camera: int) -> bytes:
        choices = [jpeg for images in encoded_images for number, jpeg in enumerate(images.jpegs) if number != camera]
        # With a single camera, take its images of other sweeps.
        choices = choices or [images.jpegs[camera] for number, images in enumerate(encoded_images) if number != sweep]
        return choices[int(rng.integers(len(choices)))] if choices else b""

    return [
        replace(images, jpegs=tuple(other(sweep, camera) for camera in range(len(images.jpegs))))
        for sweep, images in enumerate(encoded_images)
    ]


@dataclass(frozen=True, eq=False)
class PredictedLabels:
    """Predicted labels of the N points of a sweep.

    Attributes:
        ids: (N,) class ids, 255 where a point has no usable position.
        probability: (N,) uncalibrated probability of that class; 0 where there is none.
    """

    ids: NDArray[np.uint8]
    probability: NDArray[np.float32]


def predict_labels(
    network: Predictor, sweeps: Sequence[Sweep], encoded_images: Sequence[EncodedSweepImages], title: str
) -> Iterator[PredictedLabels]:
    """Label sweeps with a student or teacher."""
    (numbered,) = with_point_ids([sweeps], [True])
    predictions = network.predictions(numbered, network.feature_bank(numbered, encoded_images))
    for prediction, valid in progress(predictions, len(numbered), title):
        ids, probability = np.full(len(valid), IGNORE, np.uint8), np.zeros(len(valid), np.float32)
        best, class_ids = prediction.logits[0].softmax(dim=0).max(dim=0)
        ids[valid], probability[valid] = class_ids.numpy().astype(np.uint8), best.numpy()
        yield PredictedLabels(ids, probability)


def tensors(sweep: Mapping[str, NDArray[Any]]) -> Batch:
    """A sample of :class:`training.data.sweeps.WholeSweeps` as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in sweep.items()}
