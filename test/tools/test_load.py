"""``xmodelkd load`` over DDS, with a small model, small clouds and short scenarios."""

import json
import re
from pathlib import Path

import pytest

from xmodelkd_ros.harness.load_scenarios import scenarios
from xmodelkd_ros.tools.cli import main

pytest.importorskip("rclpy")

NAMES = ("rate_10", "sizes_change", "two_nodes", "dead_subscriber", "loop", "clock_stops", "stamps_jitter")
"""Scenarios of each kind. The first is the baseline, which is added without being requested."""
SECONDS = 2.4
"""In ``loop`` stamps jump back by half of it, which must exceed the 1 s up to which older stamps are late sweeps."""

TIMING_FAILURES = re.compile(r"latency |played at |median was |\d+ labelled instead")
"""Failures that other load on the machine may cause."""


@pytest.fixture(scope="module")
def load(tmp_path_factory, height_model):
    """Exit code, outcomes and table of all scenarios."""
    out = tmp_path_factory.mktemp("load")
    options = ["--model", str(height_model), "--points", "3000", "--seconds", str(SECONDS)]
    code = main(["load", *options, "--scenarios", *NAMES[1:], "--out", str(out)])
    assert (out / "load.png").stat().st_size > 10_000
    return code, json.loads((out / "metrics.json").read_text())["load"], (out / "load.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_missing_labels_are_counted_and_order_is_kept(load, name):
    outcomes = [outcome for outcome in load[1] if outcome["scenario"] == name]
    assert len(outcomes) == (2 if name == "two_nodes" else 1)
    for outcome in outcomes:
        assert outcome["unaccounted"] == 0 and outcome["in_order"] and outcome["labelled"] >= outcome["promised"] - 1
        assert outcome["said"].get("dropped.out_of_order", 0) == outcome["out_of_order"]
        assert [failure for failure in outcome["broken"] if not TIMING_FAILURES.match(failure)] == []
        assert outcome["worst_ms"] < 10 * outcome["bound_ms"]
        # The model needs few milliseconds, so at 10 Hz none but the out-of-order sweeps may be missing.
        assert outcome["labelled"] >= outcome["sweeps"] - outcome["out_of_order"] - 1


def test_scenarios_are_played_in_full(load):
    sweeps = {outcome["scenario"]: outcome["sweeps"] for outcome in load[1]}
    assert sweeps == {s.name: len(s.sweeps) for s in scenarios(3000, SECONDS) if s.name in NAMES}
    jittered = next(outcome for outcome in load[1] if outcome["scenario"] == "stamps_jitter")
    assert jittered["out_of_order"] > 0


def test_exit_code_and_table_agree_with_the_outcomes(load):
    code, outcomes, table = load
    assert code == (1 if any(outcome["broken"] for outcome in outcomes) else 0)
    assert len(table.split("\n\n")[1].splitlines()) == 2 + len(outcomes) == 2 + len(NAMES) + 1
    assert all(f"* `{scenario.name}`" in table for scenario in scenarios(1, 1))


def test_additional_subscriber_is_compared_with_the_baseline(load):
    alone, dead = (next(o for o in load[1] if o["scenario"] == name) for name in ("rate_10", "dead_subscriber"))
    assert dead["alone_ms"] == alone["p50_ms"] and alone["alone_ms"] is None


def test_rejects_teacher_before_starting_a_node(light_model, tmp_path, capsys):
    assert main(["load", "--model", str(light_model), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    reason = f"error: --model {light_model} names a teacher; give a student, such as --model student\n"
    assert (captured.out, captured.err) == ("", reason)
    assert not (tmp_path / "out").exists()


def test_documentation_names_every_scenario():
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text(encoding="utf-8")
    names = [scenario.name for scenario in scenarios(1, 1)]
    assert [name for name in names if f"| `{name}`: " not in page] == []
    assert f"of the {len(names)} load scenarios" in page


def test_rejects_unknown_scenario(height_model, tmp_path, capsys):
    assert main(["load", "--model", str(height_model), "--scenarios", "storm", "--out", str(tmp_path)]) == 1
    assert "error: unknown scenario storm; choose from rate_10, " in capsys.readouterr().err
