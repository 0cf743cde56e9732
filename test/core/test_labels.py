import json

import numpy as np
import pytest

from xmodelkd_ros.core.errors import LabelError
from xmodelkd_ros.core.labels import IGNORE, LabelClass, LabelMap, LabelTranslation
from xmodelkd_ros.resources import find_config, has_table, label_map, translation

DRIVE13 = {
    0: "car", 1: "truck", 2: "two_wheeler", 3: "person", 4: "road", 5: "road_marking", 6: "sidewalk", 7: "terrain",
    8: "vegetation", 9: "building", 10: "other_static", 11: "hazard", 12: "traffic_sign",
}  # fmt: skip

# Written by hand from the datasets' own class lists; None is ignored.
TABLES = {
    ("pandaset42", "drive13"): {
        1: None, 2: None, 3: None, 4: None, 5: 8, 6: 7, 7: 4, 8: 5, 9: 5, 10: 5, 11: 6, 12: 6, 13: 0, 14: 1, 15: 1,
        16: 1, 17: 1, 18: 2, 19: 1, 20: 1, 21: 2, 22: 1, 23: 1, 24: 2, 25: 2, 26: 2, 27: 1, 28: 1, 29: 1, 30: 3,
        31: 3, 32: None, 33: None, 34: 11, 35: 10, 36: 12, 37: 11, 38: 12, 39: 10, 40: 10, 41: 9, 42: 10,
    },
    ("semantickitti19", "drive13"): {
        0: 0, 1: 2, 2: 2, 3: 1, 4: 1, 5: 3, 6: 2, 7: 2, 8: 4, 9: 4, 10: 6, 11: None, 12: 9, 13: 10, 14: 8, 15: 8,
        16: 7, 17: 10, 18: 12,
    },
    ("nuscenes16", "drive13"): {
        0: 10, 1: 2, 2: 1, 3: 0, 4: 1, 5: 2, 6: 3, 7: 11, 8: 1, 9: 1, 10: 4, 11: None, 12: 6, 13: 7, 14: 9, 15: 8,
    },
    ("nuscenes32", "nuscenes16"): {
        0: None, 1: None, 2: 6, 3: 6, 4: 6, 5: None, 6: 6, 7: None, 8: None, 9: 0, 10: None, 11: None, 12: 7, 13: None,
        14: 1, 15: 2, 16: 2, 17: 3, 18: 4, 19: None, 20: None, 21: 5, 22: 8, 23: 9, 24: 10, 25: 11, 26: 12, 27: 13,
        28: 14, 29: None, 30: 15, 31: None,
    },
    ("drive13", "semantickitti19"): {
        0: 0, 1: 3, 2: 2, 3: 5, 4: 8, 5: 8, 6: 10, 7: 16, 8: 14, 9: 12, 10: 13, 11: None, 12: 18,
    },
    ("drive13", "nuscenes16"): {
        0: 3, 1: 9, 2: 5, 3: 6, 4: 10, 5: 10, 6: 12, 7: 13, 8: 15, 9: 14, 10: 14, 11: 7, 12: 14,
    },
    ("drive13", "autoware"): {0: 0, 1: 1, 2: 4, 3: 5, 4: 8, 5: 8, 6: 8, 7: 8, 8: 10, 9: 9, 10: 9, 11: 7, 12: 9},
    ("drive13", "pandaset9"): {
        0: 0, 1: 1, 2: None, 3: 2, 4: 3, 5: 4, 6: 5, 7: None, 8: 6, 9: 7, 10: 8, 11: 8, 12: 8,
    },
    ("drive13", "outdoor8"): {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 5, 7: 6, 8: 6, 9: 7, 10: 7, 11: 7, 12: 7},
    ("semantickitti19", "outdoor8"): {
        0: 0, 1: 2, 2: 2, 3: 1, 4: 1, 5: 3, 6: 2, 7: 2, 8: 4, 9: 4, 10: 5, 11: None, 12: 7, 13: 7, 14: 6, 15: 6,
        16: 6, 17: 7, 18: 7,
    },
    ("nuscenes16", "outdoor8"): {
        0: 7, 1: 2, 2: 1, 3: 0, 4: 1, 5: 2, 6: 3, 7: 7, 8: 1, 9: 1, 10: 4, 11: None, 12: 5, 13: 6, 14: 7, 15: 6,
    },
    ("nuscenes32", "outdoor8"): {
        0: None, 1: None, 2: 3, 3: 3, 4: 3, 5: None, 6: 3, 7: None, 8: None, 9: 7, 10: None, 11: None, 12: 7, 13: None,
        14: 2, 15: 1, 16: 1, 17: 0, 18: 1, 19: None, 20: None, 21: 2, 22: 1, 23: 1, 24: 4, 25: None, 26: 5, 27: 6,
        28: 7, 29: None, 30: 6, 31: None,
    },
    ("pandaset42", "outdoor8"): {
        1: None, 2: None, 3: None, 4: None, 5: 6, 6: 6, 7: 4, 8: 4, 9: 4, 10: 4, 11: 5, 12: 5, 13: 0, 14: 1, 15: 1,
        16: 1, 17: 1, 18: 2, 19: 1, 20: 1, 21: 2, 22: 1, 23: 1, 24: 2, 25: 2, 26: 2, 27: 1, 28: 1, 29: 1, 30: 3,
        31: 3, 32: None, 33: None, 34: 7, 35: 7, 36: 7, 37: 7, 38: 7, 39: 7, 40: 7, 41: 7, 42: 7,
    },
    ("pandaset9", "outdoor8"): {0: 0, 1: 1, 2: 3, 3: 4, 4: 4, 5: 5, 6: 6, 7: 7, 8: 7},
    ("autoware", "outdoor8"): {
        0: 0, 1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: None, 7: 7, 8: None, 9: 7, 10: 6, 11: None,
    },
}  # fmt: skip


