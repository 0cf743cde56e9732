"""Sampling of image features, with a network that outputs the brightness of an image."""

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ImageError, ModelError
from xmodelkd_ros.core.model_spec import ImageBranchSpec, NetworkFile, TensorSpec
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector
from xmodelkd_ros.core.visibility import NO_CAMERA, PointVisibility, SweepImages
from xmodelkd_ros.segmentation.image_features import ImageFeatureSampler, resized

SPEC = ImageBranchSpec(
    {"fp32": NetworkFile("image_branch.onnx", "0" * 64)},
    TensorSpec("picture", (1, 3, 8, 16), "float32"),
    TensorSpec("features", (1, 1, 4, 8), "float32"),
    3,
)
PROJECTION = ProjectionSpec((0.0, -10.0), 8)
SIZE = (2, 8)


class Brightness:
    def infer(self, inputs):
        picture = inputs["picture"]
        assert picture.shape == (1, 3, 8, 16) and picture.dtype == np.float32
        return {"features": picture[:, :1, ::2, ::2]}


@pytest.fixture
def sampler():
    return ImageFeatureSampler(SPEC, Brightness())


def scene(camera, uv, pixels):
    """A point ahead that is visible in one camera, and a point behind that is visible in none."""
    cloud = PointCloud(np.array([[10, 0, 0], [-10, 0.1, 0]], np.float32), np.ones(2, np.float32))
    cameras = np.array([[camera, NO_CAMERA], [NO_CAMERA, NO_CAMERA]], np.int8)
    views = PointVisibility(cameras, np.array([[uv, (0, 0)], [(0, 0), (0, 0)]], np.float32))
    return RangeProjector(PROJECTION).project(cloud), SweepImages(pixels, views)


def test_samples_feature_map_of_the_points_camera(sampler):
    dark, bright = np.zeros((16, 32, 3), np.uint8), np.full((16, 32, 3), 200, np.uint8)
    projection, images = scene(1, (0.5, 1.0), (dark, bright, None))
    inputs = sampler.inputs(projection, SIZE, images)
    assert inputs["maps"].shape == (1, 1, 12, 8)
    assert (inputs["maps"][0, 0, 4:8] == 200).all() and (inputs["maps"][0, 0, :4] == 0).all()
    row, column = np.argwhere(inputs["seen"][0])[0]
    assert inputs["seen"].sum() == 1 and (row, column) == divmod(int(projection.pixel[0]), 8)
    u, v = inputs["places"][0, row, column]
    assert u == pytest.approx(0.5)
    assert (v + 1) / 2 * 12 == pytest.approx(7.5), "centre of the last row of the second map, not between two maps"


def test_missing_image_is_masked(sampler):
    bright = np.full((16, 32, 3), 200, np.uint8)
    projection, images = scene(0, (0, 0), (bright, None, None))
    assert sampler.inputs(projection, SIZE, images)["seen"].sum() == 1
    _, missing = scene(0, (0, 0), (None, None, None))
    assert not sampler.inputs(projection, SIZE, missing)["seen"].any()


def test_mask_is_empty_without_images(sampler):
    projection, _ = scene(0, (0, 0), ())
    inputs = sampler.inputs(projection, SIZE, SweepImages.from_frames(np.zeros((2, 3)), ()))
    assert inputs["seen"].shape == (2, *SIZE) and not inputs["seen"].any()
    assert inputs["places"].shape == (2, *SIZE, 2)


def test_too_many_cameras_is_an_error(sampler):
    projection, images = scene(0, (0, 0), (None,) * 4)
    with pytest.raises(ImageError, match="4 cameras, but the model takes 3 at most; name fewer"):
        sampler.inputs(projection, SIZE, images)


def test_resizes_with_aligned_edges():
    pixels = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 4, axis=0), 4, axis=1).repeat(3, axis=2)
    np.testing.assert_array_equal(resized(pixels, (2, 3))[..., 0], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(("cameras", "shape"), [(0, (1, 1, 4, 8)), (3, (2, 1, 4, 8))])
def test_invalid_image_branch_spec_is_an_error(cameras, shape):
    with pytest.raises(ModelError, match=r"image_branch\."):
        ImageBranchSpec(SPEC.files, SPEC.picture, TensorSpec("features", shape, "float32"), cameras)
