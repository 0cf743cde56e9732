from __future__ import annotations

import numpy as np
import pytest

from training.worldgen.assets import vehicles
from training.worldgen.mesh import LABELS, Mesh, box, merge
from training.worldgen.tracing import Tracer

SEEDS = range(12)
# length, width (mirrors included), height: lowest and highest; triangles
LIMITS = {
    vehicles.car: ((3.5, 5.1), (1.8, 2.3), (1.35, 2.05), 400),
    vehicles.van: ((4.1, 7.1), (1.85, 2.45), (1.6, 2.9), 400),
    vehicles.pickup: ((4.7, 6.0), (1.8, 2.45), (1.55, 2.1), 700),
    vehicles.truck: ((4.5, 17.5), (1.9, 3.1), (2.2, 4.1), 700),
    vehicles.bus: ((6.9, 12.6), (2.5, 3.1), (2.65, 3.6), 700),
}
TWO_WHEELERS = (vehicles.bicycle, vehicles.motorcycle, vehicles.scooter)


def _same(a: Mesh, b: Mesh) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


@pytest.mark.parametrize("make", LIMITS)
def test_vehicles_have_real_dimensions_and_few_triangles(make):
    *spans, most = LIMITS[make]
    for seed in SEEDS:
        mesh = make(np.random.default_rng(seed))
        size = np.ptp(mesh.vertices, axis=0)
        assert all(low <= s <= high for s, (low, high) in zip(size, spans, strict=True)), (seed, size)
        assert abs(mesh.vertices[:, 2].min()) < 0.03
        assert len(mesh) <= most
        middle = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2
        assert np.abs(middle[:2]).max() < 0.6


@pytest.mark.parametrize("make", TWO_WHEELERS)
@pytest.mark.parametrize("rider", (True, False))
def test_two_wheelers_with_and_without_riders(make, rider):
    for seed in SEEDS:
        mesh = make(np.random.default_rng(seed), rider)
        length, width, height = np.ptp(mesh.vertices, axis=0)
        assert 1.0 < length < 2.5 and 0.4 < width < 1.1
        assert (1.45 if rider else 0.85) < height < (2.2 if rider else 1.5)
        assert abs(mesh.vertices[:, 2].min()) < 1e-3 and len(mesh) < 700
        assert set(mesh.label) == {LABELS.id_of("two_wheeler")}


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (vehicles.car, {"car"}),
        (vehicles.van, {"car", "truck"}),
        (vehicles.pickup, {"truck"}),
        (vehicles.truck, {"truck"}),
        (vehicles.bus, {"truck"}),
    ],
)
def test_vehicle_has_one_class(make, labels):
    meshes = [make(np.random.default_rng(seed)) for seed in SEEDS]
    assert all(len(set(mesh.label)) == 1 for mesh in meshes)
    assert {LABELS.names[mesh.label[0]] for mesh in meshes} == labels


@pytest.mark.parametrize("make", [*LIMITS, *(lambda rng, m=m: m(rng, True) for m in TWO_WHEELERS)])
def test_same_seed_gives_same_bytes_other_seed_differs(make):
    first, again, other = (make(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert _same(first, again)
    assert not _same(first, other)


@pytest.mark.parametrize("make", [*LIMITS, *(lambda rng, m=m: m(rng, True) for m in TWO_WHEELERS)])
def test_no_degenerate_triangles(make):
    mesh = make(np.random.default_rng(1))
    a, b, c = np.moveaxis(mesh.vertices[mesh.triangles].astype(np.float64), 1, 0)
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-8


def _level_rays(mesh: Mesh, z: float) -> np.ndarray:
    """Distances of rays across a vehicle at a height, one each centimetre along it."""
    x = np.arange(-2.4, 2.4, 0.01)
    origins = np.column_stack([x, np.full_like(x, 5.0), np.full_like(x, z)])
    rays = np.tile(np.array((0.0, -1.0, 0.0), np.float32), (len(x), 1))
    ground = box((40, 40, 0.01), "asphalt", "road", (0, 0, -0.011))
    return Tracer(merge([mesh, ground])).trace(origins, rays, 0.0).distance


@pytest.mark.parametrize("seed", range(6))
def test_rays_pass_under_car_between_wheels(seed):
    free = np.isinf(_level_rays(vehicles.car(np.random.default_rng(seed)), 0.08))
    assert 0.5 < free.mean() < 0.95
    runs = np.split(free, np.flatnonzero(np.diff(free.astype(int))) + 1)
    assert sum(run[0] for run in runs) == 3  # before, between and behind two pairs of wheels


@pytest.mark.parametrize("seed", range(6))
def test_car_has_no_holes_above_sill(seed):
    mesh = vehicles.car(np.random.default_rng(seed))
    half = np.ptp(mesh.vertices[:, 0]) / 2 - 0.3
    x = np.arange(-2.4, 2.4, 0.01)
    assert np.isfinite(_level_rays(mesh, 0.55)[np.abs(x) < half]).all()


@pytest.mark.parametrize("make", (vehicles.car, vehicles.bus, vehicles.pickup))
def test_faces_point_outwards(make):
    """The signed volume of a closed mesh is positive if faces point outwards."""
    for seed in range(4):
        mesh = make(np.random.default_rng(seed))
        a, b, c = np.moveaxis(mesh.vertices[mesh.triangles].astype(np.float64), 1, 0)
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert 0.3 < volume / np.prod(np.ptp(mesh.vertices, axis=0)) < 1.0
