import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.normalization import ChannelSpec, Normalizer
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec

CLOUD = PointCloud(np.array([[4, 0, 3], [8, 0, 6], [0, 5, 0]], np.float32), np.array([10, 20, 30], np.float32))
CHANNELS = (ChannelSpec("z", 1.0, 2.0), ChannelSpec("range", 5.0, 10.0), ChannelSpec("intensity", 10.0, 10.0))


def test_channels_of_a_worked_example():
    distance = np.array([5, 10, 5], np.float32)
    points = Normalizer(CHANNELS, (0, 255)).points(CLOUD, distance)
    np.testing.assert_allclose(points, [[1, 0, 0], [2.5, 0.5, 1], [-0.5, 0, 2], [0, 0, 0]], atol=1e-6)


def test_image_has_the_nearest_point_and_the_mask():
    spec = ProjectionSpec((37.0, 0.0), width=4)
    projection = RangeProjector(spec).project(CLOUD)
    normalizer = Normalizer(CHANNELS, (0, 255))
    image = normalizer.image(normalizer.points(CLOUD, projection.range), projection, 2, 4)
    assert image.shape == (4, 2, 4)
    assert image[3].sum() == 2  # points 0 and 1 share a pixel
    np.testing.assert_allclose(image[:, 0, 2], [1, 0, 0, 1], atol=1e-6)
    assert (image[:, image[3] == 0] == 0).all()


def test_sensor_intensity_is_rescaled_to_the_model():
    distance = np.array([5, 10, 5], np.float32)
    own = Normalizer(CHANNELS, (0, 255)).points(CLOUD, distance)
    scaled = PointCloud(CLOUD.xyz, 100 + CLOUD.intensity * 4)
    other = Normalizer(CHANNELS, (0, 255), SensorSpec("other", (0.0,), intensity_range=(100, 100 + 255 * 4))).points(
        scaled, distance
    )
    np.testing.assert_allclose(other, own, atol=1e-5)


def test_rejects_missing_intensity_and_invalid_channels():
    with pytest.raises(CloudError, match="missing_intensity"):
        Normalizer(CHANNELS, (0, 255)).points(PointCloud(CLOUD.xyz), np.ones(3, np.float32))
    with pytest.raises(ModelError, match="colour"):
        ChannelSpec("colour", 0, 1)
    for mean, std in ((0, 0), (0, -1), (0, 1e-30), (0, 1e30), (0, np.nan), (-1e30, 1), (np.nan, 1)):
        with pytest.raises(ModelError, match="std of 'z'"):
            ChannelSpec("z", mean, std)


def test_invalid_intensity_is_clipped():
    for values, expected in (([np.nan, 1e30, -1e30], [-1, 24.5, -1]), ([np.inf, 0, -np.inf], [-1, -1, -1])):
        cloud = PointCloud(CLOUD.xyz, np.array(values, np.float32))
        points = Normalizer(CHANNELS, (0, 255)).points(cloud, np.ones(3, np.float32))
        np.testing.assert_allclose(points[:3, 2], expected)


ANY_LIDAR = tuple(ChannelSpec(name, 0, 1) for name in ("height", "relative_intensity", "has_intensity"))


def test_height_is_above_the_ground_below_a_tilted_sensor():
    pitch = np.radians(10)
    level = np.array([(10, 0, -1.5), (0, 5, -1.5), (-3, 2, 0.5)])
    looking_down = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])
    cloud = PointCloud((level @ looking_down.T).astype(np.float32), np.ones(3, np.float32))
    sensor = SensorSpec("tilted", (0.0,), height_m=1.5, pitch_deg=10)
    heights = Normalizer(ANY_LIDAR, (0, 255), sensor).points(cloud, np.ones(3, np.float32))[:-1, 0]
    np.testing.assert_allclose(heights, (0, 0, 2), atol=1e-5)


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_relative_intensity_does_not_depend_on_the_scale(scale):
    intensity = np.array((0, 7, 70), np.float32) * np.float32(scale)
    sensor = SensorSpec("scaled", (0.0,), ground_intensity=7 * scale)
    points = Normalizer(ANY_LIDAR, (0, 255), sensor).points(PointCloud(CLOUD.xyz, intensity), np.ones(3, np.float32))
    np.testing.assert_allclose(points[:-1, 1], np.log1p((0, 1, 10)), rtol=1e-5)
    assert (points[:-1, 2] == 1).all()


def test_infinite_intensity_is_dark_rather_than_the_brightest():
    sensor = SensorSpec("broken", (0.0,), ground_intensity=7.0)
    cloud = PointCloud(np.ones((20, 3), np.float32), np.array([np.inf, 7, *[0] * 18], np.float32))
    points = Normalizer(ANY_LIDAR, (0, 255), sensor).points(cloud, np.ones(20, np.float32))
    np.testing.assert_allclose(points[:3, 1], (0, np.log(2), 0), rtol=1e-5)


def test_intensity_that_is_nan_for_many_returns_is_missing():
    intensity = np.arange(20, dtype=np.float32)
    intensity[:5] = np.nan
    normalizer = Normalizer(ANY_LIDAR, (0, 255), SensorSpec("broken", (0.0,), ground_intensity=7.0))
    cloud, distance = PointCloud(np.ones((20, 3), np.float32), intensity), np.ones(20, np.float32)
    assert not normalizer.points(cloud, distance)[:, 1:].any()
    distance[:5] = 0  # no returns
    assert normalizer.points(cloud, distance)[:, 1:].any()


@pytest.mark.parametrize("intensity", [None, np.ones(3, np.float32)])
def test_intensity_is_missing_without_a_field_or_a_known_ground(intensity):
    sensor = SensorSpec("unknown", (0.0,), ground_intensity=0.0 if intensity is not None else 7.0)
    points = Normalizer(ANY_LIDAR, (0, 255), sensor).points(PointCloud(CLOUD.xyz, intensity), np.ones(3, np.float32))
    assert not points[:, 1:].any()
