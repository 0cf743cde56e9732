"""Writing drives to folders and bags."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from training.data.world import store, stored_drives
from training.to_bag import write_bag
from training.world.drive import Drive, split_of
from training.world.pool import each_drive
from xmodelkd_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """What to generate of each seed: arguments of :class:`training.world.drive.Drive`."""

    sweeps: int
    cameras: int
    columns: int
    every: int
    lidar: str


def generate(seed: int, request: Request, folder: Path, threads: int = 2) -> str:
    """Write a drive into a new folder, with a progress bar; returns what to tell the user.

    Raises:
        ConfigError: an argument is out of range, or the folder exists or cannot be written.
    """
    start = perf_counter()
    drive = Drive(seed, **asdict(request))
    built = perf_counter()
    frames = drive.frames(range(drive.sweeps), threads)
    quiet = True if threads == 1 else None  # None: no bar where nobody looks
    progress = tqdm(frames, "frames", drive.sweeps, unit=" frames", file=sys.stderr, disable=quiet, leave=False)
    written = store(drive, folder, progress)
    return (
        f"seed {seed} ({split_of(seed)}), {drive.rig.lidar.name}, {drive.sweeps} frames: scene {built - start:.1f} s, "
        f"then {(perf_counter() - built) / drive.sweeps:.2f} s and {written / drive.sweeps / 1e3:.0f} KB a frame"
    )


def run(seeds: Sequence[int], request: Request, out: Path | None, bag: Path | None) -> str:
    """Do what the command line asks for; returns what to tell the user.

    Raises:
        XModelKDError: an argument is out of range, or a place exists or cannot be written.
    """
    for place in (out if len(seeds) == 1 else None, bag):
        if place and place.exists():  # said before the work, not after it
            raise ConfigError(f"{place} exists already; remove it or choose another place")
    if len(seeds) > 1:
        assert out is not None
        lines = each_drive(partial(_generate_one_of_many, request=request, parent=out), seeds)
        return "\n".join([*lines, f"{out}: {len(seeds)} drives"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary) / "drive"
        told = generate(seeds[0], request, folder)
        if bag:
            write_bag(stored_drives(folder)[0], range(request.sweeps), bag)
    return f"{out or bag}: {told}"


def _generate_one_of_many(seed: int, request: Request, parent: Path) -> str:
    return generate(seed, request, parent / f"drive_{seed:06d}", threads=1)
