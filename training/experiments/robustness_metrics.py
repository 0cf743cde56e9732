"""Accuracy and calibration of a model on clean and corrupted sweeps."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.sources import Source
from training.data.sweeps import Sweep
from training.experiments.corruption import SEVERITIES, corrupted
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.visibility import SweepImages
from xmodelkd_ros.inference.backend import Backend, load_networks
from xmodelkd_ros.resources import translation
from xmodelkd_ros.segmentation.decision import decide
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

TEMPERATURES = ("plain", "tempered")
"""Uncalibrated probabilities (T = 1), and those at the model's temperature."""

_CLEAN = ("", 0)
Variant = tuple[str, int]
"""A corruption and a severity, or :data:`_CLEAN`."""


def reference_pipeline(folder: Path) -> SegmentationPipeline:
    """Load a model on the reference back end in fp32, with a cache of image features for repeated sweeps.

    Raises:
        ModelError: the folder holds no model, or its files do not belong together.
    """
    spec = ModelSpec.read(folder)
    networks = load_networks(spec, folder, precision="fp32")
    branch = networks.image_branch and _CachingBackend(networks.image_branch, spec.cameras)
    return SegmentationPipeline(spec, networks.network, None, branch)


class _CachingBackend:
    """A :class:`~xmodelkd_ros.inference.backend.Backend` that caches its latest ``size`` outputs."""

    def __init__(self, backend: Backend, size: int) -> None:
        self.name, self.precision, self.key = backend.name, backend.precision, backend.key
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self._backend, self._size = backend, size
        self._outputs: OrderedDict[bytes, dict[str, NDArray[Any]]] = OrderedDict()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs for some inputs, cached if they were the same recently."""
        key = b"".join(hashlib.blake2b(values.tobytes()).digest() for values in inputs.values())
        if key not in self._outputs:
            self._outputs[key] = {name: values.copy() for name, values in self._backend.infer(inputs).items()}
            if len(self._outputs) > self._size:
                self._outputs.popitem(last=False)
        return self._outputs[key]


def measure(
    pipeline: SegmentationPipeline, source: Source, scored: LabelMap, kinds: Sequence[str], every: int, title: str
) -> dict[str, Any]:
    """Label clean and corrupted sweeps, and score the labels.

    Args:
        pipeline: the model.
        source: the sweeps. A teacher gets the original images, sampled at the positions of the corrupted points.
        scored: the label set to score in; calibration refers to the model's own classes.
        kinds: corruptions, each with all severities.
        every: score every n-th sweep. The corruption of a sweep does not depend on this.
        title: of the progress bar.

    Returns:
        Number of ``sweeps``; the scores of ``clean`` sweeps, and of ``corrupted`` ones for each kind and severity:
        ``miou``, ``iou`` by class, ``points`` with ground truth, and ``ece`` (see :class:`Calibration`).
    """
    if pipeline.spec.role != "teacher":
        source = replace(source, encoded_images=[])
    variants = [_CLEAN, *((kind, severity) for kind in kinds for severity in range(len(SEVERITIES)))]
    scores = {variant: VariantScores(pipeline.spec, scored) for variant in variants}
    numbers = range(0, len(source.sweeps), every)
    inputs = _inputs(source, numbers, variants)
    for variant, sweep, images in progress(inputs, len(numbers) * len(variants), title):
        pipeline.follow(sweep.sensor)
        scores[variant].add(*pipeline.logits(sweep.cloud, images), sweep.labels)
    by_kind = {kind: [scores[kind, severity].to_dict() for severity in range(len(SEVERITIES))] for kind in kinds}
    return {"sweeps": len(numbers), "clean": scores[_CLEAN].to_dict(), "corrupted": by_kind}


def _inputs(
    source: Source, numbers: Sequence[int], variants: Sequence[Variant]
) -> Iterator[tuple[Variant, Sweep, SweepImages | tuple[()]]]:
    """Each sweep in each variant, with its images."""
    for number in numbers:
        clean, images = source.sweeps[number], source.images(number)
        for kind, severity in variants:
            sweep = corrupted(clean, kind, number, severity) if kind else clean
            if isinstance(images, SweepImages):
                views = source.encoded_images[number].exposures.views(sweep.cloud.xyz)
                yield (kind, severity), sweep, replace(images, views=views)
            else:
                yield (kind, severity), sweep, images


class VariantScores:
    """Confusion matrix and calibration over the sweeps of one variant."""

    def __init__(self, spec: ModelSpec, scored: LabelMap) -> None:
        self._spec, self._lookup = spec, translation(spec.labels, scored)
        self._confusion = ConfusionMatrix(scored)
        self._calibration = {name: Calibration() for name in TEMPERATURES}

    def add(self, logits: NDArray[np.float32], valid: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
        """Add a sweep.

        Args:
            logits: (C, N), uncalibrated.
            valid: (N,) whether a point has a usable position.
            truth: (N,) ids in the model's label set, 255 without ground truth.
        """
        # The temperature does not change the classes, so one run of the network serves both.
        for name, temperature in zip(TEMPERATURES, (1.0, self._spec.temperature), strict=True):
            decision = decide(logits, valid, temperature, self._spec.labels)
            self._calibration[name].add(truth, decision.label, decision.probability)
        self._confusion.update(self._lookup.apply(truth), self._lookup.apply(decision.label))

    def to_dict(self) -> dict[str, Any]:
        """The entry in ``metrics.json``."""
        return {
            "miou": self._confusion.miou(),
            "iou": self._confusion.iou(),
            "points": int(self._confusion.counts.sum()),
            "ece": {name: calibration.to_dict() for name, calibration in self._calibration.items()},
        }


class Calibration:
    """Expected calibration error (10 bins), pooled over all points and as the mean over sweeps.

    The mean over sweeps is larger: in the pool, overconfident and underconfident sweeps cancel out.
    """

    def __init__(self) -> None:
        self._pooled, self._sweeps = CalibrationError(), list[float]()

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], probability: NDArray[np.float32]) -> None:
        """Add a sweep; arguments as of :meth:`CalibrationError.update`."""
        of_sweep = CalibrationError()
        for error in (self._pooled, of_sweep):
            error.update(truth, predicted, probability)
        value = of_sweep.value()
        if value is not None:
            self._sweeps.append(value)

    def to_dict(self) -> dict[str, Any]:
        """``pooled``, ``mean_over_sweeps``, and the pooled :attr:`CalibrationError.bins`."""
        mean = float(np.mean(self._sweeps)) if self._sweeps else None
        return {"pooled": self._pooled.value(), "mean_over_sweeps": mean, "bins": self._pooled.bins.tolist()}
