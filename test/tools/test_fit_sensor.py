import re
from pathlib import Path

import numpy as np
import pytest

from test.example_bags import CLOUD_TYPE
from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.beam_fit import BeamFit, fit_sweeps
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.intensity_scale import recognise
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.resources import shipped_sensors
from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.fit_sensor import fit, fit_sensor, moved_m, warnings

BEAMS = (10.0, 6.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -4.0, -8.0, -14.0, -20.0)


def sweeps(count=2, points=16 * 900):
    return [synthetic_sweep(ProjectionSpec(BEAMS, 1024), points) for _ in range(count)]


def with_rings(cloud, order):
    """Add ring numbers in a given order of the beams."""
    return PointCloud(
        cloud.xyz, cloud.intensity, np.asarray(order)[np.arange(len(cloud)) % len(BEAMS)].astype(np.uint16)
    )


def found_beams(clouds):
    return fit_sweeps(clouds, {})


def test_fits_uneven_beams_to_elevations():
    sensor = fit(sweeps(), "test")
    np.testing.assert_allclose(sensor.beam_elevations_deg, BEAMS, atol=0.02)
    assert sensor.ring_elevations_deg == ()
    assert warnings(found_beams(sweeps()), None, 0.0) == []


def test_fits_beams_to_the_ring_field_in_any_order():
    order = np.random.default_rng(0).permutation(len(BEAMS))
    sensor = fit([with_rings(cloud, order) for cloud in sweeps()], "test")
    np.testing.assert_allclose(np.asarray(sensor.ring_elevations_deg)[order], BEAMS, atol=0.02)
    np.testing.assert_allclose(sensor.beam_elevations_deg, BEAMS, atol=0.02)


def test_rejects_number_of_beams_that_contradicts_the_ring_field():
    clouds = [with_rings(cloud, range(len(BEAMS))) for cloud in sweeps()]
    with pytest.raises(SensorError, match="counts 16 beams, not 32"):
        fit(clouds, "test", beams=32)


@pytest.mark.parametrize("blurred", [False, True])
def test_only_smeared_beams_are_warned_of_with_the_spread_that_is_printed(blurred, tmp_path, capsys):
    rng = np.random.default_rng(0)
    noise = 0.08 if blurred else 0.0
    clouds = [with_rings(cloud, range(len(BEAMS))) for cloud in sweeps()]
    clouds = [PointCloud((c.xyz + rng.normal(0, noise, c.xyz.shape)).astype(np.float32), None, c.ring) for c in clouds]
    found = found_beams(clouds)
    said = [warning for warning in warnings(found, None, 0.0) if "smeared" in warning]
    assert (found.spread > 0.15, len(said)) == ((True, 1) if blurred else (False, 0))
    assert all(f"spread over {found.spread:.1%} or more" in warning for warning in said)


def test_motion_is_measured():
    first, last = sweeps()
    last = PointCloud(last.xyz - np.array([0, 1.5, 0], np.float32), last.intensity)
    sensor = SensorSpec("test", BEAMS)
    assert moved_m(sensor, [first, first]) == 0
    assert moved_m(sensor, [first, last]) > 0.15


@pytest.mark.parametrize(
    ("source", "spread", "warned"),
    [
        ("ring field", 0.006, False),
        ("point order", 0.013, False),
        ("rows", 0.02, False),
        ("ring field", 0.3, True),
        ("clusters of elevations", 0.02, True),
        ("table of VLP-16", 0.02, True),
    ],
)
def test_motion_is_warned_of_where_it_harms_the_beams(source, spread, warned):
    found = BeamFit(BEAMS, (), source, spread)
    assert any("moved" in warning for warning in warnings(found, None, 9.0)) is warned
    assert not any("moved" in warning for warning in warnings(found, None, 0.1))


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


def test_warns_about_intensities_without_information():
    cloud = sweeps(1, 16 * 900)[0]
    black = PointCloud(cloud.xyz, np.zeros(len(cloud), np.float32))
    assert warnings(found_beams([black] * 2), recognise(black.intensity), 0.0) == [
        "intensity is 0 for all points, so it carries no information; configure the driver to publish measured values "
        "in field intensity"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda xyz: xyz * 1000, "millimetres?; publish metres"), (lambda xyz: xyz * np.nan, "100% are NaN or infinite")],
    ids=["millimetres", "NaN"],
)
def test_positions_that_no_beams_are_found_in_are_explained(change, said, tmp_path):
    path, cloud = tmp_path / "wrong.mcap", sweeps(1, 16 * 900)[0]
    stamp = stamp_from_ns(1, message_class("builtin_interfaces/msg/Time"))
    header = message_class("std_msgs/msg/Header")(stamp, "lidar")
    with BagWriter(path) as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        wrong = PointCloud(change(cloud.xyz).astype(np.float32), np.ones(len(cloud), np.float32))
        bag.write("/points", 1, truth_to_msg(wrong, np.zeros(len(cloud), np.uint8), header, ROSBAGS_TYPES))
    with pytest.raises(SensorError, match=re.escape(f"{path}: ")) as error:
        fit_sensor(path, tmp_path / "sensor.json")
    assert said in str(error.value) and "record" not in str(error.value)


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
    assert sensor.height_m == pytest.approx(2.16, abs=0.03) and (sensor.roll_deg, sensor.pitch_deg) == (0, 0)
    assert sensor.ground_intensity == pytest.approx(8.2, abs=0.5)
    assert "mounting    2.1" in captured.out


DRIVES = Path(__file__).parents[2].parent / "shared" / "drives"


