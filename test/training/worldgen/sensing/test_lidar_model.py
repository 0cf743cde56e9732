"""Directions and times of pulses, and the differences between units."""

from dataclasses import replace

import numpy as np
import pytest

from training.datasets.pandaset import PandaSetSequence
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import (
    AT128,
    AVIA,
    BEAM_TABLES,
    HDL64E,
    HORIZON,
    LIDARS,
    M1,
    MID360,
    PANDAR64,
    UNSEEN_LIDARS,
    VLP32C,
    lidar_by_name,
)
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.core.sensor import nearest
from xmodelkd_ros.resources import read_sensor

SEEDS = range(12)
ALL = [*LIDARS, *UNSEEN_LIDARS]
EACH = pytest.mark.parametrize("lidar", ALL, ids=lambda lidar: lidar.name)


def azimuths_deg(directions):
    return np.degrees(np.arctan2(directions[..., 1], directions[..., 0]))


def elevations_of(lidar):
    return np.degrees(np.arcsin(lidar.directions()[..., 2]))


@pytest.mark.parametrize(
    ("name", "beams", "columns", "top", "bottom"),
    [
        ("VLP-16", 16, 1800, 15.0, -15.0),
        ("VLP-32C", 32, 1800, 15.0, -25.0),
        ("HDL-32E", 32, 2170, 10.67, -30.67),
        ("HDL-64E", 64, 2083, 2.021, -24.711),
        ("OS1-32", 32, 1024, 21.2, -21.2),
        ("OS1-64", 64, 1024, 21.2, -21.2),
        ("OS1-128", 128, 1024, 21.2, -21.2),
        ("Pandar40P", 40, 1800, 15.21, -24.569),
        ("Pandar64", 64, 1800, 14.873, -24.895),
        ("AT128", 128, 1200, 12.9, -12.5),
        ("PandarXT-32", 32, 2000, 15.0, -16.0),
        ("OS0-128", 128, 1024, 45.0, -45.0),
    ],
)
def test_beam_tables_have_documented_size_and_field_of_view(name, beams, columns, top, bottom):
    lidar = lidar_by_name(name, unseen=True)
    assert (lidar.beams, lidar.columns) == (beams, columns)
    assert (lidar.elevations_deg[0], lidar.elevations_deg[-1]) == pytest.approx((top, bottom))
    assert BEAM_TABLES[name] == lidar.elevations_deg
    ProjectionSpec(lidar.elevations_deg, 64)  # the rows of a range image


@pytest.mark.parametrize("name", ["VLP-16", "HDL-64E", "OS1-64", "Pandar40P", "PandarXT-32"])
def test_beam_tables_are_those_of_the_sensor_files(name):
    assert BEAM_TABLES[name] == read_sensor(name).beam_elevations_deg


@pytest.mark.parametrize(
    ("elevation", "clockwise"), [(-25.0, 1.4), (-1.0, -4.2), (-15.639, -1.4), (-2.0, 4.2), (15.0, -1.4), (10.333, 1.4)]
)
def test_vlp32c_azimuth_offsets_match_manual(elevation, clockwise):
    beam = VLP32C.elevations_deg.index(elevation)
    assert VLP32C.azimuth_offsets_deg[beam] == -clockwise


def test_pandar64_elevations_match_pandaset(pandaset):
    cloud = PandaSetSequence(pandaset).cloud(0)
    values, beams = elevations_deg(cloud.xyz), np.asarray(PANDAR64.elevations_deg)
    beam = nearest(beams, values)
    off = [np.median(values[beam == number]) - beams[number] for number in range(64)]
    np.testing.assert_allclose(off, 0, atol=0.02)


def test_xt32_and_os0_are_reserved_for_test_drives():
    assert {lidar.name for lidar in UNSEEN_LIDARS} == {"PandarXT-32", "OS0-128"}
    assert not {lidar.name for lidar in LIDARS} & {lidar.name for lidar in UNSEEN_LIDARS}
    assert lidar_by_name("OS0-128", unseen=True).beams == 128
    with pytest.raises(ConfigError, match="lidar is 'OS0-128', which is for test drives only"):
        lidar_by_name("OS0-128")


# --- scan patterns ---


@EACH
def test_directions_are_unit_vectors_within_the_field_of_view(lidar):
    directions = lidar.directions()
    assert directions.shape == (lidar.columns, lidar.beams, 3) and directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=2), 1, atol=1e-6)
    assert elevations_of(lidar).max() < lidar.elevations_deg[0] + 0.01
    assert elevations_of(lidar).min() > lidar.elevations_deg[-1] - 0.01
    assert np.abs(azimuths_deg(directions)).max() < lidar.azimuth_span_deg / 2 + 0.01
    assert len(lidar.column_times_s()) == lidar.columns and lidar.column_times_s()[-1] == 0


def test_firings_start_behind_and_rotate_clockwise():
    lidar = replace(HDL64E, columns=360)
    directions = lidar.directions()
    np.testing.assert_allclose(azimuths_deg(directions)[:, 0], 179.5 - np.arange(360), atol=1e-4)
    np.testing.assert_allclose(elevations_of(lidar)[7], lidar.elevations_deg, atol=1e-4)


