"""What a training run is made of: frozen, checked when it is built, read from YAML."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from training.config.data import DataConfig
from training.config.label_sets import BENCHMARK_LABELS, LABEL_SETS, LABELS
from training.config.yaml_config import YamlConfig, require
from training.worldgen.sensing.sensors import BEAM_TABLES

_PRECISIONS = ("auto", "32-true", "bf16-mixed")
_SEEDS = 1 << 32
"""What generators of random numbers take."""
SELF = "self"
"""The teacher of a student that teaches itself."""


@dataclass(frozen=True)
class ModelConfig:
    """The student's inputs and size (see :class:`training.models.student.Student`).

    Attributes:
        channels: what describes a point; names known to ``core/normalization.py``.
        beams: the rows: name of a LiDAR in ``training/worldgen/sensing/sensors.py``; empty: found in the sweeps of the
            first source of ``train``.
        width: columns of the range image.
        max_points: P, points the exported network takes at once.
        widths: channels of the five levels.
        blocks: residual blocks of the levels 1 to 4.
        head_channels: features per pixel that the point head gathers.
        separable: whether convolutions but the first are depthwise separable.
    """

    channels: tuple[str, ...]
    width: int
    max_points: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    head_channels: int
    beams: str = ""
    separable: bool = False

    def __post_init__(self) -> None:
        require("channels", self.channels, bool(self.channels), "at least one channel")
        require("width", self.width, self.width > 0 and self.width % 64 == 0, "a positive multiple of 64")
        require("max_points", self.max_points, self.max_points > 0, "positive")
        require("widths", self.widths, len(self.widths) == 5 and min(self.widths) > 0, "five positive numbers")
        require("blocks", self.blocks, len(self.blocks) == 4 and min(self.blocks) >= 0, "four numbers >= 0")
        require("head_channels", self.head_channels, self.head_channels > 0, "positive")
        # A slip, or a damaged checkpoint, must not ask for more memory than there is.
        for name, most in (("width", 1 << 16), ("max_points", 1 << 22), ("head_channels", 4096)):
            require(name, getattr(self, name), getattr(self, name) <= most, f"at most {most}")
        require("widths", self.widths, max(self.widths) <= 4096, "at most 4096")
        require("blocks", self.blocks, max(self.blocks) <= 64, "at most 64")
        require("channels", self.channels, len(self.channels) <= 16, "at most 16 channels")
        require("beams", self.beams, self.beams in ("", *BEAM_TABLES), f"one of {', '.join(BEAM_TABLES)}")


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly sweeps are changed (see ``training/data/augment.py``); 0 switches a change off.

    Attributes:
        scale: the world is scaled by 1 ± this.
        translate_m: standard deviation of the sensor's displacement along the ground.
        height_m: standard deviation of the sensor's displacement in height.
        tilt_deg: standard deviation of roll and pitch.
        jitter_m: standard deviation of noise along the ray.
        intensity_gain: standard deviation of the natural logarithm of a gain per sweep.
        intensity_gamma: standard deviation of the natural logarithm of an exponent per sweep.
        drop_points: largest share of points dropped.
        drop_rows: largest share of beams dropped.
        mix: probability that a sector of another sweep, of another dataset where there are several, replaces that
            of this one (PolarMix).
        paste: probability that objects of rare classes of another sweep are set into this one.
    """

    scale: float = 0.0
    translate_m: float = 0.0
    height_m: float = 0.0
    tilt_deg: float = 0.0
    jitter_m: float = 0.0
    intensity_gain: float = 0.0
    intensity_gamma: float = 0.0
    drop_points: float = 0.0
    drop_rows: float = 0.0
    mix: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require(name, value, value >= 0, ">= 0")
        for name in ("scale", "drop_points", "drop_rows"):
            require(name, getattr(self, name), getattr(self, name) < 1, "below 1")
        for name in ("mix", "paste"):
            require(name, getattr(self, name), getattr(self, name) <= 1, "a probability")


