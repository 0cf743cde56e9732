import json

import numpy as np
import pytest

from training.world import measure
from training.world.census import BORDERS_PX, Agreement, Census
from training.worldgen.mesh import LABELS

CLASSES = len(LABELS)


def census(seed, signs=0, cars=100):
    points, things = np.full(CLASSES, 100), np.full(CLASSES, 5)
    points[LABELS.id_of("traffic_sign")], things[LABELS.id_of("traffic_sign")] = signs, signs // 10
    points[LABELS.id_of("car")] = cars
    pixels = np.zeros(256, np.int64)
    pixels[:CLASSES], pixels[255] = 10, 10 * CLASSES
    return Census(seed, "Pandar64", "clear", points, pixels, things, 4 * int(points.sum()), Agreement.none())


@pytest.mark.parametrize(
    ("split", "seeds"), [("train", [0, 1, 2, 3]), ("validation", [8, 18, 28, 38]), ("test", [9, 19, 29, 39])]
)
def test_the_first_seeds_of_a_split(split, seeds):
    assert measure.seeds_of(split, 4) == seeds


def test_groups_of_ten_drives_are_evaluated_separately():
    drives = [census(k, signs=200) for k in range(10)] + [census(k, signs=20) for k in range(10)] + [census(20)]
    found = measure.composition(drives)
    assert found["drives_in_a_group"] == 10
    assert found["things"]["traffic_sign"] == 10 * 20 + 10 * 2
    assert found["least_things_in_a_group"]["traffic_sign"] == 20
    assert found["least_share_of_points_in_a_group"]["traffic_sign"] == pytest.approx(20 / 1220, abs=1e-6)


def test_fewer_drives_are_one_group():
    found = measure.composition([census(0, signs=100), census(1, signs=300)])
    assert found["drives_in_a_group"] == 2
    assert found["least_things_in_a_group"]["traffic_sign"] == 40
    assert sum(found["share_of_points"].values()) == pytest.approx(1.0, abs=1e-5)
    assert found["share_of_sky"] == 0.5
    assert sum(found["share_of_pixels"].values()) == pytest.approx(0.5, abs=1e-5)


def test_compares_with_pandaset(pandaset):
    found = measure.pandaset_shares(pandaset, range(2))
    assert found["returns"] == pytest.approx(0.92, abs=0.02)
    assert sum(found["share_of_points"].values()) == pytest.approx(1.0, abs=1e-5)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run on one drive and one frame, in this process."""
    out = tmp_path_factory.mktemp("measure")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "each_drive", map)
        for name in ("_SWEEPS", "_TIMED_DRIVES", "_TIMED_FRAMES"):
            patch.setattr(measure, name, 1)
        assert measure.main(["--drives", "1", "--out", str(out)]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_metrics_content(measured):
    assert measured["seeds"] == [0]
    assert measured["world_version"] >= 1
    assert list(measured["composition"]["share_of_points"]) == list(LABELS.names)
    assert list(measured["agreement"]) == [f"border_{border}_px" for border in BORDERS_PX]
    assert 0.5 < measured["returns"] < 1.0
    assert [drive["seed"] for drive in measured["drives"]] == [0]


def test_costs_are_plausible(measured):
    cost = measured["cost"]
    assert all(value > 0 for value in cost.values())
    assert cost["frame_one_camera_s"] < cost["frame_six_cameras_s"]
    parts = [cost[f"stored_{part}_bytes"] for part in ("lidar", "camera", "labels")]
    assert cost["stored_bytes"] == pytest.approx(sum(parts), abs=1)
    assert 1e5 < cost["stored_bytes"] < 2e6


def test_tables_have_every_class_with_and_without_real_data(measured):
    bare = measure.tables(measured)
    real = {"share_of_points": dict.fromkeys(LABELS.names, 0.5), "returns": 0.92}
    beside = measure.tables({**measured, "pandaset": real})
    for name in LABELS.names:
        assert f"| {name} | " in bare
    assert "50.00" not in bare
    assert beside.count("| 50.00 |") >= CLASSES
    assert "92.0%" in beside
    widths = {line.count("|") for line in bare.split("\n\n")[1].splitlines()}
    assert len(widths) == 1, "rows of a table are equally long"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--drives", "0"], "--drives is 0"),
        (["--pandaset", "nowhere"], "is not a PandaSet sequence"),
        (["--pandaset", "nowhere", "--frames", "4:4"], "--frames is '4:4'"),
    ],
)
def test_rejects_wrong_arguments_with_one_line(words, complaint, tmp_path, capsys):
    assert measure.main([*words, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line
