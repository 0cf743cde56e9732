"""Pictures of sweeps with any number of cameras of any shape: nothing stretched, cut or left white."""

import numpy as np
import pytest
from matplotlib.image import imread

from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.reports import sweep_plots
from xmodelkd_ros.reports.plot_layout import Box, Canvas, row, stack
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.resources import label_map

USUAL, WIDE, TALL, SQUARE = (320, 180), (414, 125), (180, 320), (200, 200)
RIGS = {
    "none": [], "one": [USUAL], "one wide": [WIDE], "one tall": [TALL], "one square": [SQUARE], "two": [USUAL] * 2,
    "two wide": [WIDE] * 2, "three": [USUAL] * 3, "three tall": [TALL] * 3, "five": [USUAL] * 5, "six": [USUAL] * 6,
    "seven": [USUAL] * 7, "mixed": [USUAL, WIDE, TALL, SQUARE], "panorama": [(800, 80)],
}  # fmt: skip
CREDIT = "Data: a drive. Model: a student, trained on " + ", ".join(f"dataset {k} (CC BY 4.0)" for k in range(12))


def camera(number, count, width, height):
    angle = -2 * np.pi * number / max(count, 1)
    forward, down = np.array([np.cos(angle), np.sin(angle), 0]), np.array([0, 0, -1.0])
    from_lidar = np.eye(4)
    from_lidar[:3, :3] = [np.cross(down, forward), down, forward]
    intrinsic = np.array([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1]])
    image = np.full((height, width, 3), (10, 240, 10), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    radius = 0.35 * min(width, height)
    image[np.hypot(columns - width / 2, rows - height / 2) < radius] = (240, 10, 240)
    return CameraView(CameraModel(f"camera_{number}", width, height, intrinsic, from_lidar), image)


def view(sizes, label_set="semantickitti19"):
    labels = label_map(label_set)
    ids = np.array([c.id for c in labels.classes], np.uint8)
    xyz = np.random.default_rng(0).uniform([-30, -30, -2], [30, 30, 3], (200, 3)).astype(np.float32)
    cameras = tuple(camera(k, len(sizes), *size) for k, size in enumerate(sizes))
    return SweepView(PointCloud(xyz), np.resize(ids, len(xyz)), labels, None, cameras, CREDIT)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws a picture; returns its figure and its pixels."""
    figures = []
    save = sweep_plots._save
    monkeypatch.setattr(sweep_plots, "_save", lambda canvas, path: figures.append(canvas.figure) or save(canvas, path))

    def draw(function, *arguments):
        function(*arguments, tmp_path / "picture.png")
        return figures.pop(), imread(tmp_path / "picture.png")[..., :3]

    return draw


def check_images(figure, sizes):
    """Each image has its own ratio and lies in the figure, apart from the others."""
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.images]
    ratios = sorted(box.width / box.height for box in boxes)
    np.testing.assert_allclose(ratios, sorted(width / height for width, height in sizes), rtol=0.01)
    for number, box in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1
        assert box.x1 < figure.bbox.width + 1 and box.y1 < figure.bbox.height + 1
        for other in boxes[:number]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0
            assert apart


def check_texts(figure):
    """Legend and credits are within the figure and do not cover axes or each other."""
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    lines = [text.get_window_extent() for text in figure.texts]
    for box in (legend, *lines):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    assert max(line.y1 for line in lines) <= legend.y0 + 1
    assert legend.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes) + 1


@pytest.mark.parametrize("rig", RIGS)
def test_the_title_plot_shows_the_scene_and_undistorted_images(drawn, rig):
    figure, pixels = drawn(sweep_plots.draw_sweep, view(RIGS[rig]))
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == min(3, len(RIGS[rig]))
    if len(RIGS[rig]) <= 3:
        check_images(figure, RIGS[rig])
    check_texts(figure)
    assert (pixels > 0.98).all(axis=2).mean() < 0.17, "hardly more white than legend and credits need"
    (scene,) = (axes.get_window_extent() for axes in figure.axes if not axes.images)
    assert 0.9 < scene.width / scene.height < 2.5
    assert scene.width * scene.height > 0.25 * figure.bbox.width * figure.bbox.height


@pytest.mark.parametrize("rig", [rig for rig in RIGS if rig != "none"])
def test_the_cameras_plot_shows_every_image_undistorted(drawn, rig):
    figure, pixels = drawn(sweep_plots.draw_cameras, view(RIGS[rig]))
    check_images(figure, RIGS[rig])
    check_texts(figure)
    bottom = min(axes.get_window_extent().y0 for axes in figure.axes)
    above = pixels[: len(pixels) - round(bottom) - 2]
    assert (above > 0.98).all(axis=2).mean() < 0.02, "no white between the images"


@pytest.mark.parametrize("rig", ["six", "mixed", "three tall"])
def test_names_of_cameras_are_within_their_images(drawn, rig):
    sweep = view(RIGS[rig])
    for camera_view in sweep.cameras:
        object.__setattr__(camera_view.camera, "name", "rear_left_wide_angle_camera_number_12")
    figure, _ = drawn(sweep_plots.draw_cameras, sweep)
    for axes in figure.axes:
        (name,) = axes.texts
        image, text = axes.get_window_extent(), name.get_window_extent()
        assert image.x0 <= text.x0 and text.x1 <= image.x1


@pytest.mark.parametrize("size", [USUAL, WIDE, TALL])
def test_circles_stay_round(drawn, size):
    _, pixels = drawn(sweep_plots.draw_cameras, view([size], "drive13"))
    disc = (pixels[..., 0] > 0.4) & (pixels[..., 1] < 0.35) & (pixels[..., 2] > 0.4)
    rows, columns = np.flatnonzero(disc.sum(axis=1) > 20), np.flatnonzero(disc.sum(axis=0) > 20)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("label_set", ["drive13", "semantickitti19", "pandaset42"])
def test_legends_fit_below_a_narrow_plot(drawn, label_set):
    figure, _ = drawn(sweep_plots.draw_birds_eye, view([], label_set))
    check_texts(figure)
    assert figure.axes[0].get_window_extent().width == pytest.approx(
        figure.axes[0].get_window_extent().height, rel=0.01
    )


def test_rows_and_stacks_fill_their_box():
    boxes = row([2.0, 1.0], Box(1, 1, 6.06, 9))
    assert [(round(b.left, 2), b.top, round(b.width, 2), round(b.height, 2)) for b in boxes] == [
        (1, 4.5, 4, 2), (5.06, 4.5, 2, 2),
    ]  # fmt: skip
    (tall,) = stack([0.5], Box(0, 0, 4, 4))
    assert (tall.left, tall.top, tall.width, tall.height) == (1, 0, 2, 4)


def test_a_figure_needs_neither_legend_nor_credit():
    canvas = Canvas(4, 2, (), "")
    assert not canvas.figure.legends and not canvas.figure.texts and canvas.height < 2.3
