"""What the cameras show at the pixels of a range image: the teacher's further inputs."""

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
    """Runs the image branch, and finds where its features belong.

    Args:
        spec: its contract.
        backend: its loaded network.
    """

    def __init__(self, spec: ImageBranchSpec, backend: Backend) -> None:
        self._spec, self._backend = spec, backend
        _, features, self._height, width = spec.features.shape
        self._maps = np.zeros((1, features, spec.cameras * self._height, width), np.float32)

    def inputs(
        self, projection: RangeProjection, size: tuple[int, int], pictures: SweepImages
    ) -> dict[str, NDArray[np.float32]]:
        """``maps``, ``places`` and ``seen`` of a sweep (see :class:`xmodelkd_ros.core.model_spec.ModelSpec`).

        Args:
            projection: of its points.
            size: H and W of the range image.
            pictures: what cameras took of it.

        Raises:
            ImageError: there are more cameras than the network takes.
        """
        if len(pictures.pixels) > self._spec.cameras:
            most = self._spec.cameras
            raise ImageError(f"{len(pictures.pixels)} cameras, but the model takes {most} at most; name fewer")
        for number, pixels in enumerate(pictures.pixels):
            if pixels is not None:
                self._maps[:, :, number * self._height : (number + 1) * self._height] = self._features(pixels)
        there = np.array([*(pixels is not None for pixels in pictures.pixels), False])  # the last one: no camera
        return {"maps": self._maps, **self._places(pictures.views, there, projection, size)}

    def _features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = self._spec.picture.shape[2:]
        picture = resized(pixels, (height, width)).astype(np.float32).transpose(2, 0, 1)
        found = self._backend.infer({self._spec.picture.name: np.ascontiguousarray(picture[None])})
        return found[self._spec.features.name]

    def _places(
        self, views: PointVisibility, there: NDArray[np.bool_], projection: RangeProjection, size: tuple[int, int]
    ) -> dict[str, NDArray[np.float32]]:
        occupied = projection.point != NO_POINT
        nearest = projection.point[occupied]
        camera = np.full((len(occupied), MAX_VIEWS), NO_CAMERA, np.int8)
        uv = np.zeros((len(occupied), MAX_VIEWS, 2), np.float32)
        camera[occupied], uv[occupied] = views.camera[nearest], views.uv[nearest]
        # A map ends where the next one begins: places beyond the middle of its outer cells would mix the two.
        margin = 0.5 / self._height
        down = np.clip((uv[..., 1] + 1) / 2, margin, 1 - margin)
        uv[..., 1] = (np.maximum(camera, 0) + down) / self._spec.cameras * 2 - 1
        seen = there[camera].astype(np.float32)  # where an image is missing, its map shows an earlier one
        return {
            "places": np.ascontiguousarray(np.moveaxis(uv.reshape(*size, -1, 2), 2, 0)),
            "seen": np.ascontiguousarray(np.moveaxis(seen.reshape(*size, -1), 2, 0)),
        }


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image of another size (height, width), edge to edge.

    Raises:
        ImageError: OpenCV is not installed.
    """
    cv2 = opencv()
    shrinks = size[0] < pixels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=how))
