"""The command ``python -m test.fuzz``: attack the runtime, report what became of it, and fail if a promise broke."""

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
from test.fuzz.campaign import AttackError, outcomes
from test.fuzz.tally import Tally
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
    return run_command(lambda: attack(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m test.fuzz", description=__doc__)
    parser.add_argument(
        "--inputs", type=positive_int, default=_WHOLE, help="inputs in all, shared out among the targets"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--numbers", nargs="+", type=int, help="only these inputs of one target, to see them again")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of fuzz.md, fuzz.png, metrics.json and what broke"
    )
    return parser


def attack(options: argparse.Namespace) -> str:
    """Attack the targets one after the other.

    Returns:
        What came of it, in a line.

    Raises:
        AttackError: a promise was broken.
    """
    make_folder(options.out)
    shutil.rmtree(options.out / report.UNFINISHED_FOLDER, ignore_errors=True)  # of an attack that was interrupted
    start = time.monotonic()
    tallies = _tallies(options)
    command = shlex.join(["python", "-m", "test.fuzz", *sys.argv[1:]])
    report.write(options.out, command, time.monotonic() - start, tallies)
    print(report.table(tallies))
    total, wrong = sum(t.inputs for t in tallies.values()), sum(t.broken.total() for t in tallies.values())
    if wrong:
        raise AttackError(f"{wrong} of {total} inputs broke a promise; see {options.out / report.BROKEN_FOLDER}")
    return f"{total:,} inputs, no promise broken | report {options.out / 'fuzz.md'}"


def _tallies(options: argparse.Namespace) -> dict[str, Tally]:
    """What became of the inputs of each target."""
    tallies = {name: Tally() for name in options.targets}
    numbers = {name: options.numbers or range(share) for name, share in shares(options.inputs, options.targets).items()}
    with tqdm(total=sum(map(len, numbers.values())), unit=" inputs", file=sys.stderr, disable=None, leave=False) as bar:
        for name, tally in tallies.items():
            bar.set_description(name)
            for outcome in outcomes(TARGETS[name].where, options.seed, numbers[name]):
                bar.update()
                if tally.add(outcome):
                    report.keep(options.out, name, options.seed, outcome)
    return tallies


def shares(inputs: int, targets: Sequence[str]) -> dict[str, int]:
    """How many inputs each target gets, at least one."""
    weights = {name: TARGETS[name].share for name in targets}
    return {name: max(1, round(inputs * weight / sum(weights.values()))) for name, weight in weights.items()}


if __name__ == "__main__":
    sys.exit(main())
