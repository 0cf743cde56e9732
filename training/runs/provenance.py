"""What a run builds on: other runs, which may have been trained again since, and a version of the world."""

from __future__ import annotations

import json
from pathlib import Path

from training.config.image_training import ImageTrainingConfig
from training.config.training import SELF, TrainingConfig
from training.modules.checkpoint import CHECKPOINT
from training.worldgen import WORLD_VERSION
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import sha256

_BUILT_ON = "built_on.json"
_WORLD = "the generated world"


def note_upstream(config: TrainingConfig | ImageTrainingConfig) -> None:
    """Write into the run's folder which checkpoints it builds on, by their hashes, and which world."""
    with atomic_file(Path(config.run) / _BUILT_ON) as unfinished:
        unfinished.write_text(json.dumps(_hashes(config), indent=1), encoding="utf-8")


def check_upstream(config: TrainingConfig | ImageTrainingConfig) -> None:
    """Check that what the run builds on is what it began with; what is gone by now is not asked for.

    Raises:
        ConfigError: one of the runs has been trained again, or the world is another one.
    """
    noted = Path(config.run) / _BUILT_ON
    known = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    for folder, digest in _hashes(config).items():
        if known.get(folder, digest) != digest:
            raise ConfigError(
                f"{config.run} builds on {folder}, which has changed since; remove {config.run}, and it is "
                "trained again too"
            )


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
