"""Checkpoints of training runs: weights, settings, network inputs and the origins of the training data."""

from __future__ import annotations

import io
import math
import os
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config.label_sets import LABELS
from training.config.training import TrainingConfig
from training.data.sweeps import InputSpec
from training.image_network.classes import ImageClasses
from training.image_network.reader import ImageClassReader, ImageReader
from training.models.image_branch import ImageBranch
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.file_reading import content_errors, read_file
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import find_model, label_map, shipped_models, user_path

NAME = "last"
CHECKPOINT = f"{NAME}.ckpt"
_MAX_STEPS = 1 << 40
_RENAMED_ARGUMENTS = {"deep": "teacher_feature_dim"}
"""Module arguments that older checkpoints hold under another name."""
_RENAMED_LAYERS = {
    "teacher.look.": "teacher.image_proj.",
    "teacher.join.": "teacher.fusion.",
    "teacher.by_sight.": "teacher.image_head.",
    "head.table.": "head.pixel_proj.",
    "head.difference.": "head.offset_proj.",
    "distillation.translate.": "distillation.feature_proj.",
}
"""Layers that older checkpoints hold under another name."""


@dataclass(frozen=True, eq=False)
class RunState:
    """The last checkpoint of a run, as far as networks of all kinds have it in common.

    Attributes:
        path: its file.
        settings: the run's configuration.
        steps: optimizer steps taken.
        weights: the averaged weights of the training module.
        origins: origins of its training data.
    """

    path: Path
    settings: dict[str, Any]
    steps: int
    weights: dict[str, Tensor]
    origins: tuple[DataSource, ...]

    def check_finished(self, key: str) -> None:
        """Check that the run took all its steps; the error names it by its setting ``key``.

        Raises:
            ConfigError: it did not.
        """
        with _usable(self.path):
            length = self.settings["optimizer"]
            finished = self.steps >= _count(length["epochs"]) * _count(length["steps"])
        if not finished:
            raise ConfigError(f"{key} is {self.path.parent}, an unfinished run; its own command resumes it")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The last checkpoint of a run of a student or teacher.

    Attributes:
        state: the part that all networks have.
        config: the run's settings.
        arguments: of the training module.
        inputs: the network's inputs.
        reader: what makes a teacher's features from images; None for other networks.
    """

    state: RunState
    config: TrainingConfig
    arguments: dict[str, Any]
    inputs: InputSpec
    reader: ImageReader | None

    @property
    def path(self) -> Path:
        """Its file."""
        return self.state.path

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged weights of the training module, in fp32."""
        return self.state.weights

    @property
    def origins(self) -> tuple[DataSource, ...]:
        """Origins of the training data."""
        return self.state.origins

    def write(self, folder: Path) -> None:
        """Write the checkpoint without the optimizer's state, with the weights of layers in 16 bits."""
        data = {
            "hyper_parameters": self.arguments,
            "global_step": self.state.steps,
            "state_dict": _to_half(self.weights),
            **extras(self.inputs, self.origins, self.reader),
        }
        if isinstance(self.reader, ImageBranch):
            data["branch"]["weights"] = _to_half(data["branch"]["weights"])
        save(data, folder / CHECKPOINT)

    def load_into(self, module: nn.Module, part: str = "", target: str = "") -> None:
        """Load the weights into a training module.

        Args:
            module: the training module.
            part: the submodule of this run's module to take the weights of; empty for all.
            target: the submodule to load them into, if its name differs.

        Raises:
            ConfigError: the module has other weights.
        """
        start = f"{part}." if part else ""
        weights = {name[len(start) :]: value for name, value in self.weights.items() if name.startswith(start)}
        try:
            module.get_submodule(target or part).load_state_dict(weights)
        except (RuntimeError, AttributeError) as error:
            raise unusable(self.path) from error


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()  # PyTorch writing to a full disk directly would raise errors of its own
    torch.save(data, content)
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def extras(inputs: InputSpec, origins: Sequence[DataSource], reader: ImageReader | None) -> dict[str, Any]:
    """The entries of a checkpoint that PyTorch Lightning does not write; arguments as in :class:`Checkpoint`."""
    entries = {"inputs": inputs.to_dict(), "origins": [asdict(origin) for origin in origins]}
    if isinstance(reader, ImageClassReader):
        return {**entries, "branch": None, "image_classes": [table.to_dict() for table in reader.tables]}
    return {**entries, "branch": {"features": reader.features, "weights": reader.state_dict()} if reader else None}


def read_checkpoint(run: Path) -> Checkpoint:
    """Read the last checkpoint of a run of a student or teacher.

    Raises:
        ConfigError: the folder holds no checkpoint, or a damaged one.
    """
    data = _loaded(run)
    state = _run_state(run, data)
    with _usable(state.path):
        arguments = {_RENAMED_ARGUMENTS.get(name, name): value for name, value in data["hyper_parameters"].items()}
        return Checkpoint(
            state=replace(state, weights=_to_float(state.weights)),
            config=TrainingConfig.from_dict(state.settings),
            arguments=arguments,
            inputs=_inputs(data),
            reader=_reader(data),
        )


