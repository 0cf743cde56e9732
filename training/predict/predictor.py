"""Trained networks that are ready to label sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.cache import memoize
from training.data.feature_bank import ImageFeatures, PointFeatureBank, join_seen, unseen
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, with_rows
from training.datasets.exposures import EncodedSweepImages
from training.models.image_branch import ImageBranch
from training.modules.checkpoint import Checkpoint, read_checkpoint, unusable
from training.modules.point_modules import Batch, PointModule, Prediction, StudentModule, TeacherModule
from training.predict.device import inference, on_fastest_device
from training.predict.image_features import see
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network, of a student or a teacher, that is ready to label.

    Attributes:
        module: its network.
        inputs: its inputs.
        branch: what looks at images for it; None if it sees none.
        shuffled: whether it is shown other images than those that belong to a sweep.
        origins: where what it learnt from comes from.
    """

    module: PointModule
    inputs: InputSpec
    branch: ImageBranch | None
    shuffled: bool = False
    origins: tuple[DataSource, ...] = ()

    def feature_bank(self, sweeps: Sequence[Sweep], encoded_images: Sequence[EncodedSweepImages]) -> PointFeatureBank:
        """What it must know beside sweeps to label them; arguments as of :func:`seen_by`."""
        if not isinstance(self.module, TeacherModule):
            return PointFeatureBank()
        return PointFeatureBank(seen_by(self.branch, sweeps, encoded_images, self.shuffled))

    def predictions(
        self, sweeps: Sequence[Sweep], feature_bank: PointFeatureBank
    ) -> Iterator[tuple[Prediction, NDArray[np.bool_]]]:
        """Its predictions of numbered sweeps, and (N,) which points of each they are of: those with a usable position.

        Args:
            sweeps: the sweeps, with their rows in ``feature_bank``.
            feature_bank: what :meth:`feature_bank` gives for them.
        """
        whole, projector = WholeSweeps(sweeps, self.inputs, feature_bank), RangeProjector(self.inputs.projection)
        module = on_fastest_device(self.module)
        for number, sweep in enumerate(sweeps):
            with inference():
                found = module.predict({name: of.to(module.device) for name, of in tensors(whole[number]).items()})
            yield found.cpu(), projector.project(sweep.cloud).pixel != NO_PIXEL


def load_predictor(run: Path) -> Predictor:
    """The network of a run; a student's sees no images.

    Raises:
        ConfigError: the folder holds no checkpoint, or one of something else.
    """
    return predictor_of(read_checkpoint(run))


def predictor_of(checkpoint: Checkpoint) -> Predictor:
    """The network of a checkpoint; errors as in :meth:`Checkpoint.load_into`."""
    settings = checkpoint.config.teacher
    kind = TeacherModule if settings else StudentModule
    _check_sizes(checkpoint, kind)
    module: PointModule = kind(**checkpoint.arguments)
    checkpoint.load_into(module)
    shuffled = settings is not None and settings.shuffled
    return Predictor(module.eval(), checkpoint.inputs, checkpoint.branch, shuffled, checkpoint.origins)


def _check_sizes(checkpoint: Checkpoint, kind: type[PointModule]) -> None:
    """Raise a ConfigError for settings of another network than the weights', before there is room made for it."""
    try:
        with torch.device("meta"):
            wanted = kind(**checkpoint.arguments).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise unusable(checkpoint.path) from error
    weights = checkpoint.weights
    if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in weights.items()}:
        raise unusable(checkpoint.path)


def seen_by(
    branch: ImageBranch | None,
    sweeps: Sequence[Sweep],
    encoded_images: Sequence[EncodedSweepImages],
    shuffled: bool = False,
) -> ImageFeatures:
    """The image features of numbered sweeps (:func:`training.data.sweeps.with_rows`).

    Args:
        branch: what looks at the images; None for a teacher that sees none.
        sweeps: the numbered sweeps.
        encoded_images: the images of each.
        shuffled: take other images than those that belong there.
    """
    if branch is None or not encoded_images:
        features = branch.features if branch else 0
        return join_seen([unseen(len(sweep.labels), features) for sweep in sweeps], features)
    return join_seen(
        see(branch, shuffled_looks(encoded_images) if shuffled else encoded_images, "images"), branch.features
    )


def shuffled_looks(encoded_images: Sequence[EncodedSweepImages]) -> list[EncodedSweepImages]:
    """In the place of each image one of another camera, of whatever sweep.

    On a drive that stands still a camera sees the same in every sweep, so that its own images would not be wrong.
    """
    # The looks are kept beside what is made of them, so that no others can get their ids.
    return memoize(("shuffled", *map(id, encoded_images)), lambda: (encoded_images, _shuffled(encoded_images)))[1]


def _shuffled(encoded_images: Sequence[EncodedSweepImages]) -> list[EncodedSweepImages]:
    rng = np.random.default_rng(0)

    def other(sweep: int, camera: int) -> bytes:
        choice = [jpeg for look in encoded_images for number, jpeg in enumerate(look.jpegs) if number != camera]
        # A single camera has no others: it gets its own of other sweeps.
        choice = choice or [look.jpegs[camera] for number, look in enumerate(encoded_images) if number != sweep]
        return choice[int(rng.integers(len(choice)))] if choice else b""

    return [
        replace(look, jpegs=tuple(other(sweep, camera) for camera in range(len(look.jpegs))))
        for sweep, look in enumerate(encoded_images)
    ]


@dataclass(frozen=True, eq=False)
class PredictedLabels:
    """What a network gives to the N points of a sweep.

    Attributes:
        ids: (N,) class ids, 255 where a point has no usable position.
        probability: (N,) of that class, not calibrated; 0 where there is none.
    """

    ids: NDArray[np.uint8]
    probability: NDArray[np.float32]


def predict_labels(
    network: Predictor, sweeps: Sequence[Sweep], encoded_images: Sequence[EncodedSweepImages], what: str
) -> Iterator[PredictedLabels]:
    """What a network gives to the points of each sweep.

    Args:
        network: student or teacher, asked once for each sweep.
        sweeps: the sweeps.
        encoded_images: their images; may be empty.
        what: title of the progress bar.
    """
    (numbered,) = with_rows([sweeps], [True])
    answers = network.predictions(numbered, network.feature_bank(numbered, encoded_images))
    for prediction, valid in progress(answers, len(numbered), what):
        ids, probability = np.full(len(valid), IGNORE, np.uint8), np.zeros(len(valid), np.float32)
        best, found = prediction.logits[0].softmax(dim=0).max(dim=0)
        ids[valid], probability[valid] = found.numpy().astype(np.uint8), best.numpy()
        yield PredictedLabels(ids, probability)


def tensors(sweep: Mapping[str, NDArray[Any]]) -> Batch:
    """What :class:`training.data.sweeps.WholeSweeps` gives, as networks take it."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in sweep.items()}
