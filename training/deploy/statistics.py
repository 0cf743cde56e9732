"""Statistics of the sweeps that a model was trained and validated on, for ``model.json``."""

from __future__ import annotations

from training.config.data import DataConfig
from training.data.sources import Source, few_sweeps, load_source
from xmodelkd_ros.core.training_statistics import TrainingStatistics
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_SWEEPS = 100
"""Sweeps of each training source."""


def training_statistics(pipeline: SegmentationPipeline, data: DataConfig, command: str) -> TrainingStatistics:
    """Statistics of some training sweeps, and of all validation sweeps, as the exported model sees and labels them.

    Args:
        pipeline: the exported model.
        data: its sources.
        command: the command that computes them, for ``model.json``.

    Raises:
        ConfigError: a source cannot be loaded.
    """
    images, labels = pipeline.spec.image_branch is not None, pipeline.labels.name
    sources = [few_sweeps(config, _SWEEPS, images) for config in data.train]
    sources += [load_source(config, "validation", images, labels) for config in data.validation]
    return TrainingStatistics.of([sweep for source in sources for sweep in _sweeps(pipeline, source)], command)


def _sweeps(pipeline: SegmentationPipeline, source: Source) -> list[dict[str, float]]:
    statistics = []
    for number, sweep in enumerate(source.sweeps):
        pipeline.follow(sweep.sensor)
        statistics.append(dict(pipeline.segment(sweep.cloud, images=source.images(number)).statistics))
    return statistics
