"""Training checkpoints, mutated as bytes and by content: read, used for prediction, and resumed from."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Limits, Target, ensure, run_all
from test.guards import MemoryBomb, Trap
from test.training.folders import write_pandaset
from training.config.training import TrainingConfig
from training.data.sweeps import Sweep
from training.modules.checkpoint import CHECKPOINT, read_checkpoint, read_run, read_steps
from training.modules.image_module import image_branch_of
from training.modules.point_modules import TeacherModule
from training.predict.predictor import predict_labels, predictor_of
from training.runs import trainer as runs
from training.train import train
from xmodelkd_ros.core.atomic_write import disk_errors
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector
from xmodelkd_ros.resources import find_config

_TINY = (
    *("model.widths=[8, 8, 8, 8, 8]", "model.blocks=[0, 0, 0, 0]", "model.head_channels=8", "model.width=64"),
    *(
        "start=''",
        "model.beams=VLP-32C",
        "model.max_points=100",
        "optimizer.crop_columns=64",
        "optimizer.points=50",
        "devices=1",
    ),
    *("optimizer.steps=1", "optimizer.epochs=2", "optimizer.workers=0", "precision=32-true"),
)
_XYZ = np.random.default_rng(0).uniform([-20, -20, -2], [20, 20, 1], (200, 3))
_CLOUD = PointCloud(_XYZ.astype(np.float32), np.linspace(0, 255, 200, dtype=np.float32))
_NUMBERS = (0, 1, -1, 8, 13, 2**20, 2**40, 2**70, -(2**40), True, None, "8", 1.5, float("nan"), float("inf"))


class Checkpoints(FolderTarget):
    """Checkpoints of a half-finished student and of a teacher: all readers, and a resumed run."""

    name = "checkpoints"
    limits = Limits(seconds=10.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        torch.set_num_threads(1)
        write_pandaset(self.folder / "pandaset", _XYZ, np.arange(200) % 42 + 1, size=(192, 108))
        self._run, self._teacher = self.folder / "run", self.folder / "teacher"
        self._config = self._settings()
        self._half = self._half_way()
        self._of_teacher = self._teachers()
        return self

    def _settings(self) -> TrainingConfig:
        source = f"[{{dataset: pandaset, path: '{self.folder / 'pandaset'}'}}]"
        words = [*_TINY, f"data.train={source}", f"data.validation={source}", f"run={self._run}"]
        return TrainingConfig.read(find_config("training/pandaset_student.yaml"), words)

    def _half_way(self) -> bytes:
        """The checkpoint after the first of two epochs."""
        kept: list[bytes] = []

        def keep(data: Any, path: Path) -> None:
            file = io.BytesIO()
            torch.save(data, file)
            kept.append(file.getvalue())
            path.write_bytes(file.getvalue())

        with mock.patch.object(runs, "save", keep):
            train(self._config)
        return kept[0]

    def _teachers(self) -> bytes:
        """A finished teacher's checkpoint, without optimizer state."""
        data = torch.load(io.BytesIO(self._half), weights_only=True)
        config = copy.deepcopy(data["hyper_parameters"]["config"])
        config["teacher"] = {"image_branch": "", "width": 8}
        module = TeacherModule(config, 0)
        kept = {"global_step": 1, "inputs": data["inputs"], "origins": data["origins"], "branch": None}
        parts = {"hyper_parameters": {"config": module.config.to_dict(), "features": 0}}
        return _saved({**kept, **parts, "state_dict": module.state_dict()})

    def seed_input(self) -> Any:
        return self._half, True

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        """Bytes of a checkpoint, and whether to resume a run from it."""
        whole, resume = mutator.pick(((self._half, True), (self._half, False), (self._of_teacher, False)))
        if mutator.chance(0.35):
            data = mutator.mutate_bytes(whole)
        else:
            held = torch.load(io.BytesIO(whole), weights_only=True)
            for _ in range(1 + mutator.below(2)):
                _mutate(mutator, held)
            data = _saved(held)
        return (data, resume and mutator.chance(0.4)), len(data)

    def execute(self, value: Any) -> None:
        data, resume = value
        self._run.mkdir(exist_ok=True)
        (self._run / CHECKPOINT).write_bytes(data)
        (self._run / "config.yaml").write_text(yaml.safe_dump(self._config.to_dict(), sort_keys=False))
        run_all(
            lambda: read_run(self._run).check_finished("start") if read_steps(self._run) > 1 else None,
            self._label,
            *([self._go_on] if resume else []),
            *([] if resume else [self._as_image_branch]),
        )

    def _label(self) -> None:
        network = predictor_of(read_checkpoint(self._run))
        sweep = Sweep(_CLOUD, np.full(len(_CLOUD), 255, np.uint8))
        (found,) = predict_labels(network, [sweep], [], "")
        ensure(found.ids.shape == (len(_CLOUD),), "not one label per point")
        near = (
            RangeProjector(network.inputs.projection).project(_CLOUD).pixel == NO_PIXEL
        )  # nearer than its minimum range
        ensure(np.where(near, found.ids == IGNORE, found.ids <= 12).all(), "unknown labels")

    def _as_image_branch(self) -> None:
        image_branch_of(read_run(self._run))
        raise AssertionError("a network that labels points is taken for an image branch")

    def _go_on(self) -> None:
        with disk_errors():
            train(self._config)
        ensure(read_steps(self._run) >= 2, "the run is not finished")


def _saved(held: Any) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


def _mutate(mutator: Mutator, held: Any) -> None:
    """Mutate the value, name or size of a random entry of a checkpoint."""
    holder = held
    while True:
        key = mutator.pick(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if isinstance(holder[key], (dict, list)) and len(holder[key]) and mutator.chance(0.9):
            holder = holder[key]
        else:
            break
    kind = mutator.below(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[mutator.pick((mutator.text(), 7, "seed", "widths"))] = holder.pop(key)
    elif kind == 2:
        holder[key] = mutator.pick((Trap(), MemoryBomb(), torch.zeros(2), mutator.text(), [], {}, mutator.real()))
    elif isinstance(holder[key], torch.Tensor):
        holder[key] = _mutated_tensor(mutator, holder[key])
    else:
        holder[key] = mutator.pick(_NUMBERS)


def _mutated_tensor(mutator: Mutator, tensor: torch.Tensor) -> Any:
    kind = mutator.below(6)
    if kind == 0:
        return tensor.to(mutator.pick((torch.float16, torch.int64, torch.bool, torch.complex64, torch.float64)))
    if kind == 1:
        return tensor.flatten()[: mutator.below(tensor.numel() + 1)]
    if kind == 2:
        return torch.zeros(()).expand(mutator.pick(((1 << 40,), (1 << 20, 1 << 20), tuple(tensor.shape))))
    if kind == 3:
        return torch.empty(mutator.pick(((1 << 40,), tuple(tensor.shape))), device="meta")
    if kind == 4:
        return tensor.to_sparse() if tensor.ndim else tensor[None, None]
    return (
        torch.full_like(tensor, mutator.pick((float("nan"), float("inf"), 1e30, 0.0)))
        if tensor.is_floating_point()
        else -tensor
    )
