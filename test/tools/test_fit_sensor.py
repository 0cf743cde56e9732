import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep
from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.fit_sensor import beam_spread, fit, fit_sensor, moved_m, warnings

BEAMS = (10.0, 6.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -4.0, -8.0, -14.0, -20.0)


def sweeps(count=2, points=16 * 900):
    return [synthetic_sweep(ProjectionSpec(BEAMS, 1024), points) for _ in range(count)]


def with_rings(cloud, order):
    """Add ring numbers in a given order of the beams."""
    return PointCloud(
        cloud.xyz, cloud.intensity, np.asarray(order)[np.arange(len(cloud)) % len(BEAMS)].astype(np.uint16)
    )


def test_fits_uneven_beams_to_elevations():
    sensor = fit(sweeps(), "test")
    np.testing.assert_allclose(sensor.beam_elevations_deg, BEAMS, atol=0.02)
    assert sensor.ring_elevations_deg == ()
    assert warnings(sensor, sweeps()) == []


def test_fits_beams_to_the_ring_field_in_any_order():
    order = np.random.default_rng(0).permutation(len(BEAMS))
    sensor = fit([with_rings(cloud, order) for cloud in sweeps()], "test")
    np.testing.assert_allclose(np.asarray(sensor.ring_elevations_deg)[order], BEAMS, atol=0.02)
    np.testing.assert_allclose(sensor.beam_elevations_deg, BEAMS, atol=0.02)


def test_rejects_number_of_beams_that_contradicts_the_ring_field():
    clouds = [with_rings(cloud, range(len(BEAMS))) for cloud in sweeps()]
    with pytest.raises(SensorError, match="counts 16 beams, not 32"):
        fit(clouds, "test", beams=32)


def test_warns_about_smeared_beams():
    rng = np.random.default_rng(0)
    clouds = [PointCloud((c.xyz + rng.normal(0, 0.08, c.xyz.shape)).astype(np.float32), c.intensity) for c in sweeps()]
    sensor = SensorSpec("test", BEAMS)
    assert beam_spread(sensor, sweeps()) < 0.05
    assert beam_spread(sensor, clouds) > 0.15
    assert any("smeared" in warning for warning in warnings(sensor, clouds))


def test_warns_about_a_moving_vehicle():
    first, last = sweeps()
    last = PointCloud(last.xyz - np.array([0, 1.5, 0], np.float32), last.intensity)
    sensor = SensorSpec("test", BEAMS)
    assert moved_m(sensor, [first, first]) == 0
    assert moved_m(sensor, [first, last]) > 0.15
    assert any("moved" in warning for warning in warnings(sensor, [first, last]))


@pytest.mark.parametrize(
    ("intensity", "expected"),
    [
        (np.linspace(0, 0.9, 1000), (0, 1)),
        (np.linspace(0, 180, 1000), (0, 255)),
        (np.linspace(0, 4000, 1001), (0, 3960)),
    ],
)
def test_intensity_scale(intensity, expected):
    cloud = sweeps(1, 16 * 900)[0]
    values = np.resize(intensity, len(cloud)).astype(np.float32)
    low, high = fit([PointCloud(cloud.xyz, values)], "test").intensity_range
    assert (low, high) == pytest.approx(expected, rel=0.02)


def test_ignores_points_without_position(drive, tmp_path):
    sensor = fit_sensor(drive.path, tmp_path / "sensor.json")
    assert len(sensor.beam_elevations_deg) == 32
    assert SensorSpec.read(tmp_path / "sensor.json") == sensor


def test_real_sensor_has_64_beams(pandaset, tmp_path, capsys):
    pytest.importorskip("pandas")
    from training.datasets.bag_export import write_bag
    from training.datasets.pandaset import PandaSetSequence

    write_bag(PandaSetSequence(pandaset), range(10), tmp_path / "standing")
    assert main(["fit-sensor", str(tmp_path / "standing"), "--out", str(tmp_path / "s.json")]) == 0
    captured = capsys.readouterr()
    assert "beams       64, from the clusters of elevations" in captured.out
    assert captured.err == "", "sharp beams, standing vehicle: no warnings"
    sensor = SensorSpec.read(tmp_path / "s.json")
    beams = np.asarray(sensor.beam_elevations_deg)
    assert len(beams) == 64
    assert beams[0] == pytest.approx(14.87, abs=0.05)
    assert beams[-1] == pytest.approx(-24.9, abs=0.05)
    assert sensor.intensity_range == (0, 255)
