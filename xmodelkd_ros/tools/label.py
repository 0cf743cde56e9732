"""``xmodelkd label`` on one bag: predicted labels written beside the points, as a bag or in the KITTI layout."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from xmodelkd_ros.bags.bag import BagReader, RawMessage
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap, LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.messages.clouds import missing_intensity_policy
from xmodelkd_ros.messages.headers import Prediction
from xmodelkd_ros.resources import find_model, label_map, translation
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import Result, SegmentationPipeline
from xmodelkd_ros.tools.label_boxes import SweepBoxes
from xmodelkd_ros.tools.label_output import LabelledOutput, open_output

_Frames = tuple["CameraFrame | None", ...]
BAG_NAME = "{bag}"
_KEPT_SWEEPS = 20
"""Sweeps of a bag that its summary names: those with the highest mean entropy."""


@dataclass(frozen=True)
class LabelOptions:
    """How bags are labelled.

    Attributes:
        run: model, mode, sensor and topic; its bag and label set are those of each bag and of the written labels.
        min_probability: labels with a lower probability become 255.
        field: name of the field of class ids; empty: ``label``, or ``predicted_label`` in clouds that have one.
        format: ``mcap`` or ``semantickitti``.
        topics: ``all`` of the bag's, or only those of the ``labels``: clouds, transforms and label set.
        boxes: JSON file for boxes around road users, in which ``{bag}`` stands for the name of the bag; empty: none.
    """

    run: RunOptions
    min_probability: float = 0.0
    field: str = ""
    format: str = "mcap"
    topics: str = "all"
    boxes: str = ""

    def boxes_file(self, out: Path) -> Path | None:
        """The JSON file for the boxes of the bag that ``out`` is made of."""
        return Path(self.boxes.replace(BAG_NAME, out.stem)) if self.boxes else None

    def settings(self) -> dict[str, Any]:
        """What the labels depend on, for a later run to compare."""
        run = self.run
        network = ModelSpec.read(find_model(run.model)).files["fp32"].sha256
        of_model = {"sha256": network, "mode": run.mode, "sensor": run.sensor, "label_set": run.label_set}
        of_input = {"points_topic": run.points_topic, "missing_intensity": run.missing_intensity}
        names = ("min_probability", "field", "format", "topics", "boxes")
        return {**of_model, **of_input, **{name: getattr(self, name) for name in names}}


@dataclass
class BagSummary:
    """What was labelled in a bag.

    Attributes:
        bag: its path.
        out: the labelled bag or folder.
        model: name of the model, and hash of its network.
        label_set: name of the label set.
        sweeps: number of sweeps.
        points: number of their points.
        shares: share of each class in the labelled points.
        unlabelled: share of points with label 255.
        uncertain: share of points whose label had a probability below the threshold.
        entropy: mean entropy of the points, 0 to 1.
        most_uncertain: stamps (ns) and mean entropies of the sweeps with the highest ones.
        seconds: time for reading, labelling and writing, and in all.
        modes: sweeps by mode.
        sensor: what the LiDAR was taken for.
        warnings: about the input.
    """

    bag: str
    out: str
    model: tuple[str, str]
    label_set: str
    sweeps: int = 0
    points: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    unlabelled: float = 0.0
    uncertain: float = 0.0
    entropy: float = 0.0
    most_uncertain: list[tuple[int, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    sensor: str = ""
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class BagLabeller:
    """Labels bags with one model.

    Args:
        options: model and form of the output.

    Raises:
        XModelKDError: the model or the label set cannot be used.
    """

    def __init__(self, options: LabelOptions) -> None:
        run = self._run = options.run
        self._options = options
        self._sensor = chosen_sensor(run.sensor)
        self._pipeline = self._loaded(run.model)
        teaches = self._pipeline.spec.role == "teacher"
        if (run.mode == "teacher") != teaches:
            raise ConfigError(
                f"--mode {run.mode} needs --model {run.mode}; {run.model} is a {self._pipeline.spec.role}"
            )
        self._student = self._loaded(run.student) if teaches else None
        labels = self._pipeline.labels
        target = label_map(run.label_set) if run.label_set else labels
        self.labels: LabelMap = target
        self._into: LabelTranslation | None = None if target == labels else translation(labels, target)
        spec = self._pipeline.spec
        self.prediction = Prediction(spec.name, spec.files["fp32"].sha256, options.field or "label")
        self._pipeline.warm_up()

    def _loaded(self, model: str) -> SegmentationPipeline:
        folder, run = find_model(model), self._run
        backend = select_backend(folder, run.backend, run.precision).backend
        return SegmentationPipeline.load(folder, backend, run.precision, self._sensor)

    def label(self, bag: Path, out: Path) -> BagSummary:
        """Label a bag; ``out`` appears when it is complete.

        Raises:
            XModelKDError: the bag or a cloud in it cannot be used, or ``out`` cannot be written.
        """
        start = perf_counter()
        if self._sensor is not None:
            self._sensor.restart()
        with BagReader(bag) as reader, BagReader(bag) as others:
            policy = missing_intensity_policy([self._pipeline.spec], self._run.missing_intensity)
            drive = RecordedDrive(reader, self._run.points_topic, None, policy)
            monitor, counts = InputMonitor(self._pipeline), _Counts(len(self.labels.classes))
            prediction = replace(self.prediction, field=self._options.field or _label_field(drive))
            boxes_file = self._options.boxes_file(out)
            boxes = SweepBoxes(self.labels) if boxes_file is not None else None
            with open_output(self._options.format, out, drive, self.labels, prediction) as output:
                copied = output.begin(others, self._options.topics == "all")
                self._label_all(drive, others, copied, output, monitor, counts, boxes)
            if boxes is not None and boxes_file is not None:
                boxes.write(boxes_file, prediction)
            summary = counts.summary(self.labels)
        summary.bag, summary.out, summary.sensor = str(bag), str(out), self._pipeline.sensor_facts["description"]
        summary.model, summary.label_set = (prediction.model, prediction.sha256), self.labels.name
        summary.warnings = [*monitor.log.notes(), *reader.notes, *drive.notes, *output.notes]
        summary.seconds["total"] = perf_counter() - start
        return summary

    def _label_all(
        self,
        drive: RecordedDrive,
        others: BagReader,
        copied: Sequence[str],
        output: LabelledOutput,
        monitor: InputMonitor,
        counts: _Counts,
        boxes: SweepBoxes | None,
    ) -> None:
        """Write the bag's other messages and the labelled sweeps, in the order of recording."""
        clock = _Clock(counts.seconds)
        for message, frames in _in_order(others.raw(copied) if copied else (), self._sweeps(drive)):
            clock.lap("read")
            if isinstance(message, RawMessage):
                output.copy(message)
                clock.lap("write")
                continue
            sweep, result = message, self._segment(message, frames)
            monitor.add(sweep.cloud, result)
            kept = result.segmentation.without_uncertain(self._options.min_probability)
            counts.add(sweep, result, kept)
            clock.lap("label")
            if boxes is not None:
                boxes.add(sweep, kept, self._pipeline.sensor)
                clock.lap("boxes")
            output.sweep(sweep, kept)
            clock.lap("write")

    def _sweeps(self, drive: RecordedDrive) -> Iterator[tuple[RecordedSweep, _Frames]]:
        if self._run.mode != "teacher":
            return ((sweep, ()) for sweep in drive.sweeps())
        return drive.sweeps_with_frames(self._run.camera_options, self._pipeline.spec.cameras)

    def _segment(self, sweep: RecordedSweep, frames: _Frames) -> Result:
        """The labels of a sweep: by the student where a teacher has no image."""
        if self._student is not None and not any(frame is not None for frame in frames):
            return self._student.segment(sweep.cloud, self._into)
        return self._pipeline.segment(sweep.cloud, self._into, images=frames)


