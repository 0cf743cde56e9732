"""Configurations of training, adaptation, comparisons and robustness: mutated text, values and aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Limits, Target, ensure, run_all
from training.config.image_training import ImageTrainingConfig
from training.config.training import TrainingConfig
from training.config.yaml_config import YamlConfig
from training.experiments.adaptation import AdaptConfig
from training.experiments.comparison_config import Comparison
from training.robustness import RobustnessConfig
from xmodelkd_ros.resources import find_config


def _levels(first: str, level: str) -> str:
    """Ten levels, each with eight aliases of the previous one."""
    rows = [level.format(eight=", ".join([f"*a{k}"] * 8)) for k in range(9)]
    return "\n".join(f"b{k}: &a{k} {text}" for k, text in enumerate([first, *rows]))


_BOMB = _levels("[x, x, x, x, x, x, x, x]", "[{eight}]")
_MERGES = _levels("{x: 1}", "{{<<: [{eight}]}}")
_LARGE = "a: &a {" + ", ".join(f"k{key}: 0" for key in range(2_000)) + "}"
_MANY_MERGES = f"{_LARGE}\nb: {{<<: [{', '.join(['*a'] * 5_000)}]}}"
"""Ten million keys, all of which older versions of PyYAML keep."""
_HOSTILE_YAML = (
    *(_MANY_MERGES, f"{_LARGE}\nb: {{{'<<: *a, ' * 5_000}}}", f"a: &a {'x' * 20_000}\nb: [{'*a, ' * 5_000}]"),
    *(_BOMB, _MERGES, "a: &a [*a]", "a: &a {<<: *a}", "[" * 50_000, "{a: " * 50_000, "- " * 5_000, "9" * 5_000),
    *("!!python/object/apply:os.system [exit]", "!!python/name:os.system", "seed: 2001-99-99", "seed: !!int x"),
    *(
        "seed: 0b",
        "seed: 1:99999999999999999999:1",
        "? [a]\n: b",
        "? {a: b}\n: c",
        "seed: !!binary x",
        "=: =",
        "\0",
        "\t",
    ),
    *("%YAML 9.9\n---\na", "a\n---\nb", "*x", "&a", "seed: !!set {a, b}", "seed: !!timestamp x", "seed: .nan", "'"),
)
"""Short texts that make a naive reader execute code, exhaust memory, or raise unexpected exceptions."""
_VALUES = (
    *(
        "drive13",
        "world",
        "bag",
        "self",
        "none",
        "carried",
        "propagated",
        "$base",
        "seed=1",
        "seed=[",
        "a.b=c",
        "data.train.0.path=x",
    ),
    *([0, 10**18], [0, 2], [], {}, None, True, 10**30, -(10**30), 0, -1, 1e308, "1e-3", "1e999", ".nan", b"bytes"),
)


class TrainingYaml(FolderTarget):
    """Any file gives settings that survive a round trip, or one error."""

    name = "training_yaml"
    limits = Limits(traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        folder = find_config("adapt.yaml").parent
        self._files: list[tuple[type[YamlConfig], str]] = [
            *((AdaptConfig, file.read_text()) for file in [folder / "adapt.yaml"]),
            *((RobustnessConfig, file.read_text()) for file in [folder / "robustness.yaml"]),
            *((_kind(file), file.read_text()) for file in sorted((folder / "training").glob("*.yaml"))),
            *((Comparison, file.read_text()) for file in sorted((folder / "comparison").glob("*.yaml"))),
        ]
        return self

    def seed_input(self) -> Any:
        kind, text = self._files[2]
        return kind, text.encode(), ()

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        kind, text = mutator.pick(self._files)
        data, overrides = text.encode(), self._overrides(mutator)
        way = mutator.below(10)
        if way < 1:
            data = mutator.mutate_bytes(data)
        elif way < 3:
            trap = mutator.pick(_HOSTILE_YAML)
            data = trap.encode() if mutator.chance(0.5) else f"{text}\n{trap}\n".encode()
        else:
            data = _mutated(mutator, yaml.safe_load(text))
        return (kind, data, overrides), len(data) + sum(map(len, overrides))

    def _overrides(self, mutator: Mutator) -> tuple[str, ...]:
        if mutator.chance(0.75):
            return ()
        keys = ("seed", "data.train.0", "data.train.7.path", "model.widths", "optimizer.steps", mutator.text(), "share")
        values = (
            *_HOSTILE_YAML,
            mutator.text(),
            str(mutator.real()),
            str(mutator.integer(64, signed=True)),
            "[0, 1]",
            "{}",
        )
        return tuple(
            f"{mutator.pick(keys)}{mutator.pick(('=', '=', '=', ''))}{mutator.pick(values)}"
            for _ in range(1 + mutator.below(2))
        )

    def execute(self, value: Any) -> None:
        kind, data, overrides = value
        path = self.folder / "settings.yaml"
        path.write_bytes(data)
        config = kind.read(path, overrides)
        again = yaml.safe_load(yaml.safe_dump(config.to_dict(), sort_keys=False))
        ensure(kind.from_dict(again) == config, "the YAML round trip changes the settings")
        if isinstance(config, Comparison):
            run_all(*(lambda entry=entry: config.settings(entry, config.seeds_of(entry)[0]) for entry in config.runs))


def _kind(file: Path) -> type[YamlConfig]:
    return ImageTrainingConfig if "image_branch" in file.name or "images" in file.name else TrainingConfig


def _mutated(mutator: Mutator, values: Any) -> bytes:
    """YAML of settings with mutated values."""
    if mutator.chance(0.5):
        holder: Any = values
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = mutator.pick(keys)
            if isinstance(holder[key], (dict, list)) and holder[key] and mutator.chance(0.8):
                holder = holder[key]
            else:
                holder[key] = mutator.pick(_VALUES)
                break
    else:
        values = mutator.mutate_json(values)
    return yaml.safe_dump(values, sort_keys=False).encode("utf-8", "replace")
