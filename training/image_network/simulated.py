"""Answers of an imagined image network for generated images, from the true classes of their pixels.

A teacher that reads the classes that a network sees, and not colours, can learn from generated drives alone when to
believe them: colours of generated and real images differ, classes hardly do. It must meet the mistakes of real
networks there: things taken for others as a whole, blurred borders, small things missed, stray blobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.image_network.classes import ImageClasses
from training.image_network.confusion import usual_confusion
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.opencv import opencv

_STRIDES = (2.0, 6.0)
"""Pixels per cell of the answers."""
_BLUR_CELLS = 1.5
"""Largest standard deviation of the blur of borders."""
_FIELD_CELLS = (8.0, 60.0)
"""Size of the regions within which the network errs alike."""
_FIELD_STRENGTH = (0.5, 2.5)
"""Strength of what varies between regions, relative to the logits."""
_CONCENTRATION = (8.0, 60.0)
"""Of the Dirichlet distribution of an image's own confusions around the usual ones."""
_SHARPNESS = (0.7, 2.0)
_BLOBS, _BLOB_SIZE = 4, (0.01, 0.12)
"""Largest number of stray blobs, and their sizes relative to the image's width."""
_NEARLY_NEVER = 1e-4


@dataclass(frozen=True, eq=False)
class SimulatedNetwork:
    """An image network that sees the true classes of pixels, and errs as networks do.

    Args:
        classes: its classes.
    """

    classes: ImageClasses

    def answer(self, labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
        """(G, h, w) probabilities of the groups of its classes, edges aligned.

        Args:
            labels: (H, W) class ids of the pixels, 255 for the sky.
            rng: draws its mistakes.
        """
        shares = _shares(labels, len(self.classes.labels), float(rng.uniform(*_STRIDES)), rng)
        said = np.tensordot(_own_confusion(usual_confusion(self.classes), rng).T, shares, axes=1)
        logits = np.log(np.maximum(said, _NEARLY_NEVER)).astype(np.float32)
        logits += _field(logits.shape, rng) * np.float32(rng.uniform(*_FIELD_STRENGTH))
        logits *= np.float32(np.exp(rng.uniform(*np.log(_SHARPNESS))))
        for _ in range(int(rng.integers(_BLOBS + 1))):
            _add_blob(logits, rng)
        logits -= logits.max(axis=0)
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=0))


def _own_confusion(usual: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    concentration = np.exp(rng.uniform(*np.log(_CONCENTRATION)))
    return np.stack([rng.dirichlet(concentration * row) for row in usual]).astype(np.float32)


def _shares(labels: NDArray[np.uint8], classes: int, stride: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(C + 1, h, w) share of each class in the cells, with blurred borders; the last one is the sky."""
    cv2 = opencv()
    height, width = (max(2, round(size / stride)) for size in labels.shape)
    sigma = float(rng.uniform(0.01, _BLUR_CELLS))
    shares = np.zeros((classes + 1, height, width), np.float32)
    for number in np.unique(labels):
        plane = (labels == number).astype(np.float32)
        cells = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
        shares[classes if number == IGNORE else number] = cv2.GaussianBlur(cells, (0, 0), sigma)
    return shares


def _field(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """(G, h, w) smooth random fields of unit variance, each a sum of two scales."""
    cv2 = opencv()
    groups, height, width = shape
    field = np.zeros(shape, np.float32)
    for _ in range(2):
        cells = np.exp(rng.uniform(*np.log(_FIELD_CELLS)))
        size = max(2, round(height / cells)), max(2, round(width / cells))
        coarse = rng.standard_normal((groups, *size), np.float32)
        field += np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in coarse])
    return field / np.float32(np.sqrt(2))


def _add_blob(logits: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Let an ellipse be anything, in place."""
    _, height, width = logits.shape
    rows, columns = np.ogrid[:height, :width]
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    a, b = width * np.exp(rng.uniform(*np.log(_BLOB_SIZE), 2))
    inside: Any = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
    logits[int(rng.integers(len(logits)))][inside] += np.float32(rng.uniform(2.0, 8.0))
