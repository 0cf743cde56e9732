import hashlib

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from training.worldgen.street.relief import Bank, Relief
from training.worldgen.street.ribbon import Ribbon, integrate_path
from training.worldgen.street.road_network import UNSEEN_LAYOUTS
from training.worldgen.street.street_style import DISTRICTS, KINDS, RURAL, StreetStyle
from training.worldgen.street.streets import Streets
from training.worldgen.street.terrain import Terrain

SEEDS = (1, 3, 5, 8, 10, 13)


@pytest.fixture(scope="module", params=zip(SEEDS, KINDS, strict=True), ids=KINDS)
def streets(request: pytest.FixtureRequest) -> Streets:
    seed, kind = request.param
    return Streets.generate(np.random.default_rng(seed), kind=kind)


@pytest.fixture(scope="module")
def unseen() -> list[Streets]:
    return [Streets.generate(np.random.default_rng(seed), unseen=True) for seed in range(100, 110)]


def fingerprint(streets: Streets) -> str:
    parts = [shapely.to_wkb(zone.shape) for zone in streets.zones]
    parts += [shapely.to_wkb(paint.shape) for paint in streets.paints]
    parts += [lane.path.tobytes() for lane in streets.lanes]
    parts.append(repr((streets.plots, streets.bays, streets.junctions)).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_same_seed_gives_same_streets() -> None:
    first, again, other = (Streets.generate(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert fingerprint(first) == fingerprint(again)
    assert fingerprint(first) != fingerprint(other)


def test_zones_partition_area(streets: Streets) -> None:
    shapes = [zone.shape for zone in streets.zones]
    whole = shapely.union_all(shapes)
    assert sum(shape.area for shape in shapes) == pytest.approx(whole.area, abs=0.5)
    assert whole.area == pytest.approx(shapely.box(*whole.bounds).area, abs=0.5)


def test_streets_have_all_elements(streets: Streets) -> None:
    assert {"road", "ground"} <= {zone.kind for zone in streets.zones}
    assert streets.kerbside(20.0, np.random.default_rng(0))
    fewest, most = streets.style.district.junctions
    assert 1 + fewest <= len(streets.network.roads) <= 1 + most
    if streets.style.kind in RURAL:
        assert not {"pavement", "kerb", "bay"} & {zone.kind for zone in streets.zones}
        assert streets.verge.area > 500
        return
    assert streets.pavement.area > 300
    assert len(streets.plots) > 10
    assert len(streets.junctions) >= 1
    assert streets.walks


def test_ego_lane_is_long_and_smooth(streets: Streets) -> None:
    steps = np.diff(streets.ego_lane.path, axis=0)
    assert np.linalg.norm(steps, axis=1).sum() == pytest.approx(streets.style.district.ego_length, rel=0.15)
    turn = np.abs(np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))))
    assert turn.max() < 0.07  # a metre on: a radius of 14 m


def test_lanes_lie_on_roads(streets: Streets, unseen: list[Streets]) -> None:
    for each in (streets, *unseen):
        for lane in (*each.lanes, each.ego_lane):
            outside = shapely.LineString(lane.path).difference(each.road.buffer(0.15))
            assert outside.length < 0.3


