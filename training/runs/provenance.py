"""Provenance of a run: hashes of the checkpoints it depends on, and the version of the simulator."""

from __future__ import annotations

import json
from pathlib import Path

from training.config.image_training import ImageTrainingConfig
from training.config.training import SELF, TrainingConfig
from training.modules.checkpoint import CHECKPOINT
from training.worldgen import WORLD_VERSION
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError, one_line
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.core.strict_json import parse_json

_BUILT_ON = "built_on.json"
_WORLD = "the generated world"


def record_upstream(config: TrainingConfig | ImageTrainingConfig) -> None:
    """Record the upstream checkpoints' hashes and the simulator's version in the run's folder."""
    with atomic_file(Path(config.run) / _BUILT_ON) as unfinished:
        unfinished.write_text(json.dumps(_hashes(config), indent=1), encoding="utf-8")


def check_upstream(config: TrainingConfig | ImageTrainingConfig) -> None:
    """Check that the upstream checkpoints are those recorded when the run started; deleted ones are ignored.

    Raises:
        ConfigError: an upstream run has been retrained, or the simulator has another version.
    """
    recorded = _recorded(Path(config.run) / _BUILT_ON)
    for folder, digest in _hashes(config).items():
        if recorded.get(folder, digest) != digest:
            raise ConfigError(
                f"{config.run} builds on {folder}, which has changed since; remove {config.run} and train it again"
            )


def _recorded(record: Path) -> dict[str, str]:
    try:
        recorded = parse_json(record.read_text(encoding="utf-8")) if record.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {record}: {one_line(error)}; remove the run and train it again") from error
    if not isinstance(recorded, dict):
        raise ConfigError(f"{record} is not a table of hashes; remove the run and train it again")
    return recorded


def _hashes(config: TrainingConfig | ImageTrainingConfig) -> dict[str, str]:
    folders = [config.start]
    if isinstance(config, TrainingConfig):
        folders += [config.teacher.image_branch] if config.teacher else []
        folders += [config.distill.teacher] if config.distill and config.distill.teacher != SELF else []
    paths = {folder: Path(folder) / CHECKPOINT for folder in folders if folder}
    return {folder: sha256(path) for folder, path in paths.items() if path.exists()} | _world(config)


def _world(config: TrainingConfig | ImageTrainingConfig) -> dict[str, str]:
    generated = any(source.seeds for source in (*config.data.train, *config.data.validation))
    return {_WORLD: str(WORLD_VERSION)} if generated else {}
