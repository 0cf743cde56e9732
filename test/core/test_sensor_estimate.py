"""What sweeps tell of a LiDAR: beams, height, attitude, and intensity of the ground."""

import re
from dataclasses import replace

import numpy as np
import pytest

from test.street import street
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import (
    completed,
    describe_mounting,
    find_beams,
    find_mounting,
    first_beams,
    is_complete,
    sample_sweep,
    sensor_spec,
)

VLP32C = (
    *(15.0, 10.333, 7.0, 4.667, 3.333, 2.333, 1.667, 1.333, 1.0, 0.667, 0.333, 0.0, -0.333, -0.667, -1.0, -1.333),
    *(-1.667, -2.0, -2.333, -2.667, -3.0, -3.333, -3.667, -4.0, -4.667, -5.333, -6.148, -7.254, -8.843, -11.31),
    *(-15.639, -25.0),
)


def samples(count=3, change=lambda cloud: cloud, **more):
    return [sample_sweep(change(street(x=0.8 * k, seed=k, **more))) for k in range(count)]


def without_ring(cloud):
    return replace(cloud, ring=None)


def shuffled(cloud):
    order = np.random.default_rng(1).permutation(len(cloud))
    return PointCloud(cloud.xyz[order], cloud.intensity[order])


def organised(cloud):
    """The cloud as rows by beam, each in the order of azimuth, with NaN where nothing returned."""
    beams = int(cloud.ring.max()) + 1
    azimuth = np.degrees(np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0]))
    column = np.round((azimuth + 180) / 0.9).astype(int) % 400
    xyz, intensity = np.full((beams, 400, 3), np.nan, np.float32), np.zeros((beams, 400), np.float32)
    row = beams - 1 - cloud.ring
    xyz[row, column], intensity[row, column] = cloud.xyz, cloud.intensity
    return PointCloud(xyz.reshape(-1, 3), intensity.ravel(), None, beams, 400)


@pytest.mark.parametrize("change", [lambda cloud: cloud, without_ring, shuffled, organised])
@pytest.mark.parametrize("beams", [(15, -15, 16), VLP32C, (15, -25, 64)], ids=["16", "VLP-32C", "64"])
def test_same_table_from_rings_elevations_and_rows(change, beams):
    expected = np.linspace(*beams) if len(beams) == 3 else np.asarray(beams)
    found = find_beams(samples(change=change, beams=beams), {})
    assert not found.problem
    np.testing.assert_allclose(found.elevations_deg, expected, atol=0.05)


