import hashlib

import numpy as np
import pytest
import shapely

from training.worldgen.mesh import LABELS, Mesh, merge
from training.worldgen.street.ground import ground_meshes
from training.worldgen.street.streets import Streets
from training.worldgen.tracing import Tracer

CASES = ((3, "urban"), (5, "residential"), (6, "suburban"), (10, "country"), (11, "motorway"), (104, ""))


def build(seed: int, kind: str) -> tuple[Streets, Mesh]:
    """Streets of a kind and their ground; without a kind: with a layout of test drives."""
    rng = np.random.default_rng(seed)
    streets = Streets.generate(rng, not kind, kind)
    return streets, merge(ground_meshes(streets, rng))


@pytest.fixture(scope="module", params=CASES)
def drive(request: pytest.FixtureRequest) -> tuple[Streets, Mesh]:
    return build(*request.param)


def looked_at(streets: Streets, mesh: Mesh, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and heights that rays straight down meet."""
    tracer = Tracer(mesh)
    down = np.tile(np.float32((0, 0, -1)), (len(points), 1))
    hits = tracer.trace(np.column_stack([points, np.full(len(points), 60.0)]), down, 0.0)
    return tracer.label(hits), 60.0 - hits.distance.astype(np.float64)


def near_roads(streets: Streets, count: int) -> np.ndarray:
    """Points about all roads, not on a border, where a ray may meet either side."""
    rng = np.random.default_rng(0)
    roads = [road.ribbon for road in streets.network.roads]
    points = np.concatenate([r.at(rng.uniform(0, r.length, count), rng.normal(0, 14, count)) for r in roads])
    borders = shapely.union_all([zone.shape.boundary for zone in streets.zones])
    return points[~shapely.dwithin(borders, shapely.points(points), 0.01)]


def test_mesh_matches_zone_labels_and_heights(drive: tuple[Streets, Mesh]) -> None:
    streets, mesh = drive
    points = near_roads(streets, 3000)
    label, height = looked_at(streets, mesh, points)
    zones = [streets.zones[k] for k in streets.zone_at(*points.T)]
    expected = np.array([LABELS.id_of(zone.label) for zone in zones])
    marking = label == LABELS.id_of("road_marking")
    on_road = np.array([zone.kind in ("road", "bay", "lot") for zone in zones])
    assert (label[~marking] == expected[~marking]).all()
    assert on_road[marking].all()
    error = np.abs(height - streets.height(*points.T))
    if streets.relief.banks:  # triangles across the end of a bank cannot follow it exactly
        assert (error < 0.02).mean() > 0.9
        assert (error < 0.1).mean() > 0.997
    else:
        assert (error < 0.02).mean() > 0.997


def test_markings_are_hit_where_painted(drive: tuple[Streets, Mesh]) -> None:
    streets, mesh = drive
    tops = [paint for k, paint in enumerate(streets.paints) if not any(
        paint.shape.intersects(later.shape) for later in streets.paints[k + 1 :])]  # fmt: skip
    points = shapely.get_coordinates([paint.shape.representative_point() for paint in tops])
    label, _ = looked_at(streets, mesh, points)
    assert (label == [LABELS.id_of(paint.label) for paint in tops]).mean() > 0.99


def test_ground_has_no_holes(drive: tuple[Streets, Mesh]) -> None:
    streets, mesh = drive
    rng = np.random.default_rng(1)
    around = streets.ego_lane.path[:, None] + rng.uniform(-120, 120, (len(streets.ego_lane.path), 20, 2))
    _, height = looked_at(streets, mesh, around.reshape(-1, 2))
    assert np.isfinite(height).all()


def test_grazing_rays_hit_no_gaps() -> None:
    streets, mesh = build(5, "urban")
    rng = np.random.default_rng(3)
    start = streets.ego_lane.path[150]
    eye = np.array([*start, streets.height(*start) + 1.8])
    rays = np.column_stack([rng.normal(size=(20000, 2)), np.zeros(20000)])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rays[:, 2] = -rng.uniform(0.03, 0.3, 20000)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hits = Tracer(mesh).trace(eye, rays.astype(np.float32), 0.0)
    reached = eye + rays * hits.distance[:, None]
    assert np.isfinite(hits.distance).all()
    below = reached[:, 2] - streets.terrain(*reached[:, :2].T)
    close = hits.distance < 60
    lowest = min((bank.height for bank in streets.relief.banks), default=0.0)
    assert below[close].min() > min(lowest, 0.0) - streets.relief.depth - 0.1


def test_kerb_faces_are_vertical_and_sidewalk(drive: tuple[Streets, Mesh]) -> None:
    streets, mesh = drive
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    upright = np.abs(normal[:, 2]) < 1e-3 * np.linalg.norm(normal, axis=1)
    assert upright.any() == (streets.relief.step > 0)
    if not upright.any():
        return
    assert (mesh.label[upright] == LABELS.id_of("sidewalk")).all()
    outwards = normal[upright, :2] / np.linalg.norm(normal[upright, :2], axis=1, keepdims=True)
    before = corners[upright].mean(axis=1)[:, :2] + 0.03 * outwards
    assert shapely.dwithin(streets.road, shapely.points(before), 0.01).mean() > 0.99


def test_all_faces_except_kerbs_point_up(drive: tuple[Streets, Mesh]) -> None:
    _, mesh = drive
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[:, 2] > -1e-6).all()


def test_triangle_count_is_within_budget(drive: tuple[Streets, Mesh]) -> None:
    _, mesh = drive
    assert 5_000 < len(mesh) < 60_000


def test_same_seed_gives_same_bytes() -> None:
    first, again = (build(7, "country")[1] for _ in range(2))
    digests = [hashlib.sha256(b"".join(getattr(m, n).tobytes() for n in ("vertices", "triangles", "material", "label",
                                                                        "instance"))).hexdigest()
               for m in (first, again)]  # fmt: skip
    assert digests[0] == digests[1]