@dataclass(frozen=True)
class OptimizerConfig:
    """The length of training and its steps.

    Attributes:
        epochs: how many times ``steps`` steps are taken; validation and a checkpoint follow each.
        steps: optimizer steps per epoch.
        batch: sweeps per step.
        crop_columns: sweeps are cut into crops of this width.
        points: points per crop that the loss sees.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: of AdamW.
        ema_decay: of the moving average of the weights, which is what is validated and exported.
        workers: processes that prepare crops; 0 prepares them between steps.
    """

    epochs: int
    steps: int
    batch: int
    crop_columns: int
    points: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "points", "learning_rate"):
            require(name, getattr(self, name), getattr(self, name) > 0, "positive")
        good_crop = self.crop_columns > 0 and self.crop_columns % 64 == 0
        require("crop_columns", self.crop_columns, good_crop, "a positive multiple of 64")
        require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "in 0..1")
        require("workers", self.workers, self.workers >= 0, ">= 0")


@dataclass(frozen=True)
class TeacherConfig:
    """What makes the network a teacher (see ``training/models/teacher.py``).

    Attributes:
        image_branch: folder of the image branch's run; empty for a teacher without cameras, as a control.
        shuffled: give each camera images of other cameras, of whatever sweep, as a control.
        width: channels of the fusion.
        lidar_weight: of the loss of the labels from the LiDAR branch alone.
        image_weight: of the loss of the labels from the image features alone.
        contrast_weight: of the contrastive loss between features of the LiDAR branch and of images.
        temperature: of that loss.
        camera_dropout: probability that a camera gives nothing in a training sample; half of that, that none does.
    """

    image_branch: str
    shuffled: bool = False
    width: int = 32
    lidar_weight: float = 0.5
    image_weight: float = 0.2
    contrast_weight: float = 0.1
    temperature: float = 0.07
    camera_dropout: float = 0.2

    def __post_init__(self) -> None:
        require("shuffled", self.shuffled, bool(self.image_branch) or not self.shuffled, "false without image_branch")
        require("width", self.width, 0 < self.width <= 4096, "in 1..4096")
        # Heads that learn nothing would spoil the certainty, in which all heads agree.
        for name in ("lidar_weight", "image_weight", "temperature"):
            require(name, getattr(self, name), getattr(self, name) > 0, "positive")
        require("contrast_weight", self.contrast_weight, self.contrast_weight >= 0, ">= 0")
        require("camera_dropout", self.camera_dropout, 0 <= self.camera_dropout < 1, "in 0..1")


@dataclass(frozen=True)
class DistillConfig:
    """What a student learns from a teacher, on sweeps without own labels (``training/distillation/supervision.py``, ``distill.py``).

    Attributes:
        teacher: folder of the teacher's run, which may be a student's; ``self``: the averaged weights of the run
            itself, after each epoch, for sweeps without labels.
        logits_weight: of the divergence between the teacher's classes and the student's.
        lovasz_weight: of the Lovász-softmax on the teacher's classes, at points without a label.
        features_weight: of the distance between the teacher's features and the student's.
        contrast_weight: of the contrastive loss between the student's features and images'.
        temperature: of that loss.
        ramp: share of the training over which these weights rise from 0; pseudo-labels count in full from the start.
        pseudo_share: in sources without own labels, points without one take the teacher's class: this share of each
            class, those of which it is most certain; 0: none. One bound for all would leave no rare classes, of which
            it is never as certain.
        on_labelled: whether it learns from the teacher on sweeps with own labels too.
        fuse_m: side of the voxels of the world in which what the teacher says of still things is averaged over all
            sweeps of a drive (folders only); 0: each sweep by itself.
    """

    teacher: str
    logits_weight: float = 2.0
    lovasz_weight: float = 1.0
    features_weight: float = 0.0
    contrast_weight: float = 0.0
    temperature: float = 0.07
    ramp: float = 0.1
    pseudo_share: float = 0.0
    on_labelled: bool = False
    fuse_m: float = 0.0

    def __post_init__(self) -> None:
        require("teacher", self.teacher, bool(self.teacher), "a run's folder, or self")
        for name in ("logits_weight", "lovasz_weight", "features_weight", "contrast_weight"):
            require(name, getattr(self, name), getattr(self, name) >= 0, ">= 0")
        require("temperature", self.temperature, self.temperature > 0, "positive")
        require("ramp", self.ramp, 0 < self.ramp <= 1, "above 0 and at most 1")
        require("pseudo_share", self.pseudo_share, 0 <= self.pseudo_share <= 1, "in 0..1")
        require("fuse_m", self.fuse_m, self.fuse_m >= 0, ">= 0")
        weights = self.logits_weight, self.lovasz_weight, self.features_weight, self.contrast_weight, self.pseudo_share
        require("distill", weights, any(weights), "at least one weight, or pseudo_share, above 0")
        needs_more = self.teacher == SELF and (self.features_weight or self.contrast_weight)
        require("teacher", self.teacher, not needs_more, "a run's folder where features or contrast have a weight")


