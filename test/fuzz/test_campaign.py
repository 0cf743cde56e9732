"""The attack itself: it finds every broken promise, in processes that crash and hang, and the command says so."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from test.fuzz import report
from test.fuzz.__main__ import main, shares
from test.fuzz.campaign import AttackError, outcomes
from test.fuzz.mutation import Mutator
from test.fuzz.self_test import HARMS
from test.fuzz.targets import TARGETS, Place
from test.fuzz.worker import NO_LONGER

HERE = "test.fuzz.self_test"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by what Linux says of a process")


def harm(number, seed=0):
    return Mutator.of("harms", seed, number).pick(list(HARMS))


@pytest.fixture(scope="module")
def each_once():
    """A number of each harm; those that end the process in the middle."""
    numbers = {harm(number): number for number in range(200)}
    assert set(numbers) == set(HARMS)
    return sorted(numbers.values())


def test_every_broken_promise_is_found_and_the_rest_goes_on(each_once):
    found = list(outcomes(f"{HERE}:Mutants", 0, each_once))
    assert [outcome.number for outcome in found] == each_once
    for outcome in found:
        _, kind, why = HARMS[harm(outcome.number)]
        assert outcome.kind == kind and outcome.why.startswith(why), f"{harm(outcome.number)}: {outcome}"
        assert bool(outcome.detail) == (kind != "accepted")


def test_a_node_that_is_attacked_is_not_heard_by_a_vehicle(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    (found,) = outcomes(f"{HERE}:Heard", 0, [0])
    assert found.kind == "accepted", found


def test_what_hangs_is_ended():
    (found,) = outcomes(f"{HERE}:Hang", 0, [7], hang_s=1.5)
    assert (found.number, found.kind, found.why) == (7, "broken", "hang: nothing for 1.5 s")


def test_a_target_that_no_longer_takes_good_input_is_found():
    found = list(outcomes(f"{HERE}:Ageing", 0, range(3)))
    assert [outcome.kind for outcome in found] == ["accepted"] * 3 + ["broken"]
    assert (found[-1].number, found[-1].why) == (2, NO_LONGER) and "worn out" in found[-1].detail


@pytest.mark.parametrize(("name", "why"), [("NotThere", "no model"), ("NotMade", "ZeroDivisionError")])
def test_an_attack_that_cannot_be_made_is_an_error(name, why):
    with pytest.raises(AttackError, match=f"{name}.*{why}"):
        list(outcomes(f"{HERE}:{name}", 0, range(3)))


def test_the_command_counts_and_keeps_what_broke(each_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TARGETS, "harms", Place(f"{HERE}:Mutants", 10))
    (tmp_path / "out" / "broken").mkdir(parents=True)
    (tmp_path / "out" / "broken" / "of an attack before").touch()
    chosen = [n for n in each_once if harm(n) in ("none", "refusal", "other error")]
    arguments = ["--targets", "harms", "--numbers", *map(str, chosen), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: 1 of 3 inputs broke a promise; see ")
    assert "| harms | 3 | 1 | 1 CloudError |" in said.out and "1 KeyError at test/fuzz/self_test.py" in said.out
    (kept,) = (tmp_path / "out" / "broken").iterdir()
    broken = next(n for n in chosen if harm(n) == "other error")
    assert f"--targets harms --seed 0 --numbers {broken} --out DIR" in kept.read_text()
    assert "| harms |" in (tmp_path / "out" / "fuzz.md").read_text()
    with Image.open(tmp_path / "out" / "fuzz.png") as plot:
        pixels = {pixel for _, pixel in plot.convert("RGB").getcolors(1 << 20)}
    assert {(0x2F, 0x6F, 0xDE), (0xC3, 0xCA, 0xD6), (0xD9, 0x48, 0x0F)} <= pixels, "each outcome has its bar"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["inputs"], metrics["broken"]) == (3, 1)
    assert metrics["targets"]["harms"]["refused"] == {"CloudError": 1}


class _KilledError(BaseException):
    """In the place of a signal."""


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_kill_while_what_broke_takes_its_place_loses_nothing(tmp_path, monkeypatch, step):
    """At each step that changes a folder; the next report is as it has to be, whatever was left."""
    unfinished = tmp_path / report.UNFINISHED_FOLDER
    for folder, name in ((tmp_path / "broken", "old"), (unfinished, "new")):
        folder.mkdir()
        (folder / name).touch()
    with monkeypatch.context() as patch:
        steps = itertools.count()

        def or_die(change):
            def changed(*arguments, **options):
                if next(steps) == step:
                    raise _KilledError
                return change(*arguments, **options)

            return changed

        patch.setattr(report.shutil, "rmtree", or_die(shutil.rmtree))
        patch.setattr(Path, "rename", or_die(Path.rename))
        patch.setattr(Path, "replace", or_die(Path.replace))
        with pytest.raises(_KilledError):
            report._replace_broken(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"old", "new"}
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    (unfinished / "next").touch()
    report._replace_broken(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["broken", "broken/next"]


def test_numbers_are_of_one_target(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--numbers", "3", "--out", str(tmp_path)])
    assert "--numbers are those of one target" in capsys.readouterr().err


def test_the_command_succeeds_where_nothing_breaks(tmp_path, capsys):
    assert main(["--targets", "engines", "--inputs", "20", "--out", str(tmp_path)]) == 0
    assert "20 inputs, no promise broken | report" in capsys.readouterr().out


def test_inputs_are_shared_out():
    assert sum(place.share for place in TARGETS.values()) == 100_000
    shared = shares(100_000, list(TARGETS))
    assert shared == {name: place.share for name, place in TARGETS.items()}
    assert min(shares(10, list(TARGETS)).values()) == 1
