import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.model_spec import DataSource, ModelSpec
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep
from xmodelkd_ros.reports import sweep_plots
from xmodelkd_ros.reports.attribution import credit
from xmodelkd_ros.reports.report import Run, _footer, score_table, summary, write_report
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.resources import label_map

DRIVE13 = label_map("drive13")
RUN = Run("drive <1>", "xmodelkd evaluate drive --out here", "the time of the pipeline")
DIRECTIONS = {
    "front": (1, 0),
    "left": (0, 1),
    "right": (0, -1),
    "back": (-1, 0),
    "front_left": (1, 1),
    "front_right": (1, -1),
}


def camera(name):
    """A camera at the sensor that faces a direction in the x-y plane."""
    forward = np.array([*DIRECTIONS[name], 0.0]) / np.hypot(*DIRECTIONS[name])
    down = np.array([0, 0, -1.0])
    from_lidar = np.eye(4)
    from_lidar[:3, :3] = [np.cross(down, forward), down, forward]
    intrinsic = np.array([[30.0, 0, 32], [0, 30, 18], [0, 0, 1]])
    return CameraView(CameraModel(name, 64, 36, intrinsic, from_lidar), np.full((36, 64, 3), 90, np.uint8))


def view(cameras=("front",), truth=True):
    cloud = synthetic_sweep(ProjectionSpec(tuple(np.linspace(10, -20, 16).tolist()), 128), 2000)
    cloud.xyz[0] = np.nan
    label = np.where(cloud.xyz[:, 2] > 0, 9, 4).astype(np.uint8)
    true = label.copy()
    true[:200] = 0
    return SweepView(cloud, label, DRIVE13, true if truth else None, tuple(camera(name) for name in cameras))


def scores_of(drawn):
    scores = Scores(DRIVE13)
    ones = np.ones(len(drawn.label), np.float32)
    scores.add(drawn.cloud, Segmentation(drawn.label, ones, ones), drawn.truth, stages_ms={"infer": 2.0})
    return scores


@pytest.fixture(scope="module")
def spec(height_model):
    return ModelSpec.read(height_model)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("cameras", [(), ("front", "back")])
def test_page_shows_every_plot(tmp_path, spec, cameras, truth):
    drawn = view(cameras, truth)
    scores = scores_of(drawn)
    path = write_report(tmp_path / "out", RUN, scores.metrics(spec, "onnxruntime", "fp32"), scores, spec, drawn)
    page = path.read_text(encoding="utf-8")
    shown = set(re.findall(r'img src="([^"]+)"', page))
    assert shown == {p.name for p in path.parent.glob("*.png")}
    expected = {"sweep.png", "birds_eye.png", "range_image.png", "latency.png"}
    assert shown == expected | ({"cameras.png"} if cameras else set()) | ({"confusion.png"} if truth else set())
    assert "drive &lt;1&gt;" in page
    assert "written by a test" in page, "attribution of the training data"
    assert ("mIoU, drive13" in page) is truth
    assert (path.parent / "metrics.json").is_file()


STREETS, WORLD = DataSource("streets", "CC BY 4.0", "Streets by Us"), DataSource("own world", "Apache-2.0", "")


def test_credits_name_the_data_and_the_models_training_data_each_for_what_it_is():
    text = credit("mine.mcap", None, "student", (WORLD, STREETS))
    assert text == "Data: mine.mcap. Model: student, trained on Streets by Us (CC BY 4.0)"
    town = DataSource("town", "MIT", "Town by Them, MIT")
    assert credit("t.mcap", town, "small", (WORLD,)) == "Data: t.mcap (Town by Them, MIT). Model: small"


def test_the_page_names_data_and_model(spec):
    both = replace(spec, training_data=(WORLD, STREETS))
    unknown = _footer(replace(RUN, data="mine.mcap"), both)
    assert "<p>Data: mine.mcap</p>" in unknown
    assert "height, trained on: own world (Apache-2.0). Streets by Us (CC BY 4.0)</p>" in unknown
    assert "<p>Data: s.mcap: Streets by Us (CC BY 4.0)</p>" in _footer(
        replace(RUN, data="s.mcap", source=STREETS), spec
    )


