"""``model.json``: specification of a model's networks, inputs, outputs and labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xmodelkd_ros.core.errors import LabelError, ModelError, listed, quoted
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.normalization import HAS_INTENSITY, ChannelSpec
from xmodelkd_ros.core.onnx_external_data import has_external_data
from xmodelkd_ros.core.projection import BY_ELEVATION, ProjectionSpec
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.training_statistics import TrainingStatistics
from xmodelkd_ros.core.visibility import MAX_VIEWS

SCHEMA = 1
CLASS_TEACHER = "class_teacher"
"""Role of a teacher that reads the classes which an image network sees: a checkpoint for training, no network."""
_FILE_NAME = "model.json"
_AZIMUTH_RANGE_DEG = [180.0, -180.0]
_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and numpy dtype name of a network input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class NetworkFile:
    """A network file beside ``model.json`` and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ImageBranchSpec:
    """A teacher's network for camera images, run once per image.

    Attributes:
        files: network file of each precision, including ``fp32``.
        picture: input, (1, 3, height, width) float32: the whole image resized, RGB, 0 to 255.
        features: output, (1, F, h, w) float32.
        cameras: maximum number of images per sweep.
    """

    files: Mapping[str, NetworkFile]
    picture: TensorSpec
    features: TensorSpec
    cameras: int

    def __post_init__(self) -> None:
        _require("image_branch.files", sorted(self.files), "fp32" in self.files, "a file for fp32")
        _require("image_branch.cameras", self.cameras, self.cameras > 0, "positive")
        for tensor in (self.picture, self.features):
            is_image = len(tensor.shape) == 4 and tensor.dtype == "float32" and tensor.shape[0] == 1
            _require(f"image_branch.{tensor.name}", tensor, is_image, "one float32 image")

    def check_network(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Compare with the tensors of the network file; errors as in :meth:`ModelSpec.check_network`."""
        _check_tensors("image_branch.inputs", inputs, (self.picture,))
        _check_tensors("image_branch.outputs", outputs, (self.features,))


@dataclass(frozen=True)
class DataSource:
    """A training dataset, its licence and the attribution that the licence requires (empty if none)."""

    name: str
    license: str
    attribution: str


@dataclass(frozen=True)
class ModelSpec:
    """Everything that the runtime needs to run a model.

    Attributes:
        name: name of the model in reports and diagnostics.
        role: ``student``, or ``teacher``, which also takes images.
        files: network file of each precision, including ``fp32``.
        inputs: ``image`` (1, K + 1, H, W) float32, ``points`` (P, K) float32, ``pixel`` (P,) int32. A teacher also
            has ``maps`` (1, F, cameras * h, w) float32, the feature maps of the images stacked vertically, ``places``
            (2, H, W, 2) float32, the sampling grid: where each range-image pixel's nearest point appears in them, and
            ``seen`` (2, H, W) float32, the mask of valid samples.
        outputs: ``logits`` (C, P) float32.
        projection: the range image.
        channels: the K channels of a point; the range image has one more, a mask (1 = occupied).
        intensity_range: intensity of dark and of bright surfaces in the scale of the training data.
        labels: the label set, in the order of the logits.
        temperature: calibration; logits are divided by it before the softmax (Guo et al. 2017).
        training_data: the training datasets.
        image_branch: the network for images; teachers only.
        metrics: measured scores, with the commands that produced them.
        statistics: of the sweeps that it was trained and validated on, to recognise other drives; None if unknown.
    """

    name: str
    role: str
    files: Mapping[str, NetworkFile]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    projection: ProjectionSpec
    channels: tuple[ChannelSpec, ...]
    intensity_range: tuple[float, float]
    labels: LabelMap
    temperature: float
    training_data: tuple[DataSource, ...]
    image_branch: ImageBranchSpec | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    statistics: TrainingStatistics | None = None

    def __post_init__(self) -> None:
        _require("role", self.role, self.role in ("student", "teacher"), "'student' or 'teacher'")
        matches_role = (self.image_branch is not None) == (self.role == "teacher")
        _require("image_branch", self.image_branch, matches_role, "set for a teacher and absent for a student")
        _require("files", sorted(self.files), "fp32" in self.files, "a file for fp32")
        _require("temperature", self.temperature, 1e-3 <= self.temperature <= 1e3, "between 0.001 and 1000")
        low, high = self.intensity_range
        _require(
            "intensity_range", self.intensity_range, -1e9 <= low < high <= 1e9, "two ascending numbers within +-1e9"
        )
        _require("training_data", (), bool(self.training_data), "at least one dataset with licence and attribution")
        ids = [c.id for c in self.labels.classes]
        _require("labels", ids, ids == list(range(len(ids))), "ids 0, 1, 2, ... in the order of the logits")
        self._check_statistics()
        _check_tensors("inputs", self.inputs, self._expected_inputs())
        _check_tensors("outputs", self.outputs, self._expected_outputs())

    @property
    def cameras(self) -> int:
        """Maximum number of images per sweep; 0 for a student."""
        return 0 if self.image_branch is None else self.image_branch.cameras

    @property
    def uses_intensity(self) -> bool:
        """Whether intensity is an input of the model."""
        return any("intensity" in channel.name for channel in self.channels)

    @property
    def needs_intensity(self) -> bool:
        """Whether the model requires clouds with intensity: it was not trained without."""
        return self.uses_intensity and not any(channel.name == HAS_INTENSITY for channel in self.channels)

    @property
    def is_relative(self) -> bool:
        """Whether intensity counts relative to that of the ground only, so that its scale does not matter."""
        names = {channel.name for channel in self.channels if "intensity" in channel.name}
        return bool(names) and names <= {"relative_intensity", HAS_INTENSITY}

    @property
    def max_points(self) -> int:
        """P: points labelled by one run of the network; larger clouds take several runs."""
        points = next((t for t in self.inputs if t.name == "points"), None)
        return points.shape[0] if points is not None and points.shape else 0

    def _check_statistics(self) -> None:
        names = {"fill", "entropy", *(f"input.{channel.name}" for channel in self.channels)}
        names |= {f"share.{label.name}" for label in self.labels.classes}
        for name in self.statistics.quantiles if self.statistics else ():
            _require("statistics.quantiles", name, name in names, "a statistic of this model's channels and classes")

    def _expected_inputs(self) -> tuple[TensorSpec, ...]:
        count, size = len(self.channels), self.max_points
        pixels = (self.projection.height, self.projection.width)
        student = (
            TensorSpec("image", (1, count + 1, *pixels), "float32"),
            TensorSpec("points", (size, count), "float32"),
            TensorSpec("pixel", (size,), "int32"),
        )
        if self.image_branch is None:
            return student
        _, features, height, width = self.image_branch.features.shape
        return (
            *student,
            TensorSpec("maps", (1, features, self.image_branch.cameras * height, width), "float32"),
            TensorSpec("places", (MAX_VIEWS, *pixels, 2), "float32"),
            TensorSpec("seen", (MAX_VIEWS, *pixels), "float32"),
        )

    def _expected_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("logits", (len(self.labels), self.max_points), "float32"),)

    def check_network(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Compare with the tensors of the network file.

        Raises:
            ModelError: an input or output differs; the message names the first.
        """
        _check_tensors("inputs", inputs, self.inputs)
        _check_tensors("outputs", outputs, self.outputs)

    def network_path(self, folder: Path, precision: str, image_branch: bool = False) -> Path:
        """Path of a network file, after verifying its SHA-256 against ``model.json``.

        Raises:
            ModelError: no such precision, the file is missing, its SHA-256 differs, or it refers to external data.
        """
        where, files = "files", self.files
        if image_branch:
            assert self.image_branch is not None
            where, files = "image_branch.files", self.image_branch.files
        if precision not in files:
            raise ModelError(f"model {folder} has no {precision} network; it has {listed(files)}")
        return _checked_path(folder, files[precision], f"{where}.{precision}")

    def write(self, folder: Path) -> None:
        """Write ``model.json`` into the folder (done by ``training.export`` only)."""
        data = {"schema": SCHEMA, **asdict(self)}
        data["labels"] = self.labels.to_dict()
        data["projection"]["azimuth_range_deg"] = _AZIMUTH_RANGE_DEG
        (folder / _FILE_NAME).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelSpec:
        """Read and validate ``model.json``.

        Raises:
            ModelError: a field is missing or wrong; the message names it.
        """
        path = folder / _FILE_NAME
        try:
            data = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {path}: {error}; export the model again") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ModelError(f"{path}: schema is not {SCHEMA}; export the model again with this version")
        try:
            return _from_dict(data)
        except (ModelError, LabelError) as error:
            raise ModelError(f"{path}: {error}") from error


def _checked_path(folder: Path, entry: NetworkFile, where: str) -> Path:
    path = folder / entry.file
    # Checked by name, not by resolved path: colcon's --symlink-install makes a link of every file.
    if Path(entry.file).name != entry.file or entry.file in ("", ".."):
        raise ModelError(f"{folder}: {where} '{entry.file}' leaves the model folder")
    try:
        network = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", error)
        raise ModelError(f"cannot read network file {path}: {reason}; export the model again") from error
    actual = hashlib.sha256(network).hexdigest()
    if actual != entry.sha256:
        raise ModelError(
            f"{path} is not the file that model.json describes: {where}.sha256 is "
            f"{entry.sha256[:12]}..., the file's is {actual[:12]}...; export the model again"
        )
    if has_external_data(network):
        raise ModelError(f"{path} has weights in external files, which {where}.sha256 does not cover; export it again")
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _from_dict(data: Mapping[str, Any]) -> ModelSpec:
    if data.get("role") == CLASS_TEACHER:
        raise ModelError(
            "a teacher of classes labels nothing by itself; it teaches a student (python -m training.adapt --images-by)"
        )
    azimuths = _field(data, "projection", lambda p: p["azimuth_range_deg"])
    _require("projection.azimuth_range_deg", azimuths, azimuths == _AZIMUTH_RANGE_DEG, str(_AZIMUTH_RANGE_DEG))
    return ModelSpec(
        name=_field(data, "name", str),
        role=_field(data, "role", str),
        files=_field(data, "files", _files),
        inputs=_field(data, "inputs", _tensors),
        outputs=_field(data, "outputs", _tensors),
        projection=_field(data, "projection", _projection),
        channels=_field(
            data, "channels", lambda v: tuple(ChannelSpec(c["name"], float(c["mean"]), float(c["std"])) for c in v)
        ),
        intensity_range=_field(data, "intensity_range", lambda v: (float(v[0]), float(v[1]))),
        labels=_field(data, "labels", LabelMap.from_dict),
        temperature=_field(data, "temperature", float),
        training_data=_field(
            data,
            "training_data",
            lambda v: tuple(DataSource(str(d["name"]), str(d["license"]), str(d["attribution"])) for d in v),
        ),
        image_branch=_field(data, "image_branch", _image_branch) if data.get("image_branch") else None,
        metrics=_field(data, "metrics", dict),
        statistics=_field(data, "statistics", _statistics) if data.get("statistics") else None,
    )


def _field(data: Mapping[str, Any], name: str, read: Callable[[Any], _T]) -> _T:
    if name not in data:
        raise ModelError(f"{name} is missing")
    try:
        return read(data[name])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelError(f"{name} cannot be used: {quoted(error)}") from error


def _tensors(rows: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(str(r["name"]), tuple(int(n) for n in r["shape"]), str(r["dtype"])) for r in rows)


def _files(rows: Mapping[str, Any]) -> dict[str, NetworkFile]:
    return {str(precision): NetworkFile(str(f["file"]), str(f["sha256"])) for precision, f in rows.items()}


def _image_branch(data: Mapping[str, Any]) -> ImageBranchSpec:
    picture, features = _tensors([data["picture"], data["features"]])
    return ImageBranchSpec(_files(data["files"]), picture, features, int(data["cameras"]))


def _statistics(data: Mapping[str, Any]) -> TrainingStatistics:
    quantiles = {}
    for name, values in data["quantiles"].items():
        low, median, high = (float(value) for value in values)
        quantiles[str(name)] = (low, median, high)
    return TrainingStatistics(int(data["sweeps"]), quantiles, str(data["command"]))


def _projection(data: Mapping[str, Any]) -> ProjectionSpec:
    rows = tuple(float(v) for v in data["beam_elevations_deg"])
    return ProjectionSpec(rows, int(data["width"]), float(data["min_range_m"]), str(data.get("rows", BY_ELEVATION)))


def _require(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise ModelError(f"{name} is {quoted(value)}, but must be {expected}")


def _check_tensors(what: str, actual: Sequence[TensorSpec], expected: Sequence[TensorSpec]) -> None:
    by_name = {t.name: t for t in actual}
    for tensor in expected:
        if by_name.get(tensor.name) != tensor:
            raise ModelError(f"{what}: expected {tensor}, found {by_name.get(tensor.name, sorted(by_name))}")
    extra = set(by_name) - {t.name for t in expected}
    if extra:
        raise ModelError(f"{what}: {sorted(extra)} is not expected")
