"""Contact sheet of generated drives: ``python -m training.world.contact_sheet --out FILE.jpg [--seeds S ...]``.

Shows each drive by its front camera image, the image's pixel classes, and its range image coloured by class and by
range and intensity. Reveals faults that statistics miss, such as floating, overlapping or misoriented objects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.world.pool import each_drive
from training.worldgen.drive import Drive, split_of
from training.worldgen.sensing.lidar import RANGE_STEP_M, Scan
from training.worldgen.sensing.lidar_model import LidarModel
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

SEEDS = (1, 4, 5, 2, 22, 24, 31, 46, 18, 48, 9, 39)
"""Eight drives for training, two for validation, two for testing (the last with a LiDAR that only test drives have)."""

_FRAME = 20
_COLUMNS = 1024
_SMALL = 0.5
"""Scale of the images on a sheet of several drives; a single drive is shown in full size."""
_ROWS_PX = 128
"""Height of a range image, for any number of beams."""
_CAPTION_PX = 26
_GAP_PX = 8
_SKY = (150, 175, 200)
_EMPTY = (10, 10, 14)
_PAPER = (255, 255, 255)
_INK = (34, 38, 46)
_NEAR_M, _FAR_M = 2.0, 100.0

Pixels = NDArray[np.uint8]


def panel(seed: int, frame: int = _FRAME, scale: float = 1.0) -> Pixels:
    """The panel of one drive, (H, W, 3) RGB, with the camera image scaled.

    Raises:
        ConfigError: the seed or frame is out of range.
    """
    drive = Drive(seed, frame + 1, cameras=1, columns=_COLUMNS)
    render, scan = drive.image(frame, 0), drive.scan(frame)
    size = round(render.rgb.shape[1] * scale), round(render.rgb.shape[0] * scale)
    views = [
        _resized(render.rgb, size, Image.Resampling.LANCZOS),
        _resized(_class_colors(render.label, _SKY), size, Image.Resampling.NEAREST),
    ]
    width = 2 * size[0]
    lidar = drive.rig.lidar.at(frame)
    strips = [_strip(colors, lidar, width) for colors in (_class_colors(scan.label, _EMPTY), _range_colors(scan))]
    caption = f"seed {seed} | {split_of(seed)} | {lidar.name} | {drive.light.kind.replace('_', ' ')}"
    return np.concatenate([_caption(caption, width), np.hstack(views), *strips])


def sheet(panels: Sequence[Pixels]) -> Pixels:
    """Arrange panels of equal size in rows."""
    across = min(len(panels), 1 if len(panels) == 1 else 3 if len(panels) > 4 else 2)
    blank = np.full_like(panels[0], _PAPER[0])
    filled = [*panels, *[blank] * (-len(panels) % across)]
    padded = [np.pad(p, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=_PAPER[0]) for p in filled]
    rows = [np.hstack(padded[k : k + across]) for k in range(0, len(padded), across)]
    return np.concatenate(rows)


def run(seeds: Sequence[int], frame: int, out: Path) -> str:
    """Draw drives and write the sheet; returns a summary line.

    Raises:
        ConfigError: a seed or frame is out of range, or the file cannot be written.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ConfigError(f"--out is {out}; its name must end in .jpg or .png")
    scale = _SMALL if len(seeds) > 1 else 1.0
    pixels = sheet(list(each_drive(partial(panel, frame=frame, scale=scale), seeds)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(out, quality=80)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}; choose another path") from error
    return f"{out}: {len(seeds)} drives, {pixels.shape[1]} x {pixels.shape[0]} pixels"


def _class_colors(label: Pixels, nothing: tuple[int, int, int]) -> Pixels:
    palette = label_map("drive13").palette.copy()
    palette[IGNORE] = nothing
    return np.asarray(palette[label], np.uint8)


def _range_colors(scan: Scan) -> Pixels:
    """Hue by range (near is yellow, far is violet, logarithmic), lightness by intensity."""
    distance = np.maximum(scan.range_steps * RANGE_STEP_M, _NEAR_M)
    share = np.log(distance / _NEAR_M) / np.log(_FAR_M / _NEAR_M)
    hue = colormaps["plasma"](1 - 0.85 * share.clip(0, 1))[..., :3]
    light = 0.5 + 0.5 * np.sqrt(scan.intensity / 255.0)
    colors = (255 * hue * light[..., None]).astype(np.uint8)
    colors[~scan.mask] = _EMPTY
    return colors


def _strip(columns: Pixels, lidar: LidarModel, width: int) -> Pixels:
    """A range image from (C, B) columns of beams, top beam first, with the beams' azimuth offsets applied.

    Without beams, pulses are drawn where they point to, within the field of view.
    """
    if not lidar.has_rings:
        return _resized(_pointed(columns, lidar), (width, _ROWS_PX), Image.Resampling.NEAREST)
    offsets = np.asarray(lidar.azimuth_offsets_deg or np.zeros(lidar.beams))
    shifts = np.rint(offsets * lidar.columns / lidar.azimuth_span_deg).astype(int)
    rows = np.stack([np.roll(beam, -shift, axis=0) for beam, shift in zip(columns.swapaxes(0, 1), shifts, strict=True)])
    return _resized(rows, (width, _ROWS_PX), Image.Resampling.NEAREST)


def _pointed(columns: Pixels, lidar: LidarModel) -> Pixels:
    """Colours of (C, B) pulses in an image of azimuth and elevation; pixels that no pulse points to are empty."""
    x, y, z = np.moveaxis(lidar.directions(), -1, 0)
    top, bottom = lidar.elevations_deg[0], lidar.elevations_deg[-1]
    across = 0.5 - np.degrees(np.arctan2(y, x)) / lidar.azimuth_span_deg
    down = (top - np.degrees(np.arcsin(z))) / (top - bottom)
    image = np.full((len(lidar.elevations_deg), 4 * len(lidar.elevations_deg), 3), _EMPTY, np.uint8)
    height, width = image.shape[:2]
    row, column = (np.clip(share * size, 0, size - 1).astype(int) for share, size in ((down, height), (across, width)))
    image[row, column] = columns
    return image


def _resized(pixels: Pixels, size: tuple[int, int], how: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how))


def _caption(text: str, width: int) -> Pixels:
    image = Image.new("RGB", (width, _CAPTION_PX), _PAPER)
    font = ImageFont.load_default(round(_CAPTION_PX * 0.7))
    ImageDraw.Draw(image).text((4, _CAPTION_PX / 2), text, fill=_INK, font=font, anchor="lm")
    return np.asarray(image)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.world.contact_sheet", allow_abbrev=False, description="Draw drives on a contact sheet."
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SEEDS, metavar="S", help="drives to show (default: %(default)s)"
    )
    parser.add_argument("--frame", type=int, default=_FRAME, metavar="K", help="frame to show (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="image to write, .jpg or .png")
    options = parser.parse_args(argv)
    return run_command(lambda: run(options.seeds, options.frame, options.out))


if __name__ == "__main__":
    sys.exit(main())