def read_run(run: Path) -> RunState:
    """Read the last checkpoint of a run of any network.

    Raises:
        ConfigError: the folder holds no checkpoint, or a damaged one.
    """
    return _run_state(run, _loaded(run))


def read_steps(run: Path) -> int:
    """The number of optimizer steps that a run has taken; errors as in :func:`read_run`."""
    data = _loaded(run)
    with _usable(run / CHECKPOINT):
        return _count(data["global_step"])


def with_current_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of a checkpoint, with layers renamed since it was written under their current names."""
    return {_current_name(name): value for name, value in weights.items()}


def _current_name(name: Any) -> Any:
    if isinstance(name, str):  # a damaged checkpoint may have other keys
        for old, new in _RENAMED_LAYERS.items():
            name = name.replace(old, new)
    return name


def _run_state(run: Path, data: Any) -> RunState:
    path = run / CHECKPOINT
    with _usable(path):
        return RunState(
            path=path,
            settings=dict(data["hyper_parameters"]["config"]),
            steps=_count(data["global_step"]),
            weights=with_current_names(_checked(data["state_dict"])),
            origins=_origins(data),
        )


def _to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of layers in 16 bits; statistics and biases stay in 32: they are small, and may exceed fp16's range."""
    return {name: value.half() if value.ndim > 1 else value for name, value in weights.items()}


def _to_float(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.ndim > 1 else value for name, value in weights.items()}


def _reader(data: Mapping[str, Any]) -> ImageReader | None:
    if data.get("image_classes") is not None:
        return ImageClassReader([ImageClasses.from_dict(table) for table in data["image_classes"]])
    stored = data["branch"]
    if stored is None:
        return None
    classes, weights = len(label_map(LABELS)), _checked(stored["weights"])
    if weights["classify.weight"].shape != (classes, _count(stored["features"])):  # before memory is allocated
        raise ValueError("the image branch has another size")
    branch = ImageBranch(stored["features"], classes)
    branch.load_state_dict(weights)
    return branch.eval()


def _loaded(run: Path) -> Any:
    path = run / CHECKPOINT
    shipped = f"such as {find_model(run.name)}, " if str(run) in shipped_models() and not run.is_dir() else ""
    advice = f"name a run, {shipped}or train one with 'python -m training.train'"
    content = read_file(path, f"{run} holds no {CHECKPOINT}: {advice}")
    with content_errors(path, lambda error: ConfigError(f"cannot read checkpoint {path}; {_instead(run)}")):
        _check_room(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _instead(run: Path) -> str:
    """Advice for a damaged checkpoint; a model folder also holds networks, which may be intact."""
    return f"fetch or export {run} again" if (run / "model.json").exists() else f"remove {run} and train again"


def _usable(path: Path) -> AbstractContextManager[None]:
    """Report any unexpected content of a checkpoint as that of another network."""
    return content_errors(path, lambda error: unusable(path))


def _check_room(content: bytes) -> None:
    """Raise a ValueError for an archive that would make PyTorch allocate more memory than the file is large."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("it is no checkpoint of PyTorch, or larger than its file")
        for entry in entries:
            if entry.filename.endswith(".pkl") and _allocates_bytes(archive.read(entry)):
                raise ValueError("it allocates bytes without their content")


def _allocates_bytes(pickled: bytes) -> bool:
    """Whether it creates a bytearray; PyTorch allows one of any size, and no valid checkpoint holds one."""
    names = (argument for code, argument, _ in pickletools.genops(pickled) if code.name in ("GLOBAL", "INST"))
    return any(str(argument).endswith(" bytearray") for argument in names)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_STEPS:
        raise TypeError(f"{quoted(value)} is not a count")
    return value


def _checked(weights: Any) -> dict[str, Tensor]:
    """Check that all weights are plain tensors whose storage holds all their values."""
    for name, value in weights.items():
        plain = isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided
        if not plain or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
            raise TypeError(f"{quoted(name)} is not a weight")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{quoted(name)} is larger than its storage")
    return dict(weights)


def _origins(data: Any) -> tuple[DataSource, ...]:
    origins = tuple(DataSource(**origin) for origin in data["origins"])
    if not all(isinstance(text, str) for origin in origins for text in asdict(origin).values()):
        raise TypeError("an origin is not text")
    return origins


def _inputs(data: Any) -> InputSpec:
    """The inputs of the run's network, checked against its settings."""
    inputs, model = InputSpec.from_dict(data["inputs"]), data["hyper_parameters"]["config"]["model"]
    names = tuple(channel.name for channel in inputs.channels)
    if names != tuple(model["channels"]) or inputs.projection.width != model["width"]:
        raise ValueError("its inputs do not match its settings")
    low, high = (float(value) for value in inputs.intensity_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("its intensity range is empty")
    return inputs


def model_or_run(name_or_path: str) -> Path:
    """The folder of a run, or of a model given by its path or by the name of a shipped one.

    Raises:
        ModelError: there is no such folder or model.
    """
    folder = user_path(name_or_path)
    return folder if os.path.isdir(folder) else find_model(name_or_path)


def unusable(path: Path) -> ConfigError:
    """The error for a checkpoint of another network."""
    return ConfigError(f"{path} holds another network, or one of another version; name the run that is meant")