def test_drive13_has_the_documented_classes():
    assert {c.id: c.name for c in label_map("drive13").classes} == DRIVE13


def test_autoware_ids_match_autoware():
    words = "CAR TRUCK BUS MOTORCYCLE BICYCLE PEDESTRIAN ANIMAL HAZARD FLAT_SURFACE STRUCTURE VEGETATION NOISE"
    assert [(c.id, c.name) for c in label_map("autoware").classes] == list(enumerate(words.split()))


@pytest.mark.parametrize(("source", "target"), TABLES)
def test_translation_tables(source, target):
    table = translation(label_map(source), label_map(target))
    expected = np.full(256, IGNORE, np.uint8)
    for source_id, target_id in TABLES[source, target].items():
        expected[source_id] = IGNORE if target_id is None else target_id
    np.testing.assert_array_equal(table.lookup, expected)
    assert {c.id for c in label_map(source).classes} == set(TABLES[source, target])


def shipped_sets():
    return sorted(path.stem for path in find_config("labels").glob("*.json") if "_to_" not in path.stem)


@pytest.mark.parametrize("source", shipped_sets())
def test_tables_lead_from_every_shipped_set_to_outdoor8(source):
    own, outdoor8 = label_map(source), label_map("outdoor8")
    assert has_table(own, outdoor8) == (source != "outdoor8")
    assert set(translation(own, outdoor8).lookup[[c.id for c in own.classes]]) - {IGNORE} <= set(range(8))


@pytest.mark.parametrize("source", ["semantickitti19", "nuscenes16", "pandaset42"])
def test_own_tables_to_outdoor8_agree_with_those_by_way_of_drive13(source):
    """A model of drive13 is scored with truth that came either way."""
    own, drive13, outdoor8 = label_map(source), label_map("drive13"), label_map("outdoor8")
    direct, first, second = translation(own, outdoor8), translation(own, drive13), translation(drive13, outdoor8)
    assert first.then(second).table == direct.table
    np.testing.assert_array_equal(second.lookup[first.lookup], direct.lookup)


def test_tables_are_chained_where_there_is_no_direct_one():
    own = label_map("nuscenes32")
    assert not any(label_map("drive13").has_class(name) for name in own.names), "names would not help"
    to_drive13 = translation(own, label_map("drive13"))
    ids = [own.id_of(name) for name in ("vehicle.bus.bendy", "flat.terrain", "movable_object.barrier", "vehicle.ego")]
    assert [*to_drive13.apply(np.array(ids))] == [1, 7, 10, IGNORE]


