"""An exported model in its pipeline: compared with PyTorch, and scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.label_sets import scored_labels
from training.data.sources import Source
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.inference.backend import load_networks
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def loaded(spec: ModelSpec, folder: Path, precision: str) -> SegmentationPipeline:
    """The pipeline of a model in one of its precisions, on the reference back end."""
    networks = load_networks(spec, folder, "onnxruntime", precision)
    return SegmentationPipeline(spec, networks.network, None, networks.image_branch)


def parity(
    pipeline: SegmentationPipeline,
    sources: Sequence[Source],
    expected: Sequence[Sequence[NDArray[np.float32]]],
    least: float,
) -> dict[str, float]:
    """Compare an exported network, in its pipeline, with what it was made from.

    Args:
        pipeline: with the exported network.
        sources: sweeps.
        expected: (C, N) logits of the points with a usable position, for each sweep of each source.
        least: share of points that must get the same label.

    Raises:
        ModelError: too many points got another label.
    """
    equal, points, difference = 0, 0, 0.0
    for source, logits_of in zip(sources, expected, strict=True):
        for number, logits in enumerate(logits_of):
            every, valid = pipeline.logits(source.sweeps[number].cloud, source.pictures(number))
            found = every[:, valid]
            equal += int(np.count_nonzero(found.argmax(axis=0) == logits.argmax(axis=0)))
            points += logits.shape[1]
            difference = max(difference, float(np.abs(found - logits).max(initial=0)))
    if equal < least * points:
        raise ModelError(f"the exported network labels only {equal} of {points} points as it should; do not use it")
    return {"equal_labels": equal / points, "largest_logit_difference": difference, "points": points}


def score(source: Source, pipeline: SegmentationPipeline) -> dict[str, Any]:
    """Mean IoU, IoU and points of each class, and calibration error (ECE) on a source."""
    scores = Scores(pipeline.labels, label_map(scored_labels(pipeline.labels.name)))
    for number, sweep in enumerate(source.sweeps):
        result = pipeline.segment(sweep.cloud, pictures=source.pictures(number))
        scores.add(sweep.cloud, result.segmentation, sweep.labels, stages_ms=result.stages_ms, mode=result.mode)
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    kept = {name: metrics[name] for name in ("label_set", "miou", "iou", "points", "ece")}
    return {"data": str(source.config), **kept}
