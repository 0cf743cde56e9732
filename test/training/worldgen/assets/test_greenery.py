import time

import numpy as np
import pytest

from training.worldgen.assets import greenery, woodland
from training.worldgen.mesh import LABELS, box, merge
from training.worldgen.tracing import Tracer

VEGETATION = LABELS.id_of("vegetation")
MAKERS = {
    "tree": greenery.tree,
    "street_tree": greenery.street_tree,
    "bush": greenery.bush,
    "planter": greenery.planter,
    "hedge": lambda rng: greenery.hedge(rng, 7.0),
    "ivy_wall": lambda rng: greenery.ivy_wall(rng, 7.0),
    "flower_bed": lambda rng: greenery.flower_bed(rng, 3.0),
    "big_tree": woodland.big_tree,
    "wood_tree": woodland.wood_tree,
    "shrub": woodland.shrub,
    "thicket": lambda rng: woodland.thicket(rng, 6.0),
    "weeds": lambda rng: woodland.weeds(rng, 5.0),
    "ivy": lambda rng: woodland.ivy(rng, 3.0, 4.0),
}
_TALLEST_M, _MOST_TRIANGLES = {"big_tree": 21.0, "wood_tree": 21.0}, {"big_tree": 1500}
OTHERS = {
    "tree": {"other_static"},  # stakes
    "street_tree": {"other_static"},
    "planter": {"other_static"},
    "flower_bed": {"terrain", "other_static"},
}


@pytest.mark.parametrize("name", MAKERS)
def test_plants_stand_on_ground_with_their_labels(name):
    allowed = {VEGETATION, *(LABELS.id_of(label) for label in OTHERS.get(name, ()))}
    seen = set()
    for seed in range(30):
        mesh = MAKERS[name](np.random.default_rng(seed))
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert np.isfinite(mesh.vertices).all()
        assert set(mesh.label.tolist()) <= allowed
        assert 0 < len(mesh) < _MOST_TRIANGLES.get(name, 900)
        assert -0.5 < low[2] < 0.1
        assert 0.1 < high[2] < _TALLEST_M.get(name, 15.0)
        seen |= set(mesh.label.tolist())
    assert VEGETATION in seen


@pytest.mark.parametrize("name", MAKERS)
def test_same_seed_gives_same_bytes(name):
    for seed in range(5):
        first, second = (MAKERS[name](np.random.default_rng(seed)) for _ in range(2))
        assert first.vertices.tobytes() == second.vertices.tobytes()
        assert first.material.tobytes() == second.material.tobytes()


def _stopped(mesh, low, high, half, seed):
    """Share of level rays through a window that end on a plant in front of a wall."""
    tracer = Tracer(merge([mesh, box((0.2, 60, 60), "brick", "building", (-20, 0, -5))]))
    rng = np.random.default_rng(seed)
    origins = np.column_stack([np.full(2000, 20.0), rng.uniform(-half, half, 2000), rng.uniform(low, high, 2000)])
    hits = tracer.trace(origins, np.broadcast_to(np.array((-1, 0, 0), np.float32), origins.shape), 0.0)
    return float((tracer.label(hits) == VEGETATION).mean())


def test_crowns_stop_most_but_not_all_beams():
    shares = []
    for seed in range(12):
        mesh = greenery._broad(np.random.default_rng(seed))
        height = float(mesh.vertices[:, 2].max())
        shares.append(_stopped(mesh, 0.55 * height, 0.8 * height, 0.12 * height, seed))
    assert 0.5 < np.mean(shares) < 0.98
    assert min(shares) < 0.95


def test_street_trees_are_clear_below_crown():
    shares = [_stopped(greenery.street_tree(np.random.default_rng(s)), 0.2, 1.5, 0.6, s) for s in range(20)]
    assert np.median(shares) < 0.5


def test_hedge_is_flat_and_opaque():
    for seed in range(6):
        mesh = greenery.hedge(np.random.default_rng(seed), 6.0)
        height = float(mesh.vertices[:, 2].max())
        assert _stopped(mesh, 0.05, height * 0.75, 2.8, seed) > 0.99
        assert np.ptp(mesh.vertices[:, 0]) < 1.8


def test_tree_takes_less_than_15_ms():
    rngs = [np.random.default_rng(seed) for seed in range(40)]
    start = time.process_time()
    for rng in rngs:
        greenery.tree(rng)
    assert (time.process_time() - start) / len(rngs) < 0.015
