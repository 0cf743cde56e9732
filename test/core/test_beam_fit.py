"""Finding the beams of a LiDAR: ring fields of every kind, organised clouds, point order, clusters, known tables."""

import numpy as np
import pytest

from xmodelkd_ros.core.beam_fit import fit_sweeps, usable_points
from xmodelkd_ros.core.beam_groups import group_beams, scan_lines
from xmodelkd_ros.core.beam_table import find_origin
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.known_beams import nearest_product
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.resources import shipped_sensors

TABLES = {name: SensorSpec.read(path).beam_elevations_deg for name, path in shipped_sensors().items()}
COLUMNS = 400


def scene(beams, seed=0, height_m=0.0, noise_m=0.01, blur_deg=0.0, columns=COLUMNS):
    """(B, C, 3) points of a street: a road 1.8 m below the sensor, walls around it, obstacles; NaN in the sky."""
    rng = np.random.default_rng(seed)
    azimuth = np.linspace(-np.pi, np.pi, columns, endpoint=False)
    elevation = np.radians(np.asarray(beams, float))[:, None] + np.radians(blur_deg) * rng.normal(size=columns)
    wall = 12 + 8 * np.sin(3 * azimuth + seed) + 30 * (rng.random(columns) < 0.2)
    road = (1.8 + height_m) / np.maximum(-np.tan(elevation), 1e-9)
    rho = np.minimum(wall, road) + rng.normal(0, noise_m, (len(beams), columns))
    z = rho * np.tan(elevation) + height_m
    rho[z > 8] = np.nan
    return np.stack([rho * np.cos(azimuth), rho * np.sin(azimuth), z], axis=-1).astype(np.float32)


def clouds(beams, ring=None, shuffled=True, sweeps=4, **options):
    """Unorganised sweeps; ``ring`` is a function of beam and column numbers."""
    result = []
    for seed in range(sweeps):
        xyz = scene(beams, seed, **options)
        row, column = np.indices(xyz.shape[:2])
        order = np.random.default_rng(seed).permutation(row.size) if shuffled else np.arange(row.size)
        numbers = None if ring is None else np.asarray(ring(row, column)).ravel()[order]
        result.append(PointCloud(xyz.reshape(-1, 3)[order], None, numbers))
    return result


VLP16 = np.sort(TABLES["VLP-16"])
PANDAR = np.sort(TABLES["Pandar64"])


@pytest.mark.parametrize(
    "ring",
    [
        lambda beam, _: beam,
        lambda beam, _: 15 - beam,
        lambda beam, _: 4 * beam,
        lambda beam, _: beam + 1,
        lambda beam, _: (beam * 7) % 16,
        lambda beam, _: np.where(beam == 5, -1, beam),
        lambda beam, column: np.where((beam == 3) & (column < 9), 65535, beam),
    ],
    ids=["from below", "from above", "0, 4, ..., 60", "from 1", "firing order", "one invalid", "stray values"],
)
def test_ring_numbers_that_hold_one_elevation_each_are_used(ring):
    found = fit_sweeps(clouds(VLP16, ring), TABLES)
    assert found.source == "ring field"
    numbers = ring(np.arange(16), np.full(16, 50))
    for beam, number in enumerate(numbers):
        if number >= 0:
            assert found.rings_deg[number] == pytest.approx(VLP16[beam], abs=0.05)
    assert np.isnan(found.rings_deg).sum() == len(found.rings_deg) - len(set(numbers[numbers >= 0]))


@pytest.mark.parametrize(
    "ring",
    [
        lambda beam, _: np.zeros_like(beam),
        lambda beam, _: np.full_like(beam, 7),
        lambda beam, _: np.random.default_rng(0).integers(0, 16, beam.shape),
        lambda beam, column: column,
        lambda beam, column: column % 12,
        lambda beam, _: beam // 2,
        lambda beam, _: beam % 8,
        lambda beam, column: np.arange(beam.size).reshape(beam.shape),
    ],
    ids=["all 0", "all 7", "random", "column", "block of a packet", "two beams each", "number modulo 8", "point index"],
)
def test_ring_field_that_numbers_no_beams_is_ignored_with_a_note(ring):
    found = fit_sweeps(clouds(VLP16, ring), TABLES)
    assert found.rings_deg == () and found.source == "clusters of elevations"
    np.testing.assert_allclose(found.beams_deg, VLP16[::-1], atol=0.05)
    assert any("'ring' does not number the beams and is ignored" in note for note in found.notes)


