import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.projection import MAX_RANGE_M, NO_PIXEL, NO_POINT, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec

UNEVEN = ProjectionSpec((10.0, 2.0, 0.0, -1.0, -15.0), width=8)


def polar(azimuth_deg, elevation_deg, distance):
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    flat = np.cos(elevation) * distance
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) * distance], -1).astype("f4")


def test_pixels_of_a_worked_example():
    # azimuth 179 is the left edge (behind, left), 0 the middle, -179 the right edge
    xyz = polar([179, 46, 1, -1, -179, 0.1], [10, 2, 0, -1, -15, 5.9], [10, 10, 10, 10, 10, 10.0])
    projection = RangeProjector(UNEVEN).project(PointCloud(xyz))
    assert projection.pixel.tolist() == [0 * 8 + 0, 1 * 8 + 2, 2 * 8 + 3, 3 * 8 + 4, 4 * 8 + 7, 1 * 8 + 3]
    expected = np.full(40, NO_POINT)
    expected[projection.pixel] = np.arange(6)
    np.testing.assert_array_equal(projection.point, expected)
    np.testing.assert_allclose(projection.range, 10, rtol=1e-6)


def test_azimuth_wraps_around_behind_the_sensor():
    xyz = np.array([[-10, 0, 0], [-10, -0.0, 0], [-10, 1e-7, 0], [-10, -1e-7, 0]], np.float32)
    columns = RangeProjector(UNEVEN).project(PointCloud(xyz)).pixel % 8
    assert columns[0] == columns[1] == 0, "-180 and +180 degrees are one direction"
    assert set(columns.tolist()) <= {0, 7}


def test_nearest_point_wins_in_any_order():
    near, far = polar(0, 0, 5.0), polar(0, 0, 50.0)
    for xyz, winner in ((np.stack([near, far]), 0), (np.stack([far, near]), 1)):
        projection = RangeProjector(UNEVEN).project(PointCloud(xyz))
        pixel = projection.pixel[0]
        assert projection.pixel[1] == pixel
        assert projection.point[pixel] == winner


def test_invalid_points_get_no_pixel():
    xyz = np.array([[0, 0, 0], [np.nan, 1, 1], [np.inf, 0, 0], [3e38, 3e38, 3e38], [0.1, 0.1, 0], [0, 1001, 0]], "f4")
    projection = RangeProjector(UNEVEN).project(PointCloud(np.r_[xyz, np.array([[5, 0, 0], [0, 999, 0]], "f4")]))
    assert projection.pixel[:6].tolist() == [NO_PIXEL] * 6
    assert projection.point[projection.pixel[6:]].tolist() == [6, 7]
    assert (projection.point >= 0).sum() == 2


@pytest.mark.parametrize("min_range_m", [0.0, -1.0, np.nan, 1000.0])
def test_rejects_invalid_min_range(min_range_m):
    with pytest.raises(ModelError, match="min_range_m"):
        ProjectionSpec((1.0, 0.0), 8, min_range_m)


def test_empty_cloud():
    projection = RangeProjector(UNEVEN).project(PointCloud(np.zeros((0, 3), np.float32)))
    assert projection.pixel.shape == (0,)
    assert (projection.point == NO_POINT).all()


