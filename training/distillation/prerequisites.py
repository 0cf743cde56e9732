"""The trained networks that a run depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.config.training import NO_TEACHER, SELF, DistillConfig, TeacherConfig, TrainingConfig
from training.image_network.answers import ImageAnswers
from training.image_network.classes import ImageClasses
from training.image_network.network import ImageNetwork
from training.image_network.reader import ImageClassReader, ImageReader, NetworkReader
from training.modules.checkpoint import read_checkpoint, read_run
from training.modules.image_module import image_branch_of
from training.modules.point_modules import PointModule, StudentModule, TeacherModule
from training.predict.predictor import Predictor, predictor_of
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource


@dataclass(frozen=True, eq=False)
class UpstreamModels:
    """The trained networks that a run depends on.

    Attributes:
        reader: what makes features from images; None for a run without images.
        image_network: reads what an image network sees, which teaches a student itself; None without one.
        teacher: the network that labels sweeps for a student; None for training on labels alone, or self-training.
        origins: origins of their training data, whose licences bind models derived from them.
    """

    reader: ImageReader | None = None
    teacher: Predictor | None = None
    origins: tuple[DataSource, ...] = ()
    image_network: NetworkReader | None = None

    @property
    def takes_images(self) -> bool:
        """Whether any of them reads images."""
        return self.reader is not None or self.image_network is not None

    @property
    def read_network(self) -> NetworkReader | None:
        """The image network whose classes any of them reads; None without one."""
        reader = self.reader.network if isinstance(self.reader, ImageClassReader) else None
        return self.image_network or reader

    @classmethod
    def of(cls, config: TrainingConfig) -> UpstreamModels:
        """Load the networks that a configuration names.

        Raises:
            ConfigError: one of them is missing or not finished, or the teacher has no cameras but the contrastive loss
                needs them.
        """
        if config.teacher:
            return cls._of_teacher(config.teacher)
        if not config.distill:
            return cls()
        network = _network(config.distill.image_network)
        upstream = cls()
        if config.distill.teacher not in (SELF, NO_TEACHER):
            upstream = cls._teacher(config.distill, config.label_set, network)
        if network is None or not config.distill.image_weight:
            return upstream
        return replace(upstream, image_network=network, origins=_origins(upstream.origins, network))

    @classmethod
    def _teacher(cls, settings: DistillConfig, label_set: str, network: NetworkReader | None) -> UpstreamModels:
        checkpoint = read_checkpoint(Path(settings.teacher))
        checkpoint.state.check_finished("distill.teacher")
        if checkpoint.config.label_set != label_set:
            raise ConfigError(
                f"distill.teacher is {settings.teacher}, which predicts {checkpoint.config.label_set}; name one of "
                f"{label_set}"
            )
        teacher = predictor_of(checkpoint)
        if isinstance(teacher.reader, ImageClassReader) and network is not None:
            origins = _origins(teacher.origins, network)
            teacher = replace(teacher, reader=teacher.reader.with_network(network), origins=origins)
        if settings.contrast_weight and teacher.reader is None:
            raise ConfigError(
                f"distill.contrast_weight is {settings.contrast_weight}, but {settings.teacher} uses no images; give "
                "0, or a teacher with cameras"
            )
        return cls(teacher.reader, teacher, teacher.origins)

    @classmethod
    def _of_teacher(cls, settings: TeacherConfig) -> UpstreamModels:
        """What a teacher in training takes from images."""
        if settings.image_classes:
            tables = [ImageClasses.find(name, Path()) for name in settings.image_classes]
            network = _network(settings.image_network)
            return cls(ImageClassReader(tables, network), origins=_origins((), network))
        if not settings.image_branch:
            return cls()
        state = read_run(Path(settings.image_branch))
        state.check_finished("teacher.image_branch")
        return cls(image_branch_of(state), origins=state.origins)

    def module(self, settings: dict[str, Any]) -> PointModule:
        """The network to train, from the settings of :meth:`TrainingConfig.to_dict`."""
        features = self.reader.features if self.reader else 0
        if settings["teacher"]:
            return TeacherModule(settings, features)
        return StudentModule(settings, self.teacher.module.width if self.teacher else 0, features)


def _network(folder: str) -> NetworkReader | None:
    return NetworkReader(ImageAnswers(ImageNetwork(Path(folder)))) if folder else None


def _origins(origins: tuple[DataSource, ...], network: NetworkReader | None) -> tuple[DataSource, ...]:
    """The origins, and those of a network's training data."""
    return tuple(dict.fromkeys((*origins, *(network.answers.network.origins if network else ()))))
