"""One sweep in, one label per point out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.normalization import Normalizer
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.visibility import CameraFrame, SweepImages
from xmodelkd_ros.inference.backend import REFERENCE, Backend, load_networks
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.segmentation.decision import decide
from xmodelkd_ros.segmentation.image_features import ImageFeatureSampler
from xmodelkd_ros.segmentation.parity_sweep import equal_labels


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented sweep.

    Attributes:
        segmentation: one label per point.
        mode: ``teacher`` if a teacher saw images of the sweep, else ``student``.
        stages_ms: milliseconds spent in each stage, in order.
        invalid: points without a usable position.
        seen: how many points each camera sees (see :meth:`SweepImages.visible_counts`); empty without pictures.
    """

    segmentation: Segmentation
    mode: str
    stages_ms: Mapping[str, float]
    invalid: int
    seen: tuple[int, ...] = ()


class SegmentationPipeline:
    """Segments sweeps with one model, one at a time: it is not thread-safe.

    Args:
        spec: the model's contract.
        backend: its loaded network.
        sensor: the LiDAR at hand, where it is not the one the model was trained on.
        image_branch: the loaded network that looks at images; a teacher's only.

    Attributes:
        spec, backend: as given.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backend: Backend,
        sensor: SensorSpec | None = None,
        image_branch: Backend | None = None,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self._image_features = (
            ImageFeatureSampler(spec.image_branch, image_branch) if spec.image_branch and image_branch else None
        )
        self._points = np.zeros((spec.max_points, len(spec.channels)), np.float32)
        self._pixel = np.zeros(spec.max_points, np.int32)
        self._projector = RangeProjector(spec.projection, sensor)
        self._normalizer = Normalizer(
            spec.channels, spec.intensity_range, sensor.intensity_range if sensor is not None else None
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        backend: str = REFERENCE,
        precision: str = "auto",
        sensor: SensorSpec | None = None,
        engines: EngineCache | None = None,
    ) -> SegmentationPipeline:
        """Load a model folder; arguments as in :func:`~xmodelkd_ros.inference.backend.load_networks`.

        The back end is a concrete one; :func:`~xmodelkd_ros.segmentation.backend_selection.select_backend` resolves
        ``auto``. Newly built engines must first label a stored sweep as ONNX Runtime does.
        """
        spec = ModelSpec.read(folder)
        networks = load_networks(spec, folder, backend, precision, engines)
        if networks.finish_parity_check is not None:
            new = cls(spec, networks.network, None, networks.image_branch)
            reference = cls.load(folder)
            networks.finish_parity_check(equal_labels(new, reference, spec.cameras))
        return cls(spec, networks.network, sensor, networks.image_branch)

    @property
    def labels(self) -> LabelMap:
        """The model's own label set."""
        return self.spec.labels

    @property
    def needs_intensity(self) -> bool:
        """Whether a cloud without intensity cannot be segmented as it is."""
        return any("intensity" in channel.name for channel in self.spec.channels)

    def warm_up(self) -> None:
        """Have the slow first two runs, which allocate, before the first sweep comes."""
        points = self.spec.max_points
        xyz = np.full((points, 3), 10, np.float32)
        xyz[:, 1] = np.linspace(-20, 20, points)
        camera_frames = [_ahead()] if self._image_features is not None else []
        for _ in range(2):
            self.segment(PointCloud(xyz, np.zeros(points, np.float32)), pictures=camera_frames)

    def segment(
        self,
        cloud: PointCloud,
        into: LabelTranslation | None = None,
        pictures: SweepImages | Sequence[CameraFrame | None] = (),
    ) -> Result:
        """Label every point of a sweep.

        Args:
            cloud: the sweep, in the sensor's frame.
            into: where given, classes that merge sum their probabilities before the best is taken.
            pictures: what cameras took of it, all in the same order for every sweep; a student does not look at them.

        Raises:
            ImageError: there are more cameras than a teacher takes.
        """
        clock = Stopwatch()
        logits, valid, seen = self._logits(cloud, pictures, clock)
        with clock("decide"):
            segmentation = decide(logits, valid, self.spec.temperature, self.labels, into)
        mode = "teacher" if seen is not None else "student"
        return Result(segmentation, mode, clock.milliseconds, len(cloud) - int(np.count_nonzero(valid)), seen or ())

    def logits(
        self, cloud: PointCloud, pictures: SweepImages | Sequence[CameraFrame | None] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(C, N) logits of the points of a sweep, not calibrated, and (N,) whether they have a usable position.

        Arguments and errors are those of :meth:`segment`.
        """
        return self._logits(cloud, pictures, Stopwatch())[:2]

    def _logits(
        self, cloud: PointCloud, pictures: SweepImages | Sequence[CameraFrame | None], clock: Stopwatch
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, ...] | None]:
        """Logits, which points have a position, and how many each camera sees; None if no teacher saw an image."""
        size = (self.spec.projection.height, self.spec.projection.width)
        with clock("project"):
            projection = self._projector.project(cloud)
        with clock("normalize"):
            points = self._normalizer.points(cloud, projection.range)
            dense = {"image": self._normalizer.image(points, projection, *size)[None]}
            valid = projection.pixel != NO_PIXEL
            points[:-1][~valid] = 0
        counts = None
        if self._image_features is not None:
            with clock("views"):
                seen = pictures if isinstance(pictures, SweepImages) else SweepImages.from_frames(cloud.xyz, pictures)
            with clock("images"):
                dense |= self._image_features.inputs(projection, size, seen)
            if any(pixels is not None for pixels in seen.pixels):
                counts = seen.visible_counts()
        with clock("infer"):
            return self._infer(dense, points[:-1], projection.pixel), valid, counts

    def _infer(
        self, dense: Mapping[str, NDArray[np.float32]], points: NDArray[np.float32], pixel: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """(C, N) logits. The network takes a fixed number of points: fewer are padded, more go in pieces."""
        size = self.spec.max_points
        pieces = []
        for start in range(0, len(points), size):
            count = min(size, len(points) - start)
            # What an earlier sweep left in the rest does no harm: no point depends on another.
            self._points[:count] = points[start : start + count]
            np.maximum(pixel[start : start + count], 0, out=self._pixel[:count])
            outputs = self.backend.infer({**dense, "points": self._points, "pixel": self._pixel})
            found = outputs["logits"][:, :count]
            pieces.append(found if count == len(points) else found.copy())  # the next run overwrites it
        if not pieces:
            return np.zeros((len(self.labels), 0), np.float32)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _ahead() -> CameraFrame:
    """What a camera that looks along x takes of a dark night."""
    intrinsic = np.array([[32.0, 0.0, 31.5], [0.0, 32.0, 15.5], [0.0, 0.0, 1.0]])
    from_lidar = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return CameraFrame(CameraModel("ahead", 64, 32, intrinsic, from_lidar), np.zeros((32, 64, 3), np.uint8))


class Stopwatch:
    """Milliseconds by stage: ``with clock("project"): ...``."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        start = perf_counter()
        yield
        self.milliseconds[stage] = (perf_counter() - start) * 1e3
