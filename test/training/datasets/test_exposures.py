import numpy as np
import pytest

from test.training.folders import point_visibility
from training.datasets.exposures import EncodedSweepImages, motion_compensated
from training.world.sequence import live_drive
from training.worldgen.drive import Drive
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.visibility import MAX_VIEWS, NO_CAMERA, visible_points

CAMERA = CameraModel("front", 640, 384, np.array([[400.0, 0, 320], [0, 400.0, 192], [0, 0, 1]]), np.eye(4))


@pytest.fixture(scope="module")
def drive():
    return live_drive(Drive(5, 2, cameras=6, every=50, lidar="OS1-128"))


def test_motion_compensation_equals_the_worlds_own(drive):
    xyz = motion_compensated(drive, 1, drive.cloud(1).xyz, drive.time_s(1), 0.0)
    assert np.abs(xyz - drive.compensated(1)).max() < 0.03
    moved = np.linalg.norm(drive.cloud(1).xyz - drive.compensated(1), axis=1).max()
    assert moved > 0.3, "the vehicle moves"


def test_points_project_onto_pixels_of_their_class(drive):
    views, labels = point_visibility(drive, 1), drive.labels(1)
    images = drive.images(1)
    assert views.camera.shape == (len(labels), MAX_VIEWS)
    equal = []
    for number, image in enumerate(images):
        pixels = image.labels()
        points, slots = np.nonzero(views.camera == number)
        column, row = ((views.uv[points, slots] + 1) / 2 * pixels.shape[::-1] - 0.5).T
        equal.append(pixels[np.rint(row).astype(int), np.rint(column).astype(int)] == labels[points])
    assert np.concatenate(equal).mean() > 0.95
    assert (views.camera[:, 0] != NO_CAMERA).mean() > 0.5


def test_visibility_agrees_with_rendered_depth(drive):
    """Judged by the rendered distances of the pixels, which the visibility test does not use."""
    kept, truly = [], []
    for image in drive.images(1):
        shutter_s = (image.stamp_ns - drive.stamp_ns(1)) * 1e-9
        xyz = motion_compensated(drive, 1, drive.cloud(1).xyz, drive.time_s(1), shutter_s)
        pixels, inside = image.camera.project(xyz)
        column, row = np.rint(pixels[inside]).astype(int).clip(0, (image.camera.width - 1, image.camera.height - 1)).T
        eye = image.camera.from_lidar
        distance = np.linalg.norm(xyz[inside] @ eye[:3, :3].T + eye[:3, 3], axis=1)
        truly.append(distance < 1.02 * image.rendered.distance[row, column] + 0.3)
        kept.append(np.isin(np.flatnonzero(inside), visible_points(image.camera, xyz)[0]))
    kept, truly = np.concatenate(kept), np.concatenate(truly)
    assert kept[truly].mean() > 0.93
    assert (~truly).mean() > 0.03 and kept[~truly].mean() < 0.35


def test_the_first_view_is_nearest_the_image_centre(drive):
    views = point_visibility(drive, 1)
    both = views.camera[:, 1] != NO_CAMERA
    assert both.any() and (views.camera[both, 0] != views.camera[both, 1]).all()
    off = np.abs(views.uv[both]).max(axis=2)
    assert (off[:, 0] <= off[:, 1]).all()
    assert (views.uv[views.camera == NO_CAMERA] == 0).all()


def test_without_cameras_no_point_is_visible():
    views = point_visibility(live_drive(Drive(5, 1, cameras=0)), 0)
    assert views.camera.shape[1] == MAX_VIEWS and (views.camera == NO_CAMERA).all()


def test_moved_points_are_projected_at_their_new_position(drive):
    """Rotated 5 degrees to the left: points are projected to other pixels."""
    look, xyz = EncodedSweepImages.load(drive, 1), drive.cloud(1).xyz
    angle = np.radians(5)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = (xyz @ turn.T).astype(np.float32)
    turned[::2] = np.nan
    views = look.exposures.views(turned)
    assert (views.camera[::2] == NO_CAMERA).all()
    ahead = (np.hypot(*xyz.T[:2]) > 10) & (look.views.camera[:, 0] == views.camera[:, 0]) & (views.camera[:, 0] == 0)
    moved = views.uv[ahead, 0] - look.views.uv[ahead, 0]
    camera = drive.cameras[0]
    expected = -np.tan(angle) * camera.intrinsic[0, 0] * 2 / camera.width  # at the middle; more towards the edges
    assert ahead.sum() > 500 and moved[:, 0].max() < 0.9 * expected
    assert np.median(moved[:, 0]) == pytest.approx(expected, rel=0.25) and abs(np.median(moved[:, 1])) < 0.02
