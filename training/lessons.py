"""What a teacher says of the points of sweeps.

The teacher sees a sweep as it was recorded, and mirrored; the student will see it changed (weak and strong view). What
the teacher says is kept for each point, so that it stays true however the sweep is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.checkpoint import Checkpoint, read_checkpoint, read_origins
from training.config import SELF, DistillConfig, TeacherConfig, TrainingConfig
from training.data.knowledge import Knowledge, Seen, join_seen, unseen
from training.data.sequence import DriveSequence
from training.data.sources import Source
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, with_rows
from training.data.views import Look
from training.data.voxels import VoxelVotes, drive_votes, in_world, movable_ids, place_of
from training.image_features import see
from training.models.image_branch import ImageBranch
from training.modules import Batch, PointTraining, StudentTraining, TeacherTraining
from training.train_images import trained_branch
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector
from xmodelkd_ros.tools.session import progress

_LEAST_SHARE = 1e-4
"""What no sweep said has still this probability, so that its logarithm is finite."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, of a student or a teacher, that is ready to label.

    Attributes:
        module: its network.
        inputs: its inputs.
        branch: what looks at images for it; None if it sees none.
        shuffled: whether it is shown other images than those that belong to a sweep.
        origins: where what it learnt from comes from.
    """

    module: PointTraining
    inputs: InputSpec
    branch: ImageBranch | None
    shuffled: bool = False
    origins: tuple[DataSource, ...] = ()

    def knowledge(self, sweeps: Sequence[Sweep], looks: Sequence[Look]) -> Knowledge:
        """What it must know beside sweeps to label them; arguments as of :func:`seen_by`."""
        if not isinstance(self.module, TeacherTraining):
            return Knowledge()
        return Knowledge(seen_by(self.branch, sweeps, looks, self.shuffled))


def trained_network(run: Path) -> TrainedNetwork:
    """The network of a run; a student's sees no images.

    Raises:
        ConfigError: the folder holds no checkpoint, or one of something else.
    """
    return network_of(read_checkpoint(run))


def network_of(checkpoint: Checkpoint) -> TrainedNetwork:
    """The network of a checkpoint; errors as in :meth:`Checkpoint.load_into`."""
    settings = checkpoint.config.teacher
    module: PointTraining = (TeacherTraining if settings else StudentTraining)(**checkpoint.arguments)
    checkpoint.load_into(module)
    shuffled = settings is not None and settings.shuffled
    return TrainedNetwork(module.eval(), checkpoint.inputs, checkpoint.branch, shuffled, checkpoint.origins)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of the N points of a sweep; all zero where it says nothing.

    Attributes:
        logits: (N, C) float16.
        doubt: (N,) float16, 1 less the probability of the most probable class in the mean of the teacher's heads.
        features: (N, D) float16.
    """

    logits: NDArray[np.float16]
    doubt: NDArray[np.float16]
    features: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Guides:
    """The finished networks that a run builds on.

    Attributes:
        branch: what looks at the images that belong to the sweeps; None where none are needed.
        teacher: what labels the sweeps for a student; None for one that learns from labels alone, or teaches itself.
        origins: where what they learnt from comes from: its licences bind what learns from them.
    """

    branch: ImageBranch | None = None
    teacher: TrainedNetwork | None = None
    origins: tuple[DataSource, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig) -> Guides:
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
        checkpoint = read_checkpoint(place)
        if not checkpoint.finished:
            raise ConfigError(
                f"distill.teacher is {place}, a run that is not finished; its own command goes on with it"
            )
        teacher = network_of(checkpoint)
        if config.distill.contrast_weight and teacher.branch is None:
            raise ConfigError(
                f"distill.contrast_weight is {config.distill.contrast_weight}, but {config.distill.teacher} sees no "
                "images; give 0, or a teacher with cameras"
            )
        return cls(teacher.branch, teacher, teacher.origins)

    def module(self, settings: dict[str, Any]) -> PointTraining:
        """The network to train, from what :meth:`TrainingConfig.to_dict` gives."""
        features = self.branch.features if self.branch else 0
        if settings["teacher"]:
            return TeacherTraining(settings, features)
        return StudentTraining(settings, self.teacher.module.width if self.teacher else 0, features)


def seen_by(branch: ImageBranch | None, sweeps: Sequence[Sweep], looks: Sequence[Look], shuffled: bool = False) -> Seen:
    """The image features of numbered sweeps (:func:`training.data.sweeps.with_rows`).

    Args:
        branch: what looks at the images; None for a teacher that sees none.
        sweeps: the numbered sweeps.
        looks: the images of each.
        shuffled: take other images than those that belong there.
    """
    if branch is None or not looks:
        features = branch.features if branch else 0
        return join_seen([unseen(len(sweep.labels), features) for sweep in sweeps], features)
    return join_seen(see(branch, shuffled_looks(looks) if shuffled else looks, "images"), branch.features)