def _in_order(
    messages: Iterable[RawMessage], sweeps: Iterable[tuple[RecordedSweep, _Frames]]
) -> Iterator[tuple[RawMessage | RecordedSweep, _Frames]]:
    """Messages, and sweeps with the camera frames of each, in the order of recording."""
    first: Iterator[tuple[RawMessage | RecordedSweep, _Frames]] = ((message, ()) for message in messages)
    return heapq.merge(first, sweeps, key=lambda pair: pair[0].log_time_ns)


class _Clock:
    """Adds up the time of the parts of a loop."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, perf_counter()

    def lap(self, part: str) -> None:
        now = perf_counter()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._last
        self._last = now


class _Counts:
    """What the summary of a bag says."""

    def __init__(self, classes: int) -> None:
        self._labels = np.zeros(256, np.int64)
        self._below, self._entropy, self._measured = 0, 0.0, 0
        self._sweeps: list[tuple[int, float]] = []
        self._modes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def add(self, sweep: RecordedSweep, result: Result, kept: Segmentation) -> None:
        """Add a sweep."""
        self._labels += np.bincount(kept.label, minlength=256)
        self._below += int(np.count_nonzero(kept.label != result.segmentation.label))
        measured = np.isfinite(kept.entropy)
        total, count = float(kept.entropy[measured].sum()), int(measured.sum())
        self._entropy, self._measured = self._entropy + total, self._measured + count
        self._sweeps.append((sweep.stamp_ns, total / count if count else 0.0))
        self._modes[result.mode] = self._modes.get(result.mode, 0) + 1

    def summary(self, labels: LabelMap) -> BagSummary:
        """The numbers of all sweeps so far."""
        points, labelled = int(self._labels.sum()), int(self._labels[:IGNORE].sum())
        return BagSummary(
            "",
            "",
            ("", ""),
            "",
            sweeps=len(self._sweeps),
            points=points,
            shares={c.name: float(self._labels[c.id] / max(labelled, 1)) for c in labels.classes},
            unlabelled=float(self._labels[IGNORE] / max(points, 1)),
            uncertain=self._below / max(points, 1),
            entropy=self._entropy / max(self._measured, 1),
            most_uncertain=sorted(self._sweeps, key=lambda one: -one[1])[:_KEPT_SWEEPS],
            seconds=self.seconds,
            modes=self._modes,
        )


def _label_field(drive: RecordedDrive) -> str:
    """Name of the new field: ``label``, or ``predicted_label`` where the clouds have labels already."""
    fields = {field.name for field in drive.first_sweep().message.fields}
    return "predicted_label" if "label" in fields else "label"
