"""Image files, and the contract of every dataset."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageOps

from training.datasets.exposures import EncodedSweepImages
from training.datasets.pandaset import PandaSetSequence
from training.datasets.sequence import JpegFile, decode_jpeg
from training.world.sequence import RenderedImage
from training.world.stored import stored_drives
from training.worldgen.sensing.camera import CameraRender
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.images import image_to_array

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
    return CameraRender(rgb, np.full(SIZE, 4, np.uint8), np.ones(SIZE, np.float32))


@pytest.fixture
def jpeg_file(picture, tmp_path):
    path = tmp_path / "000.jpg"
    path.write_bytes(RenderedImage(CAMERA, 0, lambda: picture, lambda: picture.label).jpeg())
    return JpegFile(CAMERA, 7, path)


def test_image_file_is_unchanged_and_decodes_to_rgb(jpeg_file):
    assert jpeg_file.jpeg() == jpeg_file.path.read_bytes()
    pixels = jpeg_file.pixels()
    assert pixels.shape == (*SIZE, 3) and pixels.dtype == np.uint8
    assert pixels[:, :28, 0].mean() > 200 and pixels[:, 36:, 0].mean() < 20
    assert pixels[:, 36:, 2].mean() > 200 and pixels[:, :28, 2].mean() < 20


def test_rendered_image_equals_the_stored_file(rgb, picture, jpeg_file):
    image = RenderedImage(CAMERA, 7, lambda: picture, lambda: picture.label)
    assert (image.camera, image.stamp_ns) == (jpeg_file.camera, jpeg_file.stamp_ns)
    assert image.jpeg() == jpeg_file.jpeg()
    np.testing.assert_array_equal(image.pixels(), jpeg_file.pixels())
    assert not np.array_equal(image.pixels(), rgb), "compressed by JPEG"
    assert Image.open(io.BytesIO(image.jpeg())).format == "JPEG"


def test_image_is_rendered_once_on_first_access(picture):
    rendered = []
    image = RenderedImage(CAMERA, 0, lambda: rendered.append(1) or picture, lambda: picture.label)
    assert not rendered
    image.jpeg()
    assert image.labels() is picture.label and rendered == [1]


@pytest.mark.parametrize("content", [None, b"", b"no image", "half"])
def test_rejects_unreadable_image_file(jpeg_file, content):
    if content is None:
        jpeg_file.path.unlink()
    else:
        whole = jpeg_file.path.read_bytes()
        jpeg_file.path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ConfigError, match=r"cannot read image .*000\.jpg: .*; fetch or write it again"):
        jpeg_file.pixels()


def rotated_by_exif(jpeg):
    """The same JPEG data with a tag that asks viewers to rotate it by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + jpeg[2:]


def test_training_ignores_the_exif_orientation_as_the_node_does(jpeg_file):
    """Images are used as stored, as the camera was calibrated."""
    plain = jpeg_file.pixels()
    jpeg_file.path.write_bytes(rotated_by_exif(jpeg_file.jpeg()))
    assert ImageOps.exif_transpose(Image.open(jpeg_file.path)).size == SIZE, "viewers rotate it"
    np.testing.assert_array_equal(jpeg_file.pixels(), plain)
    np.testing.assert_array_equal(decode_jpeg(jpeg_file.jpeg()), plain)
    message = SimpleNamespace(format="jpeg", data=jpeg_file.jpeg())
    np.testing.assert_array_equal(image_to_array(message), plain)


def test_encoded_sweep_images_ignore_the_exif_orientation(generated):
    images = EncodedSweepImages.load(stored_drives(generated.folder)[0], 1)
    rotated = replace(images, jpegs=tuple(rotated_by_exif(jpeg) for jpeg in images.jpegs))
    for pixels, expected in zip(rotated.decode().pixels, images.decode().pixels, strict=True):
        np.testing.assert_array_equal(pixels, expected)


@pytest.fixture(params=["pandaset", "world"])
def sequence(request):
    if request.param == "pandaset":
        return PandaSetSequence(request.getfixturevalue("pandaset"))
    return stored_drives(request.getfixturevalue("generated").folder)[0]


def test_every_dataset_satisfies_the_contract(sequence):
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
    assert 1.0 < sequence.base_from_lidar[2, 3] < 3.0, "roof-mounted sensor"


def test_every_dataset_has_an_image_of_each_camera(sequence):
    images = sequence.images(1)
    assert [image.camera.name for image in images] == [camera.name for camera in sequence.cameras]
    assert len(images) == 6
    for image in images:
        assert image.pixels().shape == (image.camera.height, image.camera.width, 3)
        assert abs(image.stamp_ns - sequence.stamp_ns(1)) < 0.15e9


@pytest.mark.parametrize("method", ["cloud", "labels", "stamp_ns", "world_from_lidar", "images"])
def test_every_dataset_rejects_frames_out_of_range(sequence, method):
    for index in (-1, len(sequence)):
        with pytest.raises(ConfigError, match=f"has no frame {index}; it has 0 to {len(sequence) - 1}"):
            getattr(sequence, method)(index)