def shuffled_looks(looks: Sequence[Look]) -> list[Look]:
    """Each sweep with the images of another one, and each camera with the next one's."""
    rng = np.random.default_rng(0)
    others = (np.arange(len(looks)) + rng.integers(1, max(len(looks), 2))) % len(looks)
    jpegs = [looks[other].jpegs[1:] + looks[other].jpegs[:1] for other in others]
    return [replace(look, jpegs=given) for look, given in zip(looks, jpegs, strict=True)]


@dataclass(frozen=True, eq=False)
class Pupils:
    """The sweeps that a teacher labels, numbered (:func:`training.data.sweeps.with_rows`).

    Attributes:
        sweeps: the sweeps.
        frames: the drive and the number of each; None for generated ones.
        looks: the images of the sweeps; empty where there are none.
    """

    sweeps: list[Sweep]
    frames: list[tuple[DriveSequence, int] | None]
    looks: list[Look]

    @classmethod
    def of(cls, numbered: Sequence[Sequence[Sweep]], sources: Sequence[Source]) -> Pupils:
        """The sweeps that have numbers."""
        taught = [n for n, part in enumerate(numbered) if part[0].rows is not None]
        return cls(
            [sweep for n in taught for sweep in numbered[n]],
            [frame for n in taught for frame in sources[n].frames or [None] * len(numbered[n])],
            [look for n in taught for look in sources[n].looks],
        )

    def taught_by(self, teacher: TrainedNetwork, settings: DistillConfig) -> Knowledge:
        """What a teacher says of these sweeps, as far as ``settings`` need it."""
        known = teacher.knowledge(self.sweeps, self.looks)
        learnt = lessons(teacher, self.sweeps, known, "teacher")
        if settings.fuse_m:
            learnt = fused(learnt, self.frames, settings.fuse_m)
        return Knowledge(
            known.seen if settings.contrast_weight else None,
            _stacked([lesson.logits for lesson in learnt]),
            _stacked([lesson.features for lesson in learnt]) if settings.features_weight else None,
            _stacked([lesson.doubt for lesson in learnt]) if settings.pseudo_share else None,
        )

    def untaught(self, classes: int) -> Knowledge:
        """What is known as long as there is no teacher."""
        rows = 1 + sum(len(sweep.labels) for sweep in self.sweeps)
        return Knowledge(taught=np.zeros((rows, classes), np.float16), doubt=np.zeros(rows, np.float16))


def pseudo_labelled(
    sources: Sequence[Sequence[Sweep]], wanted: Sequence[bool], knowledge: Knowledge, share: float
) -> list[list[Sweep]]:
    """The sweeps, with the classes of which a teacher has the least doubt at points that have no label.

    Args:
        sources: the numbered sweeps of each source.
        wanted: whether points of a source may get such labels; in others, what has no label has none for a reason.
        knowledge: what the teacher says of their points, and how much it doubts that.
        share: of the points of each class that get it as their label.
    """
    said = [
        [_opinion(sweep, knowledge) if wants and sweep.rows is not None else None for sweep in source]
        for source, wants in zip(sources, wanted, strict=True)
    ]
    every = [opinion for source in said for opinion in source if opinion is not None]
    if not every:
        return [list(source) for source in sources]
    label, doubt = (np.concatenate(column) for column in zip(*every, strict=True))
    most = np.zeros(IGNORE + 1, np.float32)
    for class_id in np.unique(label[label != IGNORE]):
        most[class_id] = np.quantile(doubt[label == class_id], share)
    return [
        [_with_certain(sweep, opinion, most) for sweep, opinion in zip(source, opinions, strict=True)]
        for source, opinions in zip(sources, said, strict=True)
    ]


_Opinion = tuple[NDArray[np.uint8], NDArray[np.float16]]
"""The most probable class of each point without a label, 255 for others, and the doubt about it."""


def _opinion(sweep: Sweep, knowledge: Knowledge) -> _Opinion:
    assert knowledge.taught is not None and knowledge.doubt is not None
    logits = knowledge.taught[sweep.rows]
    open_to_it = logits.any(axis=1) & (sweep.labels == IGNORE)
    label = np.where(open_to_it, logits.argmax(axis=1), IGNORE).astype(np.uint8)
    return label, knowledge.doubt[sweep.rows]


def _with_certain(sweep: Sweep, opinion: _Opinion | None, most: NDArray[np.float32]) -> Sweep:
    if opinion is None:
        return sweep
    label, doubt = opinion
    certain = (label != IGNORE) & (doubt <= most[label])
    return replace(sweep, labels=np.where(certain, label, sweep.labels).astype(np.uint8))


