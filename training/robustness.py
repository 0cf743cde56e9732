"""Measure robustness: ``python -m training.robustness [key=value ...] [--models ...] [--sources ...] --out DIR``.

Every model labels every source, clean and with all corruptions. Results are saved in ``metrics.json`` after each model
and source; the same command resumes from there, and further models and sources are added to it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.config.data import SourceConfig
from training.config.label_sets import LABELS, SCORED_LABELS
from training.config.yaml_config import YamlConfig, require, settings
from training.data.cache import run_cache
from training.data.sources import load_source
from training.experiments.corruption import CORRUPTIONS, SEVERITIES
from training.experiments.robustness_metrics import measure, reference_pipeline
from training.experiments.robustness_report import overview, write_robustness
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import VALIDATION
from xmodelkd_ros.console import positive_int, print_notes, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.resources import find_config, find_model, label_map
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_METRICS = "metrics.json"


@settings
class ScoredSource:
    """Sweeps to score on."""

    name: str
    source: SourceConfig
    label_set: str = SCORED_LABELS

    def __post_init__(self) -> None:
        require("name", self.name, self.name.isidentifier(), "letters, digits and underscores")
        require("source.labels", self.source.labels, self.source.labels == "own", "own: scores need ground truth")


@settings
class RobustnessConfig(YamlConfig):
    """Models (names or folders) and sources of the measurement."""

    models: tuple[str, ...]
    sources: tuple[ScoredSource, ...]

    def __post_init__(self) -> None:
        for key, names in (("models", self.models), ("sources", [source.name for source in self.sources])):
            short = [Path(name).name for name in names]
            require(key, short, bool(short) and len(set(short)) == len(short), "at least one, all with different names")


def measure_all(config: RobustnessConfig, kinds: Sequence[str], every: int, out: Path, command: str) -> dict[str, Any]:
    """Measure what is missing in ``metrics.json``, whose content is returned; write ``robustness.md`` and its plots.

    Args:
        config: the models and the sources.
        kinds: corruptions.
        every: score every n-th sweep of each source.
        out: folder of the results, which may hold earlier ones.
        command: the command line, for the report.

    Raises:
        ConfigError: a model or a source cannot be used, or the folder holds results of other settings.
    """
    pipelines = {Path(name).name: _reference_pipeline(name) for name in config.models}
    scored = {entry.name: label_map(entry.label_set) for entry in config.sources}
    make_folder(out)
    metrics = _previous(out / _METRICS, config, kinds, every)
    with run_cache():
        for entry in config.sources:
            results = metrics["sources"][entry.name]["models"]
            missing = {
                name: pipeline
                for name, pipeline in pipelines.items()
                if results.get(name, {}).get("network") != _network_id(pipeline.spec)
            }
            with_images = any(pipeline.spec.role == "teacher" for pipeline in missing.values())
            for name, pipeline in missing.items():
                source = load_source(entry.source, VALIDATION, with_images)
                if pipeline.spec.role == "teacher" and not source.encoded_images:
                    print_notes([f"{entry.name} has no images, so {name} labels from LiDAR alone"])
                result = measure(pipeline, source, scored[entry.name], kinds, every, f"{name}, {entry.name}")
                results[name] = {"network": _network_id(pipeline.spec), **result}
                write_metrics(out, metrics)
    write_robustness(out, metrics, command)
    return metrics


def _reference_pipeline(name: str) -> SegmentationPipeline:
    pipeline = reference_pipeline(find_model(name))
    label_set = pipeline.labels.name
    require("models", name, label_set == LABELS, f"models of {LABELS}; this one predicts {label_set}")
    return pipeline


def _sweeps(entry: ScoredSource) -> dict[str, Any]:
    """Identity of the sweeps of a result, as read back from JSON."""
    world = WORLD_VERSION if entry.source.dataset == "world" else None
    sweeps: dict[str, Any] = json.loads(json.dumps({**asdict(entry), "world": world}))
    return sweeps


def _network_id(spec: ModelSpec) -> dict[str, Any]:
    """Identity of the model of a result."""
    branch = spec.image_branch and spec.image_branch.files["fp32"].sha256
    return {"sha256": spec.files["fp32"].sha256, "image_branch": branch, "temperature": spec.temperature}


def _previous(path: Path, config: RobustnessConfig, kinds: Sequence[str], every: int) -> dict[str, Any]:
    """Earlier results, or empty ones.

    Raises:
        ConfigError: they are of other corruptions or sweeps, or the file is not one of results.
    """
    table = {kind: {"strengths": list(CORRUPTIONS[kind].strengths), "what": CORRUPTIONS[kind].what} for kind in kinds}
    settings = {"severities": list(SEVERITIES), "corruptions": table, "every": every}
    sources = {entry.name: {"sweeps": _sweeps(entry), "models": {}} for entry in config.sources}
    if not path.exists():
        return {**settings, "sources": sources}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        same = {name: before.get(name) for name in settings} == settings
        merged = {**sources, **before["sources"]} if same else {}
        same &= all(merged.get(name, {}).get("sweeps") == source["sweeps"] for name, source in sources.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"cannot resume from {path}: {quoted(error)}; choose another folder") from error
    if not same:
        raise ConfigError(f"{path} is of other corruptions, sweeps, or --every; choose another folder")
    return {**settings, "sources": merged}


def _selected(option: str, names: Sequence[str] | None, available: Sequence[str]) -> Sequence[str]:
    """The given names, or all."""
    for name in names or ():
        require(option, name, name in available, f"one of {', '.join(available)}")
    return list(dict.fromkeys(names or available))


def run(options: argparse.Namespace, command: str) -> str:
    """Run the measurement of the command line, and return the text to print."""
    config = RobustnessConfig.read(options.config or find_config("robustness.yaml"), options.overrides)
    kinds = _selected("--corruptions", options.corruptions, list(CORRUPTIONS))
    selected = _selected("--sources", options.sources, [entry.name for entry in config.sources])
    entries = tuple(entry for entry in config.sources if entry.name in selected)
    chosen = RobustnessConfig(tuple(options.models or config.models), entries)
    metrics = measure_all(chosen, kinds, options.every, options.out, command)
    return f"{overview(metrics)}\nwritten: {options.out / 'robustness.md'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.robustness", allow_abbrev=False, description="Measure robustness to corruptions."
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override the file")
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings (default: config/robustness.yaml)")
    parser.add_argument("--models", nargs="+", metavar="DIR", help="models to test (default: those of the file)")
    parser.add_argument("--sources", nargs="+", metavar="NAME", help="sources of the file to use (default: all)")
    parser.add_argument(
        "--corruptions", nargs="+", metavar="NAME", help=f"any of {', '.join(CORRUPTIONS)} (default: all)"
    )
    parser.add_argument("--every", type=positive_int, metavar="N", default=1, help="use every Nth sweep of each source")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder of the results, which may hold earlier ones"
    )
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_intermixed_args(words)
    return run_command(lambda: run(options, f"python -m training.robustness {shlex.join(words)}"))


if __name__ == "__main__":
    sys.exit(main())
