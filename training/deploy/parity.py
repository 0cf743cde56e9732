"""Parity of an exported model with PyTorch, and its scores."""

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


def load_pipeline(spec: ModelSpec, folder: Path, precision: str) -> SegmentationPipeline:
    """Load a model in one of its precisions on the reference back end."""
    networks = load_networks(spec, folder, "onnxruntime", precision)
    return SegmentationPipeline(spec, networks.network, None, networks.image_branch)


def parity(
    pipeline: SegmentationPipeline,
    sources: Sequence[Source],
    expected: Sequence[Sequence[NDArray[np.float32]]],
    min_equal: float,
) -> dict[str, float]:
    """Compare the logits of an exported network, in its pipeline, with reference logits.

    Args:
        pipeline: with the exported network.
        sources: sweeps.
        expected: (C, N) reference logits of the points with a usable position, for each sweep of each source.
        min_equal: minimum share of points with equal labels.

    Raises:
        ModelError: fewer points have equal labels.
    """
    equal, points, difference = 0, 0, 0.0
    for source, reference in zip(sources, expected, strict=True):
        for number, logits in enumerate(reference):
            pipeline.follow(source.sweeps[number].sensor)
            logits_of_all, valid = pipeline.logits(source.sweeps[number].cloud, source.images(number))
            actual = logits_of_all[:, valid]
            equal += int(np.count_nonzero(actual.argmax(axis=0) == logits.argmax(axis=0)))
            points += logits.shape[1]
            difference = max(difference, float(np.abs(actual - logits).max(initial=0)))
    if equal < min_equal * points:
        raise ModelError(
            f"the exported network gives only {equal} of {points} points the expected label; do not use it"
        )
    return {"equal_labels": equal / points, "largest_logit_difference": difference, "points": points}


def score(source: Source, pipeline: SegmentationPipeline) -> dict[str, Any]:
    """Mean IoU, IoU and number of points of each class, and calibration error (ECE) on a source."""
    scores = Scores(pipeline.labels, label_map(scored_labels(pipeline.labels.name)), pipeline.usable)
    for number, sweep in enumerate(source.sweeps):
        pipeline.follow(sweep.sensor)
        result = pipeline.segment(sweep.cloud, images=source.images(number))
        scores.add(sweep.cloud, result.segmentation, sweep.labels, stages_ms=result.stages_ms, mode=result.mode)
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    selected = {name: metrics[name] for name in ("label_set", "miou", "iou", "points", "ece")}
    return {"data": str(source.config), **selected}
