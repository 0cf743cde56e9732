"""Generate drives into folders and bags."""

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
from training.world.stored import StoredDrive, drive_folders, store, stored_drives
from training.worldgen.drive import EACH_LIDAR, PERIOD_S, Drive, Frame, drives_of, for_each_sweep, split_of
from xmodelkd_ros.core.atomic_write import atomic_dir, make_folder, temporary_prefix
from xmodelkd_ros.core.errors import ConfigError


@dataclass(frozen=True)
class DriveOptions:
    """Options of all generated drives: arguments of :func:`training.worldgen.drive.drives_of`."""

    sweeps: int
    cameras: int
    columns: int
    every: int
    lidar: str


def generate(seed: int, options: DriveOptions, folder: Path, threads: int = 2, bar: bool = True) -> str:
    """Generate a drive into a new folder, with a progress bar if ``bar``; returns a summary line.

    Raises:
        ConfigError: an argument is out of range, or the folder exists or cannot be written.
    """
    start = perf_counter()
    drives = drives_of(seed, **asdict(options))
    built = perf_counter()
    if for_each_sweep(options.lidar):
        written, lidar = store_each(drives, folder), f"{options.lidar} LiDAR"
    else:
        frames: Iterable[Frame] = drives[0].frames(range(options.sweeps), threads)
        if bar:
            frames = tqdm(frames, "frames", options.sweeps, unit=" frames", file=sys.stderr, disable=None, leave=False)
        written, lidar = store(drives[0], folder, frames), drives[0].rig.lidar.name
    return (
        f"seed {seed} ({split_of(seed)}), {lidar}, {options.sweeps} frames: scene {built - start:.1f} s, "
        f"then {(perf_counter() - built) / options.sweeps:.2f} s and {written / options.sweeps / 1e3:.0f} KB a frame"
    )


def store_each(drives: Sequence[Drive], folder: Path) -> int:
    """Write drives that share a scene into subfolders of a new folder; results and errors as of :func:`store`."""
    with atomic_dir(folder) as unfinished:
        return sum(store(drive, unfinished / f"{drive.number:03d}", drive.frames([0], 1)) for drive in drives)


def run(seeds: Sequence[int], options: DriveOptions, out: Path | None, bag: Path | None) -> str:
    """Run the command; returns a summary.

    With several seeds, existing drives are kept, so that an interrupted command can be repeated.

    Raises:
        XModelKDError: an argument is out of range, or an output exists, holds other drives or cannot be written.
    """
    for output in (out if len(seeds) == 1 else None, bag):
        if output:
            _check_free(output)  # before the work, not after it
    if len(seeds) > 1:
        assert out is not None
        return _run_many(list(dict.fromkeys(seeds)), options, out)
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary) / "drive"
        summary = generate(seeds[0], options, folder)
        if bag:
            write_bag(stored_drives(folder)[0], range(options.sweeps), bag)
    return f"{out or bag}: {summary}"


def _run_many(seeds: Sequence[int], options: DriveOptions, out: Path) -> str:
    missing = _missing(seeds, options, out)
    try:
        lines = list(each_drive(partial(_generate_one_of_many, options=options, parent=out), missing))
    finally:
        for seed in missing:  # leftovers of terminated processes
            for unfinished in out.glob(f"{temporary_prefix(_folder(out, seed))}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
    existing = f", {len(seeds) - len(missing)} of them existed" if len(missing) < len(seeds) else ""
    return "\n".join([*lines, f"{out}: {len(seeds)} drives{existing}"])


def _check_free(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} exists already; remove it or choose another path")
    make_folder(path.parent)


def _missing(seeds: Sequence[int], options: DriveOptions, parent: Path) -> list[int]:
    """The seeds without an existing drive.

    Raises:
        ConfigError: an existing drive has other options, or the folder cannot be written.
    """
    make_folder(parent)
    missing = []
    for seed in seeds:
        folder = _folder(parent, seed)
        if not folder.exists():
            missing.append(seed)
        elif not _has_options(folder, options):
            raise ConfigError(f"{folder} exists already with other options; remove it or choose another path")
    return missing


def _has_options(folder: Path, options: DriveOptions) -> bool:
    drives = [StoredDrive(each) for each in drive_folders(folder)]
    first, names = drives[0], {drive.rig.lidar.name for drive in drives}
    each = for_each_sweep(options.lidar)
    product = options.lidar.removeprefix(EACH_LIDAR).strip()
    return (
        sum(drive.sweeps for drive in drives) == options.sweeps
        and (folder / "000").is_dir() == each
        and len(first.rig.cameras) == options.cameras
        and np.isclose(first.period_s, options.every * PERIOD_S).item()
        and (not product or names == {product})
        and options.columns in (0, first.rig.lidar.columns)
    )


def _folder(parent: Path, seed: int) -> Path:
    return parent / f"drive_{seed:06d}"


def _generate_one_of_many(seed: int, options: DriveOptions, parent: Path) -> str:
    # No progress bar: a terminated process would leave tqdm's lock behind.
    return generate(seed, options, _folder(parent, seed), threads=1, bar=False)