def test_large_sweeps_are_thinned_without_losing_beams():
    cloud = street(beams=(22.5, -22.5, 128), columns=1024)
    for sweep in (cloud, without_ring(cloud)):
        sample = sample_sweep(sweep)
        assert len(sample.cloud) <= 40_000
        assert len(find_beams([sample], {}).elevations_deg) == 128
    grid = organised(street(beams=(15, -25, 128), columns=400))
    assert (sample_sweep(grid).cloud.height, sample_sweep(grid).cloud.width) == (128, 40_000 // 128)


def test_first_table_of_a_ring_field_is_there_at_once():
    sample = samples(1)[0]
    first, final = first_beams(sample), find_beams([sample], {})
    np.testing.assert_allclose(first.elevations_deg, final.elevations_deg, atol=0.01)
    np.testing.assert_allclose(first.rings_deg, final.rings_deg, atol=0.01)


@pytest.mark.parametrize("ring", ["none", "zero", "random", "huge", "negative"])
def test_even_steps_stand_for_beams_that_are_not_there(ring):
    """As with solid-state LiDARs, clouds of several LiDARs, and motion-compensated ones in another frame."""
    cloud = street(beams=(12, -12, 400), columns=100)
    rng = np.random.default_rng(0)
    tilt = np.array([[1, 0, 0.1], [0, 1, 0.05], [-0.1, -0.05, 1]], np.float32)
    xyz = cloud.xyz @ tilt + rng.normal(0, 0.05, cloud.xyz.shape).astype(np.float32)
    rings = {
        "none": None,
        "zero": np.zeros(len(xyz), np.uint16),
        "random": rng.integers(0, 6, len(xyz)),
        "huge": rng.integers(0, 40000, len(xyz)),
        "negative": np.full(len(xyz), -1, np.int32),
    }
    sample = sample_sweep(PointCloud(xyz, cloud.intensity, rings[ring]))
    for beams in (find_beams([sample], {}), first_beams(sample)):
        assert beams.problem and not beams.rings_deg and not beams.source
        steps = -np.diff(beams.elevations_deg)
        assert len(beams.elevations_deg) == 64 and np.ptp(steps) < 0.01
        high, low = beams.elevations_deg[0], beams.elevations_deg[-1]
        inside = np.mean((sample.elevations_deg < high) & (sample.elevations_deg > low))
        assert inside == pytest.approx(0.99, abs=0.002)


@pytest.mark.parametrize("scale", [1.0, 1 / 255, 40.0, 257.0])
def test_ground_intensity_follows_the_scale(scale):
    def scaled(cloud):
        return replace(cloud, intensity=cloud.intensity * np.float32(scale))

    assert find_mounting(samples(change=scaled)).ground_intensity == pytest.approx(10 * scale, rel=0.05)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda cloud: replace(cloud, intensity=None), "no intensity"),
        (lambda cloud: replace(cloud, intensity=np.zeros(len(cloud), np.float32)), "intensity is 0 for all points"),
        (lambda cloud: replace(cloud, intensity=np.full(len(cloud), 100, np.float32)), "intensity is 100"),
        (lambda cloud: replace(cloud, intensity=np.full(len(cloud), np.nan, np.float32)), "intensity is NaN"),
    ],
    ids=["absent", "zero", "constant", "NaN"],
)
def test_intensity_without_information_is_not_used(change, note):
    mounting = find_mounting(samples(change=change))
    assert mounting.ground_intensity == 0 and note in mounting.notes[0]
    assert mounting.height_m == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize("to_scale", [lambda i: 10 * np.log10(i) - 40, lambda i: i - 128], ids=["dB", "signed"])
def test_negative_intensities_count_from_the_lowest(to_scale):
    def changed(cloud):
        return replace(cloud, intensity=to_scale(cloud.intensity).astype(np.float32))

    mounting = find_mounting(samples(change=changed))
    low = mounting.intensity_range[0]
    assert low < 0 and "negative intensities: counted from" in mounting.notes[0]
    assert mounting.ground_intensity == pytest.approx(float(to_scale(np.float64(10))) - low, abs=0.6)


def test_ground_of_intensity_zero_is_half_of_the_smallest_value():
    """Integers of a sensor with a small gain: one is the least that they show."""

    def dark(cloud):
        return replace(cloud, intensity=np.where(cloud.xyz[:, 2] < -1, 0, np.rint(cloud.intensity / 3)))

    assert find_mounting(samples(change=dark)).ground_intensity == 0.5


def test_coarse_intensities_do_not_make_everything_bright():
    """Two bits: the ground is almost always 0."""

    def coarse(cloud):
        dark = cloud.xyz[:, 2] < -1
        dim = np.arange(len(cloud)) % 100 == 0
        return replace(cloud, intensity=np.where(dark, dim, np.rint(cloud.intensity / 10)).astype(np.float32))

    assert find_mounting(samples(change=coarse)).ground_intensity == 0.5


def test_height_of_a_levelled_cloud_whose_origin_is_on_the_ground_is_known():
    def in_base_link(cloud):
        return replace(cloud, xyz=cloud.xyz + np.float32([0, 0, 1.8]))

    assert find_mounting(samples(change=in_base_link)).height_m == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("roll", "pitch", "count", "expected"),
    [
        (0, 10, 3, (0, 10)),
        (-6, 3, 3, (-6, 3)),
        (0.7, -1.5, 3, (0, 0)),
        (0, 10, 2, (0, 0)),
        (180, 0, 1, (180, 0)),
        (179, 1, 3, (180, 0)),
        (170, 8, 3, (170, 8)),
    ],
)
def test_attitude_is_that_of_a_tilted_sensor_not_of_the_road(roll, pitch, count, expected):
    mounting = find_mounting(samples(count, roll=roll, pitch=pitch, beams=(24, -24, 32)))
    turned = (mounting.roll_deg - expected[0] + 180) % 360 - 180
    assert abs(turned) < 0.3 and abs(mounting.pitch_deg - expected[1]) < 0.3
    assert mounting.height_m == pytest.approx(1.8, abs=0.06)


