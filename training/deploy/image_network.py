"""Export of an image branch as an image network, which can then teach by its classes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from training.config.label_sets import LABELS
from training.deploy.onnx_graph import write_onnx
from training.image_network.classes import ImageClasses
from training.image_network.network import SETTINGS, ImageNetwork
from training.models.image_branch import IMAGE_SIZE, ImageBranch
from training.modules.checkpoint import RunState
from training.modules.image_module import image_branch_of
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.resources import label_map

_CLASSES, _NETWORK = "classes.json", "network.onnx"


class PixelClasses(nn.Module):
    """Class logits of the pixels, at a quarter of the resolution."""

    def __init__(self, branch: ImageBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, H / 4, W / 4) logits of an image (1, 3, H, W)."""
        logits: Tensor = self.branch.classify(self.branch(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return logits


def export_image_branch(state: RunState, out: Path) -> ImageNetwork:
    """Write the folder of an image network from a run of ``training.train_images``; returns the network.

    Args:
        state: the run's last checkpoint.
        out: the folder, which must not exist yet or hold such a network.

    Raises:
        ConfigError: the run is not finished, or holds no image branch; or the folder holds something else.
    """
    if out.exists() and not (out / SETTINGS).is_file():
        raise ConfigError(f"{out} exists and holds no image network; choose another folder")
    state.check_finished("the image branch")
    run = state.path.parent
    labels = label_map(LABELS)
    classes = ImageClasses(run.name, labels.names, tuple((name,) for name in labels.names), labels)
    with atomic_dir(out) as folder:
        image = torch.zeros(1, 3, *IMAGE_SIZE)
        write_onnx(PixelClasses(image_branch_of(state)), {"image": image}, "logits", folder / _NETWORK)
        (folder / _CLASSES).write_text(json.dumps(classes.to_dict(), indent=1), encoding="utf-8")
        settings = {"name": run.name, "classes": _CLASSES, "origins": [asdict(origin) for origin in state.origins]}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return ImageNetwork(out)
