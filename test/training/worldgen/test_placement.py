from functools import partial

import numpy as np
import pytest
import shapely

from training.worldgen.assets import barriers, furniture, posts, vehicles
from training.worldgen.mesh import box, merge
from training.worldgen.placement import Placement, Pose2D
from training.worldgen.street.streets import Streets


@pytest.fixture(scope="module")
def streets():
    return Streets.generate(np.random.default_rng(4), kind="urban")


@pytest.fixture
def placement(streets):
    return Placement(streets, streets.ego_lane.path, 60.0)


@pytest.fixture
def kerbside(streets, placement):
    """Kerbside places on pavements near the path, 1 m from the carriageway."""
    places = streets.kerbside(6.0, np.random.default_rng(0), back=1.0)
    return [p for p in places if placement.within_reach(p.x, p.y) and p.kind == "pavement"]


def rng():
    return np.random.default_rng(0)


def block(length, width, height=1.0):
    return lambda rng: box((length, width, height), "concrete", "other_static")


def outline(mesh):
    return shapely.convex_hull(shapely.multipoints(mesh.vertices[:, :2].astype(float)))


def test_objects_do_not_overlap(placement, kerbside):
    makers = (furniture.bench, furniture.dumpster, furniture.bike_rack, furniture.cafe_table, block(0.5, 3.0))
    draw = np.random.default_rng(1)
    for place in kerbside * 3:
        maker = makers[int(draw.integers(len(makers)))]
        placement.add(maker, draw, Pose2D(place.x + draw.normal(), place.y + draw.normal(), draw.uniform(-3, 3)))
    outlines = [outline(mesh) for mesh in placement.meshes]
    assert len(outlines) > 20
    tree = shapely.STRtree(outlines)
    first, second = tree.query(outlines, predicate="overlaps")
    assert (first == second).all()


def test_objects_avoid_carriageways_and_buildings(streets, placement, kerbside):
    for place in kerbside:
        placement.add(block(1.0, 2.5), rng(), Pose2D(place.x, place.y, place.yaw), back=1.0)
    solid = shapely.union_all([streets.road, *(plot.area() for plot in streets.plots)])
    assert len(placement.meshes) > 10
    # Discs that cover a rectangle let its corners stick out by a little.
    assert max(outline(mesh).intersection(solid).area for mesh in placement.meshes) < 0.02


def test_deep_objects_move_back_from_road(placement, kerbside):
    for place in kerbside:
        if placement.add(block(2.4, 1.0), rng(), Pose2D(place.x, place.y, place.yaw), back=1.0):
            break
    middle = placement.meshes[0].vertices[:, :2].mean(axis=0) - (place.x, place.y)
    assert middle == pytest.approx([-0.5 * np.cos(place.yaw), -0.5 * np.sin(place.yaw)], abs=1e-3)


def test_road_requires_on_road(streets, placement):
    x, y = streets.ego_lane.path[len(streets.ego_lane.path) // 2]
    assert not placement.add(barriers.cone, rng(), Pose2D(x, y, 0.0))
    assert placement.add(barriers.cone, rng(), Pose2D(x, y, 0.0), on_road=True)
    assert not placement.add(barriers.cone, rng(), Pose2D(x, y, 0.0), on_road=True), "the place is taken"


def test_maker_is_not_called_out_of_reach(placement):
    assert not placement.add(pytest.fail, rng(), Pose2D(9e3, 9e3, 0.0))


def test_high_parts_may_overhang_objects(placement, kerbside):
    def gallows(rng):
        return merge([block(0.2, 0.2, 6.0)(rng), box((6.0, 0.2, 0.2), "metal", "other_static", (0, 0, 6.0))])

    place = kerbside[0]
    assert placement.add(gallows, rng(), Pose2D(place.x, place.y, place.yaw))
    along = place.yaw + np.pi / 2
    assert placement.add(posts.pole, rng(), Pose2D(place.x + np.cos(along), place.y + np.sin(along), place.yaw))


def test_long_objects_follow_slope(placement, kerbside, monkeypatch):
    monkeypatch.setattr(Streets, "height", lambda self, x, y: 0.1 * np.asarray(x) + 0.0 * np.asarray(y))
    for place in kerbside:
        if placement.add(block(0.1, 8.0), rng(), Pose2D(place.x, place.y, place.yaw)):
            break
    vertices = placement.meshes[0].vertices
    foot = np.sort(vertices[:, 2] - 0.1 * vertices[:, 0])[: len(vertices) // 2]
    assert foot == pytest.approx(0.0, abs=0.02)


def test_slope_argument_raises_wires(placement, kerbside):
    place = kerbside[0]
    make = partial(posts.utility_pole, span=30.0)
    assert placement.add(make, rng(), Pose2D(place.x, place.y, place.yaw), slope=0.1)
    level = make(rng()).vertices[:, 2]
    assert placement.meshes[0].vertices[:, 2].max() > level.max() + placement.streets.height(place.x, place.y) + 1.0


def test_parked_cars_pitch_with_ground(placement, streets, monkeypatch):
    monkeypatch.setattr(Streets, "height", lambda self, x, y: 0.08 * np.asarray(x) + 0.0 * np.asarray(y))
    x, y = streets.ego_lane.path[len(streets.ego_lane.path) // 2]
    assert placement.add_parked(vehicles.car(rng()), Pose2D(x, y, 0.7))
    assert not placement.add_parked(vehicles.car(rng()), Pose2D(x + 1.0, y, 0.7))
    vertices = placement.meshes[0].vertices
    above = vertices[:, 2] - 0.08 * vertices[:, 0]
    assert above.min() == pytest.approx(0.0, abs=0.12)  # it leans along itself only, not to the side


def test_buildings_stand_on_lowest_corner(placement, streets):
    plot = streets.plots[0]
    placement.add_building(box((4, 4, 3), "brick", "building"), plot)
    lowest = streets.height(*shapely.get_coordinates(plot.area()).T).min()
    assert placement.meshes[0].vertices[:, 2].min() == pytest.approx(lowest, abs=1e-3)