def run(capsys, *arguments):
    """Exit code, standard output and standard error of the command."""
    code = main(["fit-sensor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("name", "beams", "source", "product", "warned"),
    [
        ("kitti_hdl64", 64, "point order", "does not fit: HDL-64E", []),
        ("astyx_vlp16", 16, "ring field", "fits PandarXT-16 or VLP-16 or RS-LiDAR-16", []),
        ("labelled_kitti", 64, "point order", "HDL-64E", ["smeared", "moved"]),
        ("labelled_nuscenes", 32, "point order", "fits HDL-32E", ["smeared", "moved"]),
        ("labelled_vlp32", 32, "point order", "fits RS-LiDAR-32 or VLP-32C", ["for a VLP-32C, add --like VLP-32C"]),
    ],
)
def test_beams_of_real_drives(name, beams, source, product, warned, tmp_path, capsys):
    if not (bag := DRIVES / f"{name}.mcap").is_file():
        pytest.skip(f"needs the drives in {DRIVES}")
    code, out, err = run(capsys, bag, "--out", tmp_path / "s.json")
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == len(warned) and all(word in line for word, line in zip(warned, lines, strict=True)), err
    if "smeared" in warned:
        assert re.search(r"spread ([0-9.]+%) of it", out)[1] == re.search(r"spread over ([0-9.]+%)", err)[1]
    assert f"beams       {beams}, from the {source}" in out
    assert product in out
    assert len(SensorSpec.read(tmp_path / "s.json").beam_elevations_deg) == beams


def test_own_returns_of_real_vehicles_are_proposed_as_a_box(tmp_path, capsys):
    if not DRIVES.is_dir():
        pytest.skip(f"needs the drives in {DRIVES}")
    code, out, _ = run(capsys, DRIVES / "astyx_vlp16.mcap", "--out", tmp_path / "s.json")
    box = SensorSpec.read(tmp_path / "s.json").ego_box
    assert code == 0 and f"ego_box: [{', '.join(f'{v:.2f}' for v in box)}]" in out
    assert -2.2 < box[0] < -1.5 and -0.8 < box[3] < 0, "the roof behind the sensor"
    code, out, _ = run(capsys, DRIVES / "labelled_nuscenes.mcap", "--out", tmp_path / "s.json")
    assert code == 0 and "ego_box: [-1." in out and "not in the sensor file (4 sweeps of a drive" in out
    assert SensorSpec.read(tmp_path / "s.json").ego_box == ()


def test_box_of_a_standing_vehicle_is_only_proposed(pandaset, tmp_path, capsys):
    pytest.importorskip("pandas")
    from training.datasets.bag_export import write_bag
    from training.datasets.pandaset import PandaSetSequence

    write_bag(PandaSetSequence(pandaset), range(0, 10, 3), tmp_path / "standing")
    code, out, _ = run(capsys, tmp_path / "standing", "--out", tmp_path / "s.json", "--like", "pandar64")
    assert code == 0 and "fits Pandar64" in out
    assert "ego_box: [-1.3" in out and "not in the sensor file (a standing vehicle is right for the beams" in out
    assert "bag of a drive" not in out
    assert SensorSpec.read(tmp_path / "s.json").ego_box == ()


def test_moving_pandar64_has_64_beams(pandaset):
    pytest.importorskip("pandas")
    from training.datasets.pandaset import PandaSetSequence

    sequence = PandaSetSequence(pandaset)
    assert len(fit([sequence.cloud(i) for i in range(45, 60, 4)], "moving").beam_elevations_deg) == 64


def test_generated_drive_stays_unboxed_and_its_beams_are_found_without_rings(drive, tmp_path, capsys):
    code, out, _ = run(capsys, drive.path, "--out", tmp_path / "s.json")
    assert code == 0 and "own returns none found" in out


@pytest.mark.parametrize("name", ["VLP-16", "vlp16", "vlp_16"])
def test_table_of_a_known_lidar_needs_no_bag(name, tmp_path, capsys):
    code, out, err = run(capsys, "--like", name, "--out", tmp_path / "s.json")
    assert (code, err) == (0, "") and "Nominal" in out
    sensor = SensorSpec.read(tmp_path / "s.json")
    assert sensor.name == "VLP-16"
    assert sensor.ring_elevations_deg == tuple(np.arange(-15.0, 15.1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "VLP-15"], r"no sensor 'VLP-15': .*files in .*config/sensors\); did you mean VLP-16 or .*\? 'xm"),
        (["--like", "Livox Mid-360"], r"no sensor 'Livox Mid-360'"),
        ([], r"needs a BAG, or .*--like NAME"),
        (["--like", "VLP-16", "--out", "."], r"--out \. is a folder; give the name of a file"),
        (["{bag}", "--out", "."], r"--out \. is a folder"),
        (["{bag}", "--out", "nowhere/s.json"], r"there is no folder nowhere; create it"),
        (["{bag}", "--like", "VLP-16"], r"the points do not lie on VLP-16's beams: leave --like out"),
    ],
)
def test_refuses_with_one_line(arguments, message, drive, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *(str(a).replace("{bag}", str(drive.path)) for a in arguments))
    assert code == 1
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    assert re.search(message, err), err
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("name", sorted(shipped_sensors()))
def test_shipped_tables_are_complete_and_name_their_source(name):
    sensor = SensorSpec.read(shipped_sensors()[name])
    assert sensor.name == name and "Nominal" in sensor.comment and "ring 0 is" in sensor.comment
    assert sensor.beam_elevations_deg == tuple(sorted(set(sensor.ring_elevations_deg), reverse=True))
    assert len(sensor.ring_elevations_deg) in (16, 32, 40, 64, 128)
    assert len(set(sensor.ring_elevations_deg)) == len(sensor.ring_elevations_deg)
