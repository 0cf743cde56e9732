"""How well a model labels sweeps, clean and corrupted, and how sure it is of that: what is counted."""

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
"""Probabilities as the network gives them (T = 1), and as the model's temperature makes them."""

_CLEAN = ("", 0)
Variant = tuple[str, int]
"""A corruption and a severity, or :data:`_CLEAN`."""


def reference_pipeline(folder: Path) -> SegmentationPipeline:
    """A model on the reference back end in fp32, which looks at an image once, however often a sweep comes.

    Raises:
        ModelError: the folder holds none, or its files do not belong together.
    """
    spec = ModelSpec.read(folder)
    networks = load_networks(spec, folder, precision="fp32")
    branch = networks.image_branch and _CachingBackend(networks.image_branch, spec.cameras)
    return SegmentationPipeline(spec, networks.network, None, branch)


class _CachingBackend:
    """A back end that knows its latest answers (see :class:`~xmodelkd_ros.inference.backend.Backend`).

    Args:
        backend: the back end.
        kept: how many answers.
    """

    def __init__(self, backend: Backend, kept: int) -> None:
        self.name, self.precision, self.key = backend.name, backend.precision, backend.key
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self._backend, self._kept = backend, kept
        self._known: OrderedDict[bytes, dict[str, NDArray[Any]]] = OrderedDict()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once, unless it has just been asked the same."""
        key = b"".join(hashlib.blake2b(values.tobytes()).digest() for values in inputs.values())
        if key not in self._known:
            self._known[key] = {name: values.copy() for name, values in self._backend.infer(inputs).items()}
            if len(self._known) > self._kept:
                self._known.popitem(last=False)
        return self._known[key]


def measure(
    pipeline: SegmentationPipeline, source: Source, scored: LabelMap, kinds: Sequence[str], every: int, what: str
) -> dict[str, Any]:
    """Label sweeps, clean and corrupted, and score the labels.

    Args:
        pipeline: the model.
        source: the sweeps. A teacher sees clean images of the same moment, in the places of the corrupted points.
        scored: the label set to score in; calibration is that of the model's own classes.
        kinds: corruptions, of which all severities are taken.
        every: every n-th sweep is taken. A sweep is corrupted in the same way whatever others are taken.
        what: title of the progress bar.

    Returns:
        Number of ``sweeps``; counts of ``clean`` sweeps, and of ``corrupted`` ones for each kind and severity:
        ``miou``, ``iou`` by class, ``points`` with a truth, and ``ece`` (see :class:`Calibration`).
    """
    if pipeline.spec.role != "teacher":
        source = replace(source, encoded_images=[])
    variants = [_CLEAN, *((kind, severity) for kind in kinds for severity in range(len(SEVERITIES)))]
    counts = {variant: Counts(pipeline.spec, scored) for variant in variants}
    numbers = range(0, len(source.sweeps), every)
    inputs = _inputs(source, numbers, variants)
    for variant, sweep, pictures in progress(inputs, len(numbers) * len(variants), what):
        counts[variant].add(*pipeline.logits(sweep.cloud, pictures), sweep.labels)
    found = {kind: [counts[kind, severity].to_dict() for severity in range(len(SEVERITIES))] for kind in kinds}
    return {"sweeps": len(numbers), "clean": counts[_CLEAN].to_dict(), "corrupted": found}


def _inputs(
    source: Source, numbers: Sequence[int], variants: Sequence[Variant]
) -> Iterator[tuple[Variant, Sweep, SweepImages | tuple[()]]]:
    """Each sweep in each variant, and what cameras took of it."""
    for number in numbers:
        clean, pictures = source.sweeps[number], source.pictures(number)
        for kind, severity in variants:
            sweep = corrupted(clean, kind, number, severity) if kind else clean
            if isinstance(pictures, SweepImages):
                views = source.encoded_images[number].exposures.views(sweep.cloud.xyz)
                yield (kind, severity), sweep, replace(pictures, views=views)
            else:
                yield (kind, severity), sweep, pictures


class Counts:
    """What is counted over sweeps of one variant.

    Args:
        spec: the model.
        scored: the label set that confusion is counted in.
    """

    def __init__(self, spec: ModelSpec, scored: LabelMap) -> None:
        self._spec, self._lookup = spec, translation(spec.labels, scored)
        self._confusion = ConfusionMatrix(scored)
        self._calibration = {name: Calibration() for name in TEMPERATURES}

    def add(self, logits: NDArray[np.float32], valid: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
        """Add a sweep.

        Args:
            logits: (C, N), not calibrated.
            valid: (N,) whether a point has a usable position.
            truth: (N,) ids in the model's label set, 255 where there is none.
        """
        # Classes stay the same, so that the network is asked once for both.
        for name, temperature in zip(TEMPERATURES, (1.0, self._spec.temperature), strict=True):
            said = decide(logits, valid, temperature, self._spec.labels)
            self._calibration[name].add(truth, said.label, said.probability)
        self._confusion.update(self._lookup.apply(truth), self._lookup.apply(said.label))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        return {
            "miou": self._confusion.miou(),
            "iou": self._confusion.iou(),
            "points": int(self._confusion.counts.sum()),
            "ece": {name: calibration.to_dict() for name, calibration in self._calibration.items()},
        }


class Calibration:
    """Expected calibration error (10 bins) over the points of all sweeps, and as the mean over sweeps.

    The mean over sweeps is larger: in the pool, sweeps that are too sure make up for others that are not sure enough.
    """

    def __init__(self) -> None:
        self._pooled, self._sweeps = CalibrationError(), list[float]()

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], probability: NDArray[np.float32]) -> None:
        """Add a sweep; arguments as of :meth:`CalibrationError.update`."""
        own = CalibrationError()
        for counted in (self._pooled, own):
            counted.update(truth, predicted, probability)
        value = own.value()
        if value is not None:
            self._sweeps.append(value)

    def to_dict(self) -> dict[str, Any]:
        """``pooled``, ``mean_over_sweeps``, and :attr:`CalibrationError.bins` of the pool."""
        mean = float(np.mean(self._sweeps)) if self._sweeps else None
        return {"pooled": self._pooled.value(), "mean_over_sweeps": mean, "bins": self._pooled.bins.tolist()}
