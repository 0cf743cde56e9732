"""What others know of the points of the training sweeps: what cameras see there, and what a teacher says of them.

It is kept in tables with one row for each point of all sweeps. Sweeps are turned, cut and mixed before they reach the
network; their points take only the number of their row along, and what is known is fetched when all that is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.projection import RangeProjection
from xmodelkd_ros.core.visibility import MAX_VIEWS, NO_CAMERA

MOST_CAMERAS = 6
ALL_LIT = np.zeros(MOST_CAMERAS, np.bool_)


def is_known(values: Any) -> Any:
    """(M,) which rows of (M, D) targets, an array or a tensor, say anything: one that says nothing is all zero."""
    return values.any(-1)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What cameras see at M points.

    Attributes:
        features: (M, 2, F) float16 image features in up to two cameras.
        camera: (M, 2) int8 numbers of these cameras, -1 for none.
    """

    features: NDArray[np.float16]
    camera: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class PointFeatureBank:
    """Tables of M rows; row 0 stands for a point of which nothing is known.

    Attributes:
        seen: image features; None where no cameras serve.
        teacher_logits: (M, C) float16 logits of a teacher, all zero where it says nothing; None without a teacher.
        teacher_features: (M, D) float16 features of that teacher, all zero likewise; None where they do not serve.
        teacher_uncertainty: (M,) float16, how much the teacher doubts its most probable class; None where it does not matter.
    """

    seen: ImageFeatures | None = None
    teacher_logits: NDArray[np.float16] | None = None
    teacher_features: NDArray[np.float16] | None = None
    teacher_uncertainty: NDArray[np.float16] | None = None

    def views(self, rows: NDArray[np.int32], dark: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(N, 2, F + 1) image features of the views of points, and 1 where there is a view.

        Args:
            rows: (N,) rows of the points.
            dark: (6,) which cameras give nothing.
        """
        assert self.seen is not None
        camera = self.seen.camera[rows]
        lit = ((camera != NO_CAMERA) & ~dark[camera])[..., None]
        return np.concatenate([self.seen.features[rows] * lit, lit], axis=-1, dtype=np.float32)

    def image(
        self,
        rows: NDArray[np.int32] | None,
        projection: RangeProjection,
        size: tuple[int, int],
        dark: NDArray[np.bool_] = ALL_LIT,
    ) -> NDArray[np.float32]:
        """(F + 1, H, W) mean image features of the nearest points of a range image's pixels, and 1 where one is seen.

        Args:
            rows: (N,) rows of the points; None if nothing is known of them.
            projection: of these points.
            size: H and W.
            dark: (6,) which cameras give nothing.
        """
        padded = np.zeros(len(projection.pixel) + 1, np.int32)  # the last one stands for an empty pixel
        padded[:-1] = 0 if rows is None else rows
        return np.moveaxis(mean_view(self.views(padded[projection.point], dark)).reshape(*size, -1), -1, 0)


def mean_view(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, F + 1) mean features of the views that there are, and 1 where there is one; from (N, 2, F + 1)."""
    total = views.sum(axis=1)
    count = total[:, -1:]
    return np.hstack([total[:, :-1] / np.maximum(count, 1), count > 0]).astype(np.float32)


def unseen(points: int, features: int = 0) -> ImageFeatures:
    """Points that no camera sees."""
    return ImageFeatures(
        np.zeros((points, MAX_VIEWS, features), np.float16), np.full((points, MAX_VIEWS), NO_CAMERA, np.int8)
    )


def join_seen(parts: Sequence[ImageFeatures], features: int) -> ImageFeatures:
    """One table from those of many sweeps, with row 0 before them."""
    everything = [unseen(1, features), *parts]
    return ImageFeatures(
        np.concatenate([p.features for p in everything]), np.concatenate([p.camera for p in everything])
    )