def test_every_picture_of_a_sweep_has_the_credit(tmp_path, spec, monkeypatch):
    written = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, path, **k: written.append((path.name, figure)) or savefig(figure, path, **k)
    )
    scores = scores_of(view())
    run = replace(RUN, data="s.mcap", source=STREETS)
    write_report(tmp_path, run, scores.metrics(spec, "onnxruntime", "fp32"), scores, spec, view())
    lines = {name: " ".join(text.get_text() for text in figure.texts) for name, figure in written}
    for name in ("sweep.png", "birds_eye.png", "cameras.png", "range_image.png"):
        assert "Data: s.mcap (Streets by Us (CC BY 4.0)). Model: height" in lines[name].replace("\n", " "), name


def test_no_plots_without_sweep(tmp_path, spec):
    scores = Scores(DRIVE13)
    page = write_report(tmp_path, RUN, scores.metrics(spec, "onnxruntime", "fp32"), scores, spec)
    assert page.is_file()
    assert not list(tmp_path.glob("*.png"))


def test_range_image_contains_colours_of_truth_prediction_and_errors(tmp_path):
    drawn = view()
    sweep_plots.draw_range_image(
        drawn, ProjectionSpec(tuple(np.linspace(10, -20, 16).tolist()), 128), tmp_path / "r.png"
    )
    pixels = (imread(tmp_path / "r.png")[:, :, :3] * 255).round().astype(int).reshape(-1, 3)
    seen = {tuple(c) for c in np.unique(pixels, axis=0)}
    for name in ("road", "building", "car"):
        assert tuple(DRIVE13.palette[DRIVE13.id_of(name)]) in seen
    assert sweep_plots._ERROR in seen


def test_colours_of_errors_and_unknown_points():
    label, truth = np.array([1, 2, 3], np.uint8), np.array([1, 1, 255], np.uint8)
    colors = sweep_plots._error_colors(label, truth)
    assert [tuple(c) for c in colors] == [sweep_plots._CORRECT, sweep_plots._ERROR, sweep_plots._UNKNOWN]
    assert sweep_plots._error_rate(label, truth) == 0.5


def test_camera_images_are_sorted_by_azimuth():
    views = [camera(name) for name in DIRECTIONS]
    assert [v.camera.name for v in sweep_plots._left_to_right(views)] == [
        "front_left", "front", "front_right", "left", "back", "right",
    ]  # fmt: skip


def test_nearest_points_are_drawn_last():
    xyz = np.array([[5, 0, 0], [20, 0, 0], [np.nan, 0, 0], [-3, 0, 0], [10, 0, 0]], np.float32)
    order, pixels, depth = sweep_plots._far_to_near(camera("front").camera, xyz)
    assert order.tolist() == [1, 4, 0]
    np.testing.assert_allclose(depth, [20, 10, 5])
    np.testing.assert_allclose(pixels, np.tile([32, 18], (3, 1)), atol=1e-9)


def test_virtual_camera_faces_target_upright():
    virtual = sweep_plots._virtual_camera((-20, 3, 15), (9, 0, -3), 800, 600)
    pixels, inside = virtual.project(np.array([[9, 0, -3], [9, 0, 0]], np.float32))
    assert inside.all()
    np.testing.assert_allclose(pixels[0], [400, 300], atol=1e-4)
    assert pixels[1, 1] < 300, "up is up"


def test_summary_and_table_for_terminal(spec):
    metrics = scores_of(view()).metrics(spec, "onnxruntime", "fp32")
    assert re.fullmatch(
        r"mIoU 0\.\d{3} \(drive13\) \| sweeps in 1, out 1 \| latency p50 2\.0 ms, p99 2\.0 ms", summary(metrics)
    )
    rows = [line.split()[0] for line in score_table(metrics).splitlines()]
    assert rows == ["class", "car", "road", "building", "mIoU"]
    metrics["miou"] = None
    assert summary(metrics).startswith("no truth")


def test_plots_empty_cloud(tmp_path, spec):
    empty = PointCloud(np.zeros((0, 3), np.float32))
    drawn = SweepView(empty, np.zeros(0, np.uint8), DRIVE13, None, (camera("front"),))
    scores = scores_of(drawn)
    write_report(tmp_path, RUN, scores.metrics(spec, "onnxruntime", "fp32"), scores, spec, drawn)
    assert (tmp_path / "sweep.png").is_file()


def test_recordings_in_the_folder_are_linked(tmp_path, spec):
    (tmp_path / "demo.rrd").touch()
    scores = Scores(DRIVE13)
    page = write_report(tmp_path, RUN, scores.metrics(spec, "onnxruntime", "fp32"), scores, spec).read_text()
    assert '<a href="demo.rrd">demo.rrd</a>' in page and (tmp_path / "demo.rrd").exists()
