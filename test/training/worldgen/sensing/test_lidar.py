from dataclasses import dataclass, replace

import numpy as np
import pytest

from training.worldgen.materials import material_id
from training.worldgen.mesh import LABELS, box, merge, plate, pose, quads
from training.worldgen.sensing.lidar import NO_INSTANCE, RANGE_STEP_M, scan
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import AVIA, LIDARS, OS1_128, UNSEEN_LIDARS
from training.worldgen.sensing.surfaces import Appearance
from training.worldgen.tracing import Motion, Tracer
from xmodelkd_ros.core.labels import IGNORE

END = 3.0
LIDAR = LidarModel(
    "test",
    tuple(float(e) for e in np.linspace(6, -20, 27)),
    720,
    reach_m=200.0,
    beam_gain_spread=0.0,
    range_noise_m=0.01,
)


@pytest.fixture(scope="module")
def appearance():
    """Appearance with equal reflectances, so that only geometry matters."""
    drawn = Appearance.sample(np.random.default_rng(0))
    same = np.full_like(drawn.reflectances, 0.5)
    return replace(drawn, reflectances=same, spread=np.zeros_like(drawn.spread))


def ground(size=200.0, label="road"):
    corners = [(-size, -size, 0), (size, -size, 0), (size, size, 0), (-size, size, 0)]
    return quads([corners], "asphalt", label)


def wall(x, material="concrete", label="building", half_width=40.0, height=12.0):
    """A wall across the x axis that faces the sensor."""
    corners = [(x, half_width, 0), (x, -half_width, 0), (x, -half_width, height), (x, half_width, height)]
    return quads([corners], material, label).of_instance(7)


def standing(times):
    return np.repeat(pose(0, 0, 2)[None], len(times), axis=0)


def driving(times):
    """20 m/s forward in a bend."""
    return np.stack([pose(20 * (t - END), 0, 2, 0.5 * (t - END)) for t in times])


def scan_of(static, appearance, poses=standing, lidar=LIDAR, actors=(), seed=0):
    return scan(lidar, Tracer(static, actors), appearance, poses, END, np.random.default_rng(seed))


def towards_wall(points, half_width=8.0):
    return (points[:, 0] > 0) & (np.abs(points[:, 1]) < half_width) & (points[:, 2] > -1.8)


