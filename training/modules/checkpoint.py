"""What a training run leaves for those that go on from it: weights, the network's inputs, origins of its data."""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config.label_sets import LABELS
from training.config.training import TrainingConfig
from training.data.sweeps import InputSpec
from training.models.image_branch import ImageBranch
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.file_reading import content_errors, read_file
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import label_map

NAME = "last"
CHECKPOINT = f"{NAME}.ckpt"
_MOST_STEPS = 1 << 40
_RENAMED = {"deep": "teacher_feature_dim"}
"""Arguments of modules under the names of older checkpoints."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The last checkpoint of a run.

    Attributes:
        path: its file.
        config: the run's settings.
        arguments: of the training module.
        steps: optimizer steps taken.
        weights: the averaged weights of the training module.
        inputs: the network's inputs.
        origins: where its training data come from.
        branch: through which a teacher looks at images; None for others.
    """

    path: Path
    config: TrainingConfig
    arguments: dict[str, Any]
    steps: int
    weights: dict[str, Tensor]
    inputs: InputSpec
    origins: tuple[DataSource, ...]
    branch: ImageBranch | None

    def write(self, folder: Path) -> None:
        """Write what it takes to go on from here, without the optimizer; weights of layers in 16 bits."""
        data = {"hyper_parameters": self.arguments, "global_step": self.steps, "state_dict": _halved(self.weights)}
        data |= extras(self.inputs, self.origins, self.branch)
        if self.branch:
            data["branch"]["weights"] = _halved(data["branch"]["weights"])
        save(data, folder / CHECKPOINT)

    def load_into(self, module: nn.Module, part: str = "", target: str = "") -> None:
        """Give a training module these weights.

        Args:
            module: the training module.
            part: name of the part of this run's module whose weights are wanted; empty for all.
            target: name of the part that gets them, if it has another one.

        Raises:
            ConfigError: it has other weights.
        """
        start = f"{part}." if part else ""
        weights = {name[len(start) :]: value for name, value in self.weights.items() if name.startswith(start)}
        try:
            module.get_submodule(target or part).load_state_dict(weights)
        except (RuntimeError, AttributeError) as error:
            raise unusable(self.path) from error


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, which is there only when it is whole, in the place of an older one.

    Raises:
        OSError: it cannot be written.
    """
    whole = io.BytesIO()  # onto a full disk PyTorch would write with errors of its own
    torch.save(data, whole)
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(whole.getbuffer())


def extras(inputs: InputSpec, origins: Sequence[DataSource], branch: ImageBranch | None) -> dict[str, Any]:
    """What a checkpoint holds beside what PyTorch Lightning puts into it; arguments as in :class:`Checkpoint`."""
    return {"inputs": inputs.to_dict(), "origins": [asdict(origin) for origin in origins], "branch": _sight(branch)}


def read_checkpoint(run: Path) -> Checkpoint:
    """Read the last checkpoint of a run.

    Raises:
        ConfigError: the folder holds no checkpoint, or a damaged one.
    """
    path, data = run / CHECKPOINT, _loaded(run)
    with _usable(path):
        return Checkpoint(
            path=path,
            config=TrainingConfig.from_dict(data["hyper_parameters"]["config"]),
            arguments={_RENAMED.get(name, name): value for name, value in data["hyper_parameters"].items()},
            steps=_count(data["global_step"]),
            weights=_floats(data["state_dict"]),
            inputs=_inputs(data),
            origins=_origins(data),
            branch=_branch(data["branch"]),
        )


def read_weights(run: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the averaged weights of a run's last checkpoint, of whatever network.

    Raises:
        ConfigError: the folder holds no checkpoint, or a damaged one.
    """
    data = _loaded(run)
    with _usable(run / CHECKPOINT):
        return dict(data["hyper_parameters"]["config"]), _checked(data["state_dict"])


def read_origins(run: Path) -> tuple[DataSource, ...]:
    """Where the training data of a run come from, of whatever network; errors as in :func:`read_weights`."""
    data = _loaded(run)
    with _usable(run / CHECKPOINT):
        return _origins(data)


