"""Pictures, and what every source of drives must keep to."""

import io

import numpy as np
import pytest
from PIL import Image

from training.datasets.pandaset import PandaSetSequence
from training.datasets.sequence import JpegFile
from training.world.sequence import RenderedImage
from training.world.stored import stored_drives
from training.worldgen.sensing.camera import Picture
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError

SIZE = (48, 64)
CAMERA = CameraModel("front_camera", SIZE[1], SIZE[0], np.diag([40.0, 40.0, 1.0]), np.eye(4))


@pytest.fixture(scope="module")
def rgb():
    """Red on the left, blue on the right, and a texture."""
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 2] = 220, 220
    rgb[::2, :, 1] = 40
    return rgb


@pytest.fixture(scope="module")
def picture(rgb):
    return Picture(rgb, np.full(SIZE, 4, np.uint8), np.ones(SIZE, np.float32))


@pytest.fixture
def jpeg_file(picture, tmp_path):
    path = tmp_path / "000.jpg"
    path.write_bytes(RenderedImage(CAMERA, 0, lambda: picture).jpeg())
    return JpegFile(CAMERA, 7, path)


def test_a_picture_from_disk_is_untouched_and_red_comes_first(jpeg_file):
    assert jpeg_file.jpeg() == jpeg_file.path.read_bytes()
    pixels = jpeg_file.pixels()
    assert pixels.shape == (*SIZE, 3) and pixels.dtype == np.uint8
    assert pixels[:, :28, 0].mean() > 200 and pixels[:, 36:, 0].mean() < 20
    assert pixels[:, 36:, 2].mean() > 200 and pixels[:, :28, 2].mean() < 20


def test_a_rendered_picture_is_what_a_folder_would_hold(rgb, picture, jpeg_file):
    image = RenderedImage(CAMERA, 7, lambda: picture)
    assert (image.camera, image.stamp_ns) == (jpeg_file.camera, jpeg_file.stamp_ns)
    assert image.jpeg() == jpeg_file.jpeg()
    np.testing.assert_array_equal(image.pixels(), jpeg_file.pixels())
    assert not np.array_equal(image.pixels(), rgb), "with the loss of JPEG"
    assert Image.open(io.BytesIO(image.jpeg())).format == "JPEG"


def test_a_rendered_picture_is_made_when_it_is_asked_for(picture):
    rendered = []
    image = RenderedImage(CAMERA, 0, lambda: rendered.append(1) or picture)
    assert not rendered
    image.jpeg()
    assert image.labels() is picture.label and rendered == [1], "once for all that is asked"


@pytest.mark.parametrize("content", [None, b"", b"no picture", "half"])
def test_a_picture_that_cannot_be_read(jpeg_file, content):
    if content is None:
        jpeg_file.path.unlink()
    else:
        whole = jpeg_file.path.read_bytes()
        jpeg_file.path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ConfigError, match=r"cannot read image .*000\.jpg: .*; fetch or write it again"):
        jpeg_file.pixels()


@pytest.fixture(params=["pandaset", "world"])
def sequence(request):
    if request.param == "pandaset":
        return PandaSetSequence(request.getfixturevalue("pandaset"))
    return stored_drives(request.getfixturevalue("generated").folder)[0]


def test_every_source_keeps_to_the_contract(sequence):
    cloud, labels = sequence.cloud(1), sequence.labels(1)
    assert cloud.xyz.dtype == np.float32 and np.isfinite(cloud.xyz).all() and len(cloud) > 5000
    assert labels.shape == (len(cloud),) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {*range(len(sequence.label_map)), 255}
    low, high = sequence.intensity_range
    assert low <= cloud.intensity.min() and cloud.intensity.max() <= high
    assert 0.05e9 < sequence.stamp_ns(1) - sequence.stamp_ns(0) < 0.2e9
    assert sequence.name and sequence.source.license
    for matrix in (sequence.world_from_lidar(1), sequence.base_from_lidar):
        assert matrix.shape == (4, 4)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
    assert 1.0 < sequence.base_from_lidar[2, 3] < 3.0, "the sensor is on a roof"


def test_every_source_has_a_picture_of_each_camera(sequence):
    images = sequence.images(1)
    assert [image.camera.name for image in images] == [camera.name for camera in sequence.cameras]
    assert len(images) == 6
    for image in images:
        assert image.pixels().shape == (image.camera.height, image.camera.width, 3)
        assert abs(image.stamp_ns - sequence.stamp_ns(1)) < 0.15e9


@pytest.mark.parametrize("method", ["cloud", "labels", "stamp_ns", "world_from_lidar", "images"])
def test_no_source_has_frames_beyond_its_end(sequence, method):
    for index in (-1, len(sequence)):
        with pytest.raises(ConfigError, match=f"has no frame {index}; it has 0 to {len(sequence) - 1}"):
            getattr(sequence, method)(index)
