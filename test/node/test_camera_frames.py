"""Camera frames of sweeps, without a node."""

from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from xmodelkd_ros.node.camera_frames import CameraFrameBuilder
from xmodelkd_ros.node.extrinsics import CameraPoses
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, StampedImage

WIDTH, HEIGHT, FOCAL = 8, 4, 6.0
IMAGE = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, data=bytes(3 * WIDTH * HEIGHT))


def intrinsic(focal):
    return [focal, 0.0, 3.5, 0.0, focal, 1.5, 0.0, 0.0, 1.0]


def camera_info(**changes):
    matrices = {"k": intrinsic(FOCAL), "p": [FOCAL, 0.0, 3.5, 0.0, 0.0, FOCAL, 1.5, 0.0, 0.0, 0.0, 1.0, 0.0]}
    given = {"width": WIDTH, "height": HEIGHT, "distortion_model": "plumb_bob", "d": [0.1, 0.0, 0.0, 0.0]}
    return CameraInfo(**{**given, **matrices, "r": np.eye(3).ravel().tolist(), **changes})


@pytest.fixture
def setup():
    """CameraInfo and extrinsic of a camera ``front``, both changeable, and a function that returns its model."""
    parameters = SimpleNamespace(
        cameras=[SimpleNamespace(name="front", info_topic="/front/camera_info", rectified=False)],
        projection_frame="",
    )
    infos, extrinsics = {"front": camera_info()}, {"front": np.eye(4)}
    poses = CameraPoses(extrinsics)
    builder = CameraFrameBuilder(parameters, poses, infos)
    matched = MatchedSweep(0, None, {"front": StampedImage(0, IMAGE)}, "complete")

    def model():
        frames = builder.build(matched, "lidar")
        assert not frames.missing
        return frames.frames[0].camera

    return infos, poses, model


def test_camera_model_is_cached(setup):
    infos, _, model = setup
    first = model()
    infos["front"] = camera_info()
    assert model() is first


@pytest.mark.parametrize(
    "changes",
    [
        {"k": intrinsic(FOCAL + 1)},
        {"d": [0.2, 0.0, 0.0, 0.0]},
        {"r": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]},
        {"p": [FOCAL + 1, 0.0, 3.5, 0.0, 0.0, FOCAL + 1, 1.5, 0.0, 0.0, 0.0, 1.0, 0.0]},
        {"distortion_model": "equidistant"},
        {"width": 2 * WIDTH, "height": 2 * HEIGHT},
        {"binning_x": 2, "binning_y": 2},
        {"roi": RegionOfInterest(x_offset=1)},
        {"roi": RegionOfInterest(y_offset=1)},
        {"roi": RegionOfInterest(width=WIDTH // 2, height=HEIGHT // 2)},
    ],
    ids=lambda changes: "_".join(changes),
)
def test_changed_camera_info_gives_a_new_camera_model(setup, changes):
    infos, _, model = setup
    first = model()
    infos["front"] = camera_info(**changes)
    assert model() is not first


def test_changed_intrinsic_is_used(setup):
    infos, _, model = setup
    assert model().intrinsic[0, 0] == FOCAL
    infos["front"] = camera_info(k=intrinsic(FOCAL + 1))
    assert model().intrinsic[0, 0] == FOCAL + 1


def test_changed_extrinsic_is_used(setup):
    _, poses, model = setup
    model()
    moved = np.eye(4)
    moved[0, 3] = 0.5
    poses.from_lidar = lambda *_: moved
    assert model().from_lidar[0, 3] == 0.5


def test_leading_slashes_of_frames_do_not_count():
    asked = []

    class Poses:
        def from_lidar(self, camera, camera_frame, lidar_frame, _stamp_ns):
            asked.append((camera, camera_frame, lidar_frame))
            return np.eye(4)

        def motion(self, lidar_frame, _sweep_ns, _image_ns):
            asked.append(lidar_frame)

    cameras = [SimpleNamespace(name="front", info_topic="/front/camera_info", rectified=False)]
    info = camera_info()
    info.header.frame_id = "/front_optical"
    parameters = SimpleNamespace(cameras=cameras, projection_frame="")
    matched = MatchedSweep(0, None, {"front": StampedImage(0, IMAGE)}, "complete")
    assert not CameraFrameBuilder(parameters, Poses(), {"front": info}).build(matched, "/lidar").missing
    assert asked == [("front", "front_optical", "lidar"), "lidar"]