def check_finished(run: Path, what: str) -> None:
    """Check that a run took all its steps, of whatever network.

    Args:
        run: its folder.
        what: it is wanted for.

    Raises:
        ConfigError: it did not; or as :func:`read_weights`.
    """
    data = _loaded(run)
    with _usable(run / CHECKPOINT):
        length = data["hyper_parameters"]["config"]["optimizer"]
        finished = _count(data["global_step"]) >= _count(length["epochs"]) * _count(length["steps"])
    if not finished:
        raise ConfigError(f"{what} is {run}, a run that is not finished; its own command goes on with it")


def read_steps(run: Path) -> int:
    """Optimizer steps that a run has taken, of whatever network; errors as in :func:`read_weights`."""
    data = _loaded(run)
    with _usable(run / CHECKPOINT):
        return _count(data["global_step"])


def _sight(branch: ImageBranch | None) -> dict[str, Any] | None:
    return {"features": branch.features, "weights": branch.state_dict()} if branch else None


def _halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics and biases are few, and may leave the range of 16 bits."""
    return {name: value.half() if value.ndim > 1 else value for name, value in weights.items()}


def _branch(sight: Mapping[str, Any] | None) -> ImageBranch | None:
    if sight is None:
        return None
    classes, weights = len(label_map(LABELS)), _checked(sight["weights"])
    if weights["classify.weight"].shape != (classes, _count(sight["features"])):  # before room is made for as many
        raise ValueError("the image branch has another size")
    branch = ImageBranch(sight["features"], classes)
    branch.load_state_dict(weights)
    return branch.eval()


def _loaded(run: Path) -> Any:
    path = run / CHECKPOINT
    content = read_file(path, f"{run} holds no {CHECKPOINT}: name a run, or train one with 'python -m training.train'")
    with content_errors(path, lambda error: ConfigError(f"cannot read checkpoint {path}; {_instead(run)}")):
        _check_room(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _instead(run: Path) -> str:
    """What to do about a damaged checkpoint; beside it in a model folder are networks, which may well be whole."""
    return f"fetch or export {run} again" if (run / "model.json").exists() else f"remove {run} and train again"


def _usable(path: Path) -> AbstractContextManager[None]:
    """Whatever a checkpoint holds instead of what it should: it is the wrong one."""
    return content_errors(path, lambda error: unusable(path))


def _check_room(content: bytes) -> None:
    """Raise a ValueError for an archive that makes PyTorch make room for more than the file holds."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("it is no checkpoint of PyTorch, or larger than its file")
        for entry in entries:
            if entry.filename.endswith(".pkl") and _asks_for_room(archive.read(entry)):
                raise ValueError("it asks for bytes without saying what they are")


def _asks_for_room(pickled: bytes) -> bool:
    """Whether it makes a bytearray, which PyTorch allows, of whatever size, and no checkpoint here holds."""
    found = (argument for code, argument, _ in pickletools.genops(pickled) if code.name in ("GLOBAL", "INST"))
    return any(str(argument).endswith(" bytearray") for argument in found)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_STEPS:
        raise TypeError(f"{quoted(value)} is no count")
    return value


def _checked(weights: Any) -> dict[str, Tensor]:
    """Weights that are there in full: a tensor may say that it is larger than what it keeps."""
    for name, value in weights.items():
        plain = isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided
        if not plain or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
            raise TypeError(f"{quoted(name)} is no weight")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{quoted(name)} is not there in full")
    return dict(weights)


def _floats(weights: Any) -> dict[str, Tensor]:
    return {name: value.float() if value.ndim > 1 else value for name, value in _checked(weights).items()}


def _origins(data: Any) -> tuple[DataSource, ...]:
    origins = tuple(DataSource(**origin) for origin in data["origins"])
    if not all(isinstance(text, str) for origin in origins for text in asdict(origin).values()):
        raise TypeError("an origin is no text")
    return origins


def _inputs(data: Any) -> InputSpec:
    """The inputs of the run's network; those whose size would be another's are refused."""
    inputs, model = InputSpec.from_dict(data["inputs"]), data["hyper_parameters"]["config"]["model"]
    names = tuple(channel.name for channel in inputs.channels)
    if names != tuple(model["channels"]) or inputs.projection.width != model["width"]:
        raise ValueError("its inputs are not those of its settings")
    low, high = (float(value) for value in inputs.intensity_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("its range of intensity is none")
    return inputs


def unusable(path: Path) -> ConfigError:
    """The error for a checkpoint that holds something else than was asked for."""
    return ConfigError(f"{path} holds another network, or one of another version; name the run that is meant")
