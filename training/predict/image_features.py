"""Image features sampled at the points of sweeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from training.data.cache import memoize
from training.data.feature_bank import ImageFeatures
from training.datasets.exposures import EncodedSweepImages
from training.datasets.sequence import decode_jpeg
from training.image_network.reader import ImageClassReader, ImageReader
from training.models.image_branch import IMAGE_SIZE, ImageBranch, sample, to_tensor
from training.predict.device import inference, on_fastest_device
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.segmentation.image_features import resized


def point_image_features(reader: ImageReader, encoded_images: Sequence[EncodedSweepImages]) -> list[ImageFeatures]:
    """The image features of the points of each sweep."""
    if isinstance(reader, ImageClassReader):
        return reader.point_features(encoded_images)
    return _branch_features(reader, encoded_images)


def _branch_features(branch: ImageBranch, encoded_images: Sequence[EncodedSweepImages]) -> list[ImageFeatures]:
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in branch.state_dict().values())).digest()
    network = on_fastest_device(branch)
    # The cache keeps the images beside their features, so that their id() is not reused.
    return [
        memoize((weights, id(images)), lambda images=images: (images, _sampled(network, images)))[1]
        for images in progress(encoded_images, len(encoded_images), "images")
    ]


@inference()
def _sampled(branch: ImageBranch, images: EncodedSweepImages) -> ImageFeatures:
    device = next(branch.parameters()).device
    camera, uv = images.views.camera.copy(), torch.from_numpy(images.views.uv)
    features = np.zeros((*camera.shape, branch.features), np.float16)
    for number, jpeg in enumerate(images.jpegs):
        points, slots = np.nonzero(camera == number)
        if not jpeg:
            camera[points, slots] = NO_CAMERA
        elif len(points):
            pixels = torch.from_numpy(resized(decode_jpeg(jpeg), IMAGE_SIZE))[None]
            maps = branch(to_tensor(pixels.to(device)))
            sampled = sample(maps, uv[points, slots][None].to(device))[0].T
            features[points, slots] = sampled.cpu().numpy().astype(np.float16)
    return ImageFeatures(features, camera)
