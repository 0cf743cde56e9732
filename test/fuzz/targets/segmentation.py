"""Arbitrary clouds through the pipeline, with and without images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.conftest import write_height_model, write_light_model
from test.fuzz.invariants import certain, check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Target, ensure
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

ROAD, BUILDING = 4, 9
_RING_TYPES = ("uint8", "int8", "uint16", "int32", "uint32")


def any_cloud(mutator: Mutator) -> PointCloud:
    """A cloud of 0 to 4100 points with a random share of special values."""
    count = mutator.pick((0, 1, 2, 40, 40, 300, 2000, 2001, 4100))
    rng = np.random.default_rng(mutator.random.getrandbits(32))
    xyz = rng.uniform([-30, -30, -3], [30, 30, 3], (count, 3)).astype(np.float32)
    intensity = rng.uniform(0, 255, count).astype(np.float32)
    odd = rng.random(count) < mutator.pick((0.0, 0.02, 0.5, 1.0))
    for values in (*xyz.T, intensity):
        few = odd & (rng.random(count) < 0.6)
        specials = mutator.array("float32", 12)
        values[few] = rng.choice(specials, np.count_nonzero(few))
    ring = mutator.array(mutator.pick(_RING_TYPES), count) if mutator.chance(0.5) else None
    if ring is not None and mutator.chance(0.7):
        ring = (np.abs(ring.astype(np.int64)) % 5).astype(ring.dtype)
    height = mutator.pick([h for h in (1, 2, 4) if count % h == 0])
    return PointCloud(xyz, intensity, ring, height)


class Student(FolderTarget):
    """Clouds through a small network, also from another sensor with ring numbers and with Autoware's classes."""

    name = "pipeline"

    def __enter__(self) -> Target:
        super().__enter__()
        model = write_height_model(self.folder / "height")
        sensor = SensorSpec("other", (10.0, 0.0, -10.0), (10.0, 0.0, -10.0), (0.0, 1.0))
        self._own = SegmentationPipeline.load(model, "onnxruntime")
        self._other = SegmentationPipeline.load(model, "onnxruntime", sensor=sensor)
        self._into = translation(self._own.labels, label_map("autoware"))
        return self

    def seed_input(self) -> Any:
        return PointCloud(np.full((2000, 3), 5, np.float32), np.zeros(2000, np.float32)), False, False

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        cloud = any_cloud(mutator)
        return (cloud, mutator.chance(0.3), mutator.chance(0.3)), 16 * len(cloud)

    def execute(self, value: Any) -> None:
        cloud, other, autoware = value
        pipeline = self._other if other else self._own
        into = self._into if autoware else None
        result = pipeline.segment(cloud, into)
        classes = (label_map("autoware") if autoware else pipeline.labels).classes
        check_segmentation(cloud, result.segmentation, np.array([c.id for c in classes]))
        ensure(result.invalid == np.count_nonzero(result.segmentation.label == 255), "miscounted")
        if not autoware:
            check_certain_labels(cloud, result.segmentation.label)


def check_certain_labels(cloud: PointCloud, label: NDArray[np.uint8]) -> None:
    """Check that valid points are labelled by their height, whatever the other points are."""
    plain = certain(cloud.xyz) & (np.abs(cloud.xyz[:, 2]) > 0.01)
    expected = np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD)
    ensure(np.array_equal(label[plain], expected[plain]), "a good point has lost its label")


class Teacher(FolderTarget):
    """Clouds with images of any size from arbitrary cameras."""

    name = "teacher"
    _AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])

    def __enter__(self) -> Target:
        super().__enter__()
        self._pipeline = SegmentationPipeline.load(write_light_model(self.folder / "light"), "onnxruntime")
        return self

    def seed_input(self) -> Any:
        cloud = PointCloud(np.full((2000, 3), 5, np.float32), np.zeros(2000, np.float32))
        camera = CameraModel("front", 64, 32, np.array([[32.0, 0, 31.5], [0, 32.0, 15.5], [0, 0, 1]]), self._AHEAD)
        return cloud, lambda: [CameraFrame(camera, np.full((32, 64, 3), 200, np.uint8)), None]

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        cloud = any_cloud(mutator)
        taken = [self._camera_and_image(mutator) for _ in range(mutator.pick((0, 1, 1, 2, 3, 4)))]
        return (cloud, lambda: self._shots(taken)), 16 * len(cloud) + sum(image.size for _, image, _ in taken)

    def _camera_and_image(self, mutator: Mutator) -> tuple[dict[str, Any], NDArray[np.uint8], Any]:
        height, width = mutator.pick(((32, 64), (1, 1), (2, 4), (1, 500), (500, 1), (1, 30_000), (30_000, 1), (7, 13)))
        intrinsic, pose = np.array([[32.0, 0, 31.5], [0, 32.0, 15.5], [0, 0, 1]]), self._AHEAD.copy()
        if mutator.chance(0.5):
            intrinsic[mutator.pick(((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)))] = mutator.real()
        if mutator.chance(0.3):
            pose[mutator.below(3), 3] = mutator.real()
        model, count = mutator.pick((("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)))
        coefficients = [mutator.real() if mutator.chance(0.2) else 0.01 for _ in range(count)]
        motion = None if mutator.chance(0.7) else [mutator.real() for _ in range(3)]
        image = np.full((height, width, 3), mutator.below(256), np.uint8)
        scale = mutator.pick((1, 1, 2, 1000))
        values = {"width": scale * width, "height": scale * height, "intrinsic": intrinsic, "from_lidar": pose}
        return {**values, "distortion": (model, coefficients) if mutator.chance(0.5) else None}, image, motion

    @staticmethod
    def _shots(taken: list[Any]) -> list[CameraFrame | None]:
        camera_frames: list[CameraFrame | None] = []
        for values, image, motion in taken:
            distortion = values["distortion"] and DistortionModel.from_coefficients(*values["distortion"])
            moved = motion and transform(motion, (0, 0, 0, 1))
            camera_frames.append(
                CameraFrame(CameraModel(name="front", **{**values, "distortion": distortion}), image, moved)
            )
        return camera_frames

    def execute(self, value: Any) -> None:
        cloud, camera_frames = value
        with np.errstate(all="ignore"):
            result = self._pipeline.segment(cloud, images=camera_frames())
        check_segmentation(cloud, result.segmentation, np.arange(len(self._pipeline.labels)))
