"""What a training run leaves for those that go on from it: weights, the network's inputs, origins of its data."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config import TrainingConfig
from training.data.sweeps import InputSpec
from training.label_sets import LABELS
from training.models.image_branch import ImageBranch
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.whole_file import whole_file
from xmodelkd_ros.resources import label_map

NAME = "last"
CHECKPOINT = f"{NAME}.ckpt"


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
        except RuntimeError as error:
            raise _unusable(self.path) from error


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, which is there only when it is whole, in the place of an older one.

    Raises:
        OSError: it cannot be written.
    """
    whole = io.BytesIO()  # onto a full disk PyTorch would write with errors of its own
    torch.save(data, whole)
    with whole_file(path) as unfinished:
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
    try:
        return Checkpoint(
            path=path,
            config=TrainingConfig.from_dict(data["hyper_parameters"]["config"]),
            arguments=data["hyper_parameters"],
            steps=data["global_step"],
            weights={name: value.float() if value.ndim > 1 else value for name, value in data["state_dict"].items()},
            inputs=InputSpec.from_dict(data["inputs"]),
            origins=tuple(DataSource(**origin) for origin in data["origins"]),
            branch=_branch(data["branch"]),
        )
    except (KeyError, TypeError, RuntimeError, ConfigError) as error:
        raise _unusable(path) from error


def read_weights(run: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the averaged weights of a run's last checkpoint, of whatever network.

    Raises:
        ConfigError: the folder holds no checkpoint, or a damaged one.
    """
    data = _loaded(run)
    try:
        return data["hyper_parameters"]["config"], data["state_dict"]
    except (KeyError, TypeError) as error:
        raise _unusable(run / CHECKPOINT) from error


def read_origins(run: Path) -> tuple[DataSource, ...]:
    """Where the training data of a run come from, of whatever network; errors as in :func:`read_weights`."""
    data = _loaded(run)
    try:
        return tuple(DataSource(**origin) for origin in data["origins"])
    except (KeyError, TypeError) as error:
        raise _unusable(run / CHECKPOINT) from error


def check_finished(run: Path, what: str) -> None:
    """Check that a run took all its steps, of whatever network.

    Args:
        run: its folder.
        what: it is wanted for.

    Raises:
        ConfigError: it did not; or as :func:`read_weights`.
    """
    data = _loaded(run)
    try:
        length = data["hyper_parameters"]["config"]["optimizer"]
        finished = data["global_step"] >= length["epochs"] * length["steps"]
    except (KeyError, TypeError) as error:
        raise _unusable(run / CHECKPOINT) from error
    if not finished:
        raise ConfigError(f"{what} is {run}, a run that is not finished; its own command goes on with it")


def read_steps(run: Path) -> int:
    """Optimizer steps that a run has taken, of whatever network; errors as in :func:`read_weights`."""
    data = _loaded(run)
    try:
        return int(data["global_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(run / CHECKPOINT) from error


def _sight(branch: ImageBranch | None) -> dict[str, Any] | None:
    return {"features": branch.features, "weights": branch.state_dict()} if branch else None


def _halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics and biases are few, and may leave the range of 16 bits."""
    return {name: value.half() if value.ndim > 1 else value for name, value in weights.items()}


def _branch(sight: Mapping[str, Any] | None) -> ImageBranch | None:
    if sight is None:
        return None
    branch = ImageBranch(sight["features"], len(label_map(LABELS)))
    branch.load_state_dict(sight["weights"])
    return branch.eval()


def _loaded(run: Path) -> Any:
    path = run / CHECKPOINT
    if not path.is_file():
        raise ConfigError(f"{run} holds no {CHECKPOINT}: name a run, or train one with 'python -m training.train'")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(f"cannot read checkpoint {path}; remove {run} and train again") from error


def _unusable(path: Path) -> ConfigError:
    return ConfigError(f"{path} holds another network, or one of another version; name the run that is meant")
