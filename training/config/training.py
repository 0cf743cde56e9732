"""Configuration of a training run."""

from __future__ import annotations

from typing import Annotated

from training.config.data import DataConfig
from training.config.label_sets import BENCHMARK_LABELS, LABEL_SETS, LABELS
from training.config.yaml_config import (
    Constraint,
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    YamlConfig,
    at_most,
    below,
    length,
    one_of,
    require,
    settings,
)
from training.worldgen.sensing.products import BEAM_TABLES
from xmodelkd_ros.core.projection import BY_BEAM, BY_ELEVATION

Seed = Annotated[Count, below(1 << 32)]
"""What random number generators accept."""
Precision = Annotated[str, one_of("auto", "32-true", "bf16-mixed")]
Columns = Annotated[PositiveInt, Constraint("a multiple of 64", lambda value: value % 64 == 0)]
Channels = Annotated[PositiveInt, at_most(4096)]
"""Upper limits keep a typing error or a damaged checkpoint from exhausting the memory."""
SELF = "self"
"""The teacher of a run that trains on its own pseudo-labels."""
NO_TEACHER = "none"
"""In place of a teacher, where an image network labels the points by itself."""
USUAL, ESTIMATED, BELIEVED = "usual", "estimated", "none"
"""What is known of the errors of an image network (``training/image_network/confusion.py``)."""


@settings
class ModelConfig:
    """Inputs and size of the student (:class:`training.models.student.Student`).

    Attributes:
        channels: input channels of a point; names from ``core/normalization.py``.
        rows: ``elevation``, or ``beams`` for models of any LiDAR (``ProjectionSpec.rows``).
        beams: beam table of the range image's rows: name of a LiDAR in ``training/worldgen/sensing/products.py``;
            empty: fitted to the sweeps of the first training source.
        width: columns of the range image.
        max_points: P, points per call of the exported network.
        widths: channels of the five levels.
        blocks: residual blocks of the levels 1 to 4.
        head_channels: features per pixel that the point head gathers.
        separable: use depthwise separable convolutions, except for the first.
    """

    channels: Annotated[tuple[str, ...], length(1, 16)]
    width: Annotated[Columns, at_most(1 << 16)]
    max_points: Annotated[PositiveInt, at_most(1 << 22)]
    widths: Annotated[tuple[Channels, ...], length(5, 5)]
    blocks: Annotated[tuple[Annotated[Count, at_most(64)], ...], length(4, 4)]
    head_channels: Channels
    beams: Annotated[str, one_of("", *BEAM_TABLES)] = ""
    separable: bool = False
    rows: Annotated[str, one_of(BY_ELEVATION, BY_BEAM)] = BY_ELEVATION


@settings
class AugmentConfig:
    """Strength of the augmentation (``training/data/augment.py``); 0 disables a transform.

    Attributes:
        scale: the world is scaled by 1 ± this.
        translate_m: standard deviation of the horizontal sensor displacement.
        height_m: standard deviation of the vertical sensor displacement.
        tilt_deg: standard deviation of roll and pitch.
        jitter_m: standard deviation of range noise.
        ground_error_m: standard deviation of an error of the estimated height above the ground, per sweep.
        intensity_gain: standard deviation of the natural logarithm of a gain per sweep.
        intensity_gamma: standard deviation of the natural logarithm of an exponent per sweep.
        beam_gain: maximum standard deviation of the natural logarithm of a gain per beam, in half of the sweeps.
        digitise: probability of an offset, saturation and coarse quantisation of the intensity.
        drop_intensity: probability that a sweep has no intensity.
        drop_points: maximum share of dropped points.
        drop_rows: maximum share of beams without returns.
        resample: probability that beams are removed from the LiDAR: all but every n-th, a random choice, or a band.
        fewer_columns: probability that the LiDAR fires more rarely.
        sector: probability that the field of view is a sector of 60 to 180 degrees.
        mix: probability that a sector of another sweep, of another dataset where there are several, replaces one of
            this sweep (PolarMix).
        paste: probability that objects of rare classes are pasted from another sweep.
    """

    scale: Fraction = 0.0
    translate_m: NonNegative = 0.0
    height_m: NonNegative = 0.0
    tilt_deg: NonNegative = 0.0
    jitter_m: NonNegative = 0.0
    ground_error_m: NonNegative = 0.0
    intensity_gain: NonNegative = 0.0
    intensity_gamma: NonNegative = 0.0
    beam_gain: NonNegative = 0.0
    digitise: Probability = 0.0
    drop_intensity: Probability = 0.0
    drop_points: Fraction = 0.0
    drop_rows: Fraction = 0.0
    resample: Probability = 0.0
    fewer_columns: Probability = 0.0
    sector: Probability = 0.0
    mix: Probability = 0.0
    paste: Probability = 0.0


