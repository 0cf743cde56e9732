"""``xmodelkd view``: the labelled sweeps of a bag in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.bags.transform_tree import Edge, TransformTree, chain_poses, is_moving
from xmodelkd_ros.console import print_notes, progress
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.messages.clouds import missing_intensity_policy, read_certainty
from xmodelkd_ros.reports.scene_recording import SceneRecording
from xmodelkd_ros.resources import find_model, label_map
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


@dataclass(frozen=True)
class ViewOptions:
    """What to show.

    Attributes:
        bag: the bag.
        model: whose labels; empty: those in the bag.
        points_topic: topic of the sweeps; may be empty if there is one only.
        sensor: as in :class:`xmodelkd_ros.harness.run_options.RunOptions`.
        every: show every n-th sweep.
        save: file to write; None: open a viewer.
    """

    bag: Path
    model: str = ""
    points_topic: str = ""
    sensor: str = "auto"
    every: int = 1
    save: Path | None = None


def view(options: ViewOptions) -> int:
    """Show the sweeps of a bag; returns their number.

    Raises:
        XModelKDError: the bag or the model cannot be used, or neither has labels.
    """
    with BagReader(options.bag) as reader:
        source = _Labels(options, reader)
        chain, origin_ns = _chain(reader, source.drive)
        if not is_moving(chain):
            source.drive.note("no poses: /tf has no motion of the LiDAR")
        scene = SceneRecording(source.labels, options.bag.name, options.save)
        shown = 0
        for number, sweep in enumerate(progress(source.drive.sweeps(), source.drive.count, "view")):
            if number % options.every:
                source.skip(sweep)
                continue
            segmentation, truth = source.of(sweep)
            pose = None
            if is_moving(chain):
                pose = chain_poses(chain, np.array([(sweep.stamp_ns - origin_ns) * 1e-9]))[0]
            cameras = source.drive.drawn_views(sweep)
            scene.sweep(sweep.stamp_ns, sweep.cloud, segmentation, truth=truth, cameras=cameras, world_from_lidar=pose)
            shown += 1
        scene.close()
        print_notes([*reader.notes, *source.drive.notes])
    return shown


class _Labels:
    """The labels that are shown: of a model, or those in the bag.

    Attributes:
        drive: the bag's sweeps.
        labels: the label set.
    """

    def __init__(self, options: ViewOptions, reader: BagReader) -> None:
        self._pipeline: SegmentationPipeline | None = None
        if options.model:
            folder = find_model(options.model)
            policy = missing_intensity_policy([ModelSpec.read(folder)])
            self._pipeline = SegmentationPipeline.load(folder, sensor=chosen_sensor(options.sensor))
            self.labels: LabelMap = self._pipeline.labels
            self.drive = RecordedDrive(reader, options.points_topic, self.labels, policy)
            return
        self.drive = RecordedDrive(reader, options.points_topic, label_map("drive13"), "fill")
        own = self.drive.truth_map
        if own is None:
            raise ConfigError(f"bag {options.bag} has no labels; name a model with --model, or label it first")
        self.labels = own

    def of(self, sweep: RecordedSweep) -> tuple[Segmentation, NDArray[np.uint8] | None]:
        """The labels of a sweep, and the truth where it is another one."""
        if self._pipeline is not None:
            predicted = self.drive.prediction is not None
            return self._pipeline.segment(sweep.cloud).segmentation, None if predicted else sweep.truth
        label = sweep.own_truth
        if label is None:
            label = np.full(len(sweep.cloud), IGNORE, np.uint8)
        return Segmentation(label, *read_certainty(sweep.message)), None

    def skip(self, sweep: RecordedSweep) -> None:
        """Let the estimate of the LiDAR see a sweep that is not shown."""
        if self._pipeline is not None and self._pipeline.auto_sensor is not None:
            self._pipeline.auto_sensor.of(sweep.cloud)


def _chain(reader: BagReader, drive: RecordedDrive) -> tuple[list[tuple[str, Edge]], int]:
    first = drive.first_sweep()
    return TransformTree(reader, first.stamp_ns).chain_above(first.message.header.frame_id), first.stamp_ns