def test_traffic_keeps_right(streets: Streets) -> None:
    middle = streets.network.main.ribbon
    for lane in (lane for lane in streets.lanes if lane.main):
        start, ahead = lane.path[len(lane.path) // 2], lane.path[len(lane.path) // 2 + 1]
        to_middle = middle.at(middle.nearest(start)) - start
        left = np.array((start[1] - ahead[1], ahead[0] - start[0]))
        assert to_middle @ left > 0


def test_plots_overlap_neither_streets_nor_each_other(streets: Streets) -> None:
    areas = np.array([plot.area() for plot in (*streets.plots, *streets.back_plots)], dtype=object)
    if not len(areas):
        return
    assert not shapely.intersects(streets.plan.corridor, areas).any()
    first, second = shapely.STRtree(areas).query(areas, predicate="intersects")
    overlap = shapely.area(shapely.intersection(areas[first], areas[second]))[first != second]
    assert overlap.max(initial=0.0) < 1e-6


def test_plots_face_the_road(streets: Streets) -> None:
    border = streets.plan.corridor.union(streets.verge)
    for plot in streets.plots:
        (front,) = plot.points([(plot.setback + 0.5, 0.0)])
        assert border.distance(shapely.Point(front)) < 1.5


def test_bays_lie_on_roads_and_carparks(streets: Streets) -> None:
    places = shapely.points(np.array([(bay.x, bay.y) for bay in streets.bays]).reshape(-1, 2))
    surfaces = streets.region("road", "bay", "lot", "driveway")
    assert shapely.dwithin(surfaces, places, 0.3).all()


def test_posts_stand_beside_roads_facing_traffic(streets: Streets, unseen: list[Streets]) -> None:
    for each in (streets, *unseen):
        for approach in (a for junction in each.junctions for a in junction.approaches):
            assert not shapely.intersects_xy(each.plan.road, approach.post_x, approach.post_y)
            assert np.cos(approach.post_yaw - approach.yaw) == pytest.approx(-1.0)
            assert shapely.dwithin(each.road, shapely.Point(approach.x, approach.y), 0.1)


def test_kerbside_places_are_clear_and_face_road(streets: Streets) -> None:
    places = streets.kerbside(12.0, np.random.default_rng(2))
    points = np.array([(p.x, p.y) for p in places])
    assert not shapely.contains_xy(streets.plan.road, *points.T).any()
    ahead = points + 4.5 * np.array([(np.cos(p.yaw), np.sin(p.yaw)) for p in places])
    assert shapely.contains_xy(streets.plan.carriageway, *ahead.T).mean() > 0.95


def test_kerbs_are_steps_unless_lowered() -> None:
    both = {"raised": 0, "lowered": 0}
    for seed, kind in zip(SEEDS, 2 * ("urban", "residential", "industrial"), strict=True):
        streets = Streets.generate(np.random.default_rng(seed), kind=kind)
        step = streets.relief.step
        if step == 0:
            continue
        for crossing in streets.crossings:
            end, other = crossing.line
            ahead = (end - other) / np.linalg.norm(end - other)
            if not any(z.kind in ("kerb", "pavement") and z.shape.intersects(shapely.Point(end + 0.2 * ahead))
                       for z in streets.zones):  # fmt: skip
                continue
            low, high = (end + k * ahead for k in (-0.02, 0.02))
            assert abs(streets.height(*high) - streets.height(*low)) < 0.01
            both["lowered"] += 1
        for place in streets.kerbside(25.0, np.random.default_rng(0), back=0.05):
            points = np.array([(place.x, place.y)])
            if streets.relief.lowered.distance(shapely.Point(points[0])) > streets.relief.ramp:
                assert streets.height(*points.T)[0] - streets.terrain(*points.T)[0] == pytest.approx(step, abs=0.01)
                both["raised"] += 1
    assert min(both.values()) > 20


def test_height_accepts_scalars_and_arrays(streets: Streets) -> None:
    x, y = np.meshgrid(np.linspace(-30, 30, 7), np.linspace(-20, 20, 5))
    height = streets.height(x, y)
    assert height.shape == (5, 7)
    assert float(streets.height(x[2, 3], y[2, 3])) == height[2, 3]


def test_unseen_layouts_occur_only_on_request(unseen: list[Streets]) -> None:
    assert {streets.network.layout for streets in unseen} == set(UNSEEN_LAYOUTS)
    for seed in range(12):
        seen = Streets.generate(np.random.default_rng(seed))
        assert seen.network.layout == "usual"
        assert not any(junction.roundabout or len(junction.approaches) > 4 for junction in seen.junctions)
        assert not any(zone.kind == "track" for zone in seen.zones)


def test_lanes_pass_around_roundabout_island(unseen: list[Streets]) -> None:
    rings = [(s, node) for s in unseen for node in s.network.nodes if node.ring]
    assert rings
    for streets, node in rings:
        away = np.linalg.norm(streets.ego_lane.path - node.center, axis=1)
        assert away.min() > node.island + 1.0
        lane = streets.ego_lane.path[away < node.ring] - node.center
        angle = np.unwrap(np.arctan2(lane[:, 1], lane[:, 0]))
        assert angle[-1] - angle[0] > 1.5  # counter-clockwise


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_terrain_grade_is_at_most_eight_percent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terrain = Terrain.sample(rng)
    x, y = rng.uniform(-300, 300, (2, 200))
    for dx, dy in ((0.1, 0.0), (0.0, 0.1)):
        assert np.abs(terrain(x + dx, y + dy) - terrain(x - dx, y - dy)).max() / 0.2 < 0.0801
    assert float(terrain(0.0, 0.0)) == 0.0


@given(st.floats(-0.02, 0.02), st.floats(5, 90), st.floats(-8, 8))
@settings(deadline=None)
def test_ribbon_coordinates_are_metric(bend: float, s: float, d: float) -> None:
    ribbon = Ribbon(integrate_path((3.0, -2.0), bend * np.arange(100)))
    line = shapely.LineString(ribbon.points)
    place = shapely.Point(ribbon.at(s, d))
    assert line.distance(place) == pytest.approx(abs(d), abs=0.02)
    assert line.project(place) == pytest.approx(s, abs=0.1)


def test_relief_at_lowered_kerbs_and_ditches() -> None:
    relief = Relief(0.12, 1.0, shapely.box(0, 0, 1, 1), shapely.box(10, 0, 11, 1), 0.4)
    points = np.array([(0.5, 0.5), (1.5, 0.5), (5.0, 0.5), (10.5, 0.5)])
    assert relief.rise(points) == pytest.approx([0.0, 0.06, 0.12, 0.12 - 0.4])


def test_every_kind_occurs_with_its_share() -> None:
    kinds = [StreetStyle.sample(np.random.default_rng(seed)).kind for seed in range(400)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in KINDS}
    assert set(shares) == set(DISTRICTS)
    assert shares["country"] == pytest.approx(0.18, abs=0.05)
    assert shares["motorway"] == pytest.approx(0.1, abs=0.04)
    assert min(shares.values()) > 0.05


def test_bank_rises_beside_road_and_ends_at_other_roads() -> None:
    ribbon = Ribbon(integrate_path((0.0, 0.0), np.zeros(200)))
    bank = Bank(ribbon, 1, 5.0, 4.0, 2.0, 0.0, shapely.box(150, -50, 160, 50))
    points = np.array([(80.0, 4.0), (80.0, 7.0), (80.0, 9.0), (80.0, 40.0), (80.0, -9.0), (155.0, 9.0)])
    rise = bank.rise(points)
    assert rise[0] == rise[4] == rise[5] == 0.0
    assert 0 < rise[1] < rise[2] == pytest.approx(rise[3])
    assert 0.5 < rise[2] <= 2.0


def test_country_roads_have_land_of_all_uses() -> None:
    seen = set()
    for seed in range(6):
        seen |= {zone.kind for zone in Streets.generate(np.random.default_rng(seed), kind="country").zones}
    assert {"field", "meadow", "wood", "verge"} <= seen
    assert not {"pavement", "kerb", "bay"} & seen
