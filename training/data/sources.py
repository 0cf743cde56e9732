"""Load the sources of a training configuration: stored or generated sweeps and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.data import SourceConfig
from training.config.label_sets import LABELS
from training.data.cache import is_cached, memoize
from training.data.feature_bank import MAX_CAMERAS
from training.data.image_samples import LabelledImage, labelled_images
from training.data.label_propagation import propagated_labels
from training.data.registry import open_drives
from training.data.sensors import recorded_sensor, with_ground
from training.data.sweeps import Sweep
from training.datasets.bag import BagSequence
from training.datasets.exposures import EncodedSweepImages
from training.datasets.sequence import DriveSequence, is_predicted, labels_of
from training.world.pool import each_drive
from training.world.sequence import WORLD_SOURCE, WorldSequence, live_drive
from training.worldgen.drive import MAX_SWEEPS, TRAIN, drives_of, split_of
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.visibility import NO_CAMERA, SweepImages
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS

_IMAGES, _CLASSES = "images", "classes"
"""What is loaded of images: colours, or the classes of the pixels where they are known."""
_PREDICTED = "predicted"
_CERTAIN = 0.7
"""Share of the points of each class whose predicted labels count."""


@dataclass(frozen=True, eq=False)
class Source:
    """Sweeps of one kind, in memory (2.3 MB each).

    Attributes:
        config: the source's settings.
        sweeps: the sweeps.
        frames: (drive, frame number) of each sweep; empty for generated drives.
        origin: dataset, licence and attribution for ``model.json``.
        encoded_images: the camera images of each sweep; empty if not requested or not available.
    """

    config: SourceConfig
    sweeps: list[Sweep]
    frames: list[tuple[DriveSequence, int]]
    origin: DataSource
    encoded_images: list[EncodedSweepImages] = field(default_factory=list)

    def images(self, number: int) -> SweepImages | tuple[()]:
        """The decoded images of a sweep; empty if not loaded."""
        return self.encoded_images[number].decode() if self.encoded_images else ()

    def visible_points(self, number: int) -> NDArray[np.bool_]:
        """(N,) which points of a sweep are visible in an image."""
        if not self.encoded_images:
            return np.zeros(len(self.sweeps[number].labels), np.bool_)
        return np.asarray((self.encoded_images[number].views.camera != NO_CAMERA).any(axis=1))


def load_source(
    config: SourceConfig, use: str, images: bool = False, labels: str = LABELS, *, pixel_classes: bool = False
) -> Source:
    """Read or generate the sweeps of a source.

    Args:
        config: the source's settings.
        use: ``train``, ``validation`` or ``test``; selects the seeds of this split.
        images: also load the camera images.
        labels: label set of the sweeps' labels.
        pixel_classes: of generated images, load the classes of the pixels in place of their colours.

    Raises:
        ConfigError: a folder cannot be read, holds a drive of another split, or lacks the labels that the source
            should have; or no seed is of this split.
    """
    # Share and use of the labels do not affect loading.
    cached = replace(config, share=1.0, labels=_PREDICTED if config.labels == _PREDICTED else "own")
    images = images and bool(config.path or config.cameras)
    content = (_CLASSES if pixel_classes else _IMAGES) if images else ""
    keys = [("source", cached, use, kept, labels) for kept in ((content,) if images else ("", _IMAGES, _CLASSES))]
    key = next(filter(is_cached, keys), keys[0])
    source = memoize(key, lambda: _loaded(cached, use, content, labels))
    if config.path and config.labels == "own" and not any((sweep.labels != IGNORE).any() for sweep in source.sweeps):
        raise ConfigError(f"{config} has no labels for {use}; fetch them, or give other drives")
    _check_origin_of_labels(config, source)
    return replace(source, config=config, encoded_images=source.encoded_images if images else [])


def _check_origin_of_labels(config: SourceConfig, source: Source) -> None:
    """Raise a ConfigError if predictions would count as ground truth, or the reverse."""
    predicted = any(is_predicted(drive) for drive, _ in source.frames)
    if predicted and config.labels == "own":
        raise ConfigError(
            f"{config}: the labels are predictions of a model, not ground truth; train on them with labels: predicted, "
            "or correct them by hand (docs/datasets.md)"
        )
    if not predicted and config.labels == _PREDICTED:
        raise ConfigError(f"{config} has no labels that 'xmodelkd label' wrote; give labels: own")


def _loaded(config: SourceConfig, use: str, images: str, labels: str) -> Source:
    if config.path:
        return _of_frames(config, stored_frames(config, use), images, labels)
    generated = each_drive(partial(_drive_sweeps, config=config, images=images), _seeds(config, use))
    pairs = [pair for drive in generated for pair in drive]
    encoded_images = [images_of for _, images_of in pairs if images_of is not None]
    return Source(config, [sweep for sweep, _ in pairs], [], WORLD_SOURCE, encoded_images)


def _of_frames(config: SourceConfig, frames: list[tuple[DriveSequence, int]], images: str, labels: str) -> Source:
    clouds = [drive.cloud(index) for drive, index in frames]
    sensors = _sensors(frames, clouds, config.sensor)
    sweeps = [
        Sweep(cloud, _labels_of(config, drive, index, labels), sensor=sensors[drive.name])
        for cloud, (drive, index) in zip(clouds, frames, strict=True)
    ]
    with_images = bool(images) and all(drive.cameras for drive, _ in frames)
    cameras = max((len(drive.cameras) for drive, _ in frames), default=0) if with_images else 0
    if cameras > MAX_CAMERAS:
        raise ConfigError(
            f"{config} has {cameras} cameras, but at most {MAX_CAMERAS} can be used; record fewer image topics"
        )
    loaded = (EncodedSweepImages.load(drive, index, images == _CLASSES) for drive, index in frames if with_images)
    return Source(config, sweeps, frames, frames[0][0].source, list(loaded))


def _labels_of(config: SourceConfig, drive: DriveSequence, index: int, labels: str) -> NDArray[np.uint8]:
    """(N,) labels of a sweep; of predicted ones with probabilities, those of the more certain points of each class."""
    ids = labels_of(drive, index, labels)
    if config.labels != _PREDICTED or not isinstance(drive, BagSequence):
        return ids
    probability = drive.probability(index)
    for class_id in np.unique(ids[ids != IGNORE]):
        members = ids == class_id
        ids = np.where(members & (probability < np.quantile(probability[members], 1 - _CERTAIN)), IGNORE, ids)
    return ids.astype(np.uint8)


def _sensors(
    frames: Sequence[tuple[DriveSequence, int]], clouds: Sequence[PointCloud], setting: str
) -> dict[str, SensorSpec | None]:
    """The LiDAR of each drive, by the drive's name; arguments as of :func:`recorded_sensor`."""
    by_drive: dict[str, tuple[DriveSequence, list[PointCloud]]] = {}
    for (drive, _), cloud in zip(frames, clouds, strict=True):
        by_drive.setdefault(drive.name, (drive, []))[1].append(cloud)
    return {
        name: with_ground(drive.sensor(), own[:SWEEPS])
        if isinstance(drive, WorldSequence)
        else recorded_sensor(name, own, setting)
        for name, (drive, own) in by_drive.items()
    }


