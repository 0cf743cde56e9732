"""Pictures of what an image network sees: over images, and at the points of sweeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.image_network.classes import ImageClasses
from xmodelkd_ros.opencv import opencv

_WIDTH = 800
_NEVER_COLOR = (120, 140, 170)


def classes_over_image(
    classes: ImageClasses, pixels: NDArray[np.uint8], answer: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Class colours over an image.

    Args:
        classes: of the network.
        pixels: (H, W, 3) RGB.
        answer: (G, h, w) probabilities of its groups.
    """
    image = _fitted(pixels)
    height, width = image.shape[:2]
    palette = np.array([group_color(classes, k) for k in range(len(classes.groups))], np.uint8)
    colors = opencv().resize(palette[answer.argmax(axis=0)], (width, height), interpolation=opencv().INTER_NEAREST)
    return np.asarray(0.45 * image + 0.55 * colors, np.uint8)


def points_over_image(
    pixels: NDArray[np.uint8], uv: NDArray[np.float32], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Points over a dimmed image.

    Args:
        pixels: (H, W, 3) RGB.
        uv: (N, 2) places, -1 to 1 from edge to edge.
        colors: (N, 3) RGB.
    """
    picture = Image.fromarray(np.asarray(0.4 * _fitted(pixels), np.uint8))
    draw, size = ImageDraw.Draw(picture), np.array(picture.size)
    for (x, y), color in zip((uv + 1) / 2 * size, colors.tolist(), strict=True):
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=tuple(color))
    return np.asarray(picture)


def group_color(classes: ImageClasses, group: int) -> tuple[int, int, int]:
    """Mean colour of the classes that a group means."""
    meant = classes.groups.sets[group]
    if not meant:
        return _NEVER_COLOR
    red, green, blue = classes.labels.palette[[classes.labels.id_of(name) for name in meant]].mean(axis=0).astype(int)
    return int(red), int(green), int(blue)


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = round(pixels.shape[0] * _WIDTH / pixels.shape[1])
    return np.asarray(opencv().resize(pixels, (_WIDTH, height), interpolation=opencv().INTER_AREA))
