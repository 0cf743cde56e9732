import numpy as np
import pytest

from training.worldgen.sensing.returns import (
    apparent_reflectance,
    correlate_by_pane,
    detect_returns,
    mark_edges,
    strongest_return,
)

COUNT = 20000
SHARES = np.array([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6], np.float32)


def strength_at(degrees, diffuse=0.5, gloss=0.0, retro=0.0):
    angle = np.radians(np.atleast_1d(np.asarray(degrees, np.float64)))
    count = len(angle)
    normals = np.column_stack([np.zeros(count), np.zeros(count), np.ones(count)]).astype(np.float32)
    rays = np.column_stack([np.sin(angle), np.zeros(count), -np.cos(angle)]).astype(np.float32)
    values = [np.full(count, v, np.float32) for v in (diffuse, gloss, retro)]
    return apparent_reflectance(values[0], normals, rays, values[1], values[2], np.zeros(count, np.bool_))


def read(distance, strength, gamma=1.0, exponent=0.0, speckle=True):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, COUNT), np.float32)
    noise[1] *= speckle
    return detect_returns(
        np.full(COUNT, distance, np.float32),
        np.full(COUNT, strength, np.float32),
        rng.random(COUNT, np.float32),
        noise,
        np.full(4, 100.0, np.float32),
        (0.5, 150.0, 100.0, 0.02),
        (gamma, exponent, 0.0),
    )


def test_face_on_diffuser_returns_its_reflectance():
    assert strength_at(0, diffuse=0.3)[0] == pytest.approx(0.3)


def test_strength_decreases_towards_grazing_faster_with_gloss():
    angles = [0, 40, 60, 75, 85]
    rough, glossy = strength_at(angles)[1:], strength_at(angles, gloss=0.25)[1:]
    assert np.all(np.diff(rough) < 0) and np.all(np.diff(glossy) < 0)
    assert glossy[-1] / glossy[0] < 0.3 * rough[-1] / rough[0]


def test_glossy_surfaces_have_specular_peak_at_normal_incidence():
    squarely, beside = strength_at([0, 15], gloss=0.25)
    assert squarely > 0.9 and beside < 0.5


def test_retroreflectors_have_limited_acceptance_angle():
    strong = strength_at([0, 45, 80], retro=10.0)
    assert strong[0] > 10 and strong[1] > 10 and strong[2] < 1


def test_missed_rays_have_zero_strength():
    nowhere = np.zeros((1, 3), np.float32)
    one = np.ones(1, np.float32)
    assert apparent_reflectance(one, nowhere, nowhere, one, one, np.ones(1, np.bool_))[0] == 0


def test_detection_probability_is_half_at_reach():
    steps, _ = read(100.0, 0.1)
    assert np.mean(steps > 0) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("distance", "strength"), [(0.3, 1.0), (151.0, 100.0), (np.inf, 1.0), (10.0, 0.0)])
def test_no_returns_outside_range_or_from_black(distance, strength):
    steps, intensity = read(distance, strength)
    assert not steps.any() and not intensity.any()


def test_range_noise_grows_for_weak_returns():
    near, _ = read(10.0, 0.5)
    far, _ = read(90.0, 0.1)
    metres = near[near > 0] * 0.004
    assert np.std(metres) == pytest.approx(0.02, rel=0.05) and np.mean(metres) == pytest.approx(10.0, abs=0.002)
    assert np.std(far[far > 0] * 0.004) > 0.035


def test_intensity_follows_strength_gamma_and_range():
    def typical(**kwargs):
        steps, intensity = read(speckle=False, **kwargs)
        return int(intensity[steps > 0][0])

    assert typical(distance=20.0, strength=0.5) == 50
    assert typical(distance=20.0, strength=0.25, gamma=1.5) == round(100 * 0.25**1.5)
    assert typical(distance=40.0, strength=0.5, exponent=0.5) == round(50 * 2**0.5)
    assert typical(distance=20.0, strength=12.0) == 255


def test_only_surfaces_within_pulse_length_blend():
    distance = np.array([[10.0, 10.0, 11.0, 11.0, 11.0], [10.0, 10.0, 20.0, 20.0, 20.0]], np.float32)
    strength = np.full((2, 5), 0.5, np.float32)
    mean, power, top = strongest_return(distance, strength, SHARES, np.array([True, True]))
    assert 10.2 < mean[0] < 10.8 and mean[1] == pytest.approx(10.0)
    assert power[1] == pytest.approx(0.25) and list(top) == [0, 0]
    sharp, _, _ = strongest_return(distance, strength, SHARES, np.array([False, False]))
    assert sharp[0] == pytest.approx(10.0)


def test_strongest_surface_in_cone_wins():
    distance = np.array([[10.0, 10.0, 30.0, np.inf, 10.0]], np.float32)
    strength = np.array([[0.02, 0.02, 5.0, 0.0, 0.02]], np.float32)
    mean, power, top = strongest_return(distance, strength, SHARES, np.array([True]))
    assert mean[0] == pytest.approx(30.0) and top[0] == 2 and power[0] == pytest.approx(5 / 6)


def test_cone_without_hit_has_no_return():
    mean, power, _ = strongest_return(
        np.full((1, 5), np.inf, np.float32), np.zeros((1, 5), np.float32), SHARES, np.ones(1, bool)
    )
    assert np.isinf(mean[0]) and power[0] == 0


def test_edges_at_depth_jumps_not_on_slanted_planes():
    columns, beams = 8, 2
    azimuth = np.radians(np.repeat(np.arange(columns) - 4, beams))
    rays = np.column_stack([np.cos(azimuth), np.sin(azimuth), np.zeros(len(azimuth))]).astype(np.float32)
    normal = np.array([-np.cos(1.2), np.sin(1.2), 0])  # met at a slant
    normals = np.tile(normal, (len(rays), 1)).astype(np.float32)
    distance = (10 * normal[0] / (rays @ normal)).astype(np.float32)
    distance[-2 * beams :] = np.inf  # two columns of sky
    marks = mark_edges(distance, normals, rays, (columns, beams), np.zeros(1, np.int64)).reshape(columns, beams)
    assert marks.all(axis=1).tolist() == [True, False, False, False, False, True, True, True]


def test_rays_through_one_pane_are_correlated():
    rng = np.random.default_rng(0)
    panes = np.repeat(np.arange(2000), 20)
    chances = correlate_by_pane(rng.random(len(panes)), panes)
    np.testing.assert_allclose(np.quantile(chances, (0.1, 0.5, 0.9)), (0.1, 0.5, 0.9), atol=0.03)
    lost = (chances < 0.5).reshape(-1, 20).mean(axis=1)
    assert np.mean((lost < 0.25) | (lost > 0.75)) > 0.95