def fused(learnt: Sequence[Lesson], frames: Sequence[tuple[DriveSequence, int] | None], side_m: float) -> list[Lesson]:
    """Lessons in which each still thing has the mean of what was said of it in all sweeps of its drive.

    Args:
        learnt: the lessons.
        frames: the drive and the number of their sweeps; None for those that stay as they are.
        side_m: of the voxels that are averaged over.
    """
    places = [in_world(*frame) if frame else None for frame in frames]
    votes: dict[str, VoxelVotes] = {}
    for lesson, frame, xyz in zip(learnt, frames, places, strict=True):
        if frame and xyz is not None:
            drive = votes.setdefault(place_of(frame[0]), drive_votes(side_m))
            drive.add(xyz, _probabilities(lesson.logits), frame[0].stamp_ns(frame[1]) * 1e-9)
    result = []
    for lesson, frame, xyz in zip(learnt, frames, places, strict=True):
        if frame and xyz is not None:
            result.append(_averaged(lesson, votes[place_of(frame[0])].at(xyz)))
        else:
            result.append(lesson)
    return result


def _averaged(lesson: Lesson, votes: NDArray[np.float32]) -> Lesson:
    """The votes' share as logits for points that have votes and are not of a movable class by themselves."""
    movable = np.isin(lesson.logits.argmax(axis=1), movable_ids())
    known = votes.any(axis=1) & lesson.logits.any(axis=1) & ~movable
    share = votes[known] / votes[known].sum(axis=1, keepdims=True)
    logits, doubt = lesson.logits.copy(), lesson.doubt.copy()
    logits[known], doubt[known] = np.log(np.maximum(share, _LEAST_SHARE)), 1 - share.max(axis=1)
    return replace(lesson, logits=logits, doubt=doubt)


def _probabilities(logits: NDArray[np.float16]) -> NDArray[np.float32]:
    """Softmax of (N, C) logits; zeros where nothing was said."""
    said = logits.any(axis=1, keepdims=True)
    return np.asarray(torch.from_numpy(logits).float().softmax(dim=1).numpy() * said)


def _branch_of(settings: TeacherConfig) -> ImageBranch | None:
    return trained_branch(Path(settings.image_branch)) if settings.image_branch else None


def _stacked(tables: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """The tables of many sweeps as one, with row 0 before them."""
    return np.concatenate([np.zeros_like(tables[0][:1]), *tables])


def lessons(teacher: TrainedNetwork, sweeps: Sequence[Sweep], knowledge: Knowledge, what: str) -> list[Lesson]:
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
        valid = projector.project(sweep.cloud).pixel != NO_PIXEL
        said = _said_twice(teacher.module, tensors(whole[number]))
        found.append(Lesson(*(_spread(values, valid) for values in said)))
    return found


def _spread(values: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.float16]:
    """What was said of the valid points, with zeros for all others between."""
    every = np.zeros((len(valid), *values.shape[1:]), np.float16)
    every[valid] = values.numpy()
    return every


def labelled(
    network: TrainedNetwork, sweeps: Sequence[Sweep], looks: Sequence[Look], what: str
) -> Iterator[NDArray[np.uint8]]:
    """(N,) class ids that a network gives to the points of each sweep, 255 where one has no usable position.

    Args:
        network: student or teacher, asked once for each sweep.
        sweeps: the sweeps.
        looks: their images; may be empty.
        what: title of the progress bar.
    """
    (numbered,) = with_rows([sweeps], [True])
    whole = WholeSweeps(numbered, network.inputs, network.knowledge(numbered, looks))
    projector = RangeProjector(network.inputs.projection)
    for number, sweep in enumerate(progress(numbered, len(numbered), what)):
        label = np.full(len(sweep.labels), IGNORE, np.uint8)
        valid = projector.project(sweep.cloud).pixel != NO_PIXEL
        label[valid] = _best(network.module, tensors(whole[number]))
        yield label


@torch.inference_mode()
def _best(network: PointTraining, batch: Batch) -> NDArray[np.uint8]:
    return np.asarray(network.say(batch).logits[0].argmax(dim=0).numpy().astype(np.uint8))


def tensors(sweep: Mapping[str, NDArray[Any]]) -> Batch:
    """What :class:`training.data.sweeps.WholeSweeps` gives, as networks take it."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in sweep.items()}


@torch.inference_mode()
def _said_twice(teacher: PointTraining, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(N, C) logits, (N,) doubt and (N, D) features, averaged over the sweep and its mirror image."""
    width = batch["image"].shape[-1]
    row, column = batch["pixel"] // width, batch["pixel"] % width
    mirrored = {**batch, "pixel": row * width + width - 1 - column}
    for name in ("image", "seen"):
        if name in batch:
            mirrored[name] = batch[name].flip(-1)
    one, other = (teacher.say(view) for view in (batch, mirrored))
    logits, beliefs = (one.logits[0] + other.logits[0]) / 2, (one.beliefs[0] + other.beliefs[0]) / 2
    doubt = 1 - beliefs.gather(0, logits.argmax(dim=0, keepdim=True))[0]
    return logits.T, doubt, (one.at_points()[0] + other.at_points()[0]) / 2
