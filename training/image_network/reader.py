"""Class probabilities at points, read from images: the features of a teacher that reads classes, not colours."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

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
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.opencv import opencv

_SHIFT = 0.006
"""Standard deviation of an error of calibration and time, relative to the image, in generated drives."""
_BORDER = 0.004
"""Standard deviation of the blur of answers, relative to the width: points beside a border may be seen across it. On
generated drives, two thirds of the points that fall on a pixel of another class do so within 0.005 of a border."""
_MISSING = 0.1
"""Share of generated images that are missing."""


class ImageClassReader:
    """Reads class probabilities at points from the images of recorded drives, and simulates them for generated ones.

    Args:
        classes: the classes of the image network.
        answers: that network; None if there are only generated drives.

    Attributes:
        classes: the same.
        features: G, number of groups of classes with one meaning.
        answers: the same.
    """

    def __init__(self, classes: ImageClasses, answers: ImageAnswers | None = None) -> None:
        if answers is not None and answers.network.classes.groups != classes.groups:
            raise ConfigError(
                f"{answers.network.folder} has the classes {answers.network.classes.name}, but the teacher reads those "
                f"of {classes.name}; give a network with these, or train a teacher for the others"
            )
        self.classes, self.answers = classes, answers
        self.features = len(classes.groups)
        self._simulated = SimulatedNetwork(classes)

    def point_features(self, encoded_images: Sequence[EncodedSweepImages]) -> list[ImageFeatures]:
        """The class probabilities at the points of each sweep.

        Raises:
            ConfigError: images without pixel classes, but no network.
        """
        key = self.classes.groups, self.answers.network.key if self.answers else ""
        # The cache keeps the images beside their features, so that their id() is not reused.
        return [
            memoize((key, id(images)), lambda images=images: (images, self._sampled(images)))[1]
            for images in progress(encoded_images, len(encoded_images), "image classes")
        ]

    def _sampled(self, images: EncodedSweepImages) -> ImageFeatures:
        camera, uv = images.views.camera.copy(), images.views.uv
        features = np.zeros((*camera.shape, self.features), np.float16)
        rng = np.random.default_rng(zlib.crc32(b"".join(images.pixel_classes)))
        for k in range(len(images.jpegs)):
            points, slots = np.nonzero(camera == k)
            answer, shift = self._answer(images, k, rng)
            if answer is None:
                camera[points, slots] = NO_CAMERA
            elif len(points):
                at = torch.from_numpy(uv[points, slots] + shift)
                features[points, slots] = sample(torch.from_numpy(answer)[None], at[None])[0].T.numpy()
        return ImageFeatures(features, camera)

    def _answer(
        self, images: EncodedSweepImages, camera: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """(G, h, w) probabilities of an image, None if it is missing, and by how much its points are off, (2,)."""
        if images.pixel_classes and images.pixel_classes[camera]:
            shift = rng.normal(0, _SHIFT, 2).astype(np.float32)
            if rng.random() < _MISSING:
                return None, shift
            labels = np.asarray(Image.open(io.BytesIO(images.pixel_classes[camera])))
            return self._simulated.answer(labels, rng), shift
        if not images.jpegs[camera]:
            return None, np.zeros(2, np.float32)
        if self.answers is None:
            raise ConfigError(
                "the teacher reads the classes that an image network sees; name the network with "
                "distill.image_network=FOLDER (training.adapt: --images-by FOLDER)"
            )
        return self.classes_of(images.jpegs[camera]), np.zeros(2, np.float32)

    def classes_of(self, jpeg: bytes) -> NDArray[np.float32]:
        """(G, h, w) probabilities that the network gives for an image, less certain at the borders of classes."""
        assert self.answers is not None
        answer = self.answers.network.classes.grouped(self.answers.of(jpeg))
        sigma = _BORDER * answer.shape[2]
        return np.stack([opencv().GaussianBlur(plane, (0, 0), sigma) for plane in answer])

    def with_network(self, answers: ImageAnswers) -> ImageClassReader:
        """The same, with a network for recorded drives; errors as in the constructor."""
        return ImageClassReader(self.classes, answers)


ImageReader = ImageBranch | ImageClassReader
"""What makes features of points from images: an image branch, or a reader of the classes that a network sees."""
