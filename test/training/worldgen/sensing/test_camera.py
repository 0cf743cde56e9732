from dataclasses import replace

import numpy as np
import pytest

from training.worldgen.mesh import LABELS, box, cylinder, merge, plate, pose, quads
from training.worldgen.sensing.camera import SKY, exposure, pixel_rays, render, tone_curve
from training.worldgen.sensing.light import Light
from training.worldgen.sensing.surfaces import Appearance
from training.worldgen.tracing import Motion, Tracer
from xmodelkd_ros.core.camera import CameraModel

KINDS = ("clear", "overcast", "low_sun", "dusk")
OPTICAL = np.array([(0, 0, 1, 0), (-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 0, 1.0)])
"""The optical frame of a camera that looks along x."""


class Box:
    """A crate that drives along y."""

    meshes = (box((1, 1, 1), "car_paint", "car").of_instance(50),)

    def phase(self, time):
        return 0

    def motion(self, time):
        return Motion(np.array((8.0, -4.0 + 10 * time, 0.0)), np.array((0.0, 10.0, 0.0)), 0.0)


def ground(material="asphalt", label="road", size=200.0):
    half = size / 2
    corners = [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)]
    return quads(corners, material, label).of_instance(1)


def street():
    """Ground, a wall with a window, a pole, a cone and a sign in front of the camera."""
    wall = merge([box((8, 0.5, 5), "brick", "building"), plate(1, 1, "window", "building", (0, 0.3, 2))])
    return merge(
        [
            ground(),
            wall.of_instance(2).placed(14, 5),
            cylinder(0.1, 4, "metal", "other_static", base=(10, -1, 0)).of_instance(3),
            cylinder(0.25, 0.8, "cone", "hazard", top_radius=0.03, base=(6, 1, 0)).of_instance(4),
            plate(0.8, 0.8, "sign_face", "traffic_sign").of_instance(5).placed(9, -3, 2.2, np.pi),
        ]
    )


def camera(width=96, height=64, focal=70.0):
    middle = (width - 1) / 2, (height - 1) / 2
    intrinsic = np.array([(focal, 0, middle[0]), (0, focal, middle[1]), (0, 0, 1.0)])
    return CameraModel("front", width, height, intrinsic, np.eye(4))


def render_street(kind="clear", seed=0, mesh=None, actors=(), view=None, time=0.0, model=None):
    rng = np.random.default_rng(seed)
    tracer = Tracer(street() if mesh is None else mesh, actors)
    appearance, light = Appearance.sample(rng), Light.of_kind(kind, rng)
    where = pose(0, 0, 1.6) @ OPTICAL if view is None else view
    return render(tracer, appearance, light, model or camera(), where, time, rng)


