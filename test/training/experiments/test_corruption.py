import numpy as np
import pytest

pytest.importorskip("embreex", reason="beam tables come with the generated world, which needs the extra datasets")

from training.data.sweeps import Sweep
from training.experiments.corruption import CORRUPTIONS, MODERATE, SEVERITIES, corrupted
from training.experiments.corruption.beams import on_other_sensor
from training.experiments.corruption.fog import backscatter, in_fog, visibility_m
from training.worldgen.sensing.sensors import BEAM_TABLES
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector

PROJECTOR = RangeProjector(ProjectionSpec(BEAM_TABLES["Pandar64"], 256))
CAR, TRUCK, TWO_WHEELER, PERSON, ROAD, BUILDING = 0, 1, 2, 3, 4, 9
SENSOR_M, WALL_M = 2.0, 12.0


def sweep_with(xyz, labels, intensity=None):
    intensity = np.linspace(1, 100, len(xyz)) if intensity is None else intensity
    return Sweep(PointCloud(np.asarray(xyz, np.float32), np.asarray(intensity, np.float32)), labels.astype(np.uint8))


@pytest.fixture
def sweep(sweep_of):
    """64 beams of 64 points; a car, a truck, a bicycle and a person in each."""
    xyz = sweep_of("Pandar64")
    return sweep_with(xyz, np.arange(len(xyz)) % 4)


@pytest.fixture
def street(sweep_of):
    """What a Pandar64 measures of a flat road in a round yard: 900 columns, the road 2 m below, the wall 12 m away."""
    rays = sweep_of("Pandar64", columns=900)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    wall = WALL_M / np.hypot(rays[:, 0], rays[:, 1])
    road = np.where(rays[:, 2] < 0, SENSOR_M / np.maximum(-rays[:, 2], 1e-9), np.inf)
    return sweep_with(rays * np.minimum(wall, road)[:, None], np.where(road < wall, ROAD, BUILDING))


def position(sweep):
    return np.isfinite(sweep.cloud.xyz).all(axis=1)


def by_severity(sweep, kind):
    return [corrupted(sweep, kind, 1, severity) for severity in range(len(SEVERITIES))]


def assert_kept(before, after, kept):
    """Of these points nothing changed."""
    np.testing.assert_array_equal(after.cloud.xyz[kept], before.cloud.xyz[kept])
    np.testing.assert_array_equal(after.cloud.intensity[kept], before.cloud.intensity[kept])
    np.testing.assert_array_equal(after.labels[kept], before.labels[kept])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_sweep(sweep, kind):
    one, again, other = (corrupted(sweep, kind, seed).cloud for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.xyz, again.xyz)
    np.testing.assert_array_equal(one.intensity, again.intensity)
    by_chance = kind not in ("other_sensor", "weak_intensity", "fog")  # no point is far enough for droplets here
    assert np.array_equal(one.xyz, other.xyz, equal_nan=True) != by_chance


@pytest.mark.parametrize("severity", range(3))
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_arrays_keep_their_sizes_and_types_and_what_is_lost_has_no_label(sweep, kind, severity):
    lost = np.arange(len(sweep.labels)) % 7 == 0
    xyz = np.where(lost[:, None], np.nan, sweep.cloud.xyz)
    before = sweep_with(xyz, np.where(lost, IGNORE, sweep.labels))
    xyz, labels, intensity = before.cloud.xyz.copy(), before.labels.copy(), before.cloud.intensity.copy()
    after = corrupted(before, kind, 1, severity)
    assert after.cloud.xyz.shape == xyz.shape and after.cloud.xyz.dtype == after.cloud.intensity.dtype == np.float32
    assert after.labels.shape == labels.shape and after.labels.dtype == np.uint8
    assert (after.labels[~position(after)] == IGNORE).all()
    assert not position(after)[lost].any()
    np.testing.assert_array_equal(before.cloud.xyz, xyz, err_msg="the sweep itself is changed")
    np.testing.assert_array_equal(before.labels, labels)
    np.testing.assert_array_equal(before.cloud.intensity, intensity)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_sweeps_without_intensity_or_points(sweep, kind):
    dark = Sweep(PointCloud(sweep.cloud.xyz), sweep.labels)
    found, expected = corrupted(dark, kind, 1), corrupted(sweep, kind, 1)
    assert found.cloud.intensity is None
    np.testing.assert_array_equal(found.cloud.xyz, expected.cloud.xyz)
    empty = sweep.selected(np.zeros(len(sweep.labels), np.bool_))
    assert len(corrupted(empty, kind, 1).labels) == 0


def test_beams_are_lost_whole(sweep):
    row = PROJECTOR.project(sweep.cloud).pixel // 256
    lost = []
    for found in by_severity(sweep, "lost_beams"):
        left = PROJECTOR.project(found.cloud).pixel != NO_PIXEL
        lost.append(set(row[~left]))
        assert not lost[-1] & set(row[left])
        assert (found.labels[~left] == IGNORE).all()
        assert_kept(sweep, found, left)
    assert 5 <= len(lost[0]) <= 27 and 20 <= len(lost[MODERATE]) <= 44 and 37 <= len(lost[2]) <= 59, "of 64"
    assert lost[0] < lost[1] < lost[2], "what is lost lightly is lost heavily too"


