"""Configuration of a comparison: dependent runs, for several seeds, and the sweeps that score them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from string import Template
from typing import Annotated

from training.config.data import SourceConfig
from training.config.image_training import ImageTrainingConfig
from training.config.label_sets import COMPARED_LABELS, LABELS, SCORED_LABELS
from training.config.training import TrainingConfig
from training.config.yaml_config import YamlConfig, one_of, require, settings
from training.experiments.corruption import CORRUPTIONS, MODERATE, SEVERITIES
from training.modules.checkpoint import model_or_run
from xmodelkd_ros.core.errors import ConfigError


@settings
class RunEntry:
    """A training run, repeated for each seed; or a finished network.

    Attributes:
        name: of the run.
        config: its settings file.
        model: in place of ``config``: a model (name or folder) or a finished run, scored as it is, as the first seed.
        overrides: ``section.key=value`` changes of the settings; ``$name`` stands for the folder of another run with
            the same seed, or of that run's only seed.
        images: whether it trains an image branch (``training.train_images``).
        scored: whether it is a row of the table.
        seeds: replaces the comparison's seeds.
    """

    name: str
    config: str = ""
    model: str = ""
    overrides: tuple[str, ...] = ()
    images: bool = False
    scored: bool = True
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require("name", self.name, self.name.isidentifier(), "letters, digits and underscores")
        alone = bool(self.config) != bool(self.model)
        require("config", self.config, alone, f"given for {self.name}, or model instead")
        trained = bool(self.overrides or self.images or self.seeds)
        require("model", self.model, not (self.model and trained), "without overrides, images and seeds")


@settings
class ScoreEntry:
    """Sweeps to score on.

    Attributes:
        name: of its table.
        source: the sweeps, of validation drives, or of test drives if held back.
        held_back: whether they are scored with ``--open`` only.
        corruption: one of :data:`training.experiments.corruption.CORRUPTIONS`; the image features of a teacher are
            sampled at the uncorrupted positions. Empty for none.
        severity: of the corruption.
        label_set: the classes of the score. Ground truth in other sets, as in bags, is translated by way of drive13.
    """

    name: str
    source: SourceConfig
    held_back: bool = False
    corruption: str = ""
    severity: Annotated[str, one_of(*SEVERITIES)] = SEVERITIES[MODERATE]
    label_set: Annotated[str, one_of(*COMPARED_LABELS)] = SCORED_LABELS

    def __post_init__(self) -> None:
        known = self.corruption in ("", *CORRUPTIONS)
        require("corruption", self.corruption, known, f"one of {', '.join(CORRUPTIONS)}, or empty")


@settings
class Comparison(YamlConfig):
    """A comparison.

    Attributes:
        run: folder of all runs and of the results.
        seeds: of every run.
        baseline: name of the run that the others are compared with.
        runs: the runs, each after those that it depends on.
        score: the sweeps to score on.
        overrides: changes of all runs except image branches; the runs' own overrides are applied after them.
        paths: names and paths of what is not in the repository, such as drives or an image network. ``$name`` stands
            for the path in the overrides and in the paths of the scores' sources.
    """

    run: str
    seeds: tuple[int, ...]
    baseline: str
    runs: tuple[RunEntry, ...]
    score: tuple[ScoreEntry, ...]
    overrides: tuple[str, ...] = ()
    paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.runs]
        require("runs", names, len(set(names)) == len(names), "runs with different names")
        rows = [entry.name for entry in self.runs if entry.scored and not entry.images]
        require("baseline", self.baseline, self.baseline in rows, f"one of {', '.join(rows)}")
        scores = [entry.name for entry in self.score]
        require("score", scores, len(set(scores)) == len(scores), "entries with different names")
        require("seeds", self.seeds, bool(self.seeds), "at least one")
        both = sorted({*names} & {*self.paths})
        require("paths", both, not both, "named otherwise than the runs")

    def scores(self, opened: bool) -> list[ScoreEntry]:
        """The sweeps to score on, with their paths; with ``opened`` the held-back ones too."""
        return [
            replace(score, source=replace(score.source, path=self._filled(score.source.path, {}, score.name)))
            for score in self.score
            if opened or not score.held_back
        ]

    def _filled(self, text: str, folders: Mapping[str, str], of: str) -> str:
        """A text with the folders of runs and the paths in place of ``$name``."""
        try:
            return Template(text).substitute({**self.paths, **folders})
        except KeyError as error:
            raise ConfigError(
                f"{of} builds on {error}, which is neither a run before it, of this seed, nor a path"
            ) from None
        except ValueError as error:
            raise ConfigError(f"{of}: {error}; '$name' stands for a run or a path, '$$' for a dollar sign") from None

    def seeds_of(self, entry: RunEntry) -> tuple[int, ...]:
        """The seeds of a run; of a finished network, the first one."""
        return self.seeds[:1] if entry.model else entry.seeds or self.seeds

    def folder(self, entry: RunEntry, seed: int) -> Path:
        """The folder of a run with a seed, and of its scores; a run with a single seed serves all seeds."""
        seeds = self.seeds_of(entry)
        return Path(self.run) / f"{entry.name}_{seeds[0] if len(seeds) == 1 else seed}"

    def network(self, entry: RunEntry, seed: int) -> Path:
        """The folder of a trained network.

        Raises:
            ModelError: there is no such finished network.
        """
        return model_or_run(entry.model) if entry.model else self.folder(entry, seed)

    def settings(self, entry: RunEntry, seed: int) -> TrainingConfig | ImageTrainingConfig:
        """The settings of a run with a seed.

        Raises:
            ConfigError: as :meth:`YamlConfig.read`, or an override names a run that does not come before this one.
            ModelError: as :meth:`network`.
        """
        folders = {}
        for other in self.runs[: self.runs.index(entry)]:
            named = any(other.name in word for word in entry.overrides)
            if named and (seed in self.seeds_of(other) or len(self.seeds_of(other)) == 1):
                folders[other.name] = str(self.network(other, seed))
        words = [self._filled(word, folders, entry.name) for word in entry.overrides]
        words += [f"run={self.folder(entry, seed)}", f"seed={seed}"]
        if entry.images:
            return ImageTrainingConfig.read(Path(entry.config), words)
        settings = TrainingConfig.read(
            Path(entry.config), [*(self._filled(word, {}, "overrides") for word in self.overrides), *words]
        )
        require(
            f"{entry.name}: label_set", settings.label_set, settings.label_set == LABELS, f"{LABELS} to be compared"
        )
        return settings
