"""Writing drives to folders and bags."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from training.datasets.bag_export import write_bag
from training.world.pool import each_drive
from training.world.stored import StoredDrive, store, stored_drives
from training.worldgen.drive import PERIOD_S, Drive, Frame, split_of
from xmodelkd_ros.core.atomic_write import make_folder, temporary_prefix
from xmodelkd_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """What to generate of each seed: arguments of :class:`training.worldgen.drive.Drive`."""

    sweeps: int
    cameras: int
    columns: int
    every: int
    lidar: str


def generate(seed: int, request: Request, folder: Path, threads: int = 2, bar: bool = True) -> str:
    """Write a drive into a new folder, perhaps with a progress bar; returns what to tell the user.

    Raises:
        ConfigError: an argument is out of range, or the folder exists or cannot be written.
    """
    start = perf_counter()
    drive = Drive(seed, **asdict(request))
    built = perf_counter()
    frames: Iterable[Frame] = drive.frames(range(drive.sweeps), threads)
    if bar:
        frames = tqdm(frames, "frames", drive.sweeps, unit=" frames", file=sys.stderr, disable=None, leave=False)
    written = store(drive, folder, frames)
    return (
        f"seed {seed} ({split_of(seed)}), {drive.rig.lidar.name}, {drive.sweeps} frames: scene {built - start:.1f} s, "
        f"then {(perf_counter() - built) / drive.sweeps:.2f} s and {written / drive.sweeps / 1e3:.0f} KB a frame"
    )


def run(seeds: Sequence[int], request: Request, out: Path | None, bag: Path | None) -> str:
    """Do what the command line asks for; returns what to tell the user.

    Of many drives, those that are there already are kept, so that an interrupted command can be given again.

    Raises:
        XModelKDError: an argument is out of range, or a place exists, holds other drives or cannot be written.
    """
    for place in (out if len(seeds) == 1 else None, bag):
        if place:
            _check_free(place)  # said before the work, not after it
    if len(seeds) > 1:
        assert out is not None
        return _run_many(list(dict.fromkeys(seeds)), request, out)
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary) / "drive"
        told = generate(seeds[0], request, folder)
        if bag:
            write_bag(stored_drives(folder)[0], range(request.sweeps), bag)
    return f"{out or bag}: {told}"


def _run_many(seeds: Sequence[int], request: Request, out: Path) -> str:
    wanted = _missing(seeds, request, out)
    try:
        lines = list(each_drive(partial(_generate_one_of_many, request=request, parent=out), wanted))
    finally:
        for seed in wanted:  # what processes that were ended have left
            for unfinished in out.glob(f"{temporary_prefix(_folder(out, seed))}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
    kept = f", {len(seeds) - len(wanted)} of them were there" if len(wanted) < len(seeds) else ""
    return "\n".join([*lines, f"{out}: {len(seeds)} drives{kept}"])


def _check_free(place: Path) -> None:
    if place.exists():
        raise ConfigError(f"{place} exists already; remove it or choose another place")
    make_folder(place.parent)


def _missing(seeds: Sequence[int], request: Request, parent: Path) -> list[int]:
    """The seeds whose drives are not there.

    Raises:
        ConfigError: one is there, but was made otherwise, or the folder cannot be written.
    """
    make_folder(parent)
    missing = []
    for seed in seeds:
        folder = _folder(parent, seed)
        if not folder.exists():
            missing.append(seed)
        elif not _as_requested(StoredDrive(folder), request):
            raise ConfigError(
                f"{folder} exists already and was made with other options; remove it or choose another place"
            )
    return missing


def _as_requested(drive: StoredDrive, request: Request) -> bool:
    lidar = drive.rig.lidar
    return (
        drive.sweeps == request.sweeps
        and len(drive.rig.cameras) == request.cameras
        and np.isclose(drive.period_s, request.every * PERIOD_S).item()
        and request.lidar in ("", lidar.name)
        and request.columns in (0, lidar.columns)
    )


def _folder(parent: Path, seed: int) -> Path:
    return parent / f"drive_{seed:06d}"


def _generate_one_of_many(seed: int, request: Request, parent: Path) -> str:
    # No bar: tqdm's lock would be left behind by a process that is ended.
    return generate(seed, request, _folder(parent, seed), threads=1, bar=False)
