"""The fuzzing campaign: detection of known faults, crashes and hangs, and the report of the command."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from test.fuzz import report
from test.fuzz.__main__ import inputs_per_target, main
from test.fuzz.campaign import CampaignError, run_inputs
from test.fuzz.mutation import Mutator
from test.fuzz.self_test import FAULTS
from test.fuzz.targets import TARGETS, TargetEntry
from test.fuzz.worker import SEED_REJECTED

HERE = "test.fuzz.self_test"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")


def fault_of(number, seed=0):
    return Mutator.of("faults", seed, number).pick(list(FAULTS))


@pytest.fixture(scope="module")
def fault_numbers():
    """One input number for each fault."""
    numbers = {fault_of(number): number for number in range(200)}
    assert set(numbers) == set(FAULTS)
    return sorted(numbers.values())


def test_campaign_detects_every_fault_and_continues(fault_numbers):
    found = list(run_inputs(f"{HERE}:FaultyTarget", 0, fault_numbers))
    assert [outcome.number for outcome in found] == fault_numbers
    for outcome in found:
        _, kind, why = FAULTS[fault_of(outcome.number)]
        assert outcome.kind == kind and outcome.why.startswith(why), f"{fault_of(outcome.number)}: {outcome}"
        assert bool(outcome.detail) == (kind != "accepted")


def test_fuzzed_nodes_use_separate_dds_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    (found,) = run_inputs(f"{HERE}:NetworkIsolation", 0, [0])
    assert found.kind == "accepted", found


def test_hanging_input_is_killed():
    (found,) = run_inputs(f"{HERE}:HangingTarget", 0, [7], hang_s=1.5)
    assert (found.number, found.kind, found.why) == (7, "failed", "hang: nothing for 1.5 s")


def test_detects_target_that_rejects_seed_input_afterwards():
    found = list(run_inputs(f"{HERE}:DegradingTarget", 0, range(3)))
    assert [outcome.kind for outcome in found] == ["accepted"] * 3 + ["failed"]
    assert (found[-1].number, found[-1].why) == (2, SEED_REJECTED) and "worn out" in found[-1].detail


@pytest.mark.parametrize(("name", "why"), [("SetupFailure", "no model"), ("GenerateFailure", "ZeroDivisionError")])
def test_setup_and_generation_failures_are_errors(name, why):
    with pytest.raises(CampaignError, match=f"{name}.*{why}"):
        list(run_inputs(f"{HERE}:{name}", 0, range(3)))


def test_command_counts_failures_and_saves_reproducers(fault_numbers, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TARGETS, "faults", TargetEntry(f"{HERE}:FaultyTarget", 10))
    (tmp_path / "out" / "broken").mkdir(parents=True)
    (tmp_path / "out" / "broken" / "of a previous campaign").touch()
    chosen = [n for n in fault_numbers if fault_of(n) in ("none", "refusal", "other error")]
    arguments = ["--targets", "faults", "--numbers", *map(str, chosen), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: 1 of 3 inputs failed; see ")
    assert "| faults | 3 | 1 | 1 CloudError |" in said.out and "1 KeyError at test/fuzz/self_test.py" in said.out
    (kept,) = (tmp_path / "out" / "broken").iterdir()
    broken = next(n for n in chosen if fault_of(n) == "other error")
    assert f"--targets faults --seed 0 --numbers {broken} --out DIR" in kept.read_text()
    assert "| faults |" in (tmp_path / "out" / "fuzz.md").read_text()
    with Image.open(tmp_path / "out" / "fuzz.png") as plot:
        pixels = {pixel for _, pixel in plot.convert("RGB").getcolors(1 << 20)}
    assert {(0x2F, 0x6F, 0xDE), (0xC3, 0xCA, 0xD6), (0xD9, 0x48, 0x0F)} <= pixels, "each outcome has its bar"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["inputs"], metrics["broken"]) == (3, 1)
    assert metrics["targets"]["faults"]["refused"] == {"CloudError": 1}


class _KilledError(BaseException):
    """Stands for a kill signal."""


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_kill_during_replacement_loses_no_reproducers(tmp_path, monkeypatch, step):
    """Killed at each step that changes a folder; the next report is complete in all cases."""
    unfinished = tmp_path / report.UNFINISHED_FOLDER
    for folder, name in ((tmp_path / "broken", "old"), (unfinished, "new")):
        folder.mkdir()
        (folder / name).touch()
    with monkeypatch.context() as patch:
        steps = itertools.count()

        def or_kill(change):
            def changed(*arguments, **options):
                if next(steps) == step:
                    raise _KilledError
                return change(*arguments, **options)

            return changed

        patch.setattr(report.shutil, "rmtree", or_kill(shutil.rmtree))
        patch.setattr(Path, "rename", or_kill(Path.rename))
        patch.setattr(Path, "replace", or_kill(Path.replace))
        with pytest.raises(_KilledError):
            report._replace_reproducers(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"old", "new"}
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    (unfinished / "next").touch()
    report._replace_reproducers(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["broken", "broken/next"]


def test_numbers_require_single_target(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--numbers", "3", "--out", str(tmp_path)])
    assert "--numbers are those of one target" in capsys.readouterr().err


def test_command_succeeds_without_failures(tmp_path, capsys):
    assert main(["--targets", "engines", "--inputs", "20", "--out", str(tmp_path)]) == 0
    assert "20 inputs, no failures | report" in capsys.readouterr().out


def test_inputs_are_distributed_by_weight():
    assert sum(entry.weight for entry in TARGETS.values()) == 100_000
    shared = inputs_per_target(100_000, list(TARGETS))
    assert shared == {name: entry.weight for name, entry in TARGETS.items()}
    assert min(inputs_per_target(10, list(TARGETS)).values()) == 1
