"""Image features at the pixels of a range image: the additional inputs of a teacher."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError
from xmodelkd_ros.core.model_spec import ImageBranchSpec
from xmodelkd_ros.core.projection import NO_POINT, RangeProjection
from xmodelkd_ros.core.visibility import MAX_VIEWS, NO_CAMERA, PointVisibility, SweepImages
from xmodelkd_ros.inference.backend import Backend
from xmodelkd_ros.opencv import opencv


class ImageFeatureSampler:
    """Runs the image encoder and computes where the range image samples its features."""

    def __init__(self, spec: ImageBranchSpec, backend: Backend) -> None:
        self._spec, self._backend = spec, backend
        _, features, self._height, width = spec.features.shape
        self._maps = np.zeros((1, features, spec.cameras * self._height, width), np.float32)

    def inputs(
        self, projection: RangeProjection, size: tuple[int, int], images: SweepImages
    ) -> dict[str, NDArray[np.float32]]:
        """``maps``, ``places`` and ``seen`` of a sweep (see :class:`xmodelkd_ros.core.model_spec.ModelSpec`).

        Args:
            projection: projection of its points.
            size: H and W of the range image.
            images: images of the sweep, and the visibility of its points.

        Raises:
            ImageError: more cameras than the network takes.
        """
        if len(images.pixels) > self._spec.cameras:
            limit = self._spec.cameras
            raise ImageError(f"{len(images.pixels)} cameras, but the model takes {limit} at most; name fewer")
        for number, pixels in enumerate(images.pixels):
            if pixels is not None:
                self._maps[:, :, number * self._height : (number + 1) * self._height] = self._features(pixels)
        available = np.array([*(pixels is not None for pixels in images.pixels), False])  # index -1: no camera
        return {"maps": self._maps, **self._sampling(images.views, available, projection, size)}

    def _features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = self._spec.picture.shape[2:]
        image = resized(pixels, (height, width)).astype(np.float32).transpose(2, 0, 1)
        outputs = self._backend.infer({self._spec.picture.name: np.ascontiguousarray(image[None])})
        return outputs[self._spec.features.name]

    def _sampling(
        self, views: PointVisibility, available: NDArray[np.bool_], projection: RangeProjection, size: tuple[int, int]
    ) -> dict[str, NDArray[np.float32]]:
        """Sampling coordinates in the stacked feature maps and the mask of valid ones."""
        occupied = projection.point != NO_POINT
        nearest = projection.point[occupied]
        camera = np.full((len(occupied), MAX_VIEWS), NO_CAMERA, np.int8)
        uv = np.zeros((len(occupied), MAX_VIEWS, 2), np.float32)
        camera[occupied], uv[occupied] = views.camera[nearest], views.uv[nearest]
        # Maps are stacked vertically: interpolation beyond the centres of the outer cells would mix two of them.
        margin = 0.5 / self._height
        v = np.clip((uv[..., 1] + 1) / 2, margin, 1 - margin)
        uv[..., 1] = (np.maximum(camera, 0) + v) / self._spec.cameras * 2 - 1
        seen = available[camera].astype(np.float32)  # the map of a missing image holds stale features
        return {
            "places": np.ascontiguousarray(np.moveaxis(uv.reshape(*size, -1, 2), 2, 0)),
            "seen": np.ascontiguousarray(np.moveaxis(seen.reshape(*size, -1), 2, 0)),
        }


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image resized to (height, width), with aligned edges.

    Raises:
        ImageError: OpenCV is not installed.
    """
    cv2 = opencv()
    shrinks = size[0] < pixels.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=interpolation))