def test_tilt_that_the_sweeps_do_not_agree_on_is_left_out():
    """Speed bumps and ramps."""
    bumps = [sample_sweep(street(pitch=pitch)) for pitch in (6, -5, 4, -6, 5)]
    assert (find_mounting(bumps).roll_deg, find_mounting(bumps).pitch_deg) == (0, 0)


def test_sensor_without_ground_is_said_to_be_so():
    up = street(beams=(24, 3, 32))
    mounting = find_mounting([sample_sweep(up)])
    assert mounting.height_m is None and mounting.ground_intensity == 0
    assert mounting.notes == ("no ground found: a usual height is assumed, intensity is not used",)


def test_sweep_without_usable_points_tells_nothing():
    assert sample_sweep(PointCloud(np.zeros((0, 3), np.float32))) is None
    assert sample_sweep(PointCloud(np.full((5000, 3), np.nan, np.float32))) is None
    assert sample_sweep(PointCloud(np.zeros((100, 3), np.float32), None, None, 10, 10)) is None


def test_sensor_file_is_completed_by_what_it_does_not_say():
    mounting = find_mounting(samples(pitch=10))
    product = SensorSpec("VLP-32C", VLP32C)
    assert not is_complete(product)
    whole = completed(product, mounting)
    assert is_complete(whole) and whole.pitch_deg == pytest.approx(10, abs=0.3)
    assert whole.ground_intensity == pytest.approx(10, rel=0.05) and whole.beam_elevations_deg == VLP32C
    own = SensorSpec("own", VLP32C, height_m=0.0, pitch_deg=1.0, ground_intensity=5.0)
    assert is_complete(own) and completed(own, mounting) == own
    upside_down = completed(SensorSpec("roof", VLP32C, roll_deg=180.0), mounting)
    assert (upside_down.roll_deg, upside_down.pitch_deg) == (180, 0)


def test_mounting_in_words():
    mounting = find_mounting(samples(pitch=10))
    beams = find_beams(samples(1), {})
    text = describe_mounting(sensor_spec("auto", beams, mounting))
    assert re.fullmatch(r"1.80 m above the ground, pitch 10.0 degrees, ground intensity 10.\d+", text)
    assert describe_mounting(SensorSpec("x", (1.0,), roll_deg=180.0)) == "upside down, roll 180.0 degrees"
    assert describe_mounting(SensorSpec("x", (1.0,))) == ""


@pytest.mark.parametrize("change", [lambda cloud: cloud, without_ring])
def test_beams_of_a_sensor_upside_down_are_those_of_its_own_frame(change):
    turned = samples(change=change, roll=180, beams=(24, -2, 32))
    found = find_beams(turned, {}, find_mounting(turned))
    np.testing.assert_allclose(found.elevations_deg, np.linspace(24, -2, 32), atol=0.05)
    if found.rings_deg:
        np.testing.assert_allclose(found.rings_deg, np.linspace(-2, 24, 32), atol=0.05)


def test_beams_of_clouds_in_a_frame_that_is_tilted_against_the_lidar():
    def tilted(cloud):
        return replace(cloud, xyz=cloud.xyz @ leveling_rotation(0, 10).astype(np.float32))

    rotated = samples(change=tilted)
    assert not find_beams(rotated, {}).source
    found = find_beams(rotated, {}, find_mounting(rotated))
    assert found.source == "ring field once levelled"
    np.testing.assert_allclose(found.elevations_deg, np.linspace(2, -24, 32), atol=0.1)
