import time

import numpy as np
import pytest

from training.worldgen.assets import buildings
from training.worldgen.assets.facades import FacadeStyle, Storey, facade, ground_storey
from training.worldgen.mesh import LABELS, box, merge
from training.worldgen.tracing import Tracer

BUILDING, STATIC = LABELS.id_of("building"), LABELS.id_of("other_static")
SEEN = [make for make, *_ in buildings._STYLES]
UNSEEN = [make for make, *_ in buildings.UNSEEN_STYLES]


def _same(a, b):
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in ("vertices", "triangles", "material")
    )


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("width", [5.0, 7.5, 11.0, 18.0, 34.0])
def test_building_fits_plot_label_and_triangle_budget(width, unseen):
    for seed in range(20):
        depth = 8.0 + seed % 8
        mesh = buildings.building(np.random.default_rng(seed), width, depth, unseen)
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert np.isfinite(mesh.vertices).all()
        assert (mesh.label == BUILDING).all()
        assert 0 < len(mesh) < 2500
        assert -0.05 <= low[2] <= 0.0
        assert 2.5 < high[2] < 45.0
        assert high[0] <= 1.7  # bays, balconies and awnings hang over the pavement, no more
        assert low[0] >= -depth - 0.7
        assert max(high[1], -low[1]) <= width / 2 + 0.7


def test_median_triangle_count_is_far_below_budget():
    counts = [len(buildings.building(np.random.default_rng(s), 6.0 + s % 20, 12.0)) for s in range(60)]
    assert 300 < np.median(counts) < 1200


@pytest.mark.parametrize("unseen", [False, True])
def test_same_seed_gives_same_bytes(unseen):
    for seed in range(8):
        first, second = (buildings.building(np.random.default_rng(seed), 12.0, 11.0, unseen) for _ in range(2))
        assert _same(first, second)


def test_unseen_styles_are_disjoint_from_training():
    assert not {make.__name__ for make in SEEN} & {make.__name__ for make in UNSEEN}


@pytest.mark.parametrize("make", sorted(set(SEEN + UNSEEN), key=lambda make: make.__name__))
def test_facades_are_closed(make):
    """Openings are real holes: every one of them must be filled again."""
    mesh = merge(make(np.random.default_rng(3), 11.0, 10.0))
    y, z = np.meshgrid(np.linspace(-2.4, 2.4, 60), np.linspace(0.15, 2.4, 40))
    origins = np.column_stack([np.full(y.size, 20.0), y.ravel(), z.ravel()])
    rays = np.broadcast_to(np.array((-1, 0, 0), np.float32), origins.shape)
    hits = Tracer(mesh).trace(origins, rays, 0.0)
    assert (hits.distance < 23.5).mean() > 0.97  # at the front, not at the back wall's inside; garages stand aside


def test_building_takes_less_than_15_ms():
    makes = [(np.random.default_rng(seed), 6.0 + seed % 25, seed % 2 == 0) for seed in range(40)]
    start = time.process_time()
    for rng, width, unseen in makes:
        buildings.building(rng, width, 12.0, unseen)
    assert (time.process_time() - start) / len(makes) < 0.015


def test_glass_is_recessed():
    style = FacadeStyle.sample(np.random.default_rng(0)).plain()
    storey = ground_storey(np.random.default_rng(1), 6.0, 3.0, "brick", ("window", "door"))
    mesh = facade(np.random.default_rng(2), 6.0, [storey], style)
    (window,) = storey.openings[0][1]
    middle = np.array([(9.0, window[:2].mean(), window[2:].mean()), (9.0, 2.99, 2.99)])
    hits = Tracer(mesh).trace(middle, np.array([(-1, 0, 0)] * 2, np.float32), 0.0)
    assert hits.distance[0] > 9.0 + style.depth - 0.04
    assert hits.distance[1] == pytest.approx(9.0, abs=1e-4)


def test_openings_that_do_not_fit_are_omitted():
    storey = ground_storey(np.random.default_rng(0), 4.0, 3.0, "brick", ("garage", "garage", "door"))
    assert [kind for kind, _ in storey.openings] == ["garage"]
    assert ground_storey(np.random.default_rng(0), 0.5, 3.0, "brick", ("door",)).openings == ()


def test_wall_without_openings_is_one_rectangle():
    mesh = facade(
        np.random.default_rng(0), 5.0, [Storey(0.0, 3.0, "brick")], FacadeStyle.sample(np.random.default_rng(0))
    )
    assert len(mesh) == 2
    assert np.ptp(mesh.vertices, axis=0).tolist() == [0.0, 5.0, 3.0]


@pytest.mark.parametrize("make", [buildings.wall, buildings.fence, buildings.yard_fence])
@pytest.mark.parametrize("length", [1.6, 6.0, 25.0])
def test_walls_and_fences_extend_along_y_on_ground(make, length):
    for seed in range(20):
        mesh = make(np.random.default_rng(seed), length)
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert (mesh.label == STATIC).all()
        assert len(mesh) < 1600
        assert abs(low[2]) < 0.06
        assert 0.3 < high[2] < 3.8
        assert high[1] - low[1] == pytest.approx(length, abs=0.3)
        assert high[0] - low[0] < 0.8
        assert _same(mesh, make(np.random.default_rng(seed), length))


def test_beams_pass_wire_but_not_board_fences():
    y, z = np.meshgrid(np.linspace(-2.9, 2.9, 300), np.linspace(0.3, 1.0, 30))
    origins = np.column_stack([np.full(y.size, 5.0), y.ravel(), z.ravel()])
    rays = np.broadcast_to(np.array((-1, 0, 0), np.float32), origins.shape)
    backdrop = box((0.1, 20, 20), "brick", "building", (-5, 0, -5))

    def stopped(make):
        tracer = Tracer(merge([make(np.random.default_rng(4), 6.0), backdrop]))
        return (tracer.label(tracer.trace(origins, rays, 0.0)) == STATIC).mean()

    assert 0.05 < stopped(buildings._wire_fence) < 0.5
    assert stopped(buildings._board_fence) > 0.98


def test_hut_stands_on_ground_with_label_building():
    for seed in range(10):
        mesh = buildings.hut(np.random.default_rng(seed))
        assert (mesh.label == BUILDING).all()
        assert abs(mesh.vertices[:, 2].min()) < 0.01
