"""What the cameras carry that geometry lacks: one small classifier of single points, with more and more to look at.

``python -m training.probe pandaset PATH --train A:B --test A:B --out DIR`` and
``python -m training.probe world|semantickitti|nuscenes PATH [PATH ...] --test PATH [PATH ...] --out DIR``.

The same points, network and steps serve every set of features, so a difference between two scores is
what a feature carries, for a classifier that knows nothing of places and shapes beyond its neighbourhood.
Only points that some camera sees take part.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from training.command import run_command
from training.config import frame_range
from training.data.datasets import open_drives
from training.data.sequence import DriveSequence
from training.data.sources import check_split
from training.data.sweeps import SECTORS, Sweep, hide_sectors, sectors
from training.data.views import find_views
from training.label_sets import LABELS, SCORED_LABELS, labels_of
from training.models.image_encoder import ImageEncoder
from training.point_features import ground_height, mean_colour, neighbourhood_features
from training.world.drive import TRAIN
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.core.views import NO_CAMERA
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.tools.score import write_metrics
from xmodelkd_ros.tools.session import make_folder, progress

BASELINE = "geometry + intensity"
"""What the cameras' gain is measured against: all that the LiDAR gives."""

FEATURE_SETS = {
    "geometry": ("geometry",),
    BASELINE: ("geometry", "intensity"),
    "geometry + intensity + mean colour": ("geometry", "intensity", "colour"),
    "geometry + intensity + image features": ("geometry", "intensity", "image"),
    "mean colour alone": ("colour",),
    "image features alone": ("image",),
}
_DRIVES = {
    "world": "generated drives",
    "semantickitti": "SemanticKITTI sequences with camera images",
    "nuscenes": "nuScenes scenes",
}
"""Datasets of many drives, and what they are."""
SEEDS = (0, 1, 2)

_POINTS_PER_SWEEP = 20_000
_POINTS_IN_ALL = 300_000
"""Of training, and of test: what bounds memory (0.8 kB a point) and time."""

_FEWEST_POINTS = 200
"""A class with fewer points in training or in test is left out: its IoU would be chance."""

_IMAGE_WIDTH = 640
"""Wider images are reduced to this, so that an object has about the same size in the images of all datasets."""

_WIDTH, _STEPS, _BATCH, _LEARNING_RATE = 128, 400, 1024, 3e-3
"""On places that training has not seen, 1,000 steps are worse than 400, with cameras and without."""
_LIMIT = 6.0
"""Standardised inputs end here, so that one odd value cannot decide."""

