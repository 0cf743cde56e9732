"""What a teacher says of the points of sweeps.

The teacher sees a sweep as it was recorded, and mirrored; the student will see it changed (weak and strong view). What
the teacher says is kept for each point, so that it stays true however the sweep is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.checkpoint import read_checkpoint
from training.config import TrainingConfig
from training.data.knowledge import Knowledge, join_seen
from training.data.sweeps import InputSpec, Sweep, WholeSweeps
from training.data.views import Look
from training.image_features import see
from training.models.image_branch import ImageBranch
from training.modules import Batch, PointTraining, Said, StudentTraining, TeacherTraining
from training.train_images import trained_branch
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector
from xmodelkd_ros.tools.session import progress


@dataclass(frozen=True, eq=False)
class TrainedTeacher:
    """A teacher that is ready to label.

    Attributes:
        module: its network.
        inputs: its inputs.
        branch: what looks at images for it; None if it sees none.
    """

    module: PointTraining
    inputs: InputSpec
    branch: ImageBranch | None


def trained_teacher(run: Path) -> TrainedTeacher:
    """The teacher of a run; a student's run gives one that sees no images.

    Raises:
        ConfigError: the folder holds no checkpoint, or its image branch is not there.
    """
    checkpoint = read_checkpoint(run)
    settings = checkpoint.config.teacher
    branch = trained_branch(Path(settings.image_branch)) if settings else None
    module = (TeacherTraining if settings else StudentTraining)(**checkpoint.arguments)
    checkpoint.load_into(module)
    return TrainedTeacher(module.eval(), checkpoint.inputs, branch)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of the N points of a sweep; all zero where it says nothing.

    Attributes:
        logits: (N, C) float16.
        features: (N, D) float16.
    """

    logits: NDArray[np.float16]
    features: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Guides:
    """The finished networks that a run builds on.

    Attributes:
        branch: what looks at the images that belong to the sweeps; None where none are needed.
        teacher: what labels the sweeps for a student; None for a student that learns from labels alone.
    """

    branch: ImageBranch | None = None
    teacher: TrainedTeacher | None = None

    @classmethod
    def of(cls, config: TrainingConfig) -> Guides:
        """Load what a configuration names.

        Raises:
            ConfigError: one of them is not there, or the teacher sees no images but the contrast needs them.
        """
        if config.teacher:
            return cls(branch=trained_branch(Path(config.teacher.image_branch)))
        if not config.distill:
            return cls()
        teacher = trained_teacher(Path(config.distill.teacher))
        if config.distill.contrast_weight and teacher.branch is None:
            raise ConfigError(
                f"distill.contrast_weight is {config.distill.contrast_weight}, but {config.distill.teacher} sees no "
                "images; give 0, or a teacher with cameras"
            )
        return cls(teacher.branch, teacher)

    def module(self, settings: dict[str, Any]) -> PointTraining:
        """The network to train, from what :meth:`TrainingConfig.to_dict` gives."""
        features = self.branch.features if self.branch else 0
        if settings["teacher"]:
            return TeacherTraining(settings, features)
        return StudentTraining(settings, self.teacher.module.width if self.teacher else 0, features)

    def knowledge(
        self, sweeps: Sequence[Sequence[Sweep]], looks: Sequence[Look], settings: TrainingConfig
    ) -> Knowledge:
        """What is known of the points of sweeps that are numbered (:func:`training.data.sweeps.with_rows`).

        Args:
            sweeps: of each source, those without images too.
            looks: the images of the sweeps that have some, in the same order.
            settings: the run's.
        """
        seen = join_seen(see(self.branch, looks, "images"), self.branch.features) if self.branch else None
        if self.teacher is None or settings.distill is None:
            return Knowledge(seen)
        learnt = lessons(
            self.teacher, [s for part in sweeps for s in part if s.rows is not None], Knowledge(seen), "teacher"
        )
        distill = settings.distill
        return Knowledge(
            seen if distill.contrast_weight else None,
            _stacked([lesson.logits for lesson in learnt]),
            _stacked([lesson.features for lesson in learnt]) if distill.features_weight else None,
        )


def _stacked(tables: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """The tables of many sweeps as one, with row 0 before them."""
    return np.concatenate([np.zeros_like(tables[0][:1]), *tables])


def lessons(teacher: TrainedTeacher, sweeps: Sequence[Sweep], knowledge: Knowledge, what: str) -> list[Lesson]:
    """Let a teacher label sweeps.

    Args:
        teacher: the teacher.
        sweeps: the sweeps, with their rows in ``knowledge``.
        knowledge: what cameras see at the points.
        what: title of the progress bar.
    """
    whole, projector = WholeSweeps(sweeps, teacher.inputs, knowledge), RangeProjector(teacher.inputs.projection)
    found = []
    for number, sweep in enumerate(progress(sweeps, len(sweeps), what)):
        batch = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in whole[number].items()}
        logits, features = _said_twice(teacher.module, batch)
        valid = projector.project(sweep.cloud).pixel != NO_PIXEL
        all_logits = np.zeros((len(valid), logits.shape[1]), np.float16)
        all_features = np.zeros((len(valid), features.shape[1]), np.float16)
        all_logits[valid], all_features[valid] = logits.numpy(), features.numpy()
        found.append(Lesson(all_logits, all_features))
    return found


@torch.inference_mode()
def _said_twice(teacher: PointTraining, batch: Batch) -> tuple[Tensor, Tensor]:
    """(N, C) logits and (N, D) features, averaged over the sweep and its mirror image."""
    width = batch["image"].shape[-1]
    row, column = batch["pixel"] // width, batch["pixel"] % width
    mirrored = {**batch, "pixel": row * width + width - 1 - column}
    for name in ("image", "seen"):
        if name in batch:
            mirrored[name] = batch[name].flip(-1)
    both: list[Said] = [teacher.say(view) for view in (batch, mirrored)]
    return sum(s.logits[0].T for s in both) / 2, sum(s.at_points()[0] for s in both) / 2  # type: ignore[return-value]
