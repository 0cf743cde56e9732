"""What the image branch sees at the points of sweeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from training.data.knowledge import Seen
from training.data.views import Look, decoded
from training.memory import remember
from training.models.image_branch import IMAGE_SIZE, ImageBranch, sample, to_tensor
from xmodelkd_ros.core.views import NO_CAMERA
from xmodelkd_ros.sight import resized
from xmodelkd_ros.tools.session import progress

_Network = TypeVar("_Network", bound=nn.Module)


def on_fastest_device(network: _Network) -> _Network:
    """The network itself, or where there is a GPU a copy of it there: a teacher labels many sweeps."""
    return deepcopy(network).cuda() if torch.cuda.is_available() else network


@contextmanager
def inference() -> Iterator[None]:
    """Without gradients, and in full fp32: a GPU would round what convolutions multiply to 10 bits."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def see(branch: ImageBranch, looks: Sequence[Look], what: str) -> list[Seen]:
    """The image features of the points of each sweep.

    Args:
        branch: the image branch.
        looks: the images of the sweeps.
        what: title of the progress bar.
    """
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in branch.state_dict().values())).digest()
    looking = on_fastest_device(branch)
    # The look is kept beside what is seen in it, so that no other one can get its id.
    return [
        remember((weights, id(look)), lambda look=look: (look, _seen(looking, look)))[1]
        for look in progress(looks, len(looks), what)
    ]


@inference()
def _seen(branch: ImageBranch, look: Look) -> Seen:
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
    return Seen(features, camera)