def test_translation_to_the_same_set_is_the_identity():
    drive13 = label_map("drive13")
    ids = np.array([0, 5, 12, IGNORE])
    np.testing.assert_array_equal(translation(drive13, drive13).apply(ids), ids)


def test_merging_sums_probabilities_before_the_maximum():
    table = translation(label_map("drive13"), label_map("autoware"))
    probabilities = np.zeros((13, 1), np.float32)
    probabilities[[0, 4, 5, 6]] = [
        [0.4],
        [0.2],
        [0.2],
        [0.2],
    ]  # car has the maximum, but road + marking + sidewalk have more
    merged = table.merge(probabilities)
    assert merged.shape == (12, 1)
    assert merged[8, 0] == pytest.approx(0.6)
    assert merged.argmax() == 8


def test_names_match_by_alias_and_case():
    drive13 = label_map("drive13")
    assert drive13.id_of("Pedestrian") == 3
    assert {drive13.id_of(name) for name in ("traffic sign", "Traffic_Sign", "traffic-sign")} == {12}
    assert drive13.id_of("driveable_surface") == 4 and not drive13.has_class("trafficsign")
    other = LabelMap("other", (LabelClass(7, "Bus", (0, 0, 0)), LabelClass(9, "unicorn", (0, 0, 0))))
    assert translation(other, drive13).apply(np.array([7, 9])).tolist() == [1, IGNORE]


def test_palette_has_the_class_colours_and_grey_for_ignore():
    palette = label_map("drive13").palette
    assert palette.shape == (256, 3)
    assert tuple(palette[3]) == (255, 30, 30)
    assert tuple(palette[IGNORE]) == (64, 64, 64)


def test_errors_name_the_inconsistent_class():
    twice = (LabelClass(0, "car", (0, 0, 0)), LabelClass(0, "bus", (0, 0, 0)))
    with pytest.raises(LabelError, match="id 0"):
        LabelMap("broken", twice)
    with pytest.raises(LabelError, match="cart"):
        label_map("drive13").id_of("cart")
    drive13 = label_map("drive13")
    with pytest.raises(LabelError, match="car"):
        LabelTranslation(drive13, drive13, {})
    strangers = LabelMap("strangers", (LabelClass(0, "unicorn", (0, 0, 0)),))
    with pytest.raises(LabelError, match="share no class"):
        translation(strangers, drive13)
    with pytest.raises(LabelError, match="no label set"):
        label_map("nowhere")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"color": [256, 0, 0]}, "colour .256, 0, 0. of 'car' is not in 0..255"),
        ({"color": [-1, 0, 0]}, "not in 0..255"),
        ({"id": -1}, "id -1 is not in 0..254"),
        ({"id": float("inf")}, "OverflowError"),
        ({"aliases": "auto"}, "aliases is 'auto', not a list of names"),
        ({"aliases": [1]}, "not a list of names"),
        ({"aliases": 1}, "TypeError"),
    ],
)
def test_rejects_invalid_classes(row, message):
    with pytest.raises(LabelError, match=message):
        LabelMap.from_dict({"name": "x", "classes": [{"id": 0, "name": "car", "color": [0, 0, 0], **row}]})


@pytest.mark.parametrize("table", [[], ["car"], {"car": 1}, {"car": ["CAR"]}, "car", 1])
def test_rejects_invalid_tables(tmp_path, table):
    (tmp_path / "table.json").write_text(json.dumps({"source": "drive13", "target": "autoware", "table": table}))
    with pytest.raises(LabelError, match=r"table\.json: table does not map names to names|the table lacks"):
        LabelTranslation.read(tmp_path / "table.json", label_map("drive13"), label_map("autoware"))


def test_rejects_deeply_nested_files(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(LabelError, match="nested too deep"):
        LabelMap.read(tmp_path / "deep.json")


def test_label_set_json_round_trip(tmp_path):
    for name in ("drive13", "semantickitti19", "outdoor8"):
        label_set = label_map(name)
        assert LabelMap.from_dict(label_set.to_dict()) == label_set
        assert label_set.min_points == (50 if name == "outdoor8" else 1)
        assert label_set.mean_over_all == (name == "semantickitti19")
    (tmp_path / "bad.json").write_text('{"name": "x"}')
    with pytest.raises(LabelError, match="classes"):
        LabelMap.read(tmp_path / "bad.json")
