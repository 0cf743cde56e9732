"""Composition and cost of generated drives: ``python -m training.world.measure --drives 10 --out DIR``.

Counts points, pixels and objects of each class, compares projected points with pixel labels, and measures time and
size. Writes ``metrics.json`` and prints the Markdown tables of ``docs/world.md``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.data import frame_range
from training.datasets.pandaset import PandaSetSequence
from training.world.census import BORDERS_PX, Agreement, Census, point_counts, sky_share, take_census
from training.world.pool import each_drive
from training.world.stored import store
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import MAX_SWEEPS, TEST, TRAIN, VALIDATION, Drive, split_of
from training.worldgen.mesh import LABELS
from xmodelkd_ros.console import progress, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.reports.scores import write_metrics

PANDASET_FRAMES = "0:40"
_PANDASET_PULSES = 64 * 1800
_GROUP = 10
"""Coverage of the classes is checked in every group of ten drives."""
_SWEEPS = 8
_TIMED_DRIVES, _TIMED_FRAMES, _THREADS = 3, 8, 2
_BEAMS, _COLUMNS = 64, 1024
"""Size of the timed sweeps; drives with other LiDARs are not timed."""


def seeds_of(split: str, count: int) -> list[int]:
    """The first seeds of a split."""
    return list(itertools.islice((seed for seed in itertools.count() if split_of(seed) == split), count))


def composition(censuses: Sequence[Census]) -> dict[str, Any]:
    """Shares and numbers of objects per class over all drives, and their minimum over groups of ten drives."""
    points, pixels, things = (sum_of(censuses, name) for name in ("points", "pixels", "things"))
    groups = [censuses[k : k + _GROUP] for k in range(0, len(censuses), _GROUP)]
    groups = [group for group in groups if len(group) == len(groups[0])]
    shares = np.array([_shares(sum_of(group, "points")) for group in groups])
    numbers = np.array([sum_of(group, "things") for group in groups])
    return {
        "drives_in_a_group": len(groups[0]),
        "share_of_points": _by_class(_shares(points)),
        "share_of_pixels": _by_class(pixels[: len(LABELS)] / max(pixels.sum(), 1)),
        "share_of_sky": sky_share(pixels),
        "things": _by_class(things),
        "least_share_of_points_in_a_group": _by_class(shares.min(axis=0)),
        "least_things_in_a_group": _by_class(numbers.min(axis=0)),
    }


def sum_of(censuses: Sequence[Census], name: str) -> NDArray[np.int64]:
    """One attribute of the censuses, summed over drives."""
    return np.sum([getattr(census, name) for census in censuses], axis=0)


def pandaset_shares(path: Path, frames: range) -> dict[str, Any]:
    """Class shares and share of returns in PandaSet.

    Raises:
        ConfigError: the folder is not a PandaSet sequence.
    """
    sequence = PandaSetSequence(path)
    counts = point_counts(sequence, progress(frames, len(frames), "pandaset"))
    returns = sum(len(sequence.cloud(index)) for index in frames) / (len(frames) * _PANDASET_PULSES)
    return {"share_of_points": _by_class(_shares(counts)), "returns": round(returns, 4)}


def cost(split: str) -> dict[str, float]:
    """Medians over a few drives: seconds for a scene, a frame and its parts, and bytes of a stored frame."""
    rows: list[dict[str, float]] = []
    for drive, built in progress(_timed_drives(split), _TIMED_DRIVES, "time"):
        rows.append({"scene_s": built, **_times(drive), **_bytes(drive)})
    return {name: round(median(row[name] for row in rows), 4) for name in rows[0]}


def _timed_drives(split: str) -> Iterator[tuple[Drive, float]]:
    """Drives with 64 beams, and the build time of each in seconds."""
    count = 0
    for seed in seeds_of(split, MAX_SWEEPS):
        start = perf_counter()
        drive = Drive(seed, _TIMED_FRAMES, columns=_COLUMNS)
        built = perf_counter() - start
        if drive.rig.lidar.beams == _BEAMS:
            list(drive.frames([0]))  # compiles functions that no earlier drive used
            count += 1
            yield drive, built
        if count == _TIMED_DRIVES:
            return


def _times(drive: Drive) -> dict[str, float]:
    """Seconds per frame on two threads, with six cameras and with one, and of its parts on one thread."""
    frontal = Drive(drive.seed, _TIMED_FRAMES, cameras=1, columns=_COLUMNS)
    six = _seconds_each(drive.frames(range(_TIMED_FRAMES), _THREADS))
    one = _seconds_each(frontal.frames(range(_TIMED_FRAMES), _THREADS))
    sweep = _seconds_each(drive.scan(index) for index in range(_TIMED_FRAMES))
    image = _seconds_each(drive.image(index, index % 6) for index in range(_TIMED_FRAMES))
    return {"frame_six_cameras_s": six, "frame_one_camera_s": one, "sweep_s": sweep, "picture_s": image}


def _seconds_each(work: Iterator[Any]) -> float:
    start, count = perf_counter(), 0
    for _ in work:
        count += 1
    return (perf_counter() - start) / count


def _bytes(drive: Drive) -> dict[str, float]:
    """Bytes of a stored frame with six cameras, and of its parts."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "drive"
        store(drive, folder, drive.frames(range(_TIMED_FRAMES), _THREADS))
        sizes = {
            part: sum(file.stat().st_size for file in (folder / part).rglob("*.*")) / _TIMED_FRAMES
            for part in ("lidar", "camera", "labels")
        }
    return {"stored_bytes": sum(sizes.values()), **{f"stored_{part}_bytes": size for part, size in sizes.items()}}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the measurements; returns the content of ``metrics.json``.

    Raises:
        ConfigError: an argument is out of range, or PandaSet cannot be read.
    """
    if options.drives < 1:
        raise ConfigError(f"--drives is {options.drives}; give 1 or more")
    make_folder(options.out)
    real = pandaset_shares(options.pandaset, frame_range(options.frames, "--frames")) if options.pandaset else None
    load = os.getloadavg()[0]
    costs = cost(options.split)
    seeds = seeds_of(options.split, options.drives)
    censuses = list(each_drive(partial(take_census, sweeps=_SWEEPS), seeds))
    agreement = sum((census.agreement for census in censuses), Agreement.none())
    return {
        "world_version": WORLD_VERSION,
        "split": options.split,
        "seeds": seeds,
        "load_average": round(load, 2),
        "cost": costs,
        "composition": composition(censuses),
        "returns": round(float(np.mean([census.returns for census in censuses])), 4),
        "projected_points": agreement.projected,
        "agreement": agreement.to_dict(),
        "pandaset": real,
        "drives": [
            {
                "seed": census.seed,
                "lidar": census.lidar,
                "light": census.light,
                "returns": round(census.returns, 4),
                "agreement": census.agreement.to_dict()["border_1_px"],
            }
            for census in censuses
        ],
    }


def tables(metrics: dict[str, Any]) -> str:
    """The metrics as Markdown tables."""
    return "\n\n".join(part(metrics) for part in (_cost_table, _class_table, _returns_line, _agreement_table))


def _cost_table(metrics: dict[str, Any]) -> str:
    cost_of = metrics["cost"]
    parts = ("bytes", "lidar_bytes", "camera_bytes", "labels_bytes")
    rows = [
        ("frame: 64x1024 sweep and six 640x384 images, 2 threads", f"{cost_of['frame_six_cameras_s']:.2f} s"),
        ("frame: 64x1024 sweep and one image, 2 threads", f"{cost_of['frame_one_camera_s']:.2f} s"),
        ("sweep alone, 1 thread", f"{cost_of['sweep_s']:.3f} s"),
        ("image alone, 1 thread", f"{cost_of['picture_s']:.3f} s"),
        ("scene", f"{cost_of['scene_s']:.1f} s"),
        (
            "stored frame: all, sweep, images, pixel labels",
            ", ".join(f"{cost_of[f'stored_{part}'] / 1e3:.0f} KB" for part in parts),
        ),
    ]
    return markdown_table(("", f"load average before: {metrics['load_average']}"), rows)


def _class_table(metrics: dict[str, Any]) -> str:
    world, real = metrics["composition"], metrics["pandaset"]
    count = world["drives_in_a_group"]
    head = ("class", "% of points", "PandaSet", "% of pixels", f"min. % of points in {count} drives",
            f"min. objects in {count} drives")  # fmt: skip
    rows = [
        (
            name,
            _percent(world["share_of_points"][name]),
            _percent(real["share_of_points"][name]) if real else "",
            _percent(world["share_of_pixels"][name]),
            _percent(world["least_share_of_points_in_a_group"][name]),
            str(world["least_things_in_a_group"][name]),
        )
        for name in LABELS.names
    ]
    return markdown_table(head, [*rows, ("sky", "", "", _percent(world["share_of_sky"]), "", "")])


def _agreement_table(metrics: dict[str, Any]) -> str:
    head = (
        "pixels excluded at a border",
        "points counted: visible to the camera",
        "of these with the class of their pixel",
        "of static objects",
        "points counted: all",
        "of these with the class of their pixel",
    )
    names = ("counted", "agreement", "agreement_of_still_things", "counted_with_hidden", "agreement_with_hidden")
    rows = [
        (str(border), *(f"{metrics['agreement'][f'border_{border}_px'][name]:.1%}" for name in names))
        for border in BORDERS_PX
    ]
    return markdown_table(head, rows)


def _returns_line(metrics: dict[str, Any]) -> str:
    real = f" (PandaSet: {metrics['pandaset']['returns']:.1%})" if metrics["pandaset"] else ""
    return f"{metrics['returns']:.1%} of the pulses have a return{real}."


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return counts / max(int(counts.sum()), 1)


def _by_class(values: NDArray[Any]) -> dict[str, float]:
    return {name: round(values[LABELS.id_of(name)].item(), 6) for name in LABELS.names}


def run(options: argparse.Namespace) -> str:
    """Run the command; returns its output.

    Raises:
        ConfigError: as :func:`measure`.
    """
    metrics = measure(options)
    path = write_metrics(options.out, metrics)
    return f"{tables(metrics)}\n\n{path}: world {WORLD_VERSION}, {options.drives} {options.split} drives"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.world.measure", allow_abbrev=False, description="Measure the generated world."
    )
    parser.add_argument(
        "--drives", type=int, default=_GROUP, metavar="N", help="number of drives (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=(TRAIN, VALIDATION, TEST), default=TRAIN, help="split of the drives (default: %(default)s)"
    )
    parser.add_argument("--pandaset", type=Path, metavar="PATH", help="PandaSet sequence to compare with")
    parser.add_argument(
        "--frames", default=PANDASET_FRAMES, metavar="A:B", help="its frames A to B - 1 (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json")
    options = parser.parse_args(argv)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
