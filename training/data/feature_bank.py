"""Image features and teacher outputs at the points of the training sweeps.

They are stored in tables with one row per point of all sweeps. Augmentation rotates, crops and mixes sweeps; each point
only carries the id of its row, and its features are looked up afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.projection import RangeProjection
from xmodelkd_ros.core.visibility import MAX_VIEWS, NO_CAMERA

MAX_CAMERAS = 6
NO_DROPOUT = np.zeros(MAX_CAMERAS, np.bool_)


def has_target(values: Any) -> Any:
    """(M,) which rows of (M, D) targets, an array or a tensor, are set; rows without a target are all zero."""
    return values.any(-1)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Image features sampled at M points.

    Attributes:
        features: (M, 2, F) float16 image features in up to two cameras.
        camera: (M, 2) int8 numbers of these cameras, -1 for none.
    """

    features: NDArray[np.float16]
    camera: NDArray[np.int8]

    @classmethod
    def empty(cls, points: int, features: int = 0) -> ImageFeatures:
        """Features of points that are in no image."""
        camera = np.full((points, MAX_VIEWS), NO_CAMERA, np.int8)
        return cls(np.zeros((points, MAX_VIEWS, features), np.float16), camera)

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures], features: int) -> ImageFeatures:
        """Concatenate the tables of several sweeps behind an empty row 0."""
        parts = [cls.empty(1, features), *parts]
        return cls(np.concatenate([p.features for p in parts]), np.concatenate([p.camera for p in parts]))


@dataclass(frozen=True, eq=False)
class PointFeatureBank:
    """Tables of M rows; row 0 stands for a point without features.

    Attributes:
        image_features: image features; None without cameras.
        teacher_logits: (M, C) float16 logits of a teacher, all zero where it has none; None without a teacher.
        teacher_features: (M, D) float16 features of that teacher, all zero likewise; None where they are not used.
        teacher_uncertainty: (M,) float16, 1 minus the teacher's highest probability; None where it is not used.
        image_class: (M,) uint8 what an image network sees, 255 for nothing; None without an image network.
        image_weight: (M,) float16 how much that counts; None likewise.
    """

    image_features: ImageFeatures | None = None
    teacher_logits: NDArray[np.float16] | None = None
    teacher_features: NDArray[np.float16] | None = None
    teacher_uncertainty: NDArray[np.float16] | None = None
    image_class: NDArray[np.uint8] | None = None
    image_weight: NDArray[np.float16] | None = None

    def views(self, ids: NDArray[np.int32], dropped: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(N, 2, F + 1) image features of points in up to two cameras, and a mask that is 1 where a camera has one.

        Args:
            ids: (N,) rows of the points.
            dropped: (6,) cameras to leave out.
        """
        assert self.image_features is not None
        camera = self.image_features.camera[ids]
        mask = ((camera != NO_CAMERA) & ~dropped[camera])[..., None]
        return np.concatenate([self.image_features.features[ids] * mask, mask], axis=-1, dtype=np.float32)

    def image(
        self,
        ids: NDArray[np.int32] | None,
        projection: RangeProjection,
        size: tuple[int, int],
        dropped: NDArray[np.bool_] = NO_DROPOUT,
    ) -> NDArray[np.float32]:
        """(F + 1, H, W) mean image features of the nearest point of each range image pixel, and a mask.

        Args:
            ids: (N,) rows of the points; None if none has features.
            projection: of these points.
            size: H and W.
            dropped: (6,) cameras to leave out.
        """
        padded = np.zeros(len(projection.pixel) + 1, np.int32)  # the last entry stands for an empty pixel
        padded[:-1] = 0 if ids is None else ids
        return np.moveaxis(mean_view(self.views(padded[projection.point], dropped)).reshape(*size, -1), -1, 0)


def mean_view(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, F + 1) mean features over the cameras, and a mask; from :meth:`PointFeatureBank.views`."""
    total = views.sum(axis=1)
    count = total[:, -1:]
    return np.hstack([total[:, :-1] / np.maximum(count, 1), count > 0]).astype(np.float32)
