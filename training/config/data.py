"""Sources of sweeps for training and validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.config.yaml_config import require
from training.worldgen.sensing.sensors import LIDARS
from xmodelkd_ros.core.errors import ConfigError

DATASETS = ("pandaset", "semantickitti", "nuscenes", "world", "bag")
WITH_SPLITS = ("semantickitti", "nuscenes")
"""Data sets that have official parts."""
SPLITS = ("train", "val")
"""These parts."""

_LABELS = ("own", "none", "propagated")
_LAST_SEED = 10_000_000
"""Seeds are looked through one by one for those that are meant for a use."""
_LIDARS = tuple(lidar.name for lidar in LIDARS)


@dataclass(frozen=True)
class SourceConfig:
    """Sweeps of one kind: from folders, or generated when training starts.

    Attributes:
        dataset: one of :data:`DATASETS`.
        path: the drive, or a folder of many, relative to where training is started; of a whole SemanticKITTI or
            nuScenes the official split is taken, ``train`` or ``val``. Empty for a world that is generated and kept in
            memory.
        topic: of a bag's sweeps; may be empty if the bag has one PointCloud2 topic only.
        frames: A, B: the frames A to B - 1 of each drive; empty for all.
        every: of these frames, take every n-th.
        seeds: A, B: generate the drives of the seeds A to B - 1 that are meant for this use (``world`` without path).
        sweeps: sweeps of each generated drive, spread over ten seconds.
        lidar: the LiDAR of all generated drives (``training/worldgen/sensing/sensors.py``); empty: each has its own.
        cameras: of generated drives: 0, 1 (in front) or 6.
        labels: ``own``; ``none`` for sweeps that only a teacher labels; ``propagated``: labels transferred by pose
            from the labelled sweeps of the same drive (``training/data/label_propagation.py``).
        share: of the training sweeps that come from here, relative to the other sources' shares.
    """

    dataset: str
    path: str = ""
    topic: str = ""
    frames: tuple[int, ...] = ()
    every: int = 1
    seeds: tuple[int, ...] = ()
    sweeps: int = 5
    lidar: str = ""
    cameras: int = 0
    labels: str = "own"
    share: float = 1.0

    def __post_init__(self) -> None:
        require("dataset", self.dataset, self.dataset in DATASETS, f"one of {', '.join(DATASETS)}")
        for name in ("frames", "seeds"):
            value = getattr(self, name)
            rising = not value or (len(value) == 2 and 0 <= value[0] < value[1])
            require(name, value, rising, "two rising numbers")
        few = not self.seeds or self.seeds[1] <= _LAST_SEED
        require("seeds", self.seeds, few, f"below {_LAST_SEED}")
        found = bool(self.path) or (self.dataset == "world" and bool(self.seeds))
        require("path", self.path, found, "given, or else seeds of the world")
        require("seeds", self.seeds, not (self.path and self.seeds), "left out beside a path")
        require("frames", self.frames, not (self.seeds and self.frames), "left out beside seeds")
        require("every", self.every, self.every > 0, "positive")
        require("every", self.every, not self.seeds or self.every == 1, "left out beside seeds")
        require("topic", self.topic, self.dataset == "bag" or not self.topic, "empty where there is no bag")
        require("lidar", self.lidar, self.lidar in ("", *_LIDARS), f"one of {', '.join(_LIDARS)}")
        require("lidar", self.lidar, bool(self.seeds) or not self.lidar, "left out without seeds")
        require("sweeps", self.sweeps, 0 < self.sweeps <= 100, "in 1..100")
        require("cameras", self.cameras, self.cameras in (0, 1, 6), "0, 1 or 6")
        require("cameras", self.cameras, bool(self.seeds) or not self.cameras, "left out without seeds")
        require("labels", self.labels, self.labels in _LABELS, f"one of {', '.join(_LABELS)}")
        propagated = self.labels == "propagated" and not self.path
        require("labels", self.labels, not propagated, "own or none without a path: generated drives have labels")
        require("share", self.share, self.share > 0, "positive")

    def __str__(self) -> str:
        part = f"frames {self.frames[0]}:{self.frames[1]}" if self.frames else "all frames"
        part += f", one in {self.every}" if self.every > 1 else ""
        if self.path:
            return f"{self.dataset} {Path(self.path).name}, {part}"
        lidar = self.lidar and f", {self.lidar}"
        return f"{self.dataset} seeds {self.seeds[0]}:{self.seeds[1]}, {self.sweeps} sweeps each{lidar}"


@dataclass(frozen=True)
class DataConfig:
    """Which sweeps serve for what.

    Attributes:
        train: where sweeps with labels to train on come from.
        validation: where sweeps for validation come from; each is scored by itself. The first gives the calibration
            temperature.
        held_out_sectors: world-frame azimuth sectors (0 to 5, 60 degrees each) whose labels are kept from
            training, for cross-validation (PandaSet only).
    """

    train: tuple[SourceConfig, ...]
    validation: tuple[SourceConfig, ...]
    held_out_sectors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            require(name, getattr(self, name), bool(getattr(self, name)), "at least one source")
        require("held_out_sectors", self.held_out_sectors, set(self.held_out_sectors) <= set(range(6)), "in 0..5")
        own = all(source.labels == "own" for source in self.validation)
        require("validation labels", "none or propagated", own, "own: nothing else says what is right")
        propagated = self.held_out_sectors and any(source.labels == "propagated" for source in self.train)
        require("held_out_sectors", self.held_out_sectors, not propagated, "empty with propagated labels")
        drives = self.held_out_sectors and any(source.dataset == "world" for source in self.train)
        require("held_out_sectors", self.held_out_sectors, not drives, "empty where train has drives of the world")


def frame_range(text: str, name: str = "frames") -> range:
    """``A:B`` as the frames A to B - 1.

    Raises:
        ConfigError: it is something else, or empty.
    """
    first, _, end = text.partition(":")
    if not (first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise ConfigError(f"{name} is '{text}', but must be A:B, frames A to B - 1")
    return range(int(first), int(end))
