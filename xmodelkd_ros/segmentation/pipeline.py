"""The segmentation pipeline: projection, normalisation, inference and decision for one sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.normalization import UNKNOWN_HEIGHT_M, Normalizer
from xmodelkd_ros.core.projection import BY_BEAM, NO_PIXEL, NO_POINT, RangeProjection, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import SENSOR_STAGE
from xmodelkd_ros.core.training_statistics import output_statistics, sample_index
from xmodelkd_ros.core.usable_points import usable_mask, without_box
from xmodelkd_ros.core.visibility import CameraFrame, SweepImages
from xmodelkd_ros.inference.backend import REFERENCE, Backend, load_networks
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.segmentation.auto_sensor import AutoSensor
from xmodelkd_ros.segmentation.decision import decide
from xmodelkd_ros.segmentation.image_features import ImageFeatureSampler
from xmodelkd_ros.segmentation.parity_sweep import equal_labels


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented sweep.

    Attributes:
        segmentation: one label per point.
        mode: ``teacher`` if a teacher used images of the sweep, else ``student``.
        stages_ms: milliseconds of each stage, in order.
        invalid: number of points without a usable position.
        visible_counts: number of points visible in each camera (see :meth:`SweepImages.visible_counts`); empty without
            images.
        statistics: of the sweep, as in :class:`~xmodelkd_ros.core.training_statistics.TrainingStatistics`; those of the
            output only if the images that the model was trained with were there.
    """

    segmentation: Segmentation
    mode: str
    stages_ms: Mapping[str, float]
    invalid: int
    visible_counts: tuple[int, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)


