import re

import numpy as np
import pytest

from xmodelkd_ros.core.beam_table import _k_means, elevations_deg, fit_beams
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.sensor import SensorSpec

# Dense in the middle, sparse outside, as in Hesai and Velodyne sensors.
BEAMS = np.r_[15.0, 11.0, 8.0, 5.0, 3.0, np.arange(2.0, -6.1, -1 / 6), np.arange(-7.0, -14.5, -1.0), -19.0, -25.0]


def sweep_elevations(rng, noise_deg=0.01):
    per_beam = rng.integers(150, 1800, len(BEAMS))
    return np.repeat(BEAMS, per_beam) + rng.normal(0, noise_deg, per_beam.sum())


def test_fits_an_uneven_beam_table_of_unknown_size():
    fitted = fit_beams(sweep_elevations(np.random.default_rng(0)))
    assert len(fitted) == len(BEAMS)
    np.testing.assert_allclose(fitted, BEAMS, atol=0.01)


def test_fits_weak_beams():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 0.01, 5000), rng.normal(1, 0.01, 200), rng.normal(2, 0.01, 5000)])
    np.testing.assert_allclose(fit_beams(values, beams=3), [2, 1, 0], atol=0.01)


def test_clusters_without_points_do_not_move():
    assert _k_means(np.array([0.0, 0.1, 10.0]), np.array([0.0, 5.0, 10.0])).tolist() == [0.05, 5.0, 10.0]


def test_rejects_too_few_beams():
    with pytest.raises(SensorError, match="of 64 beams"):
        fit_beams(np.random.default_rng(0).normal(0, 0.01, 1000), beams=64)
    with pytest.raises(SensorError, match="no valid points"):
        fit_beams(np.zeros(0))


def test_elevations_of_a_worked_example():
    xyz = np.array([[1, 0, 1], [0, -2, 0], [3, 4, -5]], np.float32)
    np.testing.assert_allclose(elevations_deg(xyz), [45, 0, -45])