def joined(sources: Sequence[Source]) -> Source:
    """The sweeps of several sources as one, with the settings and the origin of the first."""
    images = [
        source.encoded_images or [EncodedSweepImages.none(len(s.labels)) for s in source.sweeps] for source in sources
    ]
    return replace(
        sources[0],
        sweeps=[sweep for source in sources for sweep in source.sweeps],
        frames=[frame for source in sources for frame in source.frames],
        encoded_images=[one for part in images for one in part] if any(s.encoded_images for s in sources) else [],
    )


def few_sweeps(config: SourceConfig, count: int, images: bool) -> Source:
    """A few training sweeps of a source, as examples.

    Args:
        config: the source's settings.
        count: maximum number of sweeps, evenly spread over a folder, or from the first generated drives.
        images: also load the camera images.

    Raises:
        ConfigError: as :func:`load_source`.
    """
    if config.path:
        frames = stored_frames(config, TRAIN)
        chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
        return _of_frames(config, [frames[number] for number in chosen], _IMAGES if images else "", LABELS)
    seeds = _seeds(config, TRAIN)[: -(-count // config.sweeps)]
    return load_source(replace(config, seeds=(seeds[0], seeds[-1] + 1)), TRAIN, images)


def load_labelled_images(config: SourceConfig, use: str, others: Sequence[SourceConfig] = ()) -> list[LabelledImage]:
    """Read or generate the labelled images of a source.

    Args:
        config: the source's settings.
        use: as in :func:`load_source`.
        others: all sources of the run; their own labels may be propagated to this one.

    Raises:
        ConfigError: as :func:`load_source`, or the source has no cameras.
    """
    if config.path:
        rng, frames = np.random.default_rng(0), stored_frames(config, use)
        labels: list[NDArray[np.uint8] | None] = [None] * len(frames)
        if config.labels == "propagated":
            labelled = (stored_frames(other, use) for other in others if other.path and other.labels == "own")
            labels = [*propagated_labels(frames, [frame for source in labelled for frame in source])]
        return [image for frame, own in zip(frames, labels, strict=True) for image in labelled_images(*frame, rng, own)]
    if not config.cameras:
        raise ConfigError(f"{config}: cameras is 0, but images are needed; give cameras: 1 or 6")
    generated = each_drive(partial(_drive_images, config=config), _seeds(config, use))
    return [image for drive in generated for image in drive]


def origin_of(config: SourceConfig) -> DataSource:
    """Dataset, licence and attribution of a training source; errors as in :func:`load_source`."""
    return stored_frames(config, TRAIN)[0][0].source if config.path else WORLD_SOURCE


def stored_frames(config: SourceConfig, use: str) -> list[tuple[DriveSequence, int]]:
    """The (drive, frame number) of a stored source's sweeps; arguments and errors as in :func:`load_source`."""
    split = "train" if use == TRAIN else "val"
    drives = open_drives(config.dataset, Path(config.path), split=split, topic=config.topic, odometry=config.odometry)
    check_split(drives, use)
    for drive in drives if config.frames else ():
        if config.frames[1] > len(drive):  # before the range is expanded, which may be huge
            raise ConfigError(f"{drive.name} has no frame {config.frames[1] - 1}; it has 0 to {len(drive) - 1}")
    return [(drive, index) for drive in drives for index in range(*(config.frames or (0, len(drive))), config.every)]


def _seeds(config: SourceConfig, use: str) -> list[int]:
    seeds = [seed for seed in range(*config.seeds) if split_of(seed) == use]
    if not seeds:
        raise ConfigError(f"seeds {config.seeds[0]} to {config.seeds[1] - 1} contain no {use} seed; give a wider range")
    return seeds


def check_split(drives: Sequence[DriveSequence], use: str) -> None:
    """Raise a ConfigError for generated drives of another split, so that test drives are never trained on."""
    for drive in drives:
        if isinstance(drive, WorldSequence) and split_of(drive.seed) != use:
            raise ConfigError(
                f"{drive.name} is a {split_of(drive.seed)} drive and cannot be used for {use}; seeds that end in 8 "
                "are for validation, in 9 for test, all others for train"
            )


def _live(seed: int, config: SourceConfig) -> list[WorldSequence]:
    every = MAX_SWEEPS // config.sweeps
    return [live_drive(drive) for drive in drives_of(seed, config.sweeps, config.cameras, 0, every, config.lidar)]


def _drive_sweeps(seed: int, config: SourceConfig, images: str) -> list[tuple[Sweep, EncodedSweepImages | None]]:
    return [
        (_of_lidar(drive, k), EncodedSweepImages.load(drive, k, images == _CLASSES) if images else None)
        for drive in _live(seed, config)
        for k in range(len(drive))
    ]


def _of_lidar(drive: WorldSequence, index: int) -> Sweep:
    """A generated sweep with its LiDAR, whose mounting and intensity scale are estimated from this sweep."""
    cloud = drive.cloud(index)
    return Sweep(cloud, drive.labels(index), sensor=with_ground(drive.sensor(), [cloud]))


def _drive_images(seed: int, config: SourceConfig) -> list[LabelledImage]:
    rng = np.random.default_rng(seed)
    frames = [(drive, k) for drive in _live(seed, config) for k in range(len(drive))]
    return [image for frame in frames for image in labelled_images(*frame, rng)]