class SegmentationPipeline:
    """Segments sweeps with one model, one at a time: it is not thread-safe.

    Args:
        spec: the model's specification.
        backend: its loaded network.
        sensor: the LiDAR, if it is not the one that the model was trained on. Models for any LiDAR (rows by beam)
            follow an estimate of it; others take the sensor file that the estimate is given, if any.
        image_branch: the loaded image encoder of a teacher.
        min_range_m: closer points are invalid; 0 for the sensor's or else the model's minimum range.

    Attributes:
        spec: the model's specification.
        backend: its loaded network.
        sensor: the LiDAR, if it is not the one that the model was trained on.
        auto_sensor: the estimate that it comes from; None if it is not estimated.
        min_range_m: closer points are invalid.
        intensity_range: intensity of dark and of bright surfaces that the clouds should have.
        ring_problem: why the ring numbers of the last sweep were not used, if the estimated sensor has them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backend: Backend,
        sensor: SensorSpec | AutoSensor | None = None,
        image_branch: Backend | None = None,
        min_range_m: float = 0.0,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self._image_features = (
            ImageFeatureSampler(spec.image_branch, image_branch) if spec.image_branch and image_branch else None
        )
        self._points = np.zeros((spec.max_points, len(spec.channels)), np.float32)
        self._pixel = np.zeros(spec.max_points, np.int32)
        self.ring_problem = ""
        self._own_min_range_m = min_range_m
        self._projector = RangeProjector(spec.projection)
        by_beam = spec.projection.rows == BY_BEAM
        self.auto_sensor = sensor if isinstance(sensor, AutoSensor) and by_beam else None
        self.use_sensor(sensor.given if isinstance(sensor, AutoSensor) else sensor)

    def use_sensor(self, sensor: SensorSpec | None) -> None:
        """Take the next sweeps as those of a LiDAR; None: the one that the model was trained on."""
        spec = self.spec
        self.sensor: SensorSpec | None = sensor
        self._ego_box = sensor.ego_box if sensor is not None else ()
        of_sensor = sensor.min_range_m if sensor is not None else 0
        self.min_range_m = self._own_min_range_m or of_sensor or spec.projection.min_range_m
        projection = replace(spec.projection, min_range_m=self.min_range_m)
        if not self._projector.is_for(projection, sensor):
            self._projector = RangeProjector(projection, sensor)
        self.intensity_range = sensor.intensity_range if sensor is not None else spec.intensity_range
        self._normalizer = Normalizer(spec.channels, spec.intensity_range, sensor)

    def follow(self, sensor: SensorSpec | None) -> None:
        """Take the next sweeps as those of a LiDAR, if the model is one for any LiDAR."""
        if self.spec.projection.rows == BY_BEAM and sensor != self.sensor:
            self.use_sensor(sensor)

    @classmethod
    def load(
        cls,
        folder: Path,
        backend: str = REFERENCE,
        precision: str = "auto",
        sensor: SensorSpec | AutoSensor | None = None,
        engines: EngineCache | None = None,
        min_range_m: float = 0.0,
    ) -> SegmentationPipeline:
        """Load a model folder; arguments as in the class and :func:`~xmodelkd_ros.inference.backend.load_networks`.

        The back end is a concrete one; :func:`~xmodelkd_ros.segmentation.backend_selection.select_backend` resolves
        ``auto``. Newly built engines must first label a stored sweep as ONNX Runtime does.
        """
        spec = ModelSpec.read(folder)
        networks = load_networks(spec, folder, backend, precision, engines)
        if networks.finish_parity_check is not None:
            new = cls(spec, networks.network, None, networks.image_branch)
            reference = cls.load(folder)
            networks.finish_parity_check(equal_labels(new, reference, spec.cameras))
        return cls(spec, networks.network, sensor, networks.image_branch, min_range_m)

    @property
    def labels(self) -> LabelMap:
        """The model's own label set."""
        return self.spec.labels

    @property
    def needs_intensity(self) -> bool:
        """Whether the model requires clouds with intensity."""
        return self.spec.needs_intensity

    @property
    def sensor_facts(self) -> Mapping[str, Any]:
        """Which LiDAR the sweeps are taken as those of, for ``metrics.json``; ``description`` is one line."""
        if self.auto_sensor is not None:
            return self.auto_sensor.facts
        if self.sensor is not None:
            return {"source": "file", "description": f"file {self.sensor.name}"}
        taken = f"none: the LiDAR that model {self.spec.name} was trained on"
        if self.spec.projection.rows == BY_BEAM:
            taken = (
                f"none: rows of model {self.spec.name}, {UNKNOWN_HEIGHT_M:g} m above the ground, intensity is not used"
            )
        return {"source": "none", "description": taken}

    def usable(self, xyz: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) which of (N, 3) points have a position from which the model labels them."""
        return usable_mask(xyz, self.min_range_m, self._ego_box)

    def warm_up(self) -> None:
        """Run twice on synthetic input, so that one-time allocations do not slow down the first sweep."""
        points = self.spec.max_points
        xyz = np.full((points, 3), 10, np.float32)
        xyz[:, 1] = np.linspace(-20, 20, points)
        camera_frames = [_black_frame()] if self._image_features is not None else []
        auto, self.auto_sensor = self.auto_sensor, None  # which learns from real sweeps only
        for _ in range(2):
            self.segment(PointCloud(xyz, np.zeros(points, np.float32)), images=camera_frames)
        self.auto_sensor = auto

    def segment(
        self,
        cloud: PointCloud,
        into: LabelTranslation | None = None,
        images: SweepImages | Sequence[CameraFrame | None] = (),
    ) -> Result:
        """Label every point of a sweep.

        Args:
            cloud: the sweep, in the sensor's frame.
            into: translation to another label set; classes that merge sum their probabilities before the decision.
            images: images of the sweep, with cameras in the same order for every sweep; a student ignores them.

        Raises:
            ImageError: more cameras than the teacher takes.
        """
        clock = Stopwatch()
        logits, valid, visible_counts, statistics = self._logits(cloud, images, clock)
        mode = "teacher" if visible_counts is not None else "student"
        with clock("decide"):
            segmentation = decide(logits, valid, self.spec.temperature, self.labels, into)
            if mode == self.spec.role:
                index = sample_index(len(cloud))
                if into is None:
                    sample = segmentation.at(index)
                else:  # the training data's are those of the model's own classes
                    sample = decide(logits[:, index], valid[index], self.spec.temperature, self.labels)
                statistics |= output_statistics(sample, self.labels)
        invalid = len(cloud) - int(np.count_nonzero(valid))
        return Result(segmentation, mode, clock.milliseconds, invalid, visible_counts or (), statistics)

    def logits(
        self, cloud: PointCloud, images: SweepImages | Sequence[CameraFrame | None] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(C, N) uncalibrated logits of the points of a sweep, and (N,) whether they have a usable position.

        Arguments and errors are those of :meth:`segment`.
        """
        return self._logits(cloud, images, Stopwatch())[:2]

    def _logits(
        self, cloud: PointCloud, images: SweepImages | Sequence[CameraFrame | None], clock: Stopwatch
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, ...] | None, dict[str, float]]:
        """Logits, mask of points with a position, and points visible in each camera; None if no image was used.

        Also the statistics of the input.
        """
        size = (self.spec.projection.height, self.spec.projection.width)
        if self.auto_sensor is not None:
            with nullcontext() if self.auto_sensor.is_final else clock(SENSOR_STAGE):
                self.follow(self.auto_sensor.of(cloud))
        with clock("project"):
            cloud = without_box(cloud, self._ego_box)
            projection = self._project(cloud)
        with clock("normalize"):
            points = self._normalizer.points(cloud, projection.range)
            dense = {"image": self._normalizer.image(points, projection, *size)[None]}
            valid = projection.pixel != NO_PIXEL
            points[:-1][~valid] = 0
            statistics = self._input_statistics(points[:-1], valid, projection)
        counts = None
        if self._image_features is not None:
            with clock("views"):
                if not isinstance(images, SweepImages):
                    images = SweepImages.from_frames(cloud.xyz, images)
            with clock("images"):
                dense |= self._image_features.inputs(projection, size, images)
            if any(pixels is not None for pixels in images.pixels):
                counts = images.visible_counts()
        with clock("infer"):
            return self._infer(dense, points[:-1], projection.pixel), valid, counts, statistics

    def _project(self, cloud: PointCloud) -> RangeProjection:
        """Project a sweep; by elevation alone if its ring numbers contradict an estimate from other sweeps."""
        self.ring_problem = ""
        try:
            return self._projector.project(cloud)
        except CloudError as error:
            if self.auto_sensor is None or self.auto_sensor.given is not None:
                raise
            self.ring_problem = str(error).partition(";")[0]
            return self._projector.project(replace(cloud, ring=None))

    def _input_statistics(
        self, points: NDArray[np.float32], valid: NDArray[np.bool_], projection: RangeProjection
    ) -> dict[str, float]:
        """Share of occupied pixels, and median of each channel's measurement; empty without a valid point."""
        index = sample_index(len(points))
        sample = points[index[valid[index]]]
        if not len(sample):
            return {}
        medians = {
            f"input.{channel.name}": float(median) * channel.std + channel.mean
            for channel, median in zip(self.spec.channels, np.median(sample, axis=0), strict=True)
        }
        return {"fill": float(np.count_nonzero(projection.point != NO_POINT)) / len(projection.point), **medians}

    def _infer(
        self, dense: Mapping[str, NDArray[np.float32]], points: NDArray[np.float32], pixel: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """(C, N) logits. The network takes a fixed number of points: fewer are padded, more are run in chunks."""
        size = self.spec.max_points
        chunks = []
        for start in range(0, len(points), size):
            count = min(size, len(points) - start)
            # Stale values in the padding are harmless: points do not depend on each other.
            self._points[:count] = points[start : start + count]
            np.maximum(pixel[start : start + count], 0, out=self._pixel[:count])
            outputs = self.backend.infer({**dense, "points": self._points, "pixel": self._pixel})
            logits = outputs["logits"][:, :count]
            chunks.append(logits if count == len(points) else logits.copy())  # the next run overwrites it
        if not chunks:
            return np.zeros((len(self.labels), 0), np.float32)
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks, axis=1)


def _black_frame() -> CameraFrame:
    """A black image of a camera that faces along x."""
    intrinsic = np.array([[32.0, 0.0, 31.5], [0.0, 32.0, 15.5], [0.0, 0.0, 1.0]])
    from_lidar = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return CameraFrame(CameraModel("ahead", 64, 32, intrinsic, from_lidar), np.zeros((32, 64, 3), np.uint8))


class Stopwatch:
    """Stage times in milliseconds: ``with clock("project"): ...``."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block of code."""
        start = perf_counter()
        yield
        self.milliseconds[stage] = (perf_counter() - start) * 1e3
