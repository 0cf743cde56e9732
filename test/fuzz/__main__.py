"""The command ``python -m test.fuzz``: run a fuzzing campaign, write a report, and fail if an input failed."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from test.fuzz import report
from test.fuzz.campaign import CampaignError, run_inputs
from test.fuzz.statistics import TargetStatistics
from test.fuzz.targets import TARGETS
from xmodelkd_ros.console import positive_int, run_command
from xmodelkd_ros.core.atomic_write import make_folder

_WHOLE = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.numbers and len(options.targets) != 1:
        parser.error("--numbers are those of one target: give --targets with its name")
    return run_command(lambda: run_campaign(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m test.fuzz", description="Run a fuzzing campaign and write a report."
    )
    parser.add_argument(
        "--inputs", type=positive_int, default=_WHOLE, help="total inputs, distributed over the targets"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--numbers", nargs="+", type=int, help="only these inputs of one target, to reproduce them")
    parser.add_argument("--out", type=Path, required=True, help="folder of fuzz.md, fuzz.png, metrics.json and broken/")
    return parser


def run_campaign(options: argparse.Namespace) -> str:
    """Fuzz the targets one after the other.

    Returns:
        Summary line.

    Raises:
        CampaignError: an input failed.
    """
    make_folder(options.out)
    shutil.rmtree(options.out / report.UNFINISHED_FOLDER, ignore_errors=True)  # of an interrupted campaign
    start = time.monotonic()
    all_stats = _run_targets(options)
    command = shlex.join(["python", "-m", "test.fuzz", *sys.argv[1:]])
    report.write(options.out, command, time.monotonic() - start, all_stats)
    print(report.table(all_stats))
    total, wrong = sum(t.inputs for t in all_stats.values()), sum(t.failed.total() for t in all_stats.values())
    if wrong:
        raise CampaignError(f"{wrong} of {total} inputs failed; see {options.out / report.REPRODUCER_FOLDER}")
    return f"{total:,} inputs, no failures | report {options.out / 'fuzz.md'}"


def _run_targets(options: argparse.Namespace) -> dict[str, TargetStatistics]:
    """Statistics of each target's inputs."""
    all_stats = {name: TargetStatistics() for name in options.targets}
    numbers = {
        name: options.numbers or range(share)
        for name, share in inputs_per_target(options.inputs, options.targets).items()
    }
    with tqdm(total=sum(map(len, numbers.values())), unit=" inputs", file=sys.stderr, disable=None, leave=False) as bar:
        for name, stats in all_stats.items():
            bar.set_description(name)
            for outcome in run_inputs(TARGETS[name].path, options.seed, numbers[name]):
                bar.update()
                if stats.add(outcome):
                    report.save_reproducer(options.out, name, options.seed, outcome)
    return all_stats


def inputs_per_target(inputs: int, targets: Sequence[str]) -> dict[str, int]:
    """Number of inputs for each target, at least one."""
    weights = {name: TARGETS[name].weight for name in targets}
    return {name: max(1, round(inputs * weight / sum(weights.values()))) for name, weight in weights.items()}


if __name__ == "__main__":
    sys.exit(main())
