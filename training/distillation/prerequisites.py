"""The trained networks that a run depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config.training import SELF, DistillConfig, TrainingConfig
from training.models.image_branch import ImageBranch
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
        branch: the image branch; None for a run without images.
        teacher: the network that labels sweeps for a student; None for training on labels alone, or self-training.
        origins: origins of their training data, whose licences bind models derived from them.
    """

    branch: ImageBranch | None = None
    teacher: Predictor | None = None
    origins: tuple[DataSource, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig) -> UpstreamModels:
        """Load the networks that a configuration names.

        Raises:
            ConfigError: one of them is missing or not finished, or the teacher has no cameras but the contrastive loss
                needs them.
        """
        if config.teacher:
            return cls._image_branch(config.teacher.image_branch) if config.teacher.image_branch else cls()
        if not config.distill or config.distill.teacher == SELF:
            return cls()
        return cls._teacher(config.distill, config.label_set)

    @classmethod
    def _teacher(cls, settings: DistillConfig, label_set: str) -> UpstreamModels:
        checkpoint = read_checkpoint(Path(settings.teacher))
        checkpoint.state.check_finished("distill.teacher")
        if checkpoint.config.label_set != label_set:
            raise ConfigError(
                f"distill.teacher is {settings.teacher}, which predicts {checkpoint.config.label_set}; name one of "
                f"{label_set}"
            )
        teacher = predictor_of(checkpoint)
        if settings.contrast_weight and teacher.branch is None:
            raise ConfigError(
                f"distill.contrast_weight is {settings.contrast_weight}, but {settings.teacher} uses no images; give "
                "0, or a teacher with cameras"
            )
        return cls(teacher.branch, teacher, teacher.origins)

    @classmethod
    def _image_branch(cls, run: str) -> UpstreamModels:
        state = read_run(Path(run))
        state.check_finished("teacher.image_branch")
        return cls(image_branch_of(state), origins=state.origins)

    def module(self, settings: dict[str, Any]) -> PointModule:
        """The network to train, from the settings of :meth:`TrainingConfig.to_dict`."""
        features = self.branch.features if self.branch else 0
        if settings["teacher"]:
            return TeacherModule(settings, features)
        return StudentModule(settings, self.teacher.module.width if self.teacher else 0, features)
