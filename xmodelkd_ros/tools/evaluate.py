"""``xmodelkd evaluate``: segment and score the sweeps of a bag without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelTranslation
from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.resources import find_model, translation
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.objects import object_boxes
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools.session import Session

_LATENCY = "the time of decoding and the pipeline, without transport"


def evaluate(options: RunOptions, against: str = "", boxes: bool = False, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Segment and score every sweep of a bag, and write the report; returns the content of ``metrics.json``.

    Args:
        options: bag, model and scoring.
        against: name or path of another model to compare labels with; empty for none.
        boxes: whether boxes around road users are scored by those around the true labels.
        drop: classes of a filter whose losses are measured; empty for none.

    Raises:
        XModelKDError: the bag, a cloud in it, or a model cannot be used.
    """
    with BagReader(options.bag) as reader:
        session = Session(options)
        other = _Other.load(against, session) if against else None
        drive = session.open(reader)
        monitor = InputMonitor(session.pipeline)
        if (boxes or drop) and drive.truth_map is None:
            option = "--boxes" if boxes else "--filter-drop"
            raise ConfigError(f"{option} needs ground truth, and {options.bag} has none")
        if drop:
            session.scores.measure_filter(drop)
        view = _segment_all(session, drive, monitor, other, boxes)
        session.add_notes(reader.notes + drive.notes)
    return session.report("evaluated offline", _LATENCY, view, monitor.log.notes())


@dataclass(frozen=True, eq=False)
class _Other:
    """The model to compare with, and the translation of its labels into the first model's."""

    pipeline: SegmentationPipeline
    to_first: LabelTranslation

    @classmethod
    def load(cls, model: str, session: Session) -> _Other:
        folder, options = find_model(model), session.options
        backend = select_backend(folder, options.backend, options.precision).backend
        pipeline = SegmentationPipeline.load(folder, backend, options.precision, session.sensor)
        return cls(pipeline, translation(pipeline.labels, session.pipeline.labels))


def _segment_all(
    session: Session, drive: RecordedDrive, monitor: InputMonitor, other: _Other | None, boxes: bool
) -> SweepView | None:
    """Add every sweep to the scores; returns the middle one to draw."""
    pipeline, scores = session.pipeline, session.scores
    pipeline.warm_up()  # keeps one-time set-up out of the first sweep's latency
    view = None
    for index, (sweep, camera_frames) in enumerate(progress(session.sweeps(drive), drive.count, "evaluate")):
        result = pipeline.segment(sweep.cloud, images=camera_frames)
        monitor.add(sweep.cloud, result)
        stages = {"decode": sweep.decode_ms, **result.stages_ms}
        truth = session.scored_truth(sweep)
        scores.add(
            sweep.cloud, result.segmentation, sweep.truth, scored_truth=truth, stages_ms=stages, mode=result.mode
        )
        if boxes and truth is not None:
            scores.add_objects(*_boxes(session, sweep.cloud, result.segmentation, truth))
        if other is not None:
            other_label = other.pipeline.segment(sweep.cloud).segmentation.label
            scores.add_other(result.segmentation.label, other.to_first.apply(other_label))
        if index == drive.count // 2:
            view = session.view(drive, sweep, result.segmentation.label)
    return view


def _boxes(
    session: Session, cloud: PointCloud, segmentation: Segmentation, truth: NDArray[np.uint8]
) -> tuple[list[ObjectBox], list[ObjectBox]]:
    """Boxes around the predicted and around the true labels of a sweep, of the points that have true ones."""
    scores, sensor = session.scores, session.pipeline.sensor
    label = np.where(truth == IGNORE, np.uint8(IGNORE), scores.to_scored(segmentation.label))
    predicted, true = (
        object_boxes(cloud.xyz, replace(segmentation, label=ids), scores.label_map, sensor) for ids in (label, truth)
    )
    return predicted, true
