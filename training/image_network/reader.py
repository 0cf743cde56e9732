"""Class probabilities at points, read from images: what an image network says, and what a teacher makes of it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.data.cache import memoize
from training.data.feature_bank import ImageFeatures
from training.datasets.exposures import EncodedSweepImages
from training.image_network.answers import ImageAnswers
from training.image_network.classes import ImageClasses
from training.image_network.simulated import SimulatedNetwork
from training.models.image_branch import ImageBranch, sample
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.opencv import opencv

_SHIFT = 0.006
"""Standard deviation of an error of calibration and time, relative to the image, in generated drives."""
_BORDER = 0.004
"""Standard deviation of the blur of answers, relative to the width: points beside a border may be seen across it. On
generated drives, two thirds of the points that fall on a pixel of another class do so within 0.005 of a border."""
_MISSING = 0.1
"""Share of generated images that are missing."""


_Answer = tuple[NDArray[np.float32] | None, NDArray[np.float32]]
"""(F, h, w) values of an image, None if it is missing, and by how much its points are off, (2,)."""
_Answers = Callable[[EncodedSweepImages, int, np.random.Generator], _Answer]
"""The answer for one camera's image."""
_IN_PLACE = np.zeros(2, np.float32)


class NetworkReader:
    """Reads the probabilities that an image network gives, of its groups of classes with one meaning.

    Args:
        answers: the network.

    Attributes:
        answers: the same.
        classes: of the network.
        features: G, number of groups.
    """

    def __init__(self, answers: ImageAnswers) -> None:
        self.answers, self.classes = answers, answers.network.classes
        self.features = len(self.classes.groups)

    def point_features(self, encoded_images: Sequence[EncodedSweepImages]) -> list[ImageFeatures]:
        """(N, V, G) probabilities at the points of each sweep; generated images have none."""
        return _point_features(encoded_images, self.features, self.answers.network.key, self._answer)

    def _answer(self, images: EncodedSweepImages, camera: int, rng: np.random.Generator) -> _Answer:
        jpeg = images.jpegs[camera]
        return (self.classes_of(jpeg) if jpeg else None), _IN_PLACE

    def classes_of(self, jpeg: bytes) -> NDArray[np.float32]:
        """(G, h, w) probabilities that the network gives for an image, less certain at the borders of classes."""
        answer = self.classes.grouped(self.answers.of(jpeg))
        sigma = _BORDER * answer.shape[2]
        return np.stack([opencv().GaussianBlur(plane, (0, 0), sigma) for plane in answer])


class ImageClassReader:
    """Reads how probable each class of a label set is in images, for a teacher that sees classes and not colours.

    In recorded drives an image network says so, in generated ones simulated networks with various classes: a teacher
    trained with them can read any network.

    Args:
        tables: classes of the networks that are simulated, all of one label set.
        network: the network of recorded drives; None if there are only generated ones.

    Attributes:
        tables, network: the same.
        features: C + 1, see :meth:`ImageClasses.possible`.

    Raises:
        ConfigError: the tables or the network are of different label sets.
    """

    def __init__(self, tables: Sequence[ImageClasses], network: NetworkReader | None = None) -> None:
        self.tables, self.network = tuple(tables), network
        labels = tables[0].labels
        for other in (*tables[1:], *([network.classes] if network else [])):
            if other.labels != labels:
                raise ConfigError(
                    f"image classes {other.name} mean classes of {other.labels.name}, but the teacher's are of "
                    f"{labels.name}; give a table for these"
                )
        self.features = len(labels) + 1
        self._simulated = [SimulatedNetwork(table) for table in tables]

    @property
    def labels(self) -> LabelMap:
        """The label set."""
        return self.tables[0].labels

    def with_network(self, network: NetworkReader) -> ImageClassReader:
        """The same, with a network for recorded drives; errors as in the constructor."""
        return ImageClassReader(self.tables, network)

    def point_features(self, encoded_images: Sequence[EncodedSweepImages]) -> list[ImageFeatures]:
        """(N, V, C + 1) probabilities at the points of each sweep.

        Raises:
            ConfigError: images without pixel classes, but no network.
        """
        key = self.tables, self.network.answers.network.key if self.network else ""
        return _point_features(encoded_images, self.features, key, self._answer)

    def _answer(self, images: EncodedSweepImages, camera: int, rng: np.random.Generator) -> _Answer:
        if images.pixel_classes and images.pixel_classes[camera]:
            shift = rng.normal(0, _SHIFT, 2).astype(np.float32)
            if rng.random() < _MISSING:
                return None, shift
            labels = np.asarray(Image.open(io.BytesIO(images.pixel_classes[camera])))
            simulated = self._simulated[int(rng.integers(len(self._simulated)))]
            return simulated.classes.groups.possible(simulated.answer(labels, rng)), shift
        if not images.jpegs[camera]:
            return None, _IN_PLACE
        if self.network is None:
            raise ConfigError(
                "the teacher reads the classes that an image network sees; name the network with "
                "distill.image_network=FOLDER (training.adapt: --images-by FOLDER)"
            )
        return self.network.classes.groups.possible(self.network.classes_of(images.jpegs[camera])), _IN_PLACE


def _point_features(
    encoded_images: Sequence[EncodedSweepImages], features: int, key: Hashable, answer: _Answers
) -> list[ImageFeatures]:
    # The cache keeps the images beside their features, so that their id() is not reused.
    return [
        memoize((key, features, id(images)), lambda images=images: (images, _sampled(images, features, answer)))[1]
        for images in progress(encoded_images, len(encoded_images), "image classes")
    ]


def _sampled(images: EncodedSweepImages, features: int, answer: _Answers) -> ImageFeatures:
    camera, uv = images.views.camera.copy(), images.views.uv
    sampled = np.zeros((*camera.shape, features), np.float16)
    rng = np.random.default_rng(zlib.crc32(b"".join(images.pixel_classes)))
    for k in range(len(images.jpegs)):
        points, slots = np.nonzero(camera == k)
        said, shift = answer(images, k, rng)
        if said is None:
            camera[points, slots] = NO_CAMERA
        elif len(points):
            at = torch.from_numpy(uv[points, slots] + shift)
            sampled[points, slots] = sample(torch.from_numpy(said)[None], at[None])[0].T.numpy()
    return ImageFeatures(sampled, camera)


ImageReader = ImageBranch | ImageClassReader
"""What makes features of points from images: an image branch, or a reader of the classes that a network sees."""