def test_positive_azimuth_offset_points_left():
    lidar = LidarModel("two", (1.0, -1.0), 360, azimuth_offsets_deg=(0.0, 4.0))
    azimuth = azimuths_deg(lidar.directions())[180]
    np.testing.assert_allclose(azimuth, (-0.5, 3.5), atol=1e-4)


def test_last_column_is_fired_at_end_of_sweep():
    times = replace(PANDAR64, columns=1000).column_times_s()
    assert times[-1] == 0
    np.testing.assert_allclose(np.diff(times), 0.1 / 1000)
    assert times[0] == pytest.approx(-0.1 + 0.1 / 1000)


def test_at128_covers_120_degrees_ahead_in_steps_of_a_tenth():
    azimuth = azimuths_deg(AT128.directions())
    assert azimuth.max() == pytest.approx(59.95, abs=1e-3) and azimuth.min() == pytest.approx(-59.95, abs=1e-3)
    np.testing.assert_allclose(np.diff(azimuth, axis=0), -0.1, atol=1e-3)
    np.testing.assert_allclose(-np.diff(AT128.elevations_deg), 0.2, atol=1.1e-3)


def filled(lidar, sweeps, step_deg=2.0):
    """Share of the cells of the field of view (an ellipse, for prisms) that some sweeps point to."""
    cells = set()
    for turn in range(sweeps):
        one = lidar.at(turn)
        pairs = np.stack([azimuths_deg(one.directions()), elevations_of(one)], axis=-1).reshape(-1, 2)
        cells |= set(map(tuple, np.floor(pairs / step_deg).astype(int)))
    across, up = lidar.azimuth_span_deg, lidar.elevations_deg[0] - lidar.elevations_deg[-1]
    return len(cells) / (across * up / step_deg**2 * (np.pi / 4 if lidar.pattern == "prisms" else 1))


@pytest.mark.parametrize("lidar", [AVIA, HORIZON, MID360], ids=lambda lidar: lidar.name)
def test_livox_patterns_do_not_repeat_and_fill_the_field_of_view_over_time(lidar):
    assert not lidar.has_rings and lidar.name not in BEAM_TABLES
    first, second = lidar.directions(), lidar.at(1).directions()
    assert np.abs(first - second).max() > 0.1
    assert filled(lidar, 10) > max(0.9, filled(lidar, 1) + 0.02)


def test_rings_repeat_every_sweep():
    assert PANDAR64.at(5) is PANDAR64


def test_m1_channels_share_the_width_of_the_field_of_view():
    azimuth = azimuths_deg(M1.directions())
    for channel in range(5):
        assert np.ptp(azimuth[:, channel]) == pytest.approx(24.0, abs=0.3)
    assert filled(M1, 1, 1.0) > 0.99
    assert not M1.has_rings


# --- units ---


@EACH
def test_units_differ_slightly_and_keep_beam_order(lidar):
    for seed in SEEDS:
        unit = lidar.sample_unit(np.random.default_rng(seed))
        change = np.abs(np.subtract(unit.elevations_deg, lidar.elevations_deg))
        assert 0 < change.max() < 0.06 + lidar.table_spread * np.abs(lidar.elevations_deg).max()
        assert np.all(np.diff(unit.elevations_deg) < 0)
        assert len(unit.beam_gains) == lidar.beams and np.ptp(unit.beam_gains) > 0
        assert unit.range_noise_m != lidar.range_noise_m and unit.gain != lidar.gain
        assert (unit.columns, unit.returns, unit.offset) == (lidar.columns, 1, 0.0), "a common unit"


def test_units_of_any_kind_cover_modes_and_intensity_scales():
    units = [lidar.sample_any_unit(np.random.default_rng(seed)) for seed in range(60) for lidar in ALL]
    for lidar in ALL:
        modes = {unit.columns for unit in units if unit.name == lidar.name}
        assert modes == set(lidar.column_modes or (lidar.columns,))
    steps = [u.azimuth_span_deg / u.columns for u in units if u.has_rings]
    assert min(steps) <= 0.1 and sum(step <= 0.4 for step in steps) > 0.85 * len(steps)
    gammas = [unit.gamma for unit in units]
    assert min(gammas) < 0.4 and max(gammas) > 2.2
    assert min(gammas) >= 0.3 and max(gammas) <= 2.5
    spreads = [np.std(np.log(unit.beam_gains)) for unit in units if unit.beams > 15]
    assert 0.2 < max(spreads) < 0.45 and np.median(spreads) < 0.1
    assert 0.1 < np.mean([unit.offset > 0 for unit in units]) < 0.3
    assert min(unit.range_exponent for unit in units) < -0.7
    dual = [unit.returns == 2 for unit in units if lidar_by_name(unit.name, unseen=True).returns == 2]
    assert 0.05 < np.mean(dual) < 0.15


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elevations_deg": (1.0, 1.0)}, "elevations_deg"),
        ({"columns": 3}, "columns is 3"),
        ({"max_range_m": 300.0}, "300"),
        ({"azimuth_offsets_deg": (1.0,)}, "azimuth_offsets_deg"),
        ({"beam_gains": (1.0, 1.0)}, "beam_gains"),
        ({"pattern": "spiral"}, "pattern is 'spiral', not one of spinning"),
        ({"returns": 3}, "returns 3"),
        ({"azimuth_span_deg": 0.0}, "azimuth_span_deg 0.0"),
    ],
)
def test_rejects_invalid_sensors(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(PANDAR64, **change)