def test_sensor_file_round_trip_and_invalid_files(tmp_path):
    sensor = SensorSpec("os1", (10.0, 0.0), (0.0, 10.0), (0.0, 2048.0))
    sensor.write(tmp_path / "os1.json")
    assert SensorSpec.read(tmp_path / "os1.json") == sensor
    own = SensorSpec("os1", (10.0, 0.0), ego_box=(-1, -1, -1, 1, 1, 1), min_range_m=0.8)
    own.write(tmp_path / "own.json")
    assert SensorSpec.read(tmp_path / "own.json") == own
    assert "ego_box" not in (tmp_path / "os1.json").read_text(), "as older versions wrote it"
    gaps = SensorSpec("gaps", (10.0, 0.0), (float("nan"), 0.0, 10.0))
    gaps.write(tmp_path / "gaps.json")
    assert "null" in (tmp_path / "gaps.json").read_text() and "NaN" not in (tmp_path / "gaps.json").read_text()
    np.testing.assert_equal(SensorSpec.read(tmp_path / "gaps.json").ring_elevations_deg, gaps.ring_elevations_deg)
    (tmp_path / "bad.json").write_text('{"name": "bad", "beam_elevations_deg": ["high"], "intensity_range": [0, 1]}')
    with pytest.raises(SensorError, match=r"bad\.json.*fit-sensor"):
        SensorSpec.read(tmp_path / "bad.json")
    good = (tmp_path / "os1.json").read_text()
    for text in ("[" * 100_000, "[]", good.replace("2048.0", "1e999"), good.replace("2048.0", "9" * 400), good + "{"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(SensorError, match=r"bad\.json.*fit-sensor"):
            SensorSpec.read(tmp_path / "bad.json")
    for text in (good.replace("{", '{"ego_box": [1, 2],', 1), good.replace("{", '{"min_range_m": -1,', 1)):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(SensorError, match=r"bad\.json.*(ego_box|min_range_m) is "):
            SensorSpec.read(tmp_path / "bad.json")
    with pytest.raises(SensorError, match="missing"):
        SensorSpec.read(tmp_path / "missing.json")
    with pytest.raises(SensorError, match="intensity_range"):
        SensorSpec("dark", (0.0,), intensity_range=(1.0, 1.0))
    for beams in ((0.0, 10.0), (1.0, 1.0), (10.0, 0.0, 5.0)):
        with pytest.raises(SensorError, match=r"beam_elevations_deg must descend, each one once, but holds \d+, \d+"):
            SensorSpec("unsorted", beams)
    with pytest.raises(SensorError, match="elevation is 95, but must be within"):
        SensorSpec("steep", (95.0, 0.0))


@pytest.mark.parametrize(
    ("key", "value"), [("pitch_deg", 400), ("roll_deg", -200), ("height_m", -50), ("ground_intensity", -4)]
)
def test_mounting_that_no_lidar_has_is_refused(key, value, tmp_path):
    (tmp_path / "s.json").write_text(GOOD.replace("{", f'{{"{key}": {value}, '))
    with pytest.raises(SensorError, match=rf"s\.json.*{key} is {value}.*must be within"):
        SensorSpec.read(tmp_path / "s.json")


GOOD = '{"name": "a", "beam_elevations_deg": [1, 0], "intensity_range": [0, 1]}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON: line 1, column 1: expecting value"),
        ("name: a\n", "it is not JSON: line 1, column 1: "),
        (GOOD[:-1] + ",\n}", "it is not JSON: line "),
        ("\xff", "it is not UTF-8 text"),
        ("[1]", "it holds [1] instead of an object with name, beam_elevations_deg, intensity_range"),
        (GOOD.replace("[0, 1]", "[0, NaN]"), "NaN is not a finite number"),
        ('{"name": "a", "beam_elevations_deg": [1]}', "it lacks intensity_range;"),
        (
            '{"name": "a", "beams_elevation_deg": [1]}',
            "it lacks beam_elevations_deg, intensity_range, and has unknown key",
        ),
        (GOOD.replace("[1, 0]", '[1, "x"]'), "beam_elevations_deg holds 'x', which is no number"),
        (GOOD.replace("[1, 0]", "[1, null]"), "beam_elevations_deg holds null, which is no number"),
        (GOOD.replace("[1, 0]", "[1, true]"), "beam_elevations_deg holds True, which is no number"),
        (GOOD.replace("[1, 0]", "[[1, 0]]"), "beam_elevations_deg holds [1, 0], which is no number"),
        (GOOD.replace("[1, 0]", "64"), "beam_elevations_deg is 64, which is no list of numbers"),
        (GOOD.replace("[0, 1]", "[0, 1, 2]"), "intensity_range has 3 values instead of 2"),
        (GOOD.replace("{", '{"min_range_m": "near", '), "min_range_m is 'near', which is no number"),
        (GOOD.replace("{", '{"ego_bx": [], '), "it has unknown key 'ego_bx' (did you mean ego_box?); known are name, "),
        (GOOD.replace("{", '{"min_range": 1, "vendor": 2, '), "'min_range' (did you mean min_range_m?), 'vendor';"),
    ],
)
def test_what_is_wrong_with_a_sensor_file_is_said_in_plain_words(text, said, tmp_path):
    (tmp_path / "s.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SensorError, match=re.escape(f"cannot read sensor file {tmp_path / 's.json'}: ")) as error:
        SensorSpec.read(tmp_path / "s.json")
    message = str(error.value)
    assert said in message and message.endswith("write one with 'xmodelkd fit-sensor'")
    assert not re.search(r"\w(Error|Exception)\b", message) and "\n" not in message


def test_missing_sensor_file_is_said_in_plain_words(tmp_path):
    with pytest.raises(SensorError, match=r"nowhere\.json: No such file or directory; write one"):
        SensorSpec.read(tmp_path / "nowhere.json")


def test_sensor_file_of_an_editor_that_writes_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "s.json").write_text(GOOD, encoding="utf-8-sig")
    assert SensorSpec.read(tmp_path / "s.json").beam_elevations_deg == (1.0, 0.0)
