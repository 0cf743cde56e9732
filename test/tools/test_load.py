"""A node under load and for long, in short: small models and clouds, real DDS."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.endurance import Endurance
from xmodelkd_ros.tools.load import Outcome, _is_in_order
from xmodelkd_ros.traffic import scenarios

pytest.importorskip("rclpy")

SHOWN = ("rate_40", "sizes_change", "two_nodes", "dead_subscriber", "loop")
GOOD = Outcome("rate_10", "segmenter", 10, 8, {"dropped.overload": 2}, True, 60.0, 90.0, 1.1, 250.0, 3.0)
STEADY = Endurance(10000, 10000, 600.0, 0.2, (240.0, 242.0), (25, 25), (23, 23), (60.0,) * 10, (90.0,) * 10)


@pytest.fixture(scope="module")
def load(tmp_path_factory, height_model):
    """The exit code, and what came of each scenario."""
    out = tmp_path_factory.mktemp("load")
    options = ["--model", str(height_model), "--points", "3000", "--seconds", "1.5"]
    code = main(["load", *options, "--scenarios", *SHOWN, "--out", str(out)])
    return code, json.loads((out / "metrics.json").read_text())["load"], (out / "load.md").read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_what_gets_no_labels_is_counted_and_order_is_kept(load, name):
    outcomes = [outcome for outcome in load[1] if outcome["scenario"] == name]
    assert len(outcomes) == (2 if name == "two_nodes" else 1)
    for outcome in outcomes:
        assert outcome["unaccounted"] == 0 and outcome["in_order"] and outcome["labelled"] > 0
        assert name == "rate_40" or outcome["labelled"] >= outcome["sweeps"] - 2


def test_the_exit_code_and_the_table_say_so_too(load):
    code, outcomes, table = load
    assert code == 0
    assert len(table.split("\n\n")[0].splitlines()) == 2 + len(outcomes) == 2 + len(SHOWN) + 1
    assert all(f"* `{scenario.name}`" in table for scenario in scenarios(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"labelled": 7},
        {"in_order": False},
        {"said": {"dropped.overload": 1, "unlabelled.failed": 1}},
        {"growth": 2.5},
        {"memory_growth_mb": 70.0},
        {"labelled": 0, "said": {"dropped.overload": 10}},
    ],
    ids=str,
)
def test_what_breaks_the_promise(change):
    assert GOOD.as_promised
    assert not replace(GOOD, **change).as_promised


@pytest.mark.parametrize(
    ("came", "in_order"),
    [([1, 2, 4], True), ([], True), ([2, 1], False), ([1, 1], False), ([1, 2, 3, 4, 5], False)],
)
def test_order(came, in_order):
    assert _is_in_order([(k, 0) for k in (1, 2, 3, 4)], [(k, 0) for k in came]) is in_order


def test_scenarios_are_what_they_are_called():
    by_name = {scenario.name: scenario for scenario in scenarios(100, 2.0)}
    assert len(by_name["rate_40"].arrivals) == 80
    loop = [arrival.stamp_ns for arrival in by_name["loop"].arrivals]
    assert loop[10] < loop[0] - 1e9 and sorted(loop[:10]) == loop[:10] and sorted(loop[10:]) == loop[10:]
    assert {arrival.stamp_ns for arrival in by_name["stamps_zero"].arrivals} == {0}
    pause = [arrival.at_s for arrival in by_name["pause"].arrivals]
    assert max(b - a for a, b in pairwise(pause)) == pytest.approx(2.1)
    assert {arrival.points for arrival in by_name["sizes_change"].arrivals} == {0, 1, 100, 200}


def test_an_unknown_scenario_is_said(height_model, tmp_path, capsys):
    assert main(["load", "--model", str(height_model), "--scenarios", "storm", "--out", str(tmp_path)]) == 1
    assert "error: no scenario storm; there are rate_10, " in capsys.readouterr().err


def test_nothing_grows_over_thousands_of_sweeps(height_model, tmp_path):
    options = ["--model", str(height_model), "--points", "3000", "--sweeps", "3000", "--out", str(tmp_path)]
    main(["endurance", *options])  # The exit code also judges latency, which a busy machine spoils.
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["sweeps"] == found["labelled"] == 3000
    assert found["memory_slope"] < 1.0
    assert found["handles"][0] == found["handles"][1] and found["threads"][0] == found["threads"][1]
    assert (tmp_path / "endurance.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "change",
    [
        {"labelled": 9999},
        {"memory_slope": 1.1},
        {"handles": (25, 26)},
        {"threads": (23, 24)},
        {"p99_ms": (90.0,) * 5 + (140.0,) * 5},
    ],
    ids=str,
)
def test_what_breaks_endurance(change):
    assert STEADY.as_promised
    assert not replace(STEADY, **change).as_promised
