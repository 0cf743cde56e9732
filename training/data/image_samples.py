"""Labelled images for the image branch: by pixel for generated drives, by projected points for recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.exposures import motion_compensated
from training.datasets.sequence import DriveSequence, decode_jpeg, labels_of
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.visibility import visible_points
from xmodelkd_ros.segmentation.image_features import resized

MAX_PIXEL_SAMPLES = 20_000
"""Labelled pixel samples that are kept of an image, at most."""

_MAX_ZOOM = 1.8
_GAIN, _GAMMA, _TINT, _SATURATION = 0.2, 0.15, 0.06, 0.25
"""Standard deviations of the logarithms of exposure, gamma, the gain of each colour, and saturation."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image with labels at some pixel positions.

    Attributes:
        jpeg: the encoded image.
        uv: (M, 2) positions, -1 to 1 from edge to edge.
        labels: (M,) their class ids.
    """

    jpeg: bytes
    uv: NDArray[np.float32]
    labels: NDArray[np.uint8]


def labelled_images(
    sequence: DriveSequence, frame: int, rng: np.random.Generator, propagated: NDArray[np.uint8] | None = None
) -> list[LabelledImage]:
    """The images of a frame, labelled by their own pixel labels or else by the points that each camera sees.

    Args:
        sequence: the drive.
        frame: number of the frame.
        rng: draws the pixel samples.
        propagated: (N,) propagated labels of the points; replace the drive's own labels of points and pixels.
    """
    xyz = sequence.cloud(frame).xyz
    point_labels = labels_of(sequence, frame) if propagated is None else propagated
    time_s, stamp = sequence.time_s(frame), sequence.stamp_ns(frame)
    result = []
    for image in sequence.images(frame):
        pixel_labels = image.labels() if propagated is None else None
        if pixel_labels is None:
            shutter_s = (image.stamp_ns - stamp) * 1e-9
            index, uv = visible_points(image.camera, motion_compensated(sequence, frame, xyz, time_s, shutter_s))
            labels = point_labels[index]
        else:
            row, column = np.divmod(rng.integers(pixel_labels.size, size=MAX_PIXEL_SAMPLES), pixel_labels.shape[1])
            uv = (np.column_stack([column, row]) + 0.5) / pixel_labels.shape[::-1] * 2 - 1
            labels = pixel_labels[row, column]
            if not np.isin(labels, [*(c.id for c in sequence.label_map.classes), IGNORE]).all():
                raise ConfigError(
                    f"{sequence.name}, frame {frame}: its images have labels outside the label set; write it again"
                )
        used = rng.permutation(np.flatnonzero(labels != IGNORE))[:MAX_PIXEL_SAMPLES]
        result.append(LabelledImage(image.jpeg(), uv[used].astype(np.float32), labels[used]))
    return result


class ImageSampleDataset:
    """Augmented labelled images. Sample i depends on the seed only.

    Args:
        sources: the images of each source.
        shares: how often an image of each source is drawn, relative to the others.
        size: height and width that images are resized to.
        samples: pixel samples per image in the loss.
        length: number of images in an epoch.
        seed: of all random numbers; None returns the images in order, without augmentation.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[LabelledImage]],
        shares: Sequence[float],
        size: tuple[int, int],
        samples: int,
        length: int,
        seed: int | None,
    ) -> None:
        self._sources, self._shares = sources, np.asarray(shares) / np.sum(shares)
        self._size, self._samples, self._length, self._seed = size, samples, length, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """``image`` (H, W, 3) uint8, ``uv`` (P, 2), ``labels`` (P,), 255 where there are fewer than P."""
        if self._seed is None:
            image = [one for source in self._sources for one in source][index]
            pixels, uv, labels = resized(decode_jpeg(image.jpeg), self._size), image.uv, image.labels
        else:
            rng = np.random.default_rng((self._seed, index))
            source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
            pixels, uv, labels = augment_image(source[int(rng.integers(len(source)))], self._size, rng)
        count = min(len(labels), self._samples)
        positions, classes = np.zeros((self._samples, 2), np.float32), np.full(self._samples, IGNORE, np.uint8)
        positions[:count], classes[:count] = uv[:count], labels[:count]
        return {"image": pixels, "uv": positions, "labels": classes}


def augment_image(
    image: LabelledImage, size: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Crop, resize, mirror and colour-jitter an image; returns pixels, and positions and labels in random order."""
    pixels = decode_jpeg(image.jpeg)
    extent = np.array(pixels.shape[1::-1])
    zoom = np.exp(rng.uniform(0, np.log(_MAX_ZOOM)))
    middle = rng.uniform(-1, 1, 2) * (1 - 1 / zoom)
    # Cropped to whole pixels and resized as at inference: a warp would not average over pixels.
    low, high = (np.rint((middle + side / zoom + 1) / 2 * extent).astype(int) for side in (-1, 1))
    crop = resized(pixels[low[1] : high[1], low[0] : high[0]], size)
    uv = ((image.uv + 1) / 2 * extent - low) / (high - low) * 2 - 1
    if rng.random() < 0.5:
        crop, uv = crop[:, ::-1], uv * (-1, 1)
    inside = rng.permutation(np.flatnonzero((np.abs(uv) < 1).all(axis=1)))
    return color_jitter(np.ascontiguousarray(crop), rng), uv[inside].astype(np.float32), image.labels[inside]


def color_jitter(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change exposure, gamma, white balance and saturation."""
    gain = np.exp(rng.normal(0, _GAIN) + rng.normal(0, _TINT, 3))
    gamma, saturation = np.exp(rng.normal(0, (_GAMMA, _SATURATION)))
    curve = np.arange(256)[:, None] / 255
    table = np.clip(255 * (curve**gamma) * gain, 0, 255).astype(np.float32)
    values = np.stack([table[pixels[..., k], k] for k in range(3)], axis=-1)
    grey = values.mean(axis=-1, keepdims=True)
    return np.clip(grey + (values - grey) * saturation, 0, 255).astype(np.uint8)
