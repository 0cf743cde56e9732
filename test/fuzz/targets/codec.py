"""Messages to arrays: clouds, images, calibrations, transforms and label sets (``xmodelkd_ros/messages/``)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from test.fuzz import seed_messages
from test.fuzz.invariants import check_message
from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import in_either_library, mutated, size, to_rclpy
from test.fuzz.target import Limits, Target, ensure, run_all
from xmodelkd_ros.bags.bag import ROSBAGS_TYPES
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import LabelError
from xmodelkd_ros.core.visibility import visible_points
from xmodelkd_ros.messages import camera_info, clouds, headers, images
from xmodelkd_ros.resources import label_map, translation

_RCLPY_TYPES = clouds.MessageTypes(PointCloud2, PointField)
_DRIVE13 = label_map("drive13")
_IDS = np.arange(len(_DRIVE13))


class Points(Target):
    """PointCloud2: decoding, field access, filtering, labelling and colouring."""

    name = "points"

    def seed_input(self) -> Any:
        return to_rclpy(seed_messages.sweep(seed_messages.points(Mutator.of("good", 0, 0), 100)))

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        message = mutated(mutator, seed_messages.cloud)
        return in_either_library(mutator, message), size(message)

    def execute(self, value: Any) -> None:
        names = sorted({field.name for field in value.fields})[:8]
        run_all(
            lambda: clouds.to_cloud(value),
            lambda: self._label(value),
            lambda: self._filter(value),
            *(lambda name=name: self._read(value, name) for name in names),
        )

    def _label(self, msg: Any) -> None:
        cloud = clouds.to_cloud(msg, "fill")
        ensure((cloud.height, cloud.width) == (msg.height, msg.width), "the organisation differs")
        ensure(cloud.xyz.dtype == np.float32 and cloud.intensity.dtype == np.float32, "not in float32")
        types = ROSBAGS_TYPES if hasattr(msg, "__msgtype__") else _RCLPY_TYPES
        labelled = clouds.labels_to_msg(cloud, Segmentation.unlabelled(len(cloud)), msg.header, types)
        check_message(msg, cloud, labelled, "label", _IDS)
        label = np.arange(len(cloud)).astype(np.uint8)
        colored = clouds.colored_to_msg(cloud, label, _DRIVE13, msg.header, types)
        ensure(len(colored.data) == 16 * len(cloud), "the coloured cloud has a wrong size")

    def _read(self, msg: Any, name: str) -> None:
        values = clouds.read_field(msg, name)
        ensure(values.shape == (msg.height * msg.width,), "not one value per point")
        ensure(values.dtype.isnative, "not in native byte order")

    def _filter(self, msg: Any) -> None:
        declared = msg.height * msg.width
        keep = np.arange(declared if declared <= len(msg.data) else 1) % 3 == 0
        filtered = clouds.filter_msg(msg, keep)
        left = np.count_nonzero(keep)
        ensure((filtered.height, filtered.width) == (1, left), "wrong number of points after filtering")
        ensure(len(filtered.data) == left * msg.point_step, "the point size differs")
        if left:
            first = bytes(memoryview(msg.data))[: msg.point_step]
            ensure(bytes(memoryview(filtered.data))[: msg.point_step] == first, "the first point has changed")


class Images(Target):
    """Image and CompressedImage: decoded to RGB."""

    name = "images"
    limits = Limits(seconds=5.0, memory=224 << 20)  # a small file may decode to 33 million pixels

    def seed_input(self) -> Any:
        return seed_messages.picture()

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        message = mutated(mutator, mutator.pick((seed_messages.raw_image, seed_messages.compressed_image)))
        if mutator.chance(0.02):
            message = seed_messages.compressed_image(mutator)
            message.data = np.frombuffer(_of_another_size(mutator, seed_messages.encoded(".jpg")), np.uint8).copy()
        return in_either_library(mutator, message), size(message)

    def execute(self, value: Any) -> None:
        pixels = images.image_to_array(value)
        ensure(pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, "not RGB in 8 bits")
        ensure(pixels.size, "no pixel")
        if not hasattr(value, "format") and not value.encoding.startswith("nv"):
            ensure(pixels.shape[:2] == (value.height, value.width), "the image size differs")


def _of_another_size(mutator: Mutator, jpeg: bytes) -> bytes:
    """A JPEG file with a wrong image size in its header (after the marker SOF0)."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + b"".join(mutator.integer(16).to_bytes(2, "big") for _ in range(2)) + jpeg[at + 4 :]


class CameraInfos(Target):
    """CameraInfo: conversion to a camera, and projection of points."""

    name = "camera_infos"
    _XYZ = seed_messages.points(Mutator.of("points", 0, 0), 60).astype(np.float64)
    _FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])

    def seed_input(self) -> Any:
        return seed_messages.calibration(Mutator.of("good", 0, 0))

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        message = mutated(mutator, seed_messages.calibration)
        return in_either_library(mutator, message), size(message)

    def execute(self, value: Any) -> None:
        run_all(*(lambda rectified=rectified: self._project(value, rectified) for rectified in (False, True)))

    def _project(self, info: Any, rectified: bool) -> None:
        camera = camera_info.to_camera(info, "front", self._FROM_LIDAR, rectified)
        ensure(camera.width > 0 and camera.height > 0, "an image without pixels")
        with np.errstate(all="ignore"):
            pixels, seen = camera.project(self._XYZ)
            index, place = visible_points(camera, self._XYZ)
        ensure(np.isfinite(pixels[seen]).all(), "a visible point has no pixel")
        ensure((np.abs(place) <= 1).all() and seen[index].all(), "a visible point lies outside the image")


class Transforms(Target):
    """TFMessage: poses by frames."""

    name = "transforms"

    def seed_input(self) -> Any:
        return seed_messages.transforms(Mutator.of("good", 0, 3))

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        message = mutated(mutator, seed_messages.transforms)
        return in_either_library(mutator, message), size(message)

    def execute(self, value: Any) -> None:
        for matrix in headers.static_transforms(value).values():
            check_pose(matrix)


def check_pose(matrix: NDArray[np.float64]) -> None:
    """A (4, 4) matrix moves rigidly."""
    ensure(matrix.shape == (4, 4) and np.isfinite(matrix).all(), "a pose is not finite")
    rotation = matrix[:3, :3]
    ensure(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6), "a pose is not a rigid transform")


class LabelInfos(Target):
    """The text of ``label_info_json``: a label set, and its translation to another."""

    name = "label_infos"

    def seed_input(self) -> Any:
        return headers.label_info_json(_DRIVE13)

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        start = label_map(mutator.pick(("drive13", "autoware", "pandaset9"))).to_dict()
        value = mutator.json_value() if mutator.chance(0.1) else mutator.mutate_json(start)
        text = mutator.json_text(value)
        return text.decode("utf-8", "replace"), len(text)

    def execute(self, value: Any) -> None:
        labels = headers.label_map_from_json(value)
        check_label_map(labels)
        ensure(
            headers.label_map_from_json(headers.label_info_json(labels)) == labels,
            "the JSON round trip changes the label set",
        )
        with suppress(LabelError):  # the label sets may be disjoint
            translation(labels, _DRIVE13)


def check_label_map(labels: Any) -> None:
    """A label set can be used: for colours, numbers and names."""
    ensure(labels.palette.shape == (256, 3), "wrong shape of the palette")
    ensure(all(labels.id_of(name) == c.id for c in labels.classes for name in (c.name, *c.aliases)), "a name is lost")