coordinates = st.floats(width=32) | st.floats(-700, 700, width=32)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=coordinates))
def test_projection_equals_a_loop_over_points(xyz):
    spec = UNEVEN
    projection = RangeProjector(spec).project(PointCloud(xyz))
    nearest = {}
    with np.errstate(over="ignore", invalid="ignore"):
        x, y, z = xyz.T
        distance = np.sqrt(x * x + y * y + z * z)
    for i, pixel in enumerate(projection.pixel):
        usable = spec.min_range_m <= distance[i] <= MAX_RANGE_M
        if not usable:
            assert pixel == NO_PIXEL
            continue
        assert 0 <= pixel < spec.height * spec.width
        elevation = np.degrees(np.arcsin(np.clip(xyz[i, 2] / distance[i], -1, 1)))
        gap = np.abs(np.array(spec.beam_elevations_deg) - elevation)
        assert gap[pixel // spec.width] <= gap.min() + 0.2  # the table is coarse near the zenith only
        nearest[pixel] = min(nearest.get(pixel, np.inf), min(distance[i], 255.99))
    assert set(np.flatnonzero(projection.point >= 0)) == set(nearest)
    for pixel, expected in nearest.items():
        assert min(distance[projection.point[pixel]], 255.99) <= expected + 1 / 256 + 1e-3


def test_each_beam_of_a_128_beam_table_has_its_own_row():
    rows = tuple(np.linspace(15, -25, 128))
    xyz = polar(np.linspace(-170, 170, 128), np.array(rows), 30.0)
    projection = RangeProjector(ProjectionSpec(rows, 256)).project(PointCloud(xyz))
    np.testing.assert_array_equal(projection.pixel // 256, np.arange(128))


def test_fewer_beams_leave_rows_empty():
    sensor = SensorSpec("two beams", (2.1, -14.0))
    xyz = polar(np.linspace(-170, 170, 20), np.tile([2.3, -13.0], 10), 20.0)
    rows = RangeProjector(UNEVEN, sensor).project(PointCloud(xyz)).pixel // 8
    assert set(rows.tolist()) == {1, 4}


def test_rings_map_through_the_sensor_table():
    sensor = SensorSpec("rings from below", (10.0, 0.0, -15.0), ring_elevations_deg=(-15.0, 0.0, 10.0))
    xyz = polar(0, 0, np.array([10.0, 11.0, 12.0]))  # row 2 by elevation, but rings take precedence
    cloud = PointCloud(xyz, ring=np.array([0, 1, 2], np.uint16))
    assert (RangeProjector(UNEVEN, sensor).project(cloud).pixel // 8).tolist() == [4, 2, 0]
    for odd in (3, -1):
        one_odd = PointCloud(xyz, ring=np.array([0, 1, odd], np.int32))
        assert (RangeProjector(UNEVEN, sensor).project(one_odd).pixel // 8).tolist() == [4, 2, 2]
    gap = SensorSpec("rings from below", (10.0, 0.0, -15.0), ring_elevations_deg=(-15.0, np.nan, 10.0))
    by_elevation = PointCloud(xyz, ring=np.array([0, 1, 2], np.uint16))
    assert (RangeProjector(UNEVEN, gap).project(by_elevation).pixel // 8).tolist() == [4, 2, 0]
    outside = PointCloud(xyz, ring=np.array([3, 4, 9], np.uint16))
    with pytest.raises(CloudError, match=r"ring 3\.\.9"):
        RangeProjector(UNEVEN, sensor).project(outside)


@pytest.mark.parametrize("order", ["from above", "from 1", "0, 2, ..., 30", "firing"])
def test_driver_that_numbers_the_beams_otherwise_is_projected_by_elevation(order):
    beams = np.arange(-15.0, 16.0, 2)
    spec, sensor = ProjectionSpec(tuple(beams[::-1]), 180), SensorSpec("VLP-16", tuple(beams[::-1]), tuple(beams))
    beam = np.repeat(np.arange(16), 180)
    xyz = polar(np.tile(np.arange(0.0, 360, 2), 16), beams[beam], 20.0)
    by_elevation = RangeProjector(spec, sensor).project(PointCloud(xyz)).pixel
    firing = (beam % 8) * 2 + beam // 8
    number = {"from above": 15 - beam, "from 1": beam + 1, "0, 2, ..., 30": 2 * beam, "firing": firing}[order]
    for ring in (beam, number):
        pixel = RangeProjector(spec, sensor).project(PointCloud(xyz, ring=ring.astype(np.uint16))).pixel
        np.testing.assert_array_equal(pixel, by_elevation)
    with pytest.raises(CloudError, match=r"do not fit the sensor \(correlation .*fit-sensor.*projection_frame"):
        RangeProjector(spec, sensor).project(PointCloud(xyz + np.float32([0, 0, 4.3]), ring=firing.astype(np.uint16)))


@pytest.mark.parametrize("rows", [(), (0.0, 1.0), (1.0, 1.0), (100.0,), (float("nan"),)])
def test_rejects_invalid_beam_tables(rows):
    with pytest.raises(ModelError, match="beam_elevations_deg"):
        ProjectionSpec(rows, 8)


def by_beam(rows=8, columns=8):
    return ProjectionSpec(tuple(np.linspace(10.0, -20.0, rows).tolist()), columns, rows="beams")


@pytest.mark.parametrize(("beams", "rows"), [(2, [0, 4]), (3, [0, 2, 5]), (8, [*range(8)]), (16, [*range(8)])])
def test_rows_by_beam_are_divided_evenly_among_the_beams_of_any_lidar(beams, rows):
    table = np.sort(np.random.default_rng(beams).uniform(-30, 30, beams))[::-1]
    sensor = SensorSpec("any", tuple(table.tolist()))
    projection = RangeProjector(by_beam(), sensor).project(PointCloud(polar(np.full(beams, 1.0), table, 10.0)))
    assert sorted(set((projection.pixel // 8).tolist())) == rows
    column = projection.point.reshape(8, 8)[:, projection.pixel[0] % 8]
    assert (column >= 0).all(), "each beam is repeated in its rows, so that none is empty"
    assert (np.diff(column) >= 0).all()


def test_rings_and_elevations_give_the_same_rows_by_beam():
    table = np.array((7.0, 3.0, 1.0, -2.0, -11.0))
    xyz = polar(np.tile(np.arange(0.0, 360, 1.0), 5), np.repeat(table, 360), 10.0)
    ring = np.repeat([4, 3, 2, 1, 0], 360).astype(np.uint16)
    sensor = SensorSpec("numbered from below", tuple(table.tolist()), tuple(table[::-1].tolist()))
    projector = RangeProjector(by_beam(), sensor)
    by_ring, by_elevation = projector.project(PointCloud(xyz, ring=ring)), projector.project(PointCloud(xyz))
    np.testing.assert_array_equal(by_ring.pixel, by_elevation.pixel)
    np.testing.assert_array_equal(by_ring.point, by_elevation.point)


def test_single_empty_columns_are_filled_and_wider_gaps_are_not():
    azimuth = 180 - (np.array((0, 2, 3, 6)) + 0.5) * 45
    cloud = PointCloud(polar(azimuth, np.zeros(4), 10.0))
    projection = RangeProjector(by_beam(), SensorSpec("one beam", (0.0,))).project(cloud)
    assert projection.point.reshape(8, 8)[0].tolist() == [0, 0, 1, 2, NO_POINT, NO_POINT, 3, 3]


def test_sensor_mounted_upside_down_gives_the_image_of_an_upright_one():
    table = (10.0, 1.0, -3.0, -16.0)
    xyz = polar(np.tile(np.arange(0.0, 360, 5.0) + 1, 4), np.repeat(table, 72), np.linspace(2, 50, 288))
    upright = RangeProjector(by_beam(), SensorSpec("upright", table)).project(PointCloud(xyz))
    turned = SensorSpec("upside down", tuple(-beam for beam in reversed(table)), roll_deg=180)
    projection = RangeProjector(by_beam(), turned).project(PointCloud(xyz * np.float32((1, -1, -1))))
    np.testing.assert_array_equal(projection.pixel, upright.pixel)
    np.testing.assert_array_equal(projection.point, upright.point)


def test_unknown_kind_of_rows_is_refused():
    with pytest.raises(ModelError, match=r"projection\.rows is 'rank'.*'elevation' or 'beams'"):
        ProjectionSpec((1.0, 0.0), 8, rows="rank")
