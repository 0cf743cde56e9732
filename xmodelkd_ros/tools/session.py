"""The part that evaluation and replay share: load a model, open a bag, score, and report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.console import print_notes, print_warnings
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError, LabelError, quoted
from xmodelkd_ros.core.projection import BY_BEAM
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.messages.clouds import missing_intensity_policy
from xmodelkd_ros.reports.report import Run, score_table, write_report
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.reports.truth import TruthTranslation
from xmodelkd_ros.resources import NO_SENSOR, find_model, label_map
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def prepared_for_node(options: RunOptions) -> RunOptions:
    """Options with a concrete back end and built engines, since a node that compares or builds starts too late."""
    names = [options.model, *([options.student] if options.mode == "teacher" else [])]
    choice = select_backend(find_model(options.model), options.backend, options.precision)
    if choice.backend == "tensorrt":
        for name in names:
            SegmentationPipeline.load(find_model(name), choice.backend, options.precision)
    return replace(options, backend=choice.backend)


class Session:
    """The scoring of a model on a bag.

    Raises:
        XModelKDError: the model or the label set cannot be used, or the folder cannot be made.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        folder = find_model(options.model)
        self.backend_choice = select_backend(folder, options.backend, options.precision)
        self.sensor = chosen_sensor(options.sensor)
        self.pipeline = SegmentationPipeline.load(folder, self.backend_choice.backend, options.precision, self.sensor)
        self._drive: RecordedDrive | None = None
        self._notes: list[str] = []
        self._truth: TruthTranslation | None = None
        self._unknown_set: LabelError | None = None
        scored = None
        try:
            scored = label_map(options.label_set) if options.label_set else None
        except LabelError as error:  # it may be the bag's own
            self._unknown_set = error
        self.scores = Scores(self.pipeline.labels, scored, self.pipeline.usable)
        make_folder(options.out)
        is_teacher = self.pipeline.spec.role == "teacher"
        if options.mode == "teacher" and not is_teacher:
            raise ConfigError(f"--model {options.model} names a student, which takes no images; give --model teacher")
        if options.mode != "teacher" and is_teacher:
            print_notes([f"--model {options.model} names a teacher, but labels by LiDAR alone; give --mode teacher"])
        if options.mode != "teacher" and options.camera_options.dropped:
            print_notes(["--drop-cameras has no effect: --mode student uses no images"])

    def open(self, reader: BagReader) -> RecordedDrive:
        """The drive of a bag, its truth translated into the model's labels.

        Raises:
            LabelError: the label set of the scores is neither a shipped one nor the bag's own.
        """
        labels = self.pipeline.labels
        missing_intensity = missing_intensity_policy([self.pipeline.spec], self.options.missing_intensity)
        drive = self._drive = RecordedDrive(reader, self.options.points_topic, labels, missing_intensity)
        truth = drive.truth_map
        if self._unknown_set is not None:
            if truth is None or truth.name != self.options.label_set:
                own = f"the bag has {quoted(truth.name)}" if truth is not None else "the bag has none of its own"
                raise LabelError(f"{self._unknown_set}; {own}") from self._unknown_set
            self.scores = Scores(labels, truth, self.pipeline.usable)
        if truth is not None:
            self._truth = TruthTranslation.of(truth, labels, self.scores.label_map)
        return drive

    def scored_truth(self, sweep: RecordedSweep) -> NDArray[np.uint8] | None:
        """(N,) true ids of a sweep in the scored label set; None without ground truth."""
        if self._truth is None or sweep.own_truth is None:
            return None
        return self._truth.lookup[sweep.own_truth]

    def sweeps(self, drive: RecordedDrive) -> Iterator[tuple[RecordedSweep, tuple[CameraFrame | None, ...]]]:
        """Every sweep of a drive; in teacher mode with its camera frames.

        Errors are those of :meth:`RecordedDrive.sweeps_with_frames`.
        """
        if self.options.mode == "teacher":
            sweeps = drive.sweeps_with_frames(self.options.camera_options, self.pipeline.spec.cameras)
        else:
            sweeps = ((sweep, ()) for sweep in drive.sweeps())
        for sweep, frames in sweeps:
            if self.sensor is not None:
                self.sensor.begin(sweep.stamp_ns, sweep.message.header.frame_id)
            yield sweep, frames

    def view(self, drive: RecordedDrive, sweep: RecordedSweep, label: NDArray[np.uint8]) -> SweepView:
        """A sweep for the plots of the report, in the scored label set."""
        scores, truth = self.scores, self.scored_truth(sweep)
        views = drive.camera_views(sweep) if self.options.mode == "teacher" else drive.drawn_views(sweep)
        return SweepView(sweep.cloud, scores.to_scored(label), scores.label_map, truth, views)

    def report(
        self,
        activity: str,
        latency: str,
        view: SweepView | None,
        warnings: Sequence[str] = (),
        start_s: float | None = None,
        sensor: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the report and print the scores; returns the content of ``metrics.json``.

        Args:
            activity: such as ``evaluated offline``, for the title.
            latency: definition of the latency.
            view: the sweep to draw.
            warnings: about the input.
            start_s: seconds from the start of the node's process until the recorder was subscribed; None without node.
            sensor: which LiDAR the sweeps were taken as those of, as told by the node; None: by the session's model.
        """
        backend, spec = self.pipeline.backend, self.pipeline.spec
        if self.options.mode == "teacher" and not self.scores.modes["teacher"]:
            print_notes(["no sweep had a usable image: all were labelled by LiDAR alone"])
        metrics = self.scores.metrics(spec, backend.name, backend.precision)
        metrics["sensor"] = sensor = dict(self.pipeline.sensor_facts if sensor is None else sensor)
        if sensor["source"] != NO_SENSOR or spec.projection.rows == BY_BEAM:
            self.add_notes([f"sensor: {sensor['description']}"])
        if self._drive is not None and self._drive.prediction is not None:
            metrics["reference"] = {"source": "prediction", **asdict(self._drive.prediction)}
        metrics["warnings"] = list(warnings)
        print_warnings(warnings)
        reason = self.backend_choice.reason
        facts = [("back end", reason)] if reason else []
        if start_s is not None:
            metrics["start_s"] = round(start_s, 2)
            facts.append(("start", f"{start_s:.1f} s until the recorder was subscribed to the node"))
        self.add_notes(self._truth_notes())
        facts += [("note", note) for note in self._notes]
        source = None if self._drive is None else self._drive.source
        bag = self.options.bag.name
        run = Run(f"{bag}, {activity}", self.options.command, latency, tuple(facts), bag, source)
        path = write_report(self.options.out, run, metrics, self.scores, spec, view)
        print(f"{score_table(metrics)} | report {path}")
        return metrics

    def add_notes(self, notes: Sequence[str]) -> None:
        """Print notes on the bag and its content; the report lists them too."""
        print_notes(notes)
        self._notes += notes

    def _truth_notes(self) -> list[str]:
        """Notes on ground truth that is not scored, and on classes that it lacks."""
        if self._truth is None or self._drive is None:
            return []
        lost = self._drive.truth_notes(self._truth.lookup, self._truth.scored.name)
        return [*lost, *self._truth.notes(self.scores.confusion)]
