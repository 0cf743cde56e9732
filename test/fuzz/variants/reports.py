"""Plots of a sweep with any number of cameras of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Limits, ensure
from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.reports.sweep_plots import SweepView, draw_cameras, draw_sweep
from xmodelkd_ros.resources import label_map

_SHAPES = ((192, 108), (160, 120), (240, 100), (90, 120), (120, 120))
_COLORS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 10), (250, 10, 250), (10, 250, 250), (250, 140, 10))
_MAX_CAMERAS = len(_COLORS)
_MAX_SHOWN = 3
"""Images beside the title plot."""
_MAX_STRETCH = 1.05
_NEAR = 4
"""Difference of colours that interpolation causes."""


class ReportCameras(FolderTarget):
    """Every image is drawn whole, with its own ratio of width to height."""

    name = "report_cameras"
    limits = Limits(seconds=10.0, memory=384 << 20, traced=False)

    def seed_input(self) -> Any:
        return "cameras", [(120, 120)]

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        count = mutator.below(_MAX_CAMERAS + 1)
        same = mutator.pick(_SHAPES)
        shapes = [same if mutator.chance(0.6) else mutator.pick(_SHAPES) for _ in range(count)]
        return (mutator.pick(("sweep", "cameras")) if shapes else "sweep", shapes), 100_000

    def execute(self, value: Any) -> None:
        plot, shapes = value
        cloud = PointCloud(np.array([[0, 0, 90.0]], np.float32))  # above all images
        cameras = tuple(_camera(number, len(shapes), shape) for number, shape in enumerate(shapes))
        view = SweepView(cloud, np.zeros(1, np.uint8), label_map("drive13"), None, cameras)
        file = self.folder / "plot.png"
        (draw_sweep if plot == "sweep" else draw_cameras)(view, file)
        with Image.open(file) as drawn:
            pixels = np.asarray(drawn.convert("RGB")).astype(np.int16)
        found = [_extent(pixels, color) for color in _COLORS[: len(shapes)]]
        shown = sum(extent is not None for extent in found)
        wanted = min(len(shapes), _MAX_SHOWN) if plot == "sweep" else len(shapes)
        ensure(shown == wanted, f"{plot}: {shown} images instead of {wanted}")
        for extent, (width, height) in zip(found, shapes, strict=True):
            if extent is not None:
                stretch = extent[0] / extent[1] * height / width
                ensure(1 / _MAX_STRETCH < stretch < _MAX_STRETCH, f"{plot}: an image is stretched or cut")


def _camera(number: int, count: int, shape: tuple[int, int]) -> CameraView:
    width, height = shape
    angle = 2 * np.pi * number / count
    forward, right = [np.cos(angle), np.sin(angle), 0.0], [np.sin(angle), -np.cos(angle), 0.0]
    pose = np.eye(4)
    pose[:3, :3] = np.array([right, [0, 0, -1.0], forward])
    intrinsic = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    image = np.full((height, width, 3), _COLORS[number], np.uint8)
    return CameraView(CameraModel(f"camera_{number}", width, height, intrinsic, pose), image)


def _extent(pixels: NDArray[Any], color: tuple[int, int, int]) -> tuple[int, int] | None:
    """Width and height of the area in which an image of one colour is drawn, dimmed."""
    dimmed = (0.36 * (np.array(color) + np.mean(color))).astype(np.int16)
    rows, columns = np.nonzero((np.abs(pixels - dimmed) <= _NEAR).all(axis=2))
    if len(rows) < 100:
        return None
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
