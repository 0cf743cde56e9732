"""A node under load, in short: a small model and clouds, real DDS."""

import json
from pathlib import Path

import pytest

from xmodelkd_ros.harness.load_scenarios import scenarios
from xmodelkd_ros.tools.cli import main

pytest.importorskip("rclpy")

SHOWN = (
    "rate_10", "rate_40", "sizes_change", "two_nodes", "dead_subscriber", "loop", "clock_stops", "stamps_jitter",
)  # fmt: skip
"""Of each kind: how many, how large, in which company, by which clock. The first need not be asked for."""


SPOILT = ("from ", "played at ", "labels after ")


@pytest.fixture(scope="module")
def load(tmp_path_factory, height_model):
    """The exit code, and what came of each scenario."""
    out = tmp_path_factory.mktemp("load")
    options = ["--model", str(height_model), "--points", "3000", "--seconds", "2.6"]
    code = main(["load", *options, "--scenarios", *SHOWN[1:], "--out", str(out)])
    assert (out / "load.png").stat().st_size > 10_000
    return code, json.loads((out / "metrics.json").read_text())["load"], (out / "load.md").read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_what_gets_no_labels_is_counted_and_order_is_kept(load, name):
    outcomes = [outcome for outcome in load[1] if outcome["scenario"] == name]
    assert len(outcomes) == (2 if name == "two_nodes" else 1)
    for outcome in outcomes:
        assert outcome["unaccounted"] == 0 and outcome["in_order"] and outcome["labelled"] >= outcome["promised"] > 0
        assert outcome["said"].get("dropped.out_of_order", 0) == outcome["out_of_order"]
        # What a busy machine spoils may break; all else holds wherever this runs.
        assert [w for w in outcome["broken"] if "ms alone" not in w and not w.startswith(SPOILT)] == []
        assert outcome["worst_ms"] < outcome["bound_ms"] + 500
        if name in ("rate_10", "loop", "clock_stops"):  # the model needs few milliseconds
            assert outcome["labelled"] >= outcome["sweeps"] - 1


def test_the_exit_code_and_the_table_say_so_too(load):
    code, outcomes, table = load
    assert code == (1 if any(outcome["broken"] for outcome in outcomes) else 0)
    assert len(table.split("\n\n")[1].splitlines()) == 2 + len(outcomes) == 2 + len(SHOWN) + 1
    assert all(f"* `{scenario.name}`" in table for scenario in scenarios(1, 1))


def test_company_is_compared_with_the_node_alone(load):
    alone, dead = (next(o for o in load[1] if o["scenario"] == name) for name in ("rate_10", "dead_subscriber"))
    assert dead["alone_ms"] == alone["p50_ms"] and alone["alone_ms"] is None


def test_a_teacher_is_refused_before_a_node_is_started(light_model, tmp_path, capsys):
    assert main(["load", "--model", str(light_model), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: model {light_model} is a teacher; give a student\n")
    assert not (tmp_path / "out").exists()


def test_the_page_names_every_scenario():
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text(encoding="utf-8")
    names = [scenario.name for scenario in scenarios(1, 1)]
    assert [name for name in names if f"| `{name}`: " not in page] == []
    assert f"of the {len(names)} kinds of" in page


def test_an_unknown_scenario_is_said(height_model, tmp_path, capsys):
    assert main(["load", "--model", str(height_model), "--scenarios", "storm", "--out", str(tmp_path)]) == 1
    assert "error: no scenario storm; there are rate_10, " in capsys.readouterr().err
