"""Training crops of augmented range images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.training import AugmentConfig
from training.data.augment import augment
from training.data.feature_bank import MAX_CAMERAS, PointFeatureBank, has_target
from training.data.sweeps import InputSpec, Sweep
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import Normalizer
from xmodelkd_ros.core.projection import NO_PIXEL, NO_POINT


@dataclass(frozen=True, eq=False)
class CropSource:
    """Training sweeps of one source.

    Attributes:
        sweeps: the sweeps.
        dataset: name of the dataset that they are from.
        share: how often a sweep of this source is drawn, relative to the other sources.
    """

    sweeps: Sequence[Sweep]
    dataset: str
    share: float = 1.0


@dataclass(frozen=True)
class CropSize:
    """Size of the crops of a sweep.

    Attributes:
        columns: width of a crop.
        margin: context columns on each side of a crop, which the network sees but the loss does not.
        points: points per crop in the loss.
        count: crops of a sweep, side by side; 0: as many as fit. Fewer crops of more sweeps in a batch show batch
            normalisation more LiDARs at once.
    """

    columns: int
    margin: int
    points: int
    count: int = 0


@dataclass(frozen=True, eq=False)
class CropFeatures:
    """Image features and teacher targets of the points, and how crops use them.

    Attributes:
        bank: features of all training points.
        uses_images: whether image features are a network input; a student only compares its own features with them.
        camera_dropout: probability that a camera is dropped in a sample; all cameras are dropped with half of it.
    """

    bank: PointFeatureBank = field(default_factory=PointFeatureBank)
    uses_images: bool = True
    camera_dropout: float = 0.0


class CropDataset:
    """Augmented sweeps, cut into crops side by side. Sample i depends on the seed only.

    Crops prevent the network from recognising a place by its wide surroundings. With several datasets, the sector that
    is mixed into a sweep comes from another dataset, so that batch normalisation sees the datasets together and not
    one at a time. Pasted objects come from any source.
    """

    def __init__(
        self,
        sources: Sequence[CropSource],
        spec: InputSpec,
        augmentation: AugmentConfig,
        size: CropSize,
        *,
        length: int,
        seed: int,
        features: CropFeatures | None = None,
    ) -> None:
        self._sources, self._augmentation, self._seed = sources, augmentation, seed
        self._crop, self._length = size, length
        self._datasets = np.asarray([source.dataset for source in sources])
        shares = [source.share for source in sources]
        self._shares = np.asarray(shares) / np.sum(shares)
        self._spec = spec
        self._size = (spec.projection.height, spec.projection.width)
        self._features = features or CropFeatures()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """The n crops of an augmented sweep.

        Returns:
            ``image`` (n, K + 1, H, columns + 2 margin), ``points`` (n, P, K), ``pixel`` (n, P) int32 and ``labels``
            (n, P) uint8, 255 where a crop has fewer points than P or a point has no label. With cameras also ``seen``
            (n, F + 1, H, columns + 2 margin), the image features of each pixel's nearest point and a mask, and
            ``views`` (n, P, 2, F + 1), the image features of the points in up to two cameras and a mask. With a teacher
            ``teacher_logits`` (n, P, C) and ``teacher_features`` (n, P, D), all zero at points without a target; with
            an image network ``image_class`` (n, P) uint8, 255 for none, and ``image_weight`` (n, P).
        """
        rng = np.random.default_rng((self._seed, index))
        augmented = augment(*self._drawn(rng), self._spec.projection, self._augmentation, rng)
        sweep, projection = augmented.sweep, augmented.projection
        normalizer = Normalizer(self._spec.channels, self._spec.intensity_range, sweep.sensor)
        features = normalizer.points(sweep.cloud, projection.range, sweep.heights)
        image = normalizer.image(features, projection, *self._size)
        start = self._start(projection.pixel, rng)
        chosen, pixel = self._sample(projection.pixel, sweep, start, rng)
        batch = {
            "image": self._windows(image, start),
            "points": features[chosen],
            "pixel": pixel,
            "labels": np.append(sweep.labels, np.uint8(IGNORE))[chosen],  # the last entry stands for "no point"
        }
        ids = np.zeros(len(sweep.labels) + 1, np.int32)  # the last entry stands for "no point"
        if sweep.point_ids is not None:
            ids[:-1] = sweep.point_ids
        bank, dropout = self._features.bank, self._features.camera_dropout
        if bank.image_features is not None:
            dropped = rng.random(MAX_CAMERAS) < (1.0 if rng.random() < dropout / 2 else dropout)
            if self._features.uses_images:
                batch["seen"] = self._windows(bank.image(sweep.point_ids, projection, self._size, dropped), start)
            batch["views"] = bank.views(ids[chosen], dropped)
        if bank.teacher_logits is not None:
            batch["teacher_logits"] = bank.teacher_logits[ids[chosen]]
        if bank.teacher_features is not None:
            batch["teacher_features"] = bank.teacher_features[ids[chosen]]
        if bank.image_class is not None and bank.image_weight is not None:
            batch["image_class"], batch["image_weight"] = bank.image_class[ids[chosen]], bank.image_weight[ids[chosen]]
        return batch

    def _candidates(self, sweep: Sweep) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N,) masks of the points with a class target (label or teacher logits) and of those in the feature bank."""
        labelled = sweep.labels != IGNORE
        if sweep.point_ids is None:
            return labelled, np.zeros_like(labelled)
        bank = self._features.bank
        if bank.teacher_logits is not None:
            labelled = labelled | has_target(bank.teacher_logits[sweep.point_ids])
        if bank.image_class is not None:
            labelled = labelled | (bank.image_class[sweep.point_ids] != IGNORE)
        return labelled, sweep.point_ids > 0

    def _drawn(self, rng: np.random.Generator) -> tuple[Sweep, Sweep, Sweep]:
        """Draw a sweep, a donor of a sector and a donor of objects."""
        first, third = (int(k) for k in rng.choice(len(self._sources), 2, p=self._shares))
        partners = self._shares * (self._datasets != self._datasets[first])
        partners = partners if partners.any() else self._shares
        second = int(rng.choice(len(self._sources), p=partners / partners.sum()))
        sweep, sector_donor, object_donor = (
            sweeps[int(rng.integers(len(sweeps)))]
            for sweeps in (self._sources[k].sweeps for k in (first, second, third))
        )
        return sweep, sector_donor, object_donor

    @property
    def _count(self) -> int:
        """Crops of a sweep."""
        return self._crop.count or self._size[1] // self._crop.columns

    def _start(self, pixel: NDArray[np.int32], rng: np.random.Generator) -> int:
        """First column of the first crop, which has a random point in it: some LiDARs only see ahead."""
        seen = pixel[pixel != NO_PIXEL]
        column = seen[rng.integers(len(seen))] % self._size[1] if len(seen) else 0
        return int(column - rng.integers(self._crop.columns))

    def _windows(self, image: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """(n, K + 1, H, columns + 2 margin) windows of a (K + 1, H, W) image, the first one starting at ``start``."""
        width, crop = self._size[1], self._crop
        firsts = start + np.arange(self._count) * crop.columns
        columns = firsts[:, None] + np.arange(-crop.margin, crop.columns + crop.margin)
        return np.ascontiguousarray(np.moveaxis(image[:, :, columns % width], 2, 0))

    def _sample(
        self, pixel: NDArray[np.int32], sweep: Sweep, start: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(n, P) indices of the points in the loss (-1 for none), and their pixels in their crops."""
        crop = self._crop
        count, (with_class, with_features) = self._count, self._candidates(sweep)
        # Points with features but no class target only fill the remaining slots.
        parts = ((pixel != NO_PIXEL) & part for part in (with_class, with_features & ~with_class))
        candidates = np.concatenate([rng.permutation(np.flatnonzero(part)) for part in parts])
        row, column = np.divmod(pixel[candidates], self._size[1])
        number, column = np.divmod((column - start) % self._size[1], crop.columns)
        chosen = np.full((count, crop.points), NO_POINT, np.int64)
        cropped = np.zeros((count, crop.points), np.int32)
        for k in range(count):
            members = np.flatnonzero(number == k)[: crop.points]
            chosen[k, : len(members)] = candidates[members]
            cropped[k, : len(members)] = row[members] * crop.columns + column[members]
        return chosen, cropped