@settings
class OptimizerConfig:
    """Length of the training, batch size and learning rate.

    Attributes:
        epochs: epochs of ``steps`` steps; each ends with validation and a checkpoint.
        steps: optimizer steps per epoch.
        batch: sweeps per step.
        crop_columns: width of the crops that sweeps are cut into.
        crops: crops of each sweep; 0: as many as fit.
        points: points per crop in the loss.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        ema_decay: decay of the moving average of the weights, which is validated and, unless ``keep_start`` mixes it
            with the weights at the start, exported.
        workers: processes that prepare crops; 0 prepares them in the training process.
    """

    epochs: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    crop_columns: Columns
    points: PositiveInt
    learning_rate: Positive
    weight_decay: NonNegative
    ema_decay: Fraction
    crops: Count = 0
    workers: Count = 0


@settings
class TeacherConfig:
    """Parts and losses of a camera teacher (``training/models/teacher.py``).

    Attributes:
        image_branch: folder of the image branch's run; empty for a teacher that reads classes, or a control without
            cameras.
        image_classes: the teacher reads the classes that an image network sees, in place of image features: tables
            (``config/image_classes/``) of the networks that are simulated in generated drives. It can read any network.
        image_network: folder of the image network of recorded drives with labels; empty if there are none.
        shuffled: control: give each camera images of other cameras and sweeps.
        width: channels of the fusion.
        lidar_weight: weight of the segmentation loss of the LiDAR head.
        image_weight: weight of the segmentation loss of the image head.
        contrast_weight: weight of the contrastive loss between LiDAR and image features.
        temperature: temperature of the contrastive loss.
        camera_dropout: probability that a camera is dropped in a training sample; all are dropped with half of it.
    """

    image_branch: str = ""
    image_classes: tuple[str, ...] = ()
    image_network: str = ""
    shuffled: bool = False
    width: Channels = 32
    # Untrained heads would spoil the uncertainty, which measures the agreement of all heads: weights are above 0.
    lidar_weight: Positive = 0.5
    image_weight: Positive = 0.2
    contrast_weight: NonNegative = 0.1
    temperature: Positive = 0.07
    camera_dropout: Fraction = 0.2

    def __post_init__(self) -> None:
        with_images = bool(self.image_branch or self.image_classes)
        require("shuffled", self.shuffled, with_images or not self.shuffled, "false without image_branch")
        both = bool(self.image_branch and self.image_classes)
        require("image_classes", self.image_classes, not both, "empty with image_branch")
        alone = bool(self.image_network) and not self.image_classes
        require("image_network", self.image_network, not alone, "empty without image_classes")


@settings
class DistillConfig:
    """Distillation of a teacher into a student, on sweeps without own labels.

    See ``training/distillation/supervision.py`` and ``training/losses/distillation.py``.

    Attributes:
        teacher: folder of the teacher's run, which may be a student's; ``self``: the averaged weights of the run
            itself after each epoch, for sweeps without labels; ``none``: only the image network.
        logits_weight: weight of the divergence between the teacher's and the student's class probabilities.
        lovasz_weight: weight of the Lovász-softmax loss on the teacher's classes, at points without a label.
        features_weight: weight of the distance between the teacher's and the student's features.
        contrast_weight: weight of the contrastive loss between the student's features and image features.
        temperature: temperature of the contrastive loss.
        ramp: share of the training over which these weights rise from 0; pseudo-labels have full weight throughout.
        pseudo_share: in the sources that the teacher labels, this share of the unlabelled points of each class becomes
            pseudo-labels, those with the lowest teacher uncertainty; 0: none. A common bound on the uncertainty would
            exclude rare classes.
        on_labelled: distil on sweeps with own labels too.
        image_network: folder of an image network: the teacher reads its classes (``teacher.image_classes``), or
            they teach the student themselves (``image_weight``).
        image_weight: weight of the loss on the classes that the image network sees, each of which stands for a set of
            ours (``training/losses/image_labels.py``); at points without a label.
        image_confusion: how often the image network is expected to say what of which class: ``usual`` (what networks of
            street scenes confuse), ``estimated`` (from the agreement with the student that training starts from), or
            ``none`` (it is believed).
        fuse_m: side of the world-frame voxels in which what teacher and image network say of static objects is
            averaged over all sweeps of a drive (stored drives with poses only); 0: no averaging.
    """

    teacher: Annotated[str, Constraint("a run's folder, or self", bool)]
    logits_weight: NonNegative = 2.0
    lovasz_weight: NonNegative = 1.0
    features_weight: NonNegative = 0.0
    contrast_weight: NonNegative = 0.0
    temperature: Positive = 0.07
    ramp: Annotated[Positive, at_most(1)] = 0.1
    pseudo_share: Probability = 0.0
    on_labelled: bool = False
    image_network: str = ""
    image_weight: NonNegative = 0.0
    image_confusion: Annotated[str, one_of(USUAL, ESTIMATED, BELIEVED)] = USUAL
    fuse_m: NonNegative = 0.0

    def __post_init__(self) -> None:
        weights = self.logits_weight, self.lovasz_weight, self.features_weight, self.contrast_weight, self.pseudo_share
        weights = (*weights, self.image_weight)
        require("distill", weights, any(weights), "at least one weight, or pseudo_share, above 0")
        needed = self.image_confusion != USUAL and not self.image_weight
        require("image_confusion", self.image_confusion, not needed, "usual without image_weight")
        no_network = bool(self.image_weight) and not self.image_network
        require("image_weight", self.image_weight, not no_network, "0 without image_network")
        alone = self.teacher == NO_TEACHER and any(weights[:-1])
        require("teacher", self.teacher, not alone, "a run's folder, or all weights but image_weight 0")
        needs_run = self.teacher == SELF and (self.features_weight or self.contrast_weight)
        require("teacher", self.teacher, not needs_run, "a run's folder if features_weight or contrast_weight is set")


