"""Sources of sweeps for training and validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from training.config.yaml_config import NOT_EMPTY, Count, Positive, PositiveInt, at_most, one_of, require, settings
from training.worldgen.drive import EACH_LIDAR
from training.worldgen.sensing.products import LIDARS, UNSEEN_LIDARS
from xmodelkd_ros.core.errors import ConfigError

DATASETS = ("pandaset", "semantickitti", "nuscenes", "world", "bag")
WITH_SPLITS = ("semantickitti", "nuscenes")
"""Datasets with official splits."""
SPLITS = ("train", "val")
"""The official splits."""

_LAST_SEED = 10_000_000
"""Seeds are scanned one by one for those of a split."""


_LIDARS = (*(lidar.name for lidar in (*LIDARS, *UNSEEN_LIDARS)), EACH_LIDAR)
_LIDARS_SAID = f"{', '.join(_LIDARS)}, or {EACH_LIDAR} and one of these names"


@settings
class SourceConfig:
    """Sweeps from folders, or of drives that are generated when training starts.

    Attributes:
        dataset: one of :data:`DATASETS`.
        path: the drive, or a folder of drives, relative to the working directory; of a whole SemanticKITTI or nuScenes
            data set the official split is used, ``train`` or ``val``. Empty for drives generated in memory.
        topic: topic of a bag's sweeps; may be empty if the bag has one PointCloud2 topic only.
        sensor: LiDAR of a recorded drive: ``auto`` (estimated from its first sweeps), ``none`` (the rows of the
            network's range image), a sensor file, or the name of a known one. Of use to networks with rows by beam.
        odometry: where a bag has no motion of the sensor in ``/tf``, estimate it from the sweeps.
        frames: A, B: the frames A to B - 1 of each drive; empty for all.
        every: use every n-th of these frames.
        seeds: A, B: generate the drives of this split with the seeds A to B - 1 (``world`` without path).
        sweeps: sweeps per generated drive, spread over ten seconds.
        lidar: the LiDAR of all generated drives (``training/worldgen/sensing/products.py``); empty: each drive has its
            own; ``each``: each sweep has its own, with another mounting on another vehicle; ``each NAME``: likewise,
            but all of one product.
        cameras: cameras of generated drives: 0, 1 (front) or 6.
        labels: ``own``; ``none`` for sweeps that only a teacher labels; ``propagated``: labels transferred by pose
            from the labelled sweeps of the same drive (``training/data/label_propagation.py``); ``predicted``: those
            that ``xmodelkd label`` wrote, the more certain ones of each class.
        share: share of the training sweeps drawn from this source, relative to the other sources.
    """

    dataset: Annotated[str, one_of(*DATASETS)]
    path: str = ""
    topic: str = ""
    sensor: str = "auto"
    odometry: bool = False
    frames: tuple[int, ...] = ()
    every: PositiveInt = 1
    seeds: tuple[int, ...] = ()
    sweeps: Annotated[PositiveInt, at_most(100)] = 5
    lidar: str = ""
    cameras: int = 0
    labels: Annotated[str, one_of("own", "none", "propagated", "predicted")] = "own"
    share: Positive = 1.0

    def __post_init__(self) -> None:
        for name in ("frames", "seeds"):
            value = getattr(self, name)
            require(name, value, not value or (len(value) == 2 and 0 <= value[0] < value[1]), "two rising numbers")
        generated = bool(self.seeds)
        require("seeds", self.seeds, not generated or self.seeds[1] <= _LAST_SEED, f"below {_LAST_SEED}")
        has_sweeps = bool(self.path) or (self.dataset == "world" and generated)
        require("path", self.path, has_sweeps, "set, or seeds of the dataset world")
        require("seeds", self.seeds, not (self.path and generated), "empty with a path")
        require("frames", self.frames, not (generated and self.frames), "empty with seeds")
        require("every", self.every, not generated or self.every == 1, "1 with seeds")
        require(
            "odometry", self.odometry, self.dataset == "bag" or not self.odometry, "false unless the dataset is bag"
        )
        require("topic", self.topic, self.dataset == "bag" or not self.topic, "empty unless the dataset is bag")
        require(
            "lidar", self.lidar, self.lidar.removeprefix(f"{EACH_LIDAR} ") in ("", *_LIDARS), f"one of {_LIDARS_SAID}"
        )
        require("sensor", self.sensor, not generated or self.sensor == "auto", "auto with seeds")
        require("lidar", self.lidar, generated or not self.lidar, "empty without seeds")
        require("cameras", self.cameras, self.cameras in (0, 1, 6), "0, 1 or 6")
        require("cameras", self.cameras, generated or not self.cameras, "0 without seeds")
        without_drive = self.labels == "propagated" and not self.path
        require("labels", self.labels, not without_drive, "own or none without a path: generated drives have labels")

    def __str__(self) -> str:
        part = f"frames {self.frames[0]}:{self.frames[1]}" if self.frames else "all frames"
        part += f", one in {self.every}" if self.every > 1 else ""
        if self.path:
            return f"{self.dataset} {Path(self.path).name}, {part}"
        lidar = self.lidar and f", {self.lidar}"
        return f"{self.dataset} seeds {self.seeds[0]}:{self.seeds[1]}, {self.sweeps} sweeps each{lidar}"


Sources = Annotated[tuple[SourceConfig, ...], NOT_EMPTY]


@settings
class DataConfig:
    """Training and validation sources.

    Attributes:
        train: sources of the training sweeps.
        validation: sources of the validation sweeps, each scored by itself. The first one gives the calibration
            temperature.
        held_out_sectors: world-frame azimuth sectors (0 to 5, 60 degrees each) whose labels are withheld from
            training, for cross-validation (PandaSet only).
    """

    train: Sources
    validation: Sources
    held_out_sectors: tuple[Annotated[Count, at_most(5)], ...] = ()

    def __post_init__(self) -> None:
        own = all(source.labels == "own" for source in self.validation)
        require("validation labels", "none or propagated", own, "own")
        propagated = any(source.labels == "propagated" for source in self.train)
        sectors = self.held_out_sectors
        require("held_out_sectors", sectors, not (sectors and propagated), "empty with propagated labels")
        world = any(source.dataset == "world" for source in self.train)
        require("held_out_sectors", sectors, not (sectors and world), "empty if train has generated drives")


def frame_range(text: str, name: str = "frames") -> range:
    """``A:B`` as the frames A to B - 1.

    Raises:
        ConfigError: the text has another form, or the range is empty.
    """
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ConfigError(f"{name} is '{text}', but must be A:B, frames A to B - 1")
    return range(int(first), int(end))
