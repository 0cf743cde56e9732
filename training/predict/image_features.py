"""What the image branch sees at the points of sweeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from training.data.cache import memoize
from training.data.feature_bank import ImageFeatures
from training.datasets.exposures import EncodedSweepImages, decoded
from training.models.image_branch import IMAGE_SIZE, ImageBranch, sample, to_tensor
from training.predict.device import inference, on_fastest_device
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.segmentation.image_features import resized


def see(branch: ImageBranch, encoded_images: Sequence[EncodedSweepImages], what: str) -> list[ImageFeatures]:
    """The image features of the points of each sweep.

    Args:
        branch: the image branch.
        encoded_images: the images of the sweeps.
        what: title of the progress bar.
    """
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in branch.state_dict().values())).digest()
    looking = on_fastest_device(branch)
    # The look is kept beside what is seen in it, so that no other one can get its id.
    return [
        memoize((weights, id(look)), lambda look=look: (look, _seen(looking, look)))[1]
        for look in progress(encoded_images, len(encoded_images), what)
    ]


@inference()
def _seen(branch: ImageBranch, look: EncodedSweepImages) -> ImageFeatures:
    device = next(branch.parameters()).device
    camera, uv = look.views.camera.copy(), torch.from_numpy(look.views.uv)
    features = np.zeros((*camera.shape, branch.features), np.float16)
    for number, jpeg in enumerate(look.jpegs):
        points, slots = np.nonzero(camera == number)
        if not jpeg:
            camera[points, slots] = NO_CAMERA
        elif len(points):
            pixels = torch.from_numpy(resized(decoded(jpeg), IMAGE_SIZE))[None]
            found = sample(branch(to_tensor(pixels.to(device))), uv[points, slots][None].to(device))[0].T
            features[points, slots] = found.cpu().numpy().astype(np.float16)
    return ImageFeatures(features, camera)
