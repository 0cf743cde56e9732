"""Image augmentation keeps pixel samples aligned with the image."""

import io

import numpy as np
import pytest
from PIL import Image

from training.data import image_samples
from training.data.image_samples import LabelledImage, augment_image
from training.datasets.sequence import decode_jpeg
from xmodelkd_ros.core.errors import ImageError


@pytest.fixture
def picture():
    """Red grows to the right, green downwards; each pixel sample is labelled by its number."""
    rows, columns = np.mgrid[:540, :960]
    pixels = np.stack([255 * columns / 959, 255 * rows / 539, 0 * rows], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0)
    uv = np.random.default_rng(0).uniform(-1, 1, (250, 2)).astype(np.float32)
    return LabelledImage(buffer.getvalue(), uv, np.arange(250, dtype=np.uint8))


@pytest.mark.parametrize("size", [(96, 160), (540, 960)])
def test_pixel_samples_follow_the_augmented_image(picture, size, monkeypatch):
    monkeypatch.setattr(image_samples, "color_jitter", lambda pixels, rng: pixels)
    mirrored = set()
    for seed in range(8):
        shown, uv, labels = augment_image(picture, size, np.random.default_rng(seed))
        assert shown.shape == (*size, 3) and len(uv) > 50 and (np.abs(uv) < 1).all()
        column, row = (((uv + 1) / 2 * size[::-1]) - 0.5).clip(0, np.array(size[::-1]) - 1).T
        found = shown[np.rint(row).astype(int), np.rint(column).astype(int), :2]
        np.testing.assert_allclose(found, (picture.uv[labels] + 1) / 2 * 255, atol=4)
        mirrored.add(bool(shown[0, 0, 0] > shown[0, -1, 0]))
    assert mirrored == {True, False}


def test_downscaling_averages_pixels(picture):
    """As at inference, so that fine texture does not alias."""
    noise = np.random.default_rng(0).integers(0, 256, (768, 1280, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    shown, _, _ = augment_image(
        LabelledImage(buffer.getvalue(), picture.uv, picture.labels), (96, 160), np.random.default_rng(1)
    )
    assert shown.astype(float).std() < noise.std() / 2


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff torn off"])
def test_rejects_damaged_jpeg_with_one_line(data):
    with pytest.raises(ImageError, match="cannot decode a JPEG image of"):
        decode_jpeg(data)
