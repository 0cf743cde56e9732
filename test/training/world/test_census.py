from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from training.datasets.pandaset import PandaSetSequence
from training.world.census import BORDERS_PX, Agreement, borders, compare_labels, point_counts, sky_share, take_census
from training.worldgen.mesh import LABELS
from training.worldgen.sensing.camera import SKY, CameraRender
from xmodelkd_ros.core.camera import CameraModel

ROAD, CAR, BUILDING = (LABELS.id_of(name) for name in ("road", "car", "building"))
CAMERA = CameraModel("front", 40, 20, np.array([[20.0, 0, 19.5], [0, 20.0, 9.5], [0, 0, 1]]), np.eye(4))
OPTICAL = partial(np.asarray, dtype=np.float32)


@pytest.fixture
def picture():
    """A building on the left, the sky on the right from column 20 on, 10 m away."""
    label = np.full((20, 40), BUILDING, np.uint8)
    label[:, 20:] = SKY
    distance = np.where(label == SKY, np.inf, 10.0).astype(np.float32)
    return CameraRender(np.zeros((20, 40, 3), np.uint8), label, distance)


def point(column, distance=10.0, row=9.5):
    """In the camera's optical frame."""
    ray = np.array([(column - 19.5) / 20, (row - 9.5) / 20, 1.0])
    return ray / np.linalg.norm(ray) * distance


def counts(picture, points, labels, still=True):
    found = compare_labels(OPTICAL(points), np.array(labels, np.uint8), CAMERA, picture, np.full(len(points), still))
    return found.projected, found.to_dict()


def test_points_with_the_class_of_their_pixel_agree(picture):
    projected, found = counts(picture, [point(3), point(8)], [BUILDING, BUILDING])
    assert projected == 2
    for border in BORDERS_PX:
        assert set(found[f"border_{border}_px"].values()) == {1.0}


def test_points_of_another_class_or_in_the_sky_disagree(picture):
    _, found = counts(picture, [point(3), point(8), point(30)], [BUILDING, CAR, CAR])
    assert found["border_0_px"]["agreement"] == pytest.approx(1 / 3, abs=1e-4)


def test_points_behind_a_surface_are_occluded(picture):
    _, found = counts(picture, [point(3), point(8, 14.0), point(8, 6.0)], [BUILDING, CAR, CAR])
    share = found["border_1_px"]
    assert share["counted"] == pytest.approx(2 / 3, abs=1e-4)
    assert share["agreement"] == 0.5
    assert share["counted_with_hidden"] == 1.0
    assert share["agreement_with_hidden"] == pytest.approx(1 / 3, abs=1e-4)


def test_small_depth_differences_do_not_occlude(picture):
    _, found = counts(picture, [point(3, 10.4)], [BUILDING])
    assert found["border_0_px"]["counted"] == 1.0


@pytest.mark.parametrize(("column", "nearest"), [(19, 1), (18, 2), (17, 3), (16, 4)])
def test_border_width(picture, column, nearest):
    _, found = counts(picture, [point(column)], [BUILDING])
    for border in BORDERS_PX:
        assert found[f"border_{border}_px"]["counted"] == float(border < nearest)


def test_moving_objects_are_counted_separately(picture):
    _, found = counts(picture, [point(3), point(8)], [BUILDING, CAR], still=False)
    assert found["border_0_px"]["agreement"] == 0.5
    assert found["border_0_px"]["agreement_of_still_things"] == 0.0


def test_points_outside_the_image_are_not_counted(picture):
    projected, _ = counts(picture, [point(3), point(90), -point(3)], [BUILDING] * 3)
    assert projected == 1


def test_counts_add_up(picture):
    one = compare_labels(OPTICAL([point(3)]), np.array([BUILDING]), CAMERA, picture, np.array([True]))
    other = compare_labels(OPTICAL([point(8)]), np.array([CAR]), CAMERA, picture, np.array([True]))
    both = one + other + Agreement.none()
    assert both.projected == 2
    assert both.to_dict()["border_0_px"]["agreement"] == 0.5


def test_shares_of_no_points_are_zero():
    assert Agreement.none().to_dict()["border_0_px"]["agreement"] == 0.0


def test_a_border_of_width_zero_excludes_nothing(picture):
    assert not borders(picture.label, 0).any()
    assert borders(picture.label, 2).sum() == 4 * 20


def test_the_sky_has_a_share_of_the_pixels(picture):
    assert sky_share(np.bincount(picture.label.ravel(), minlength=256)) == 0.5


@pytest.fixture(scope="module")
def train_drives():
    return [take_census(seed, sweeps=4, cameras=0) for seed in (1, 4)]


@pytest.fixture(scope="module")
def seen_drive():
    return take_census(18, sweeps=2)


def test_a_few_drives_have_points_and_objects_of_every_class(train_drives, seen_drive):
    drives = [*train_drives, seen_drive]
    points, things = (sum(getattr(drive, name) for drive in drives) for name in ("points", "things"))
    assert points.shape == things.shape == (len(LABELS),)
    assert (points > 100).all(), dict(zip(LABELS.names, points, strict=True))
    assert (things >= 2).all(), dict(zip(LABELS.names, things, strict=True))


def test_objects_are_fewer_than_points(train_drives):
    assert all((drive.things <= drive.points / 10).all() for drive in train_drives)


def test_most_but_not_all_pulses_have_returns(train_drives):
    assert all(0.6 < drive.returns < 0.99 for drive in train_drives)


def test_points_agree_with_pixel_labels(seen_drive):
    """97 % of the visible points, which are 85 % of all."""
    share = seen_drive.agreement.to_dict()["border_0_px"]
    assert share["agreement"] >= 0.97
    assert share["counted"] >= 0.85
    assert seen_drive.agreement.to_dict()["border_1_px"]["agreement"] >= 0.995


def test_detects_a_shifted_camera(picture):
    columns = np.linspace(0, 39, 400)
    points = OPTICAL([point(column) for column in columns])
    labels = np.where(columns < 19.5, BUILDING, SKY).astype(np.uint8)
    still = np.ones(400, bool)
    right = compare_labels(points, labels, CAMERA, picture, still).to_dict()["border_0_px"]["agreement"]
    moved = CAMERA.intrinsic + np.array([[0, 0, 6.0], [0, 0, 0], [0, 0, 0]])
    wrong = compare_labels(points, labels, replace(CAMERA, intrinsic=moved), picture, still).to_dict()
    assert right == 1.0
    assert wrong["border_0_px"]["agreement"] < 0.9


def test_counts_classes_of_pandaset(pandaset):
    counted = point_counts(PandaSetSequence(pandaset), [0])
    assert counted.sum() > 100_000
    assert counted[BUILDING] > counted[ROAD] > counted[LABELS.id_of("hazard")]