def test_ring_field_of_hardly_repeated_large_numbers_is_ignored():
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random(2000) < 0.02, 5000, rng.permutation(60000)[:2000])
    assert group_beams(rng.normal(0, 10, (2000, 3)), numbers).problem == "hardly any number occurs twice"


def test_ring_numbers_in_even_steps_of_elevation_are_ignored():
    found = fit_sweeps(clouds(PANDAR, lambda beam, _: np.floor(PANDAR[beam] + 26).astype(int), columns=1200), TABLES)
    assert found.rings_deg == () and len(found.beams_deg) == 64
    assert any("numbers for 64 beams" in note for note in found.notes)


def test_beams_without_returns_leave_their_ring_number_out():
    found = fit_sweeps(clouds(VLP16[:12], lambda beam, _: beam + 2), TABLES)
    assert np.isnan(found.rings_deg).tolist() == [True] * 2 + [False] * 12
    assert len(found.beams_deg) == 12


def test_ring_field_of_a_blurred_cloud_is_used():
    """Motion compensation spreads the beams of a Pandar64 over more than their distance."""
    found = fit_sweeps(clouds(PANDAR, lambda beam, _: beam, blur_deg=0.1), TABLES)
    assert found.source == "ring field" and found.spread > 0.3
    np.testing.assert_allclose(found.rings_deg, PANDAR, atol=0.1)


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_or_columns_of_an_organised_cloud_are_used(transposed):
    sweeps = []
    for seed in range(3):
        xyz = scene(PANDAR[::-1], seed, blur_deg=0.06)
        xyz = xyz.transpose(1, 0, 2) if transposed else xyz
        sweeps.append(PointCloud(xyz.reshape(-1, 3), height=xyz.shape[0]))
    found = fit_sweeps(sweeps, TABLES)
    assert found.source == ("columns" if transposed else "rows")
    assert len(found.beams_deg) == 64 and found.product.name == "Pandar64"


def test_height_of_the_beams_above_the_origin_is_found():
    xyz = np.concatenate([cloud.xyz for cloud in clouds(TABLES["HDL-64E"], height_m=0.2)]).astype(float)
    origin = find_origin(xyz[np.isfinite(xyz).all(axis=1)])
    assert origin.height_m == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("name", ["VLP-16", "HDL-32E", "VLP-32C", "HDL-64E", "Pandar64", "OS1-128", "PandarXT-32"])
def test_beams_of_shuffled_clouds_are_counted(name):
    height = 0.2 if name == "HDL-64E" else 0.0
    found = fit_sweeps(clouds(TABLES[name], height_m=height, columns=1200), TABLES)
    assert len(found.beams_deg) == len(TABLES[name])
    assert name in (found.product.name, *found.product.alike)


def test_refuses_where_beams_cannot_be_told_apart_and_says_what_to_record():
    blurred = clouds(np.linspace(3, -21, 60), blur_deg=0.4)
    with pytest.raises(SensorError, match=r"record raw clouds .*stands still, or name the product with --like"):
        fit_sweeps(blurred, TABLES)
    for wrong in ("VLP-16", "OS1-128"):
        with pytest.raises(SensorError):
            fit_sweeps(blurred, TABLES, like=wrong)


def test_refuses_a_number_of_beams_that_no_lidar_has():
    odd = clouds(np.linspace(8, -20, 27), columns=1200)
    with pytest.raises(SensorError, match=r"27 clusters .*no LiDAR's number.*record raw clouds .*--beams"):
        fit_sweeps(odd, TABLES)
    assert len(fit_sweeps(odd, TABLES, beams=27).beams_deg) == 27


def test_beams_hidden_from_view_come_from_the_product_s_table():
    found = fit_sweeps(clouds(np.delete(np.sort(TABLES["VLP-32C"]), [30, 31]), columns=1200), TABLES)
    assert len(found.beams_deg) == 32
    assert any("have no returns here" in note for note in found.notes)