Drive = tuple[DriveSequence, Sequence[int]]
"""A sequence and the frames of it that are used."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Points:
    """N points of any number of sweeps, each seen by a camera.

    Attributes:
        sweep: where they are in their sensor's frame, and their pandaset9 ids; 255 where a point is not used.
        position: (N,) world azimuth as :func:`training.data.sweeps.sectors` gives it.
        features: (N, K) for each kind of features.
    """

    sweep: Sweep
    position: NDArray[np.float64]
    features: Mapping[str, Array]

    @classmethod
    def join(cls, parts: Sequence[Points]) -> Points:
        """One after the other."""
        xyz = np.concatenate([p.sweep.cloud.xyz for p in parts])
        labels = np.concatenate([p.sweep.labels for p in parts])
        features = {kind: np.concatenate([p.features[kind] for p in parts]) for kind in parts[0].features}
        return cls(Sweep(PointCloud(xyz), labels), np.concatenate([p.position for p in parts]), features)

    def only(self, mask: NDArray[np.bool_]) -> Points:
        """The same points, of which (N,) ``mask`` says which are used."""
        return replace(self, sweep=Sweep(self.sweep.cloud, np.where(mask, self.sweep.labels, IGNORE).astype(np.uint8)))

    def table(self, kinds: Sequence[str]) -> tuple[Tensor, NDArray[np.uint8]]:
        """(M, K) features and (M,) ids of the used points."""
        used = self.sweep.labels != IGNORE
        return torch.from_numpy(np.hstack([self.features[kind][used] for kind in kinds])), self.sweep.labels[used]


Fold = tuple[Points, Points]
"""Training and test points."""


def shared_classes(train: Points, test: Points) -> Fold:
    """Use only points of classes that both sides have.

    Raises:
        ConfigError: these are fewer than two.
    """
    counts = [np.bincount(side.sweep.labels, minlength=IGNORE + 1)[:IGNORE] for side in (train, test)]
    shared = np.flatnonzero(np.minimum(*counts) >= _FEWEST_POINTS)
    if len(shared) < 2:
        raise ConfigError(
            f"training and test share {len(shared)} classes of {_FEWEST_POINTS} points that a camera sees, but the "
            "probe needs two; take more frames or drives"
        )
    return train.only(np.isin(train.sweep.labels, shared)), test.only(np.isin(test.sweep.labels, shared))


def sector_fold(train: Points, test: Points, hidden: Sequence[int]) -> Fold:
    """Train on points outside the hidden azimuth sectors and 10 degrees off them, test on points inside."""
    outside = replace(train, sweep=hide_sectors(train.sweep, train.position, hidden))
    return shared_classes(outside, test.only(np.isin(np.floor(test.position) % SECTORS, hidden)))


def collect(drives: Sequence[Drive], balanced: bool, what: str) -> Points:
    """Sample points of every frame and compute their features.

    Args:
        drives: what to sample.
        balanced: as many points of each class as there are, up to the same number; else as they come.
        what: title of the progress bar.
    """
    encoder = ImageEncoder()
    jobs = [(sequence, frame) for sequence, frames in drives for frame in frames]
    count = min(_POINTS_PER_SWEEP, _POINTS_IN_ALL // max(len(jobs), 1))
    parts = []
    for number, (sequence, frame) in enumerate(progress(jobs, len(jobs), what)):
        rng = np.random.default_rng((number, balanced))
        parts.append(_sample(sequence, frame, encoder, count, balanced, rng))
    return Points.join(parts)


def _sample(
    sequence: DriveSequence, frame: int, encoder: ImageEncoder, count: int, balanced: bool, rng: np.random.Generator
) -> Points:
    cloud = sequence.cloud(frame)
    labels = translation(label_map(LABELS), label_map(SCORED_LABELS)).apply(labels_of(sequence, frame))
    finite = np.isfinite(cloud.xyz).all(axis=1)
    views = find_views(sequence, frame)
    view, uv = views.camera[:, 0], views.uv[:, 0]  # the camera that has a point nearest its middle
    kept = _choose(np.where((view != NO_CAMERA) & finite, labels, IGNORE), count, balanced, rng)
    rotation, origin = sequence.base_from_lidar[:3, :3], sequence.base_from_lidar[:3, 3]
    level = cloud.xyz @ rotation.T + origin
    intensity = _root_intensity(sequence, cloud)
    local, local_intensity = neighbourhood_features(level[kept], level[finite], intensity[finite])
    height = level[kept, 2] - ground_height(level[finite], level[kept])
    distance = np.linalg.norm(cloud.xyz[kept], axis=1)
    own = [height, np.log(distance), (level[kept, 2] - origin[2]) / distance]
    colour, image = _image_features(sequence, frame, view[kept], uv[kept], encoder)
    features = {
        "geometry": np.column_stack([*own, local]).astype(np.float32),
        "intensity": np.column_stack([intensity[kept], local_intensity]).astype(np.float32),
        "colour": colour,
        "image": image,
    }
    sampled = PointCloud(cloud.xyz[kept])
    return Points(Sweep(sampled, labels[kept]), sectors(sequence, frame, sampled), features)


def _choose(labels: NDArray[np.uint8], count: int, balanced: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most ``count`` labelled points, at random."""
    shuffled = rng.permutation(np.flatnonzero(labels != IGNORE))
    if not balanced:
        return shuffled[:count]
    names = label_map(SCORED_LABELS)
    return np.concatenate([shuffled[labels[shuffled] == c.id][: count // len(names)] for c in names.classes])


def _root_intensity(sequence: DriveSequence, cloud: PointCloud) -> NDArray[np.float64]:
    """(N,) root of the intensity in the sensor's range: returns are dark mostly, and the root spreads them."""
    if cloud.intensity is None:
        raise ConfigError(f"{sequence.name} has no intensity, but the probe compares with and without")
    low, high = sequence.intensity_range
    return np.sqrt(np.clip((cloud.intensity.astype(np.float64) - low) / (high - low), 0, 1))


def _image_features(
    sequence: DriveSequence, frame: int, view: NDArray[np.int8], uv: NDArray[np.float32], encoder: ImageEncoder
) -> tuple[Array, Array]:
    """(N, 6) mean colour and (N, 176) image features at (N, 2) places, -1 to 1, of (N,) cameras' images."""
    colour, image = np.zeros((len(view), 6), np.float32), np.zeros((len(view), encoder.channels), np.float32)
    numbers = {camera.name: number for number, camera in enumerate(sequence.cameras)}
    for picture in sequence.images(frame):
        members = view == numbers[picture.camera.name]
        if members.any():
            pixels = _reduced(picture.pixels())
            there = (uv[members] + 1) / 2 * pixels.shape[1::-1] - 0.5
            colour[members], image[members] = mean_colour(pixels, there), encoder.sample(pixels, there)
    return colour, image


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image at most 640 wide."""
    scale = min(_IMAGE_WIDTH / pixels.shape[1], 1.0)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def classify(fold: Fold, kinds: Sequence[str], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Train the classifier on some kinds of features.

    Returns:
        True and predicted pandaset9 ids of the used test points.
    """
    (train, labels), (test, truth) = (side.table(kinds) for side in fold)
    mean, deviation = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
    train, test = (((side - mean) / deviation).clamp(-_LIMIT, _LIMIT) for side in (train, test))
    target = torch.from_numpy(labels).long()
    torch.manual_seed(seed)
    widths = (train.shape[1], _WIDTH, _WIDTH, len(label_map(SCORED_LABELS)))
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS, pct_start=0.1)
    for _ in range(_STEPS):
        batch = torch.randint(len(train), (_BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(network(train[batch]), target[batch]).backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        return truth, network(test).argmax(dim=1).numpy().astype(np.uint8)


def compare(folds: Sequence[Fold], what: str) -> dict[str, Any]:
    """Score every set of features with every seed; confusion and points are summed over the folds.

    Args:
        folds: the training and test points.
        what: title of the progress bar.

    Returns:
        Points per class, and for each set of features mIoU, IoU per class, and gain over the baseline, each as
        ``{"mean", "sd", "seeds"}``.
    """
    scores = {name: [ConfusionMatrix(label_map(SCORED_LABELS)) for _ in SEEDS] for name in FEATURE_SETS}
    runs = [(name, row, fold) for name in FEATURE_SETS for row in range(len(SEEDS)) for fold in folds]
    with _one_thread():
        for name, row, fold in tqdm(runs, what, unit=" fits", file=sys.stderr, disable=None, leave=False):
            scores[name][row].update(*classify(fold, FEATURE_SETS[name], SEEDS[row]))
    trained = ConfusionMatrix(label_map(SCORED_LABELS))
    for train, _ in folds:
        trained.update(train.sweep.labels, train.sweep.labels)
    return {
        "train_points": trained.points,
        "test_points": scores[BASELINE][0].points,
        "features": {name: _summary(scores[name], scores[BASELINE]) for name in FEATURE_SETS},
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers as small as the classifier's gain nothing from a second thread, and wait for it where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _summary(scores: Sequence[ConfusionMatrix], baseline: Sequence[ConfusionMatrix]) -> dict[str, Any]:
    ious = [score.iou() for score in scores]
    return {
        "miou": _statistics([score.miou() for score in scores]),
        "gain": _statistics([s.miou() - b.miou() for s, b in zip(scores, baseline, strict=True)]),
        "miou_without_vegetation": _statistics([score.miou(without=("vegetation",)) for score in scores]),
        "iou": {name: _statistics([iou[name] for iou in ious]) for name in ious[0]},
    }


def _statistics(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Over the seeds; None for a class that does not occur."""
    if None in values:
        return None
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "seeds": list(values)}


def table(comparison: Mapping[str, Any]) -> str:
    """A comparison as a Markdown table, in percent."""
    classes = [name for name, count in comparison["test_points"].items() if count]
    head = ["features", "mIoU", "gain", "without vegetation", *classes]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, result in comparison["features"].items():
        spread = [_percent(result[key]) for key in ("miou", "gain", "miou_without_vegetation")]
        rows.append([name, *spread, *(f"{100 * result['iou'][c]['mean']:.1f}" for c in classes)])
    for side in ("train_points", "test_points"):
        rows.append([side.replace("_", " "), "", "", "", *(str(comparison[side][c]) for c in classes)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(statistics: Mapping[str, Any]) -> str:
    return f"{100 * statistics['mean']:.1f} ± {100 * statistics['sd']:.1f}"


def probe_drives(train: Sequence[Drive], test: Sequence[Drive], unseen: str) -> dict[str, Any]:
    """Score on other drives or frames, and on azimuth sectors of the training drives that are not trained on.

    Sectors ask for other places of the same street in the same light; of a vehicle that stands still other frames
    ask for hardly anything.

    Args:
        train: what to train on.
        test: what else to score on.
        unseen: what ``test`` is, for people.

    Returns:
        What :func:`compare` does, by name.
    """
    balanced, same = (collect(train, kind, "training points") for kind in (True, False))
    others, folds = shared_classes(balanced, collect(test, False, "test points")), []
    for first in range(0, SECTORS, 2):
        with suppress(ConfigError):  # sectors that no camera looks into
            folds.append(sector_fold(balanced, same, (first, first + 1)))
    if not folds:
        raise ConfigError("no two sectors share classes with the others; take more frames, drives or cameras")
    return {
        unseen: compare([others], unseen),
        "unseen sectors": compare(folds, "unseen sectors"),
    }


def run(options: argparse.Namespace, command: str) -> str:
    """Probe as the command line says, write ``metrics.json`` and ``probe.md``; the tables are returned."""
    make_folder(options.out)
    train = [drive for path in options.paths for drive in open_drives(options.dataset, path, split="train")]
    if options.dataset == "pandaset":
        frames = frame_range(options.train, "--train")[:: options.every], frame_range(options.test, "--test")
        train[0].stamp_ns(max(map(max, frames)))  # a frame that is not there is said now, not after a minute
        test, comparisons = train, probe_drives(*([(train[0], part)] for part in frames), "unseen frames")
    else:
        test = [drive for path in options.test for drive in open_drives(options.dataset, path, split="val")]
        check_split(train, TRAIN)
        both = {drive.name for drive in train} & {drive.name for drive in test}
        if both:
            raise ConfigError(
                f"{sorted(both)[0]} is among the drives to train on and among those of --test; take it out of one"
            )
        sides = ([(d, range(0, len(d), options.every)) for d in drives] for drives in (train, test))
        comparisons = probe_drives(*sides, "unseen drives")
    metrics = {
        "command": command,
        "train": [drive.name for drive in train],
        "test": [drive.name for drive in test],
        "label_set": SCORED_LABELS,
        "baseline": BASELINE,
        "comparisons": comparisons,
    }
    write_metrics(options.out, metrics)
    tables = "\n\n".join(f"{name}:\n\n{table(comparison)}" for name, comparison in comparisons.items())
    (options.out / "probe.md").write_text(f"`{command}`\n\n{tables}\n", encoding="utf-8")
    return f"{tables}\n\n{options.out / 'metrics.json'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m training.probe", allow_abbrev=False, description="What cameras carry that geometry lacks."
    )
    datasets = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    pandaset = datasets.add_parser("pandaset", help="a PandaSet sequence, split by frames and by sectors")
    pandaset.add_argument("paths", type=Path, metavar="PATH", nargs=1, help="the sequence")
    pandaset.add_argument("--train", metavar="A:B", required=True, help="train on frames A to B - 1")
    pandaset.add_argument("--test", metavar="A:B", required=True, help="score on frames A to B - 1")
    several = [datasets.add_parser(name, help=what) for name, what in _DRIVES.items()]
    for dataset in several:
        dataset.add_argument(
            "paths", type=Path, metavar="PATH", nargs="+", help="drives to train on, or folders of drives"
        )
        dataset.add_argument("--test", type=Path, metavar="PATH", nargs="+", required=True, help="drives to score on")
    for dataset, which in ((pandaset, "training"), *((dataset, "every drive") for dataset in several)):
        dataset.add_argument(
            "--every",
            type=int,
            choices=range(1, 101),
            metavar="N",
            default=4,
            help=f"take every Nth frame of {which} (default: %(default)s)",
        )
        dataset.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of metrics.json, probe.md")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    return run_command(lambda: run(options, shlex.join(["python", "-m", "training.probe", *words])))


if __name__ == "__main__":
    sys.exit(main())