def test_same_seed_gives_same_bytes():
    first, second = render_street(actors=[Box()]), render_street(actors=[Box()])
    for name in ("rgb", "label", "distance"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert render_street(seed=1).rgb.tobytes() != first.rgb.tobytes()


def test_render_has_documented_shapes_and_values():
    image = render_street()
    assert image.rgb.shape == (64, 96, 3) and image.rgb.dtype == np.uint8
    assert image.label.shape == (64, 96) and image.label.dtype == np.uint8
    assert image.distance.shape == (64, 96) and image.distance.dtype == np.float32
    np.testing.assert_array_equal(np.isinf(image.distance), image.label == SKY)
    assert (image.distance > 1.0).all()
    names = {LABELS.id_of(name) for name in ("road", "building", "other_static", "hazard", "traffic_sign")}
    assert set(np.unique(image.label)) == names | {SKY}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_auto_exposure_keeps_mean_in_range(kind, seed):
    image = render_street(kind, seed)
    lowest = 30 if kind == "dusk" else 55
    assert lowest < image.rgb.mean() < 135
    assert (image.rgb == 255).all(axis=2).mean() < 0.25
    assert image.rgb.std() > 8


def test_dusk_is_darker_than_day():
    def mean(kind):
        return np.mean([render_street(kind, seed).rgb.mean() for seed in range(5)])

    assert mean("dusk") < 0.85 * mean("clear")


def test_exposure_gain_reaches_target_and_is_limited():
    curve = tone_curve(0.5)
    flat = np.full((50, 3), 0.02, np.float32)
    gain = exposure(flat, curve, 100)
    assert curve[int(0.02 * gain * len(curve) / 4)] == pytest.approx(100, abs=2)
    assert exposure(flat * 1e-5, curve, 100) == pytest.approx(30, rel=1e-2)


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_tone_curve_is_monotonic_from_black_to_white(contrast):
    curve = tone_curve(contrast).astype(int)
    assert curve[0] <= 3 and curve[-1] >= 250
    assert (np.diff(curve) >= 0).all()


def test_pixel_rays_follow_optical_frame():
    rays = pixel_rays(camera(), pose(0, 0, 1.6) @ OPTICAL).reshape(64, 96, 3)
    assert rays[32, 48, 0] > 0.99
    assert rays[32, 0, 1] > 0.3 and rays[32, 95, 1] < -0.3  # the left image border is the left side, +y
    assert rays[0, 48, 2] > 0.3 and rays[63, 48, 2] < -0.3
    np.testing.assert_allclose(np.linalg.norm(rays, axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 0.4, -0.3])
def test_projected_points_match_pixel_labels(yaw):
    """The rendering uses the geometry of CameraModel, here for LiDAR points."""
    mesh = street()
    world_from_lidar = pose(-0.5, 0.3, 1.9, 0.2)
    world_from_camera = pose(0, 0, 1.6, yaw, 0.05, 0.02) @ OPTICAL
    base = camera(240, 160, 170.0)
    model = CameraModel("front", 240, 160, base.intrinsic, np.linalg.inv(world_from_camera) @ world_from_lidar)
    image = render_street(mesh=mesh, view=world_from_camera, model=model)

    tracer = Tracer(mesh)
    rng = np.random.default_rng(2)
    rays = (rng.normal(size=(20000, 3)) * (0.4, 0.4, 0.25) + (1, 0, 0)) @ world_from_lidar[:3, :3].T
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    hits = tracer.trace(world_from_lidar[:3, 3], rays, 0.0)
    found = hits.triangle >= 0
    points = world_from_lidar[:3, 3] + rays[found] * hits.distance[found, None]
    local = (points - world_from_lidar[:3, 3]) @ world_from_lidar[:3, :3]
    pixels, inside = model.project(local)
    u, v = np.rint(pixels[inside]).astype(int).T
    ranges = np.linalg.norm(points[inside] - world_from_camera[:3, 3], axis=1)
    visible = ranges < 1.02 * image.distance[v, u] + 0.05
    agree = image.label[v, u] == tracer.label(hits)[found][inside]
    assert inside.sum() > 3000 and visible.mean() > 0.9
    assert agree[visible].mean() > 0.985
    assert np.median(np.abs(ranges - image.distance[v, u])[visible]) < 0.1


def test_pixel_labels_and_distances_equal_tracer():
    tracer = Tracer(street(), [Box()])
    view = pose(0, 0, 1.6) @ OPTICAL
    rng = np.random.default_rng(0)
    image = render(tracer, Appearance.sample(rng), Light.sample(rng), camera(), view, 0.4, rng)
    hits = tracer.trace(view[:3, 3], pixel_rays(camera(), view), 0.4)
    np.testing.assert_array_equal(image.label.ravel(), tracer.label(hits))
    np.testing.assert_array_equal(image.distance.ravel(), hits.distance)


def test_moving_objects_are_rendered_at_exposure_time():
    car = LABELS.id_of("car")

    def column(time):
        return np.nonzero(render_street(mesh=ground(), actors=[Box()], time=time).label == car)[1].mean()

    assert column(0.0) > 60 > column(0.4) > 36 > column(0.8)


def lit_from(direction, kind="clear"):
    """A light without clouds, lens or noise from a direction."""
    light = Light.of_kind(kind, np.random.default_rng(0))
    sun = np.array(direction, np.float32) / np.float32(np.linalg.norm(direction))
    return replace(light, sun=sun, cover=0.0, blur=0.0, noise=0.0, vignette=0.0, haze=0.0, glare=0.0)


def from_above(mesh, light, actors=(), size=60):
    """A plan view: 20 m x 20 m from 40 m above; rows go to -x, columns to -y."""
    view = pose(0, 0, 40) @ np.array([(0, -1, 0, 0), (-1, 0, 0, 0), (0, 0, -1, 0), (0, 0, 0, 1.0)])
    rng = np.random.default_rng(0)
    model = camera(size, size, 2.0 * size)
    return render(Tracer(mesh, actors), Appearance.sample(rng), light, model, view, 0.0, rng)


def test_shadows_fall_away_from_sun():
    tower = box((2, 2, 6), "concrete", "building").of_instance(2)
    image = from_above(merge([ground(), tower]), lit_from((-1, 0, 1)))
    grey = image.rgb.mean(axis=2)
    road = image.label == LABELS.id_of("road")
    x = (image.rgb.shape[0] - 1) / 2 - np.arange(60)
    shade = np.zeros((60, 60), bool)
    shade[np.ix_((x > 6) & (x < 15), np.arange(28, 32))] = True  # 3 pixels a metre: 2 m to 5 m beyond it, to +x
    mirrored = shade[::-1]
    assert road[shade].all() and road[mirrored].all()
    assert grey[shade].mean() < 0.7 * grey[mirrored].mean()


def test_moving_objects_cast_shadows():
    class Parked(Box):
        def motion(self, time):
            return Motion(np.zeros(3), np.zeros(3), 0.0)

    light = lit_from((-1, 0, 0.5))
    with_box = from_above(ground(), light, [Parked()]).rgb.mean(axis=2)
    without = from_above(ground(), light).rgb.mean(axis=2)
    assert with_box[24:26, 29:31].mean() < 0.75 * without[24:26, 29:31].mean()


def test_sunlit_walls_are_brighter():
    cube = box((4, 4, 4), "plaster", "building").of_instance(2)
    mesh = merge([ground(), cube])
    rng = np.random.default_rng(0)
    appearance = Appearance.sample(rng)

    def wall(light):
        view = pose(-9, 0, 1.6) @ OPTICAL
        image = render(Tracer(mesh), appearance, light, camera(), view, 0.0, np.random.default_rng(1))
        building = image.label == LABELS.id_of("building")
        return image.rgb[building].mean() / image.rgb[~building].mean()

    assert wall(lit_from((-1, 0, 0.6))) > 1.2 * wall(lit_from((1, 0, 0.6)))


def test_distant_texture_is_antialiased():
    """Bands of 25 cm are resolved at 3 m and averaged at 60 m."""

    def detail(distance):
        wall = box((1, 60, 40), "barrier_stripes", "building", (distance + 0.5, 0, -20)).of_instance(7)
        rng = np.random.default_rng(0)
        view = pose(0, 0, 0) @ OPTICAL
        light = lit_from((-1, 0, 0.3))
        image = render(Tracer(wall), Appearance.sample(rng), light, camera(64, 48, 120.0), view, 0.0, rng)
        return np.abs(np.diff(image.rgb[12:36, 16:48].astype(float), axis=1)).mean()

    assert detail(60.0) < 1.5 < 0.3 * detail(3.0)


def test_haze_brightens_distant_surfaces():
    mesh = merge([ground(size=1000), box((1, 40, 30), "tyre", "building", (300, 0, 0))])
    clear = lit_from((-1, 0, 1))
    view = pose(0, 0, 1.6) @ OPTICAL

    def wall(haze):
        rng = np.random.default_rng(0)
        light = replace(clear, haze=haze)
        image = render(Tracer(mesh), Appearance.sample(rng), light, camera(), view, 0.0, rng)
        return image.rgb[image.label == LABELS.id_of("building")].mean()

    assert wall(1 / 200) > wall(0.0) + 30


def test_sampled_lights_are_in_range():
    lights = [Light.sample(np.random.default_rng(seed)) for seed in range(200)]
    assert {light.kind for light in lights} == set(KINDS)
    for light in lights:
        assert np.linalg.norm(light.sun) == pytest.approx(1, abs=1e-5) and light.sun[2] > 0.05
        for color in (light.sun_color, light.ambient, light.zenith, light.horizon, light.cloud, light.balance):
            assert color.shape == (3,) and color.dtype == np.float32 and (color > 0).all() and (color < 3).all()
    assert len({light.clouds for light in lights}) == 200


def test_renders_sky_only():
    view = pose(0, 0, 1.6, 0.0, -1.2) @ OPTICAL
    image = render_street(view=view)
    assert (image.label == SKY).all()
    assert 30 < image.rgb.mean() < 200
