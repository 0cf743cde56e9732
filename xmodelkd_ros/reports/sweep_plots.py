"""Plots of one labelled sweep: bird's-eye view, perspective, camera overlays and range image.

Drawn on matplotlib's ``Figure`` without pyplot, which avoids global state and the display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.projection import NO_POINT, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.reports.charts import DPI, TEXT
from xmodelkd_ros.reports.plot_layout import BACKGROUND, GAP, Box, Canvas, fitting_font, row, row_height, stack

_CORRECT = (96, 108, 124)
_ERROR = (255, 70, 60)
_UNKNOWN = (44, 48, 56)
_UNLABELLED = (64, 68, 76)
_MAX_IMAGE_WIDTH = 960
"""Larger images are subsampled to save time."""
_SWEEP_WIDTH = 16.0
_SCENE_BESIDE, _SCENE_BELOW = 1.35, 2.2
"""Width of the scene divided by its height, with images beside or below it."""
_SCENE_SHARE, _GOOD_HEIGHT, _TOO_HIGH = 0.66, 10.0, 0.05
"""Preferred share of the scene; height of the figure above which each inch costs as much as 5 % of that share."""
_MIN_WIDTH, _MAX_ROW, _TITLE = 6.0, 6.5, 0.35
_VIEW_M = 45.0
"""Half the side of the bird's-eye square; beyond it points are too sparse to see."""


@dataclass(frozen=True, eq=False)
class SweepView:
    """A labelled sweep to plot.

    Attributes:
        cloud: the sweep.
        label: (N,) uint8 predicted ids in ``label_map``.
        label_map: the label set of the plot.
        truth: (N,) uint8 true ids in ``label_map``, if known.
        cameras: images of the sweep; may be empty.
        credit: who is to be named for the data and the model.
    """

    cloud: PointCloud
    label: NDArray[np.uint8]
    label_map: LabelMap
    truth: NDArray[np.uint8] | None = None
    cameras: tuple[CameraView, ...] = ()
    credit: str = ""


@dataclass(frozen=True, eq=False)
class _PointColors:
    """A colouring of a sweep: title and (N, 3) uint8 RGB."""

    title: str
    colors: NDArray[np.uint8]


def draw_sweep(view: SweepView, path: Path) -> None:
    """The sweep in perspective, with up to three images beside or below it; the title plot of a report."""
    cameras = _left_to_right(_front_first(view.cameras)[:3])
    height, scene, images = _sweep_layout([_aspect(camera) for camera in cameras])
    canvas = _canvas(view, _SWEEP_WIDTH, height)
    canvas.fill(Box(0, 0, canvas.width, height))
    colors = _prediction(view).colors
    _perspective(canvas.axes(scene), view.cloud.xyz, colors)
    for camera, box in zip(cameras, images, strict=True):
        _overlay(canvas.axes(box), camera, view.cloud.xyz, colors, "")
    _save(canvas, path)


def _sweep_layout(aspects: Sequence[float]) -> tuple[float, Box, list[Box]]:
    """Height of the content, and the rectangles of the scene and of images with these ratios of width to height.

    The images are in a column or a row, beside the scene or below it: whatever leaves the scene about two thirds.
    """
    width = _SWEEP_WIDTH
    if not aspects:
        return width / _SCENE_BELOW * 1.24, Box(0, 0, width, width / _SCENE_BELOW * 1.24), []
    options = []
    for arrange, ratio in ((stack, 1 / sum(1 / a for a in aspects)), (row, sum(aspects))):
        height = width / (_SCENE_BESIDE + ratio)
        left = width - height * ratio
        options.append(
            (left / width, height, Box(0, 0, left - GAP, height), arrange, Box(left, 0, width - left, height))
        )
    height, top = row_height(aspects, width), width / _SCENE_BELOW
    options.append((top / (top + height), top + height, Box(0, 0, width, top - GAP), row, Box(0, top, width, height)))
    _, height, scene, arrange, box = min(
        options, key=lambda option: abs(option[0] - _SCENE_SHARE) + _TOO_HIGH * max(0.0, option[1] - _GOOD_HEIGHT)
    )
    return height, scene, arrange(aspects, box)


def draw_birds_eye(view: SweepView, path: Path) -> None:
    """Bird's-eye view, x (forward) up: truth, prediction and errors side by side; without truth the prediction only."""
    _draw_birds_eye(view, _colorings(view), path)


def draw_change(view: SweepView, before: NDArray[np.uint8], teacher: NDArray[np.uint8] | None, path: Path) -> None:
    """Bird's-eye views of earlier, new and teacher labels, and of the changed points.

    Args:
        view: the sweep with its new labels.
        before: (N,) ids of the earlier labels.
        teacher: (N,) ids of the teacher's labels; None without one.
        path: the PNG file.
    """
    changed = (view.label != before).mean() if len(before) else 0.0
    labels = {"before": before, "now": view.label, **({} if teacher is None else {"teacher": teacher})}
    colorings = [_PointColors(title, _label_colors(view, ids)) for title, ids in labels.items()]
    colorings.append(_PointColors(f"changed ({changed:.1%})", _error_colors(view.label, before)))
    _draw_birds_eye(view, colorings, path)