def test_refuses_a_product_that_the_sweeps_contradict():
    with pytest.raises(SensorError, match=r"16 beams .* are not those of HDL-32E; leave --like out"):
        fit_sweeps(clouds(VLP16, lambda beam, _: beam), TABLES, like="HDL-32E")


def test_empty_sweeps_are_refused():
    with pytest.raises(SensorError, match="no point beyond 1 m"):
        fit_sweeps([PointCloud(np.zeros((5, 3), np.float32))], TABLES)


def test_scan_lines_need_the_order_of_a_range_image():
    xyz = scene(VLP16[::-1], columns=360)
    beam_by_beam = xyz.reshape(-1, 3)
    kept = np.isfinite(beam_by_beam).all(axis=1)
    lines = scan_lines(beam_by_beam[kept].astype(float))
    assert group_beams(beam_by_beam[kept].astype(float), lines).problem == ""
    assert scan_lines(np.random.default_rng(0).permutation(beam_by_beam[kept]).astype(float)) is None


def test_single_beam_of_a_planar_scanner():
    xyz = scene([0.0]).reshape(-1, 3)
    found = fit_sweeps([PointCloud(xyz, None, np.zeros(len(xyz), np.uint16))] * 3, TABLES)
    assert found.beams_deg == (0.0,) and found.source == "ring field"


def test_nearest_product_of_shifted_beams():
    match = nearest_product(np.asarray(TABLES["Pandar64"]) + 0.16, TABLES)
    assert match.name == "Pandar64" and match.fits and match.residual_deg < 0.02
    assert nearest_product([1.0, 2.0], TABLES) is None


def test_ring_field_without_any_number_is_ignored():
    found = fit_sweeps(clouds(VLP16, lambda beam, _: -1 + 0 * beam), TABLES)
    assert len(found.beams_deg) == 16 and found.rings_deg == ()
    assert "the field 'ring' has no number for any point and is ignored" in found.notes


def test_wrong_product_is_refused_with_its_name():
    with pytest.raises(
        SensorError,
        match="and the points do not lie on VLP-32C's beams: leave --like out if it is another product, or record",
    ):
        fit_sweeps(clouds(VLP16), TABLES, like="VLP-32C")


@pytest.mark.parametrize(
    "known", [{}, {"like": "Pandar64"}, {"beams": 64}], ids=["alone", "with --like", "with --beams"]
)
def test_cloud_in_base_link_is_told_to_use_projection_frame_and_the_product_s_own_table(known):
    raised = [PointCloud(cloud.xyz + np.array([1.2, 0, 1.9], np.float32)) for cloud in clouds(PANDAR, columns=1200)]
    name = known.get("like", "NAME")
    with pytest.raises(SensorError, match=r"base_link.* projection_frame .*without a bag") as error:
        fit_sweeps(raised, TABLES, **known)
    assert f"xmodelkd fit-sensor --like {name} --out FILE" in str(error.value)


def test_products_that_fit_about_equally_well_are_all_named_nearest_first():
    # The middle of the table, where both products are alike; a VLP-32C seen through a windscreen's narrow field.
    found = nearest_product(np.sort(TABLES["RS-LiDAR-32"])[6:29] + 0.005, TABLES)
    assert found.name == "RS-LiDAR-32" and "VLP-32C" in found.alike
    found = nearest_product(np.asarray(TABLES["VLP-16"]), TABLES)
    named = (found.name, *found.alike)
    assert {"VLP-16", "PandarXT-16", "RS-LiDAR-16"} == set(named) and named[-1] == "RS-LiDAR-16"
    assert nearest_product(np.asarray(TABLES["HDL-32E"]), TABLES).alike == ()


def test_sweep_whose_ring_numbers_are_missing_does_not_count():
    numbered = clouds(VLP16, lambda beam, _: beam)
    without = PointCloud(numbered[0].xyz, None, np.full(len(numbered[0]), -1))
    masks = usable_points([without, numbered[1]])
    assert not masks[0].any() and masks[1].sum() == np.isfinite(numbered[1].xyz).all(axis=1).sum()
    assert len(fit_sweeps([without, *numbered], TABLES).beams_deg) == 16
