import numpy as np
import pytest

from training.worldgen.mesh import LABELS, pose
from training.worldgen.scene import Scene
from training.worldgen.sensing.lidar import scan
from training.worldgen.sensing.products import PANDAR64
from training.worldgen.sensing.surfaces import Appearance
from training.worldgen.street.street_style import KINDS
from training.worldgen.sward import Sward, sward_meshes

DURATION_S = 10.3
SEEDS = (1, 2)


@pytest.fixture(scope="module", params=KINDS)
def scenes(request):
    """Kind, and two scenes of it."""
    kind = request.param
    return kind, [Scene.generate(np.random.default_rng(seed), DURATION_S, False, kind) for seed in SEEDS]


def shares(scene, seed=0):
    """Share of the points of each class in three sweeps of a Pandar64."""
    rng = np.random.default_rng(seed)
    look, counts = Appearance.sample(rng), np.zeros(256)
    for end in (0.5, 5.0, 9.0):

        def poses(times):
            return scene.ego.world_from_base(times) @ pose(0.5, 0, 2.1)

        counts += np.bincount(scan(PANDAR64, scene.tracer, look, poses, end, rng).label.ravel(), minlength=256)
    known = counts[: len(LABELS)]
    return dict(zip(LABELS.names, known / known.sum(), strict=True))


def test_class_shares_fit_the_kind(scenes):
    kind, built = scenes
    found = [shares(scene) for scene in built]
    mean = {name: float(np.mean([each[name] for each in found])) for name in LABELS.names}
    green = mean["vegetation"] + mean["terrain"]
    if kind == "country":
        assert green > 0.25 and mean["building"] < 0.2 and mean["sidewalk"] < 0.01
    elif kind == "motorway":
        assert mean["road"] > 0.2 and green > 0.1 and mean["building"] < 0.1 and mean["sidewalk"] < 0.01
    else:
        assert mean["building"] > 0.08 and mean["sidewalk"] > 0.01
    if kind in ("residential", "suburban"):
        assert green > 0.08


def test_scene_is_built_within_budget(scenes):
    _, built = scenes
    assert all(50_000 < len(scene.tracer.table) < 700_000 for scene in built)
    assert all(len(scene.tracer.actors) >= 3 for scene in built)


def test_sward_rises_above_ground_and_ends_at_borders():
    scene = Scene.generate(np.random.default_rng(5), DURATION_S, False, "country")
    path = scene.ego.world_from_base(np.linspace(0, DURATION_S, 20))[:, :2, 3]
    meshes = sward_meshes(scene.streets, np.random.default_rng(0), path)
    assert meshes
    for mesh in meshes:
        x, y, z = mesh.vertices.astype(float).T
        above = z - scene.streets.height(x, y)
        on_road = np.array([scene.streets.zones[k].kind == "road" for k in scene.streets.zone_at(x, y)])
        assert (above[on_road] < 0.01).all()
        assert -0.2 < above.min() < above.max() < 1.8
        assert set(mesh.label.tolist()) == {LABELS.id_of("terrain")}


def test_gardens_are_mown_more_often_than_country_verges():
    def mean_height(kind, rural):
        return np.mean([Sward.sample(np.random.default_rng(s), kind, "grass", rural).height for s in range(200)])

    assert mean_height("yard", False) < 0.6 * mean_height("verge", True)