def _draw_birds_eye(view: SweepView, colorings: Sequence[_PointColors], path: Path) -> None:
    canvas = _canvas(view, max(5.2 * len(colorings), _MIN_WIDTH), _TITLE + 5.2)
    left = (canvas.width - 5.2 * len(colorings)) / 2
    for number, coloring in enumerate(colorings):
        box = Box(left + 5.2 * number + GAP / 2, _TITLE, 5.2 - GAP, 5.2 - GAP)
        _birds_eye(canvas.axes(box), view.cloud.xyz, coloring)
    _save(canvas, path)


def draw_cameras(view: SweepView, path: Path) -> None:
    """The image of every camera, overlaid with points coloured by prediction."""
    cameras = _left_to_right(view.cameras)
    count = -(-len(cameras) // 3)
    # The front cameras come first; earlier rows are the longer ones.
    ends = [-(-len(cameras) * k // count) for k in range(count + 1)]
    rows = [cameras[begin:end] for begin, end in pairwise(ends)]
    aspects = [[_aspect(camera) for camera in one] for one in rows]
    width = 5.4 * max(2, len(rows[0]))
    heights = [min(row_height(one, width), _MAX_ROW) for one in aspects]
    canvas = _canvas(view, width, sum(heights) + GAP * (count - 1))
    canvas.fill(Box(0, 0, width, sum(heights) + GAP * (count - 1)))
    colors, top = _prediction(view).colors, 0.0
    for one, ratios, height in zip(rows, aspects, heights, strict=True):
        for camera, box in zip(one, row(ratios, Box(0, top, width, height)), strict=True):
            _overlay(canvas.axes(box), camera, view.cloud.xyz, colors, camera.camera.name.replace("_", " "))
        top += height + GAP
    _save(canvas, path)


def draw_range_image(view: SweepView, spec: ProjectionSpec, path: Path) -> None:
    """Range images of the nearest points: range, then labels."""
    projection = RangeProjector(spec).project(view.cloud)
    occupied = projection.point != NO_POINT
    colorings = [_PointColors("range", _range_colors(projection.range)), *_colorings(view)]
    canvas, height = Canvas(15.0, 1.35 * len(colorings), (), view.credit), 1.35
    for number, coloring in enumerate(colorings):
        image = np.full((spec.height * spec.width, 3), 10, np.uint8)
        image[occupied] = coloring.colors[projection.point[occupied]]
        axes = canvas.axes(Box(1.275, number * height + 0.05, 13.65, height - 0.1))
        axes.imshow(image.reshape(spec.height, spec.width, 3), aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        axes.text(
            -0.005, 0.5, coloring.title, transform=axes.transAxes, ha="right", va="center", color=TEXT, fontsize=10
        )
    _save(canvas, path)


def _canvas(view: SweepView, width: float, height: float) -> Canvas:
    """A figure with the legend of the classes that occur, and the view's credit."""
    seen = set(np.unique(view.label)) | (set() if view.truth is None else set(np.unique(view.truth)))
    legend = [(c.name, c.color) for c in view.label_map.classes if c.id in seen]
    return Canvas(width, height, legend, view.credit)


def _save(canvas: Canvas, path: Path) -> None:
    canvas.figure.savefig(path, dpi=DPI)


def _aspect(view: CameraView) -> float:
    return view.camera.width / view.camera.height


# --- colours ---------------------------------------------------------------------------------------------------------


def _prediction(view: SweepView) -> _PointColors:
    return _PointColors("prediction", _label_colors(view, view.label))


def _colorings(view: SweepView) -> list[_PointColors]:
    """Truth, prediction and errors; without truth the prediction only."""
    if view.truth is None:
        return [_prediction(view)]
    errors = _PointColors(f"errors ({_error_rate(view.label, view.truth):.1%})", _error_colors(view.label, view.truth))
    return [_PointColors("truth", _label_colors(view, view.truth)), _prediction(view), errors]


def _label_colors(view: SweepView, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    palette = view.label_map.palette.copy()
    palette[IGNORE] = _UNLABELLED
    colors: NDArray[np.uint8] = palette[label]
    return colors


def _error_colors(label: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colors = np.empty((len(label), 3), np.uint8)
    colors[:] = _CORRECT
    colors[label != truth] = _ERROR
    colors[truth == IGNORE] = _UNKNOWN
    return colors


def _error_rate(label: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    known = truth != IGNORE
    return float((label[known] != truth[known]).mean()) if known.any() else 0.0


def _range_colors(distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bright for near and dark for far, on a logarithmic scale from 2 to 100 m."""
    from matplotlib import colormaps

    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num(np.log(distance / 2) / np.log(50), nan=1.0, posinf=1.0, neginf=0.0).clip(0, 1)
    colors: NDArray[np.uint8] = colormaps["magma"](1 - 0.9 * share, bytes=True)[:, :3]
    return colors


# --- points ----------------------------------------------------------------------------------------------------------


def _dark_canvas(axes: Axes, width: float, height: float) -> None:
    """A dark canvas in pixels, y down, without ticks."""
    axes.set_facecolor(BACKGROUND)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scatter(
    axes: Axes,
    pixels: NDArray[np.floating],
    size: NDArray[np.floating] | float,
    colors: NDArray[np.uint8],
    alpha: float,
) -> None:
    axes.scatter(pixels[:, 0], pixels[:, 1], s=size, c=colors / 255.0, alpha=alpha, linewidths=0, marker="o")


def _birds_eye(axes: Axes, xyz: NDArray[np.float32], coloring: _PointColors) -> None:
    _dark_canvas(axes, 2 * _VIEW_M, 2 * _VIEW_M)
    axes.set_aspect("equal")
    inside = (np.abs(xyz[:, :2]) < _VIEW_M).all(axis=1)
    points, colors = xyz[inside], coloring.colors[inside]
    upwards = np.argsort(points[:, 2])
    pixels = _VIEW_M - points[upwards][:, 1::-1]
    _scatter(axes, pixels, 0.9, colors[upwards], 1.0)
    axes.set_title(coloring.title, color=TEXT, fontsize=12)
    _vehicle_and_scale(axes)


def _vehicle_and_scale(axes: Axes) -> None:
    """A marker at the sensor and a scale bar of 10 m."""
    axes.plot([_VIEW_M], [_VIEW_M], color="white", marker="^", markersize=7, markeredgecolor=BACKGROUND)
    left, y = 3.0, 2 * _VIEW_M - 3.0
    axes.plot([left, left + 10], [y, y], color="white", linewidth=1.5)
    axes.text(left + 5, y - 1, "10 m", color="white", ha="center", va="bottom", fontsize=8)


def _perspective(axes: Axes, xyz: NDArray[np.float32], colors: NDArray[np.uint8]) -> None:
    """The view from behind and above the vehicle."""
    box = axes.get_window_extent()
    width, height = 1000.0, 1000.0 * box.height / box.width
    camera = _virtual_camera((-18.0, 4.0, 14.5), (10.0, 0.0, -3.0), round(width), round(height))
    _dark_canvas(axes, width, height)
    order, pixels, depth = _far_to_near(camera, xyz)
    _scatter(axes, pixels, np.clip(95.0 / depth, 0.9, 7.0), colors[order], 1.0)


def _overlay(axes: Axes, view: CameraView, xyz: NDArray[np.float32], colors: NDArray[np.uint8], title: str) -> None:
    """Points over a dimmed image."""
    camera = view.camera
    step = max(1, camera.width // _MAX_IMAGE_WIDTH)
    image = view.image[::step, ::step].astype(np.float32)
    dimmed = (0.36 * (image + image.mean(axis=2, keepdims=True))).astype(np.uint8)
    # The axes have the image's ratio of width to height.
    axes.imshow(dimmed, extent=(-0.5, camera.width - 0.5, camera.height - 0.5, -0.5), aspect="auto")
    _dark_canvas(axes, camera.width, camera.height)
    order, pixels, depth = _far_to_near(camera, xyz)
    _scatter(axes, pixels, np.clip(40.0 / depth, 0.8, 5.0), colors[order], 0.85)
    if title:
        font = fitting_font(title, 0.97 * axes.get_window_extent().width / DPI)
        axes.text(0.015, 0.965, title, transform=axes.transAxes, color="white", va="top", fontsize=font)


def _far_to_near(
    camera: CameraModel, xyz: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Indices, pixels and depths (m) of the points in the image, sorted from far to near, the order of drawing."""
    finite = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    pixels, inside = camera.project(xyz[finite])
    index = finite[inside]
    depth = xyz[index] @ camera.from_lidar[2, :3] + camera.from_lidar[2, 3]
    order = np.argsort(-depth)
    return index[order], pixels[inside][order], depth[order]


def _virtual_camera(
    eye: tuple[float, float, float], target: tuple[float, float, float], width: int, height: int
) -> CameraModel:
    """An upright camera in the LiDAR frame with a horizontal field of view of 65 degrees."""
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    focal = width / 2 / np.tan(np.radians(65.0 / 2))
    intrinsic = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return CameraModel("view", width, height, intrinsic, inverse(pose))


# --- order of cameras ------------------------------------------------------------------------------------------------


def _azimuth(view: CameraView) -> float:
    """Azimuth of a camera's optical axis, radians, 0 = forward, positive to the left."""
    x, y, _ = view.camera.from_lidar[2, :3]
    return float(np.arctan2(y, x))


def _front_first(cameras: Sequence[CameraView]) -> list[CameraView]:
    return sorted(cameras, key=lambda view: abs(_azimuth(view)))


def _left_to_right(cameras: Sequence[CameraView]) -> list[CameraView]:
    """The three most forward cameras from left to right, then the others: left, back, right."""
    front, rest = _front_first(cameras)[:3], _front_first(cameras)[3:]
    return sorted(front, key=lambda v: -_azimuth(v)) + sorted(rest, key=lambda v: _azimuth(v) % (2 * np.pi))
