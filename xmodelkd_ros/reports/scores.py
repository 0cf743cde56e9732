"""Scores accumulated over the sweeps of a run, for offline evaluation, replay and training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.atomic_write import atomic_file, disk_errors
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import IGNORE, LabelMap, LabelTranslation
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.core.sensor_estimate import SENSOR_STAGE
from xmodelkd_ros.core.usable_points import UsableMask, is_labelled, usable_mask
from xmodelkd_ros.reports.filter_losses import FilterLosses
from xmodelkd_ros.reports.object_scores import ObjectScores
from xmodelkd_ros.resources import translation


@dataclass(frozen=True)
class SweepRecord:
    """Result of one sweep, for time series.

    Attributes:
        latency_ms: time from the sweep to its labels; None without labels.
        miou: mean over the classes in this sweep's truth; None without truth.
    """

    latency_ms: float | None
    miou: float | None


class Scores:
    """Confusion, calibration, latency, stage times and agreement with another model over all sweeps of a run.

    Truth and prediction are given in the model's label set. Both are translated into the scored set before counting, so
    that classes that merge there cannot be confused.

    Args:
        predicted: the model's label set.
        scored: the set to score in; the model's own if None.
        usable: the mask of the points of a sweep that the model can label, such as
            :meth:`~xmodelkd_ros.segmentation.pipeline.SegmentationPipeline.usable`.

    Attributes:
        label_map: the scored set.
        confusion: confusion matrix in that set.
        sweeps: one record per sweep, in order of addition.
    """

    def __init__(self, predicted: LabelMap, scored: LabelMap | None = None, usable: UsableMask = usable_mask) -> None:
        self._usable = usable
        self.label_map = scored or predicted
        self.confusion = ConfusionMatrix(self.label_map)
        self.sweeps: list[SweepRecord] = []
        self._translation: LabelTranslation = translation(predicted, self.label_map)
        self._calibration = CalibrationError()
        self._stages: dict[str, list[float]] = {}
        self._modes: Counter[str] = Counter()
        self._output = 0
        self._agreement: Agreement | None = None
        self._objects: ObjectScores | None = None
        self._filter: FilterLosses | None = None

    def add(
        self,
        cloud: PointCloud,
        segmentation: Segmentation,
        truth: NDArray[np.uint8] | None = None,
        *,
        scored_truth: NDArray[np.uint8] | None = None,
        stages_ms: Mapping[str, float] | None = None,
        latency_ms: float | None = None,
        mode: str = "student",
    ) -> None:
        """Add a segmented sweep.

        Args:
            cloud: the sweep.
            segmentation: its labels, in the model's set.
            truth: (N,) true ids in the model's set; 255 where a point has no truth.
            scored_truth: (N,) true ids in the scored set; None to translate ``truth``.
            stages_ms: milliseconds of each stage.
            latency_ms: time from the sweep to its labels; the sum of the stages if None, without the estimation of the
                LiDAR from the first sweeps, which the node does beside.
            mode: ``student`` or ``teacher``.

        Raises:
            CloudError: cloud, segmentation and truth differ in length.
        """
        _check_lengths(cloud, segmentation, truth)
        stages_ms = stages_ms or {}
        for stage, milliseconds in stages_ms.items():
            self._stages.setdefault(stage, []).append(milliseconds)
        if latency_ms is None and stages_ms:
            latency_ms = sum(ms for stage, ms in stages_ms.items() if stage != SENSOR_STAGE)
        if truth is not None:
            self._calibration.update(truth, segmentation.label, segmentation.probability)
        self.sweeps.append(SweepRecord(latency_ms, self._count(truth, segmentation.label, scored_truth)))
        if self._filter is not None and truth is not None:
            true = self.to_scored(truth) if scored_truth is None else scored_truth
            self._filter.add(cloud, replace(segmentation, label=self.to_scored(segmentation.label)), true)
        self._modes[mode] += 1
        self._output += is_labelled(self._usable(cloud.xyz), segmentation.label)

    def add_missing(
        self, truth: NDArray[np.uint8] | None = None, scored_truth: NDArray[np.uint8] | None = None
    ) -> None:
        """Add a sweep without labels: every point with truth is a miss; arguments as in :meth:`add`."""
        unlabelled = None if truth is None else np.full(truth.shape, IGNORE, np.uint8)
        self.sweeps.append(SweepRecord(None, self._count(truth, unlabelled, scored_truth)))

    def add_other(self, label: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
        """Add (N,) labels of this model and of another one, both in this model's set, to the agreement."""
        if self._agreement is None:
            self._agreement = Agreement(self.label_map)
        self._agreement.update(self.to_scored(label), self.to_scored(other))

    def add_objects(self, predicted: Sequence[ObjectBox], true: Sequence[ObjectBox]) -> None:
        """Add the boxes around the predicted and around the true labels of a sweep, in the scored set."""
        if self._objects is None:
            self._objects = ObjectScores()
        self._objects.add(predicted, true)

    def measure_filter(self, drop: Sequence[str]) -> None:
        """Count in the next sweeps what a filter that drops these classes of the scored set removes.

        Raises:
            LabelError: the scored set lacks one of them.
        """
        self._filter = FilterLosses(self.label_map, drop)

    def to_scored(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Translate ids of the model's set into the scored set; 255 without counterpart."""
        return self._translation.apply(label)

    def _count(
        self,
        truth: NDArray[np.uint8] | None,
        label: NDArray[np.uint8] | None,
        scored_truth: NDArray[np.uint8] | None = None,
    ) -> float | None:
        """Add one sweep to the confusion matrix; returns its own mIoU."""
        if truth is None or label is None:
            return None
        sweep = ConfusionMatrix(self.label_map)
        sweep.update(self.to_scored(truth) if scored_truth is None else scored_truth, self.to_scored(label))
        self.confusion.counts += sweep.counts
        return sweep.miou(occurring_only=True)

    @property
    def modes(self) -> Counter[str]:
        """Number of sweeps by mode."""
        return self._modes

    @property
    def sweeps_out(self) -> int:
        """Number of sweeps whose usable points have labels, at least 99 % of them."""
        return self._output

    @property
    def has_truth(self) -> bool:
        """Whether any point had ground truth."""
        return bool(self.confusion.counts.any())

    @property
    def latencies_ms(self) -> list[float]:
        """Latency of each labelled sweep."""
        return [s.latency_ms for s in self.sweeps if s.latency_ms is not None]

    def metrics(self, spec: ModelSpec, backend: str, precision: str) -> dict[str, Any]:
        """The content of ``metrics.json``.

        Returns:
            Scores between 0 and 1, times in milliseconds, and per class the number of ``points`` with truth. ``miou``
            and ``ece`` are None without truth. ``ece`` refers to the model's own classes.
        """
        metrics = {
            "miou": self.confusion.miou(),
            "iou": self.confusion.iou(),
            "points": self.confusion.points,
            "sweeps": {"input": len(self.sweeps), "output": self._output},
            "latency_ms": percentiles(self.latencies_ms),
            "stages_ms": {stage: percentiles(values) for stage, values in self._stages.items()},
            "ece": self._calibration.value(),
            "modes": {"student": self._modes["student"], "teacher": self._modes["teacher"]},
            "model": {"name": spec.name, "sha256": spec.files[precision].sha256},
            "backend": backend,
            "precision": precision,
            "label_set": self.label_map.name,
        }
        if self._agreement is not None:
            metrics["agreement"] = self._agreement.to_dict()
        if self._objects is not None:
            metrics["boxes"] = self._objects.metrics()
        if self._filter is not None:
            metrics["filter"] = self._filter.metrics()
        return metrics


class Agreement:
    """Agreement of two models' labels."""

    def __init__(self, label_map: LabelMap) -> None:
        self._both = ConfusionMatrix(label_map)

    def update(self, label: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
        """Add (N,) labels of the two models. Points that the other model does not label are ignored."""
        self._both.update(other, label)

    def to_dict(self) -> dict[str, Any]:
        """Share of equal labels, and IoU of the two models' labels by class."""
        total = int(self._both.counts.sum())
        equal = int(np.trace(self._both.counts[:, :-1]))
        return {"equal": equal / total if total else None, "classes": self._both.iou()}


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """Median and 99th percentile; None without values."""
    array = np.fromiter(values, np.float64)
    if array.size == 0:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(array, (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def write_metrics(out: Path, metrics: Mapping[str, Any]) -> Path:
    """Write ``metrics.json`` into a folder, which is created if missing.

    Raises:
        DiskError: the disk is full or fails; an older file stays unchanged.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "metrics.json"
    with disk_errors(path), atomic_file(path) as unfinished:
        unfinished.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return path


def _check_lengths(cloud: PointCloud, segmentation: Segmentation, truth: NDArray[np.uint8] | None) -> None:
    if len(segmentation) != len(cloud) or (truth is not None and truth.shape != (len(cloud),)):
        true_points = "no truth" if truth is None else f"a truth of {truth.shape}"
        raise CloudError(f"{len(cloud)} points, {len(segmentation)} labels and {true_points} differ in length")