def test_same_seed_gives_same_bytes(appearance):
    scene = merge([ground(), wall(12), box((1, 1, 1), "car_glass", "car", (5, 2, 0))])
    first, second = (scan_of(scene, appearance, driving) for _ in range(2))
    other = scan_of(scene, appearance, driving, seed=1)
    for name in ("range_steps", "intensity", "label", "instance"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.range_steps.tobytes() != other.range_steps.tobytes()


def test_points_times_and_rings_follow_from_range_steps(appearance):
    sweep = scan_of(merge([ground(), wall(12)]), appearance)
    column, beam = np.nonzero(sweep.range_steps)
    points = sweep.points(LIDAR)
    assert points.dtype == np.float32 and len(points) == sweep.mask.sum() > 10000
    steps = sweep.range_steps[column, beam].astype(np.float32)
    assert (
        LIDAR.directions()[column, beam] * (steps * np.float32(RANGE_STEP_M))[:, None]
    ).tobytes() == points.tobytes()
    np.testing.assert_array_equal(sweep.ring(LIDAR), beam)
    np.testing.assert_allclose(sweep.time_s(LIDAR), LIDAR.column_times_s()[column], atol=1e-7)
    assert np.all(np.diff(sweep.time_s(LIDAR)) >= 0) and sweep.time_s(LIDAR)[-1] == 0


def test_labels_and_instances_match_hit_objects(appearance):
    sweep = scan_of(merge([ground(), wall(12)]), appearance)
    points = sweep.points(LIDAR)
    label, instance = sweep.label[sweep.mask], sweep.instance[sweep.mask]
    on_road = (points[:, 2] < -1.9) & (points[:, 0] < 11.5)
    on_wall = (points[:, 2] > -1.8) & (points[:, 0] > 11.5)
    assert np.mean(label[on_road] == LABELS.id_of("road")) > 0.99
    assert np.all(label[on_wall] == LABELS.id_of("building")) and np.all(instance[on_wall] == 7)
    nothing = ~sweep.mask
    assert nothing.any() and np.all(sweep.label[nothing] == IGNORE)
    assert np.all(sweep.instance[nothing] == NO_INSTANCE) and not sweep.intensity[nothing].any()


def test_ranges_have_sensor_noise(appearance):
    sweep = scan_of(wall(20), appearance)
    points = sweep.points(LIDAR)
    off = points[np.abs(points[:, 1]) < 10, 0] - 20
    assert abs(off.mean()) < 0.001
    assert np.std(off) == pytest.approx(LIDAR.range_noise_m, rel=0.15)


def test_compensation_removes_motion_distortion(appearance):
    sweep = scan_of(wall(30), appearance, driving)
    fired, still = sweep.points(LIDAR), sweep.compensated(LIDAR, driving, END)
    assert sweep.compensated(LIDAR, driving, END).tobytes() == still.tobytes()
    assert np.std(fired[:, 0]) > 0.2
    np.testing.assert_allclose(still[:, 0], 30, atol=0.06)


def test_points_use_sensor_pose_at_firing_time(appearance):
    sweep = scan_of(wall(30), appearance, driving)
    ahead = np.abs(sweep.points(LIDAR)[:, 1]) < 0.2
    before = 30 + 20 * -sweep.time_s(LIDAR)[ahead]
    np.testing.assert_allclose(sweep.points(LIDAR)[ahead, 0], before, atol=0.1)


@dataclass(frozen=True)
class Rolling:
    """A box that rolls away from the sensor."""

    meshes: tuple
    speed: float

    def phase(self, time):
        return 0

    def motion(self, time):
        return Motion(np.array([10 + self.speed * (time - END), 0, 0]), np.array([self.speed, 0, 0]), 0.0)


def test_moving_objects_are_hit_at_firing_time(appearance):
    actor = Rolling((box((2, 3, 3), "concrete", "truck"),), 15.0)
    sweep = scan_of(ground(), appearance, actors=[actor])
    back = (sweep.label[sweep.mask] == LABELS.id_of("truck")) & (np.abs(sweep.points(LIDAR)[:, 2]) < 0.8)
    when = sweep.time_s(LIDAR)[back]
    np.testing.assert_allclose(sweep.points(LIDAR)[back, 0], 9 + 15 * when, atol=0.06)
    assert back.sum() > 50


def test_mixed_returns_only_between_near_surfaces(appearance):
    lidar = replace(LIDAR, columns=2000, divergence_mrad=4.0)
    fence = merge([plate(0.1, 6, "concrete", "other_static", (0, y, 3)) for y in np.arange(-6, 6, 0.3)])
    near = merge([wall(12), fence.placed(11, 0, 0, np.pi)])
    far = merge([wall(25), fence.placed(11, 0, 0, np.pi)])
    points = scan_of(near, appearance, lidar=lidar).points(lidar)
    x = points[towards_wall(points, 5.0), 0]
    assert np.all((x > 10.9) & (x < 12.1))
    assert 0.01 < np.mean((x > 11.1) & (x < 11.9)) < 0.5
    points = scan_of(far, appearance, lidar=lidar).points(lidar)
    x = points[towards_wall(points, 5.0), 0]
    assert not np.any((x > 11.1) & (x < 24.9))


def test_retroreflective_signs_saturate_intensity(appearance):
    sign = plate(3, 3, "sign_face", "traffic_sign", (0, 0, 2)).placed(15, 0, 0, np.pi)
    sweep = scan_of(merge([wall(30), sign]), appearance)
    intensity, label = sweep.intensity[sweep.mask], sweep.label[sweep.mask]
    assert np.all(intensity[label == LABELS.id_of("traffic_sign")] >= 250)
    assert np.percentile(intensity[label == LABELS.id_of("building")], 99) < 100


def test_intensity_decreases_with_incidence_angle(appearance):
    sweep = scan_of(wall(10, "metal_painted", half_width=60.0), appearance)
    points, intensity = sweep.points(LIDAR), sweep.intensity[sweep.mask].astype(float)
    cosine = points[:, 0] / np.linalg.norm(points, axis=1)
    squarely, slanted = intensity[(cosine > 0.8) & (cosine < 0.95)], intensity[(cosine > 0.2) & (cosine < 0.4)]
    assert slanted.mean() < 0.7 * squarely.mean()


def test_glass_drops_or_transmits_pulses(appearance):
    glass = merge([plate(1, 1, "window", "building", (12, y, z)) for y in np.arange(-6, 7) for z in (0.5, 1.5, 2.5)])
    lost = replace(appearance, transparent=appearance.transparent.copy())
    lost.transparent[material_id("window")] = 0.6
    sweep = scan_of(merge([glass, wall(15, label="other_static")]), lost)
    ahead = np.abs(np.degrees(np.arctan2(LIDAR.directions()[..., 1], LIDAR.directions()[..., 0]))) < 25
    ahead &= np.abs(LIDAR.directions()[..., 2]) < np.sin(np.radians(2.5))
    glass_share = np.mean(sweep.label[ahead] == LABELS.id_of("building"))
    behind_share = np.mean(sweep.label[ahead] == LABELS.id_of("other_static"))
    assert 0.25 < glass_share < 0.55 and behind_share > 0.15 and np.mean(sweep.mask[ahead]) < 0.95
    points, label = sweep.points(LIDAR), sweep.label[sweep.mask]
    np.testing.assert_allclose(points[label == LABELS.id_of("other_static"), 0], 15, atol=0.06)


def test_dark_distant_grazing_surfaces_drop_out(appearance):
    weak = replace(LIDAR, reach_m=40.0)
    dark = replace(appearance, reflectances=np.full_like(appearance.reflectances, 0.08))
    share = {}
    for look, name in ((appearance, "bright"), (dark, "dark")):
        sweep = scan_of(ground(), look, lidar=weak)
        down = -np.sin(np.radians(weak.elevations_deg))  # 2 m over the range of each beam's ring on the road
        share[name] = sweep.mask[:, (down > 2 / 70) & (down < 2 / 30)].mean()
        assert sweep.mask[:, down > 2 / 10].mean() > 0.98
    assert share["dark"] < 0.4 < 0.8 < share["bright"]


def test_sweep_without_returns_is_valid(appearance):
    sweep = scan_of(wall(-900, half_width=0.5, height=0.5), appearance)
    assert not sweep.mask.any()
    assert sweep.points(LIDAR).shape == (0, 3) and sweep.compensated(LIDAR, standing, END).shape == (0, 3)
    assert sweep.ring(LIDAR).shape == sweep.time_s(LIDAR).shape == (0,)


# --- other sensors and mountings ---


@pytest.mark.parametrize("lidar", [*LIDARS, *UNSEEN_LIDARS], ids=lambda lidar: lidar.name)
def test_points_of_each_product_are_on_its_beams_and_columns(appearance, lidar):
    """Inside of a large box every pulse returns: elevations, azimuth steps and numbers follow from the points."""
    room = box((30, 30, 30), "concrete", "building")
    sweep = scan_of(room, appearance, lidar=lidar)
    points = sweep.points(lidar)
    assert len(points) > 0.9 * lidar.columns * lidar.beams
    elevation = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1)))
    ring = sweep.ring(lidar)
    if not lidar.has_rings:
        assert ring is None
        assert lidar.elevations_deg[-1] - 0.1 < elevation.min() and elevation.max() < lidar.elevations_deg[0] + 0.1
        return
    np.testing.assert_allclose(elevation, np.asarray(lidar.elevations_deg)[ring], atol=1e-3)
    assert set(ring) == set(range(lidar.beams))
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))[ring == lidar.beams // 2]
    assert np.median(np.abs(np.diff(azimuth))) == pytest.approx(lidar.azimuth_span_deg / lidar.columns, rel=1e-3)


@pytest.mark.parametrize("lidar", [replace(OS1_128, columns=512), AVIA], ids=lambda lidar: lidar.name)
@pytest.mark.parametrize(("height", "roll", "pitch"), [(0.6, 0, 0), (2.9, 2, -10), (1.7, 180, 8), (0.8, -177, -3)])
def test_the_mounting_levels_sweeps_of_flat_ground(appearance, lidar, height, roll, pitch):
    mount = pose(0.5, 0.1, height, 0.02, *np.radians((pitch, roll)))
    sweep = scan_of(ground(), appearance, lambda times: np.repeat(mount[None], len(times), axis=0), lidar)
    points = sweep.points(lidar)
    assert len(points) > 500
    level = points @ mount[:3, :3].T + mount[:3, 3]
    near = np.linalg.norm(points, axis=1) < 40
    np.testing.assert_allclose(level[near, 2], 0, atol=0.1)
    close = np.linalg.norm(points, axis=1) < 4 * height
    if close.any():
        assert (points[close, 2].mean() > 0) == (abs(roll) > 90), "in the sensor's own frame the ground is above"


def test_dual_returns_report_both_surfaces_with_their_own_labels(appearance):
    fence = merge([plate(0.1, 6, "concrete", "other_static", (0, y, 3)) for y in np.arange(-6, 6, 0.3)])
    scene = merge([wall(25), fence.placed(11, 0, 0, np.pi)])
    single = replace(LIDAR, columns=2000, divergence_mrad=4.0)
    dual = replace(single, returns=2)
    first, both = scan_of(scene, appearance, lidar=single), scan_of(scene, appearance, lidar=dual)
    beams = single.beams
    assert both.range_steps.shape == (2000, 2 * beams)
    second = both.mask[:, beams:]
    assert second.sum() > 300 and not (second & ~both.mask[:, :beams]).all()
    column, beam = np.nonzero(second & both.mask[:, :beams])
    labels = np.stack([both.label[column, beam], both.label[column, beam + beams]])
    assert (labels[0] != labels[1]).mean() > 0.95
    assert set(np.unique(labels)) == {LABELS.id_of("building"), LABELS.id_of("other_static")}
    apart = np.abs(both.range_steps[column, beam].astype(int) - both.range_steps[column, beam + beams])
    assert apart.min() * RANGE_STEP_M > 1.0
    points, ring = both.points(dual), both.ring(dual)
    elevation = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1)))
    np.testing.assert_allclose(elevation, np.asarray(dual.elevations_deg)[ring], atol=1e-3)
    assert len(points) == len(both.time_s(dual)) == both.mask.sum() > first.mask.sum() + 300
