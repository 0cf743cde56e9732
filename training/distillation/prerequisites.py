"""The finished networks that a training run builds on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config.training import SELF, TeacherConfig, TrainingConfig
from training.models.image_branch import ImageBranch
from training.modules.checkpoint import check_finished, read_checkpoint, read_origins
from training.modules.image_module import trained_branch
from training.modules.point_modules import PointModule, StudentModule, TeacherModule
from training.predict.predictor import Predictor, predictor_of
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource


@dataclass(frozen=True, eq=False)
class UpstreamModels:
    """The finished networks that a run builds on.

    Attributes:
        branch: what looks at the images that belong to the sweeps; None where none are needed.
        teacher: what labels the sweeps for a student; None for one that learns from labels alone, or teaches itself.
        origins: where what they learnt from comes from: its licences bind what learns from them.
    """

    branch: ImageBranch | None = None
    teacher: Predictor | None = None
    origins: tuple[DataSource, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig) -> UpstreamModels:
        """Load what a configuration names.

        Raises:
            ConfigError: one of them is not there, or the teacher sees no images but the contrast needs them.
        """
        if config.teacher:
            images = config.teacher.image_branch
            return cls(_branch_of(config.teacher), origins=read_origins(Path(images)) if images else ())
        if not config.distill or config.distill.teacher == SELF:
            return cls()
        place = Path(config.distill.teacher)
        check_finished(place, "distill.teacher")
        checkpoint = read_checkpoint(place)
        if checkpoint.config.label_set != config.label_set:
            raise ConfigError(
                f"distill.teacher is {place}, which knows the classes of {checkpoint.config.label_set}; name one of "
                f"{config.label_set}"
            )
        teacher = predictor_of(checkpoint)
        if config.distill.contrast_weight and teacher.branch is None:
            raise ConfigError(
                f"distill.contrast_weight is {config.distill.contrast_weight}, but {config.distill.teacher} sees no "
                "images; give 0, or a teacher with cameras"
            )
        return cls(teacher.branch, teacher, teacher.origins)

    def module(self, settings: dict[str, Any]) -> PointModule:
        """The network to train, from what :meth:`TrainingConfig.to_dict` gives."""
        features = self.branch.features if self.branch else 0
        if settings["teacher"]:
            return TeacherModule(settings, features)
        return StudentModule(settings, self.teacher.module.width if self.teacher else 0, features)


def _branch_of(settings: TeacherConfig) -> ImageBranch | None:
    if not settings.image_branch:
        return None
    check_finished(Path(settings.image_branch), "teacher.image_branch")
    return trained_branch(Path(settings.image_branch))
