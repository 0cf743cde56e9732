"""The crops of augmented range images that training takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.training import AugmentConfig
from training.data.augment import augment
from training.data.feature_bank import MOST_CAMERAS, PointFeatureBank, is_known
from training.data.sweeps import InputSpec, Sweep
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import Normalizer
from xmodelkd_ros.core.projection import NO_PIXEL, NO_POINT, RangeProjector


class CropDataset:
    """Augmented sweeps, cut into crops side by side: sample i is the same for the same seed, whoever asks for it.

    Crops keep the network from knowing a place by what is all around it. Where there are several datasets, the sector
    that is mixed into a sweep comes from another dataset: batch normalisation sees them together, and not one by one
    with statistics that no sweep has in the end. Objects come from any source.

    Args:
        sources: the training sweeps of each source.
        datasets: the dataset that each source is of.
        shares: how often a sweep of each source is drawn, relative to the others.
        spec: the network's inputs.
        augmentation: how strongly sweeps are changed.
        columns: width of a crop.
        margin: columns beside the crop, left and right, that the network sees without loss.
        points: points per crop that the loss sees.
        length: number of samples, each a sweep.
        seed: of everything random.
        feature_bank: what is known of the points beside their labels.
        shows: whether the network looks at what cameras see; a student that is only compared with it does not.
        camera_dropout: probability that a camera gives nothing; half of that, that none does.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Sweep]],
        datasets: Sequence[str],
        shares: Sequence[float],
        spec: InputSpec,
        augmentation: AugmentConfig,
        *,
        columns: int,
        margin: int,
        points: int,
        length: int,
        seed: int,
        feature_bank: PointFeatureBank | None = None,
        shows: bool = True,
        camera_dropout: float = 0.0,
    ) -> None:
        self._sources, self._augmentation, self._seed = sources, augmentation, seed
        self._columns, self._margin, self._points, self._length = columns, margin, points, length
        self._datasets, self._shares = np.asarray(datasets), np.asarray(shares) / np.sum(shares)
        self._projector = RangeProjector(spec.projection)
        self._normalizer = Normalizer(spec.channels, spec.intensity_range)
        self._size = (spec.projection.height, spec.projection.width)
        self._knowledge, self._shows, self._dark = feature_bank or PointFeatureBank(), shows, camera_dropout

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """The n crops of an augmented sweep.

        Returns:
            ``image`` (n, K + 1, H, columns + 2 margin), ``points`` (n, P, K), ``pixel`` (n, P) int32 and ``labels``
            (n, P) uint8, 255 where a crop has fewer points than P or a point has no label. With cameras also ``seen``
            (n, F + 1, H, columns + 2 margin), the image features of the pixels' nearest points and a mask, and
            ``views`` (n, P, 2, F + 1), those of the points' views. With a teacher ``teacher_logits`` (n, P, C), its logits,
            all zero where it says nothing, and ``teacher_features`` (n, P, D), its features.
        """
        rng = np.random.default_rng((self._seed, index))
        sweep = augment(*self._drawn(rng), self._projector, self._augmentation, rng)
        projection = self._projector.project(sweep.cloud)
        features = self._normalizer.points(sweep.cloud, projection.range)
        image = self._normalizer.image(features, projection, *self._size)
        start = int(rng.integers(self._size[1]))
        kept, pixel = self._sample(projection.pixel, sweep, start, rng)
        batch = {
            "image": self._windows(image, start),
            "points": features[kept],
            "pixel": pixel,
            "labels": np.where(kept == NO_POINT, IGNORE, sweep.labels[kept]).astype(np.uint8),
        }
        rows = np.zeros(len(sweep.labels) + 1, np.int32)  # the last one stands for "no point"
        if sweep.rows is not None:
            rows[:-1] = sweep.rows
        if self._knowledge.seen is not None:
            dark = rng.random(MOST_CAMERAS) < (1.0 if rng.random() < self._dark / 2 else self._dark)
            if self._shows:
                batch["seen"] = self._windows(self._knowledge.image(sweep.rows, projection, self._size, dark), start)
            batch["views"] = self._knowledge.views(rows[kept], dark)
        if self._knowledge.teacher_logits is not None:
            batch["teacher_logits"] = self._knowledge.teacher_logits[rows[kept]]
        if self._knowledge.teacher_features is not None:
            batch["teacher_features"] = self._knowledge.teacher_features[rows[kept]]
        return batch

    def _useful(self, sweep: Sweep) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N,) which points have a class to learn, by label or by a teacher's word, and of which more is known."""
        labelled = sweep.labels != IGNORE
        if sweep.rows is None:
            return labelled, np.zeros_like(labelled)
        if self._knowledge.teacher_logits is not None:
            labelled = labelled | is_known(self._knowledge.teacher_logits[sweep.rows])
        return labelled, sweep.rows > 0

    def _drawn(self, rng: np.random.Generator) -> tuple[Sweep, Sweep, Sweep]:
        """A sweep, the one that may give a sector to it, and the one that may give objects."""
        first, third = (int(k) for k in rng.choice(len(self._sources), 2, p=self._shares))
        partners = self._shares * (self._datasets != self._datasets[first])
        partners = partners if partners.any() else self._shares
        second = int(rng.choice(len(self._sources), p=partners / partners.sum()))
        sweep, sector_of, objects_of = (
            self._sources[k][int(rng.integers(len(self._sources[k])))] for k in (first, second, third)
        )
        return sweep, sector_of, objects_of

    def _windows(self, image: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """(n, K + 1, H, columns + 2 margin) windows of a (K + 1, H, W) image, the first one begins at ``start``."""
        width = self._size[1]
        firsts = start + np.arange(width // self._columns) * self._columns
        columns = firsts[:, None] + np.arange(-self._margin, self._columns + self._margin)
        return np.ascontiguousarray(np.moveaxis(image[:, :, columns % width], 2, 0))

    def _sample(
        self, pixel: NDArray[np.int32], sweep: Sweep, start: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(n, P) indices of the points that the loss sees (-1 for none), and their pixels in their crops."""
        count, (classes, more) = self._size[1] // self._columns, self._useful(sweep)
        # Points of which only features are known fill what places are left: they take none from a class.
        parts = ((pixel != NO_PIXEL) & part for part in (classes, more & ~classes))
        candidates = np.concatenate([rng.permutation(np.flatnonzero(part)) for part in parts])
        row, column = np.divmod(pixel[candidates], self._size[1])
        crop, column = np.divmod((column - start) % self._size[1], self._columns)
        kept = np.full((count, self._points), NO_POINT, np.int64)
        cropped = np.zeros((count, self._points), np.int32)
        for k in range(count):
            members = np.flatnonzero(crop == k)[: self._points]
            kept[k, : len(members)] = candidates[members]
            cropped[k, : len(members)] = row[members] * self._columns + column[members]
        return kept, cropped