@settings
class TrainingConfig(YamlConfig):
    """A training run.

    Attributes:
        name: name of the model.
        run: folder of checkpoints and logs; an interrupted run resumes there.
        seed: of weights, crops and augmentation.
        precision: precision of PyTorch Lightning's trainer: ``32-true``, ``bf16-mixed``, or ``auto``: bf16 where the
            processor supports it.
        start: folder of a finished run with the same network, whose weights and inputs this run starts from; empty:
            random weights.
        keep_start: share of the weights that a student starts from in its finished ones. It keeps what the first data
            taught where the new ones are few (robust fine-tuning, Wortsman et al., CVPR 2022). The weights are mixed
            after the last validation of the run.
        devices: GPUs per machine, or processes without a GPU; 0: all GPUs, or one process.
        nodes: machines, each started by a launcher (docs/training.md).
        label_set: the classes to learn: ``drive13``, or a benchmark's own classes for its own data,
            ``semantickitti19`` or ``nuscenes16``.
        data: training and validation sources.
        model: the network.
        augment: strength of the augmentation.
        optimizer: length and learning rate.
        teacher: parts of a teacher; None for a student.
        distill: distillation into a student; None without.
    """

    name: str
    run: str
    seed: Seed
    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    precision: Precision = "auto"
    start: str = ""
    keep_start: Fraction = 0.0
    devices: Count = 0
    nodes: PositiveInt = 1
    label_set: Annotated[str, one_of(*LABEL_SETS)] = LABELS
    teacher: TeacherConfig | None = None
    distill: DistillConfig | None = None

    def __post_init__(self) -> None:
        fits = not self.keep_start or (bool(self.start) and self.teacher is None)
        require("keep_start", self.keep_start, fits, "0 without start, and for teachers")
        labels = {source.labels for source in self.data.train}
        with_teacher = bool(self.teacher or self.distill)
        require("distill", self.distill, not (self.teacher and self.distill), "left out with teacher")
        sectors = self.data.held_out_sectors
        require("data.held_out_sectors", sectors, not (sectors and with_teacher), "empty with teacher or distill")
        require("data.train labels", "none", bool(self.distill) or "none" not in labels, "own or propagated")
        share = self.distill.pseudo_share if self.distill and not self.distill.on_labelled else 0
        require("distill.pseudo_share", share, labels != {"own"} or not share, "0 if every source has its own labels")
        # Teachers, propagated labels and pasted objects use class names of drive13.
        by_name = with_teacher or self.augment.paste or "propagated" in labels
        fits = self.label_set == LABELS or not by_name
        require("label_set", self.label_set, fits, f"{LABELS} with teacher, distill, paste or propagated labels")
        others = {source.dataset for source in (*self.data.train, *self.data.validation)}
        others -= {BENCHMARK_LABELS.get(self.label_set)}
        fits = self.label_set == LABELS or not others
        require("label_set", self.label_set, fits, f"{LABELS} with sources of {', '.join(sorted(others))}")
        columns = self.optimizer.crop_columns
        require("optimizer.crop_columns", columns, self.model.width % columns == 0, "a divisor of model.width")
        crops, fit = self.optimizer.crops, self.model.width // columns
        require("optimizer.crops", crops, crops <= fit, f"at most {fit}, as many as fit")