@dataclass(frozen=True)
class TrainingConfig(YamlConfig):
    """A training run.

    Attributes:
        name: of the model.
        run: folder of checkpoints and logs; a run that was interrupted resumes there.
        seed: of weights, crops and augmentation.
        precision: of PyTorch Lightning's trainer: ``32-true``, ``bf16-mixed``, or ``auto``, which takes bf16 where the
            processor computes in it.
        start: folder of a finished run with the same network, whose weights and inputs this one begins with; empty:
            from nothing.
        devices: GPUs of each machine, or processes where there is no GPU; 0 takes all GPUs, or one process.
        nodes: machines, each of which a launcher starts (docs/training.md).
        label_set: the classes to learn: ``drive13``, or a benchmark's own from its own data, ``semantickitti19`` or
            ``nuscenes16``.
        data: which sweeps.
        model: the network.
        augment: how strongly sweeps are changed.
        optimizer: length and steps.
        teacher: for a teacher, what it has beside the student's parts.
        distill: for a student, what it learns from a teacher.
    """

    name: str
    run: str
    seed: int
    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    precision: str = "auto"
    start: str = ""
    devices: int = 0
    nodes: int = 1
    label_set: str = LABELS
    teacher: TeacherConfig | None = None
    distill: DistillConfig | None = None

    def __post_init__(self) -> None:
        require("seed", self.seed, 0 <= self.seed < _SEEDS, f"in 0..{_SEEDS - 1}")
        require("precision", self.precision, self.precision in _PRECISIONS, ", ".join(_PRECISIONS))
        require("devices", self.devices, self.devices >= 0, ">= 0")
        require("nodes", self.nodes, self.nodes > 0, "positive")
        require("distill", self.distill, not (self.teacher and self.distill), "left out beside teacher")
        hidden, knows = self.data.held_out_sectors, self.teacher or self.distill
        require(
            "data.held_out_sectors", hidden, not (hidden and knows), "empty beside teacher and distill, who know them"
        )
        unlabelled = not self.distill and any(source.labels == "none" for source in self.data.train)
        require("data.train labels", "none", not unlabelled, "own or propagated without distill")
        open_to_it = any(source.labels != "own" for source in self.data.train)
        share = self.distill.pseudo_share if self.distill else 0
        require("distill.pseudo_share", share, open_to_it or not share, "0 where every source has its own labels")
        require("label_set", self.label_set, self.label_set in LABEL_SETS, f"one of {', '.join(LABEL_SETS)}")
        # Teachers, propagated labels and pasted objects know the classes of drive13 by name.
        propagated = any(source.labels == "propagated" for source in self.data.train)
        by_name = bool(self.teacher or self.distill or self.augment.paste or propagated)
        plain = self.label_set == LABELS or not by_name
        require("label_set", self.label_set, plain, f"{LABELS} with teacher, distill, paste or propagated labels")
        others = {source.dataset for source in (*self.data.train, *self.data.validation)}
        others -= {BENCHMARK_LABELS.get(self.label_set)}
        own = self.label_set == LABELS or not others
        require("label_set", self.label_set, own, f"{LABELS} with sources of {', '.join(sorted(others))}")
        fits = self.model.width % self.optimizer.crop_columns == 0
        require("optimizer.crop_columns", self.optimizer.crop_columns, fits, "a divisor of model.width")