def test_crosstalk_moves_a_share_of_the_points_and_leaves_them_no_label(street):
    before, shares = np.zeros(len(street.labels), np.bool_), []
    for found in by_severity(street, "crosstalk"):
        struck = found.labels == IGNORE
        assert_kept(street, found, ~struck)
        assert (struck | ~before).all()
        before = struck
        shares.append(struck.mean())
        off = found.cloud.xyz[struck] - street.cloud.xyz[struck]
        assert np.std(off, axis=0) == pytest.approx([3, 3, 3], rel=0.15)
        assert np.isin(found.cloud.intensity[struck], street.cloud.intensity).all()
        assert (found.cloud.intensity[struck] != street.cloud.intensity[struck]).mean() > 0.9
    assert shares == pytest.approx([0.01, 0.03, 0.06], rel=0.1)


def test_blur_moves_the_sweep_and_each_point_a_little(sweep):
    shifts = []
    for found, deviation in zip(by_severity(sweep, "motion_blur"), (0.2, 0.25, 0.3), strict=True):
        off = found.cloud.xyz - sweep.cloud.xyz
        assert np.std(off, axis=0) == pytest.approx(deviation * np.array([0.1, 0.1, 0.05]), rel=0.05)
        shifts.append(off.mean(axis=0))
        np.testing.assert_array_equal(found.labels, sweep.labels)
        np.testing.assert_array_equal(found.cloud.intensity, sweep.cloud.intensity)
    np.testing.assert_allclose(shifts[2], 1.5 * shifts[0], rtol=1e-3)
    every = [corrupted(sweep, "motion_blur", seed, 0).cloud.xyz - sweep.cloud.xyz for seed in range(200)]
    assert np.std([off.mean(axis=0) for off in every], axis=0) == pytest.approx([0.2, 0.2, 0.2], rel=0.2)


def test_only_vehicles_lose_echoes(sweep):
    vehicles = np.isin(sweep.labels, (CAR, TRUCK, TWO_WHEELER))
    for found, share in zip(by_severity(sweep, "missing_echoes"), (0.75, 0.85, 0.95), strict=True):
        lost = ~position(found)
        assert not lost[~vehicles].any() and lost[vehicles].mean() == pytest.approx(share, abs=0.02)
        for label in (CAR, TRUCK, TWO_WHEELER):
            assert 0 < (found.labels == label).mean() < 0.3 * (1 - share) + 0.01
        assert_kept(sweep, found, ~lost)


def test_another_sensors_points_lie_on_its_beams(street):
    shares = []
    for found, lidar in zip(by_severity(street, "other_sensor"), ("HDL-64E", "VLP-32C", "HDL-32E"), strict=True):
        there, beams = position(found), np.array(BEAM_TABLES[lidar])
        shares.append(there.mean())
        before, after = street.cloud.xyz[there], found.cloud.xyz[there]
        was_deg, is_deg = elevations_deg(before), elevations_deg(after)
        beam = np.abs(is_deg[:, None] - beams).argmin(axis=1)
        assert is_deg == pytest.approx(beams[beam], abs=1e-3)
        assert 0.2 < np.abs(was_deg - is_deg).max() < 0.351
        # The nearest beam of the other's, or two of them where they are equally near, with all of their points.
        nearest = np.abs(np.array(BEAM_TABLES["Pandar64"]) - beams[beam][:, None]).min(axis=1)
        assert (np.abs(was_deg - is_deg) < nearest + 0.022).all()
        assert set(np.bincount(beam)) <= {0, 900, 1800} and (np.bincount(beam) == 1800).sum() < 5
        assert np.linalg.norm(after, axis=1) == pytest.approx(np.linalg.norm(before, axis=1), rel=1e-5)
        turned = np.arctan2(after[:, 1], after[:, 0]) - np.arctan2(before[:, 1], before[:, 0])
        assert np.abs(turned).max() < 1e-5
        np.testing.assert_array_equal(found.labels[there], street.labels[there])
        np.testing.assert_array_equal(found.cloud.intensity, street.cloud.intensity)
        assert (found.labels[~there] == IGNORE).all()
    assert 1 > shares[0] > shares[1] > shares[2] > 0.1


def test_the_same_sensor_changes_nothing(street):
    found = on_other_sensor(street, "Pandar64", np.random.default_rng(0))
    np.testing.assert_allclose(found.cloud.xyz, street.cloud.xyz, atol=1e-4)
    np.testing.assert_array_equal(found.labels, street.labels)


