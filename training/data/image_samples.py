"""Labelled pictures for the image branch: by their pixels in the world, by projected points in real drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.exposures import at_instant, decoded
from training.datasets.sequence import DriveSequence, labels_of
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.visibility import visible_points
from xmodelkd_ros.segmentation.image_features import resized

PLACES = 20_000
"""Labelled places that are kept of a picture, at most."""

_MOST_ZOOM = 1.8
_GAIN, _GAMMA, _TINT, _SATURATION = 0.2, 0.15, 0.06, 0.25
"""Standard deviations of the logarithms of exposure, gamma, the gain of each colour, and saturation."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with labels at some places.

    Attributes:
        jpeg: its bytes.
        uv: (M, 2) places, -1 to 1 from edge to edge.
        labels: (M,) their class ids.
    """

    jpeg: bytes
    uv: NDArray[np.float32]
    labels: NDArray[np.uint8]


def pictures_of(
    sequence: DriveSequence, frame: int, rng: np.random.Generator, propagated: NDArray[np.uint8] | None = None
) -> list[Picture]:
    """The pictures that belong to a sweep, labelled by their own pixels or by the points that each camera sees.

    Args:
        sequence: the drive.
        frame: of the sweep.
        rng: chooses the places that are kept.
        propagated: (N,) labels of the points, where they are not the drive's own; pixels' own labels are left out then.
    """
    points, own = sequence.cloud(frame).xyz, propagated is None
    point_labels, found = labels_of(sequence, frame) if propagated is None else propagated, []
    time_s, stamp = sequence.time_s(frame), sequence.stamp_ns(frame)
    for image in sequence.images(frame):
        known = image.labels() if own else None
        if known is None:
            shutter_s = (image.stamp_ns - stamp) * 1e-9
            index, uv = visible_points(image.camera, at_instant(sequence, frame, points, time_s, shutter_s))
            labels = point_labels[index]
        else:
            row, column = np.divmod(rng.integers(known.size, size=PLACES), known.shape[1])
            uv = (np.column_stack([column, row]) + 0.5) / known.shape[::-1] * 2 - 1
            labels = known[row, column]
            if not _is_known(sequence, labels):
                raise ConfigError(
                    f"{sequence.name}, frame {frame}: its pictures have labels of no class; write it again"
                )
        used = rng.permutation(np.flatnonzero(labels != IGNORE))[:PLACES]
        found.append(Picture(image.jpeg(), uv[used].astype(np.float32), labels[used]))
    return found


def _is_known(sequence: DriveSequence, labels: NDArray[np.uint8]) -> bool:
    return bool(np.isin(labels, [*(c.id for c in sequence.label_map.classes), IGNORE]).all())


class PictureDataset:
    """Changed pictures: sample i is the same for the same seed, whoever asks for it.

    Args:
        sources: the pictures of each source.
        shares: how often a picture of each source is drawn, relative to the others.
        size: height and width to which pictures are brought.
        places: labelled places per picture that the loss sees.
        length: number of samples.
        seed: of everything random; None leaves the pictures as they are, one after the other.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Picture]],
        shares: Sequence[float],
        size: tuple[int, int],
        places: int,
        length: int,
        seed: int | None,
    ) -> None:
        self._sources, self._shares = sources, np.asarray(shares) / np.sum(shares)
        self._size, self._places, self._length, self._seed = size, places, length, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """``image`` (H, W, 3) bytes, ``uv`` (P, 2), ``labels`` (P,) with 255 where there are fewer than P."""
        if self._seed is None:
            picture = [one for source in self._sources for one in source][index]
            pixels, uv, labels = resized(decoded(picture.jpeg), self._size), picture.uv, picture.labels
        else:
            rng = np.random.default_rng((self._seed, index))
            source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
            pixels, uv, labels = changed(source[int(rng.integers(len(source)))], self._size, rng)
        count = min(len(labels), self._places)
        places, classes = np.zeros((self._places, 2), np.float32), np.full(self._places, IGNORE, np.uint8)
        places[:count], classes[:count] = uv[:count], labels[:count]
        return {"image": pixels, "uv": places, "labels": classes}


def changed(
    picture: Picture, size: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """A part of a picture, perhaps mirrored, in another light, with its labelled places in random order."""
    pixels = decoded(picture.jpeg)
    extent = np.array(pixels.shape[1::-1])
    zoom = np.exp(rng.uniform(0, np.log(_MOST_ZOOM)))
    middle = rng.uniform(-1, 1, 2) * (1 - 1 / zoom)
    # Cut to whole pixels, and shrunk as pictures are shrunk when they are used: a warp would not average over pixels.
    low, high = (np.rint((middle + side / zoom + 1) / 2 * extent).astype(int) for side in (-1, 1))
    shown = resized(pixels[low[1] : high[1], low[0] : high[0]], size)
    uv = ((picture.uv + 1) / 2 * extent - low) / (high - low) * 2 - 1
    if rng.random() < 0.5:
        shown, uv = shown[:, ::-1], uv * (-1, 1)
    inside = rng.permutation(np.flatnonzero((np.abs(uv) < 1).all(axis=1)))
    return in_another_light(np.ascontiguousarray(shown), rng), uv[inside].astype(np.float32), picture.labels[inside]


def in_another_light(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another exposure, gamma, white balance and saturation."""
    gain = np.exp(rng.normal(0, _GAIN) + rng.normal(0, _TINT, 3))
    gamma, saturation = np.exp(rng.normal(0, (_GAMMA, _SATURATION)))
    curve = np.arange(256)[:, None] / 255
    table = np.clip(255 * (curve**gamma) * gain, 0, 255).astype(np.float32)
    values = np.stack([table[pixels[..., k], k] for k in range(3)], axis=-1)
    grey = values.mean(axis=-1, keepdims=True)
    return np.clip(grey + (values - grey) * saturation, 0, 255).astype(np.uint8)