def test_where_the_nearest_beam_meets_nothing_the_next_one_serves():
    """The VLP-32C's beam at 0 degrees, and two points 0.1 and 0.15 degrees above it, beside each other or far apart."""

    def kept(azimuth_deg):
        elevation, azimuth = np.radians([0.1, 0.15]), np.radians([0.05, azimuth_deg])
        rays = np.column_stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), elevation])
        return position(on_other_sensor(sweep_with(10 * rays, np.array([CAR, CAR])), "VLP-32C", None)).tolist()

    assert kept(0.15) == kept(-0.1) == [True, False]
    assert kept(3.0) == [True, True]


def test_fog_weakens_echoes_and_hides_what_is_far():
    distance = np.array([2.0, 30, 60, 66, 90, 160, 220])
    direction = np.array([0.6, 0.64, 0.48])
    sweep = sweep_with(distance[:, None] * direction, np.full(7, ROAD), np.full(7, 100.0))
    hidden = []
    for found, attenuation in zip(by_severity(sweep, "fog"), (0.01, 0.02, 0.03), strict=True):
        fog = found.labels == IGNORE
        hidden.append(fog.sum())
        np.testing.assert_array_equal(found.cloud.xyz[~fog], sweep.cloud.xyz[~fog])
        expected = 100 * np.exp(-2 * attenuation * distance)
        np.testing.assert_allclose(found.cloud.intensity[~fog], expected[~fog], rtol=1e-5)
        assert (found.cloud.intensity[fog] > expected[fog]).all(), "the stronger echo is reported"
        near = np.linalg.norm(found.cloud.xyz[fog], axis=1)
        assert (near >= 4.7 / 2).all() and (near <= 4.7 * 2).all()
        np.testing.assert_allclose(found.cloud.xyz[fog] / near[:, None], np.tile(direction, (fog.sum(), 1)), atol=1e-5)
    assert hidden == [2, 3, 4], "from 151, 87 and 63 m on"


def test_the_backscatter_of_fog_is_the_papers_integral():
    """Against a sum over time, at the range where it is greatest, for a visibility of 100 m."""
    attenuation, pulse_s, light = 0.03, 20e-9, 299_792_458.0
    where, response = backscatter(attenuation)
    t = np.linspace(0, 2 * pulse_s, 200_001)
    s = where - light * t / 2
    seen = np.clip((s - 0.9) / 0.1, 0, 1)
    values = np.sin(np.pi * t / (2 * pulse_s)) ** 2 * np.exp(-2 * attenuation * s) / s**2 * seen
    integral = values.mean() * 2 * pulse_s
    assert response == pytest.approx(0.046 / visibility_m(attenuation) * np.pi / 1e-6 * integral, rel=0.01)
    assert visibility_m(attenuation) == pytest.approx(99.86, abs=0.01)


def test_no_droplet_lies_where_another_severity_has_none():
    far = sweep_with(np.full((500, 3), 100.0), np.full(500, ROAD))
    one, other = (in_fog(far, attenuation, np.random.default_rng(1)).cloud.xyz for attenuation in (0.02, 0.03))
    np.testing.assert_allclose(one, other, rtol=0.01)


def test_intensity_fades_and_nothing_else_changes(sweep):
    for found, left in zip(by_severity(sweep, "weak_intensity"), (0.5, 0.1, 0), strict=True):
        np.testing.assert_allclose(found.cloud.intensity, left * sweep.cloud.intensity, rtol=1e-6)
        np.testing.assert_array_equal(found.cloud.xyz, sweep.cloud.xyz)
        np.testing.assert_array_equal(found.labels, sweep.labels)


def test_noise_is_along_the_ray(sweep):
    for found, deviation in zip(by_severity(sweep, "range_noise"), (0.05, 0.1, 0.2), strict=True):
        before, after = (np.linalg.norm(one.cloud.xyz, axis=1) for one in (sweep, found))
        assert np.std(after - before) == pytest.approx(deviation, rel=0.05)
        np.testing.assert_allclose(found.cloud.xyz / after[:, None], sweep.cloud.xyz / before[:, None], atol=1e-5)
        np.testing.assert_array_equal(found.labels, sweep.labels)
        np.testing.assert_array_equal(found.cloud.intensity, sweep.cloud.intensity)


def test_what_comparisons_corrupt_with_stays_what_it_was(sweep):
    """Scores that were published are of half of the beams, and of 10 cm."""
    expected = np.random.default_rng(1).random(900) < 0.5
    band = np.floor((elevations_deg(sweep.cloud.xyz) + 90) / 0.2).astype(int)
    lost = ~position(corrupted(sweep, "lost_beams", 1))
    assert (lost == expected[band]).mean() > 0.99
    distance = np.linalg.norm(sweep.cloud.xyz, axis=1, keepdims=True)
    noisy = sweep.cloud.xyz * (1 + np.random.default_rng(1).normal(0, 0.1, distance.shape) / distance)
    np.testing.assert_allclose(corrupted(sweep, "range_noise", 1).cloud.xyz, noisy, rtol=1e-6)
