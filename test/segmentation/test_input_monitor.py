"""Warnings about sweeps that a model does not expect, on real and generated drives."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.training_statistics import TrainingStatistics
from xmodelkd_ros.resources import find_model, read_sensor
from xmodelkd_ros.segmentation.auto_sensor import AutoSensor
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools.fit_sensor import fit

DRIVES = Path(__file__).resolve().parents[3] / "shared" / "drives"


@pytest.fixture(scope="module")
def loaded():
    return SegmentationPipeline.load(find_model("student"))


@pytest.fixture
def student(loaded):
    """The shipped student, which estimates the LiDAR of the sweeps, as node and tools run it."""
    return SegmentationPipeline(loaded.spec, loaded.backend, AutoSensor())


@pytest.fixture(scope="module")
def one_lidar(height_model, real_clouds):
    """A model of one LiDAR, with fixed rows and an intensity scale, and statistics of the real drive."""
    pipeline = SegmentationPipeline.load(height_model)
    learnt = TrainingStatistics.of([pipeline.segment(cloud).statistics for cloud in real_clouds], "a test")
    return SegmentationPipeline(replace(pipeline.spec, statistics=learnt), pipeline.backend)


@pytest.fixture(scope="module")
def real_clouds(pandaset):
    from training.datasets.pandaset import PandaSetSequence

    sequence = PandaSetSequence(pandaset)
    return [sequence.cloud(number) for number in range(56, 61)]


def watch(pipeline, clouds):
    """A monitor that has seen the clouds."""
    monitor = InputMonitor(pipeline)
    for cloud in clouds:
        monitor.add(cloud, pipeline.segment(cloud))
    return monitor


def kinds(monitor):
    return [finding.kind for finding in monitor.findings]


def dict_of(monitor):
    return {finding.kind: finding.text for finding in monitor.findings}


def scaled(cloud, xyz=1.0, intensity=1.0):
    return PointCloud(cloud.xyz * np.float32(xyz), cloud.intensity * np.float32(intensity), cloud.ring)


def from_bag(name, count=8):
    path = DRIVES / f"{name}.mcap"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with BagReader(path) as reader:
        return [sweep.cloud for sweep in islice(RecordedDrive(reader, "").sweeps(), count)]


def test_nothing_is_said_about_the_drive_that_the_model_knows(student, real_clouds):
    monitor = watch(student, real_clouds)
    assert monitor.findings == () and monitor.log.notes() == []


def test_intensity_on_another_scale_is_named_from_the_first_sweep_on(one_lidar, real_clouds):
    fractions = [scaled(cloud, intensity=1 / 255) for cloud in real_clouds]
    first = watch(one_lidar, fractions[:1])
    assert kinds(first) == ["intensity"]
    assert "0 to 1, but model height expects 0 to 255; fit a sensor file" in first.findings[0].text
    note = watch(one_lidar, fractions).log.notes()[0]
    assert note.startswith("intensity has median 0.0") and note.endswith("(5 of 5 sweeps)")


def test_right_sensor_file_mends_the_intensity(one_lidar, real_clouds):
    beams = read_sensor("Pandar64").beam_elevations_deg
    sensor = SensorSpec("fractions", beams, (), (0.0, 1.0))
    pipeline = SegmentationPipeline(one_lidar.spec, one_lidar.backend, sensor)
    assert watch(pipeline, [scaled(cloud, intensity=1 / 255) for cloud in real_clouds]).findings == ()
    (finding, *_) = watch(pipeline, real_clouds).findings
    assert "but the sensor file says 0 to 1" in finding.text


def test_scale_that_changes_while_driving_is_noticed(one_lidar, real_clouds):
    monitor = watch(one_lidar, real_clouds * 3)
    assert monitor.findings == ()
    for cloud in real_clouds * 3:
        monitor.add(scaled(cloud, intensity=1 / 255), one_lidar.segment(cloud))
    assert "intensity" in kinds(monitor)
    for cloud in real_clouds * 3:
        monitor.add(cloud, one_lidar.segment(cloud))
    assert monitor.findings == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cloud: tilted(cloud, 8, 0), "no beams are found"),
        (lambda cloud: scaled(cloud, 3.28), "m above the ground: feet"),
    ],
    ids=["tilted frame without rings", "feet"],
)
def test_other_frames_and_units_are_named(student, change, said):
    clouds = [change(cloud) for cloud in from_bag("kitti_hdl64", 12)]
    assert said in dict_of(watch(student, clouds))["frame"]


def test_front_facing_lidars_without_beams_are_no_other_frame(student):
    turned = [tilted(cloud, 8, 0).xyz for cloud in from_bag("kitti_hdl64", 12)]
    clouds = [PointCloud(xyz[np.abs(np.arctan2(xyz[:, 1], xyz[:, 0])) < 0.6]) for xyz in turned]
    assert "frame" not in kinds(watch(student, clouds))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, ""),
        ({"height_m": 5.0}, "1.8 m above the ground, roll 1, pitch 1 deg, but the sensor file says 5.0 m"),
        ({"pitch_deg": 20.0}, "but the sensor file says 1.8 m above the ground, roll 0, pitch 20 deg"),
        ({"roll_deg": 180.0}, "roll 180"),
    ],
)
def test_sensor_file_with_a_wrong_mounting_is_noticed(student, wrong, said):
    clouds = from_bag("kitti_hdl64", 12)
    watch(student, clouds)
    right = student.sensor
    given = SegmentationPipeline(student.spec, student.backend, AutoSensor(replace(right, **wrong)))
    found = dict_of(watch(given, clouds)).get("frame", "")
    assert said in found if said else not found


def test_ring_numbers_that_no_longer_tell_the_beams_are_one_warning(student):
    clouds = from_bag("astyx_vlp16", 10)
    watch(student, clouds)
    assert student.auto_sensor.is_final
    monitor = watch(student, [replace(clouds[0], ring=clouds[0].ring + 100)])
    text = "ring 100..115 is outside the sensor's 0..15: elevations tell the beams"
    assert dict_of(monitor)["rings"].startswith(text)
    assert "rings" not in kinds(watch(student, clouds[:1]))


@pytest.mark.parametrize(("share", "kind"), [(0.05, []), (0.3, ["intensity"]), (1.0, ["intensity"])])
def test_intensities_that_are_not_numbers_are_not_used(student, real_clouds, share, kind):
    gaps = np.random.default_rng(0).random(len(real_clouds[0])) < share
    clouds = [replace(real_clouds[0], intensity=np.where(gaps, np.float32(np.nan), real_clouds[0].intensity))] * 2
    monitor = watch(student, clouds)
    assert kinds(monitor) == kind
    if share > 0.1:
        labels = student.segment(clouds[0]).segmentation.label  # the sensor is what it is after three sweeps
        blind = student.segment(PointCloud(clouds[0].xyz, None, clouds[0].ring)).segmentation.label
        np.testing.assert_array_equal(labels, blind)
        assert "labels without it" in dict_of(monitor)["intensity"] and "black" not in dict_of(monitor)["intensity"]


def test_missing_intensity_is_one_warning(student, real_clouds):
    monitor = watch(student, [PointCloud(cloud.xyz, None, cloud.ring) for cloud in real_clouds])
    assert kinds(monitor) == ["intensity"]
    assert dict_of(monitor)["intensity"].startswith("the clouds have no intensity: the model labels without it; ")


@pytest.mark.parametrize("scale", [1 / 255, 4.0, 257.0])
def test_model_for_any_lidar_takes_any_scale_of_intensity(student, real_clouds, scale):
    assert watch(student, [scaled(cloud, intensity=scale) for cloud in real_clouds]).findings == ()


def test_model_for_any_lidar_notices_a_scale_that_changes_while_driving(student, real_clouds):
    monitor = watch(student, real_clouds * 3)
    assert monitor.findings == ()
    for cloud in [scaled(cloud, intensity=1 / 255) for cloud in real_clouds * 4]:
        monitor.add(cloud, student.segment(cloud))
    assert "the ground's intensity is 0.0" in dict_of(monitor)["intensity"]
    assert "start the node again" in dict_of(monitor)["intensity"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda xyz: xyz * 1000, "millimetres?"),
        (lambda xyz: xyz * 100, "centimetres"),
        (lambda xyz: xyz * np.nan, "NaN"),
        (lambda xyz: xyz * 0, "at the origin"),
    ],
    ids=["mm", "cm", "NaN", "zeros"],
)
def test_sweep_of_unusable_points_is_explained(student, real_clouds, change, said):
    cloud = PointCloud(change(real_clouds[0].xyz).astype(np.float32), real_clouds[0].intensity)
    monitor = watch(student, [cloud])
    assert any(said in finding.text for finding in monitor.findings)
    monitor.add(real_clouds[1], student.segment(real_clouds[1]))
    assert "no_usable_points" not in kinds(monitor), "the next sweep is good"


def test_one_cause_is_one_warning(student, real_clouds):
    assert kinds(watch(student, [scaled(cloud, xyz=1000) for cloud in real_clouds])) == ["no_usable_points"]
    assert kinds(watch(student, [scaled(cloud, xyz=100) for cloud in real_clouds])) == ["unit"]


def test_clouds_without_points_are_noticed_unless_they_are_few(student):
    empty = PointCloud(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    assert watch(student, [empty]).findings == ()
    assert kinds(watch(student, [empty] * 3)) == ["no_points"]


def test_network_without_finite_output_is_noticed(student, real_clouds):
    class Broken:
        name, precision, key = student.backend.name, student.backend.precision, student.backend.key
        inputs, outputs = student.backend.inputs, student.backend.outputs

        def infer(self, inputs):
            return {"logits": np.full_like(student.backend.infer(inputs)["logits"], np.nan)}

    monitor = watch(SegmentationPipeline(student.spec, Broken(), AutoSensor()), real_clouds[:1])
    assert kinds(monitor) == ["outputs"]


@pytest.mark.parametrize(
    ("drive", "statistics"),
    [
        ("kitti_hdl64", ["input.intensity"]),
        ("labelled_nuscenes", ["fill"]),
        ("labelled_vlp32", ["fill"]),
        ("astyx_vlp16", ["share.road"]),
    ],
)
def test_drives_of_other_vehicles_are_unlike_the_training_data(one_lidar, drive, statistics):
    clouds = from_bag(drive)
    found = one_lidar.spec.statistics.excesses([one_lidar.segment(cloud).statistics for cloud in clouds])
    assert set(statistics) <= {excess.name for excess in found}
    assert "unlike_training" in kinds(watch(one_lidar, clouds))


def fitted(model, clouds):
    """The model with a sensor file fitted to the clouds."""
    return SegmentationPipeline(model.spec, model.backend, fit(clouds, "fitted"))


@pytest.mark.parametrize(
    ("drive", "difference"),
    [
        ("labelled_nuscenes", "fills more of the range image"),
        ("labelled_vlp32", "fills less of the range image (fewer beams, or a narrower view)"),
    ],
)
def test_remedy_is_not_a_sensor_file_if_one_is_given(one_lidar, drive, difference):
    clouds = from_bag(drive)
    learnt = one_lidar.spec.statistics
    fill = replace(learnt, quantiles={"fill": learnt.quantiles["fill"]})
    one_lidar = SegmentationPipeline(replace(one_lidar.spec, statistics=fill), one_lidar.backend)
    text = dict_of(watch(one_lidar, clouds))["unlike_training"]
    assert "'xmodelkd fit-sensor BAG' and give it (node: parameter 'sensor'; tools: --sensor FILE)" in text
    text = dict_of(watch(fitted(one_lidar, clouds), clouds))["unlike_training"]
    assert "fill of the range image" in text and "fit-sensor" not in text
    assert f"the LiDAR {difference}" in text
    assert "expect lower accuracy; adapt the model" in text


def without_rings(clouds):
    """Clouds whose beams are told by elevation: ring numbers that contradict a sensor file are an error."""
    return [PointCloud(cloud.xyz, cloud.intensity) for cloud in clouds]


def without_motion(cloud):
    """A cloud as motion compensation shifts it at 12 m/s, 20 degrees/s and a pitch rate of 3 degrees/s."""
    x, y, z = cloud.xyz.T
    time = np.arctan2(y, x) / np.float32(2 * np.pi)
    yaw, pitch = np.radians(2) * time, np.radians(0.3) * time
    turned = [x * np.cos(yaw) - y * np.sin(yaw) + 1.2 * time, x * np.sin(yaw) + y * np.cos(yaw), z + pitch * x]
    return PointCloud(np.stack(turned, axis=1).astype(np.float32), cloud.intensity, cloud.ring)


def tilted(cloud, degrees=3, height=1.8):
    """A cloud in the frame of the vehicle."""
    x, y, z = cloud.xyz.T
    angle = np.radians(degrees)
    turned = [x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle) + height]
    return PointCloud(np.stack(turned, axis=1).astype(np.float32), cloud.intensity, cloud.ring)


@pytest.mark.parametrize(
    ("drive", "sensor", "lidar"),
    [
        ("pandaset", "VLP-16", "Pandar64"),
        ("pandaset", "VLP-32C", "Pandar64"),
        ("pandaset", "OS1-128", "Pandar64"),
        ("pandaset", "HDL-64E", "Pandar64"),
        ("astyx_vlp16", "VLP-32C", "PandarXT-16"),
        ("astyx_vlp16", "OS1-128", "PandarXT-16"),
        ("labelled_nuscenes", "VLP-32C", "HDL-32E"),
        ("labelled_vlp32", "VLP-16", "RS-LiDAR-32"),
    ],
)
def test_sensor_file_of_another_lidar_is_noticed(student, real_clouds, drive, sensor, lidar):
    clouds = without_rings(real_clouds if drive == "pandaset" else from_bag(drive))
    monitor = watch(SegmentationPipeline(student.spec, student.backend, read_sensor(sensor)), clouds)
    texts = dict_of(monitor)
    assert f"% of the points lie between the beams of sensor {sensor}" in texts["sensor_beams"]
    assert f"% between those of {lidar}" in texts["sensor_beams"] and "fit-sensor BAG" in texts["sensor_beams"]
    assert "unlike_training" not in texts, "one cause, one warning"


@pytest.mark.parametrize(
    "drive", ["pandaset", "kitti_hdl64", "astyx_vlp16", "labelled_kitti", "labelled_nuscenes", "labelled_vlp32"]
)
def test_right_sensor_file_is_not_suspected(student, real_clouds, drive):
    clouds = without_rings(real_clouds if drive == "pandaset" else from_bag(drive))
    pipeline = fitted(student, clouds)
    for change in (lambda cloud: cloud, without_motion, tilted):
        assert "sensor_beams" not in kinds(watch(pipeline, [change(cloud) for cloud in clouds]))


@pytest.mark.parametrize("sensor", ["VLP-16", "HDL-32E", "Pandar64"])
def test_nominal_table_of_the_right_lidar_is_not_suspected(student, real_clouds, sensor):
    drives = {"VLP-16": "astyx_vlp16", "HDL-32E": "labelled_nuscenes"}
    clouds = from_bag(drives[sensor]) if sensor in drives else real_clouds
    pipeline = SegmentationPipeline(student.spec, student.backend, read_sensor(sensor))
    assert "sensor_beams" not in kinds(watch(pipeline, clouds))


def test_remedy_is_of_the_named_statistics_only(one_lidar, real_clouds):
    below = (-9.0, -8.0, -7.9)
    quantiles = {"entropy": below, "share.truck": below, "share.car": below, "fill": (1.3, 1.4, 1.5)}
    learnt = replace(one_lidar.spec.statistics, quantiles=quantiles)
    found = learnt.excesses([one_lidar.segment(cloud).statistics for cloud in real_clouds[:3]])
    assert [excess.name for excess in found][3:] == ["fill"]
    pipeline = SegmentationPipeline(replace(one_lidar.spec, statistics=learnt), one_lidar.backend)
    text = dict_of(watch(pipeline, real_clouds[:3]))["unlike_training"]
    assert "and 1 more; adapt the model" in text and "fit-sensor" not in text


def test_intensity_on_another_scale_is_not_also_unlike_the_training_data(one_lidar, real_clouds):
    monitor = watch(one_lidar, [scaled(cloud, intensity=1 / 255) for cloud in real_clouds])
    texts = dict_of(monitor)
    assert "intensity" in texts and "intensity" not in texts.get("unlike_training", "")


def test_model_without_statistics_is_not_compared(student):
    pipeline = SegmentationPipeline(replace(student.spec, statistics=None), student.backend, AutoSensor())
    assert watch(pipeline, from_bag("astyx_vlp16", 4)).findings == ()


@pytest.mark.parametrize("seed", [328, 348, 358])
def test_generated_drives_of_the_same_lidar_are_like_the_training_data(student, seed):
    pytest.importorskip("embreex")
    from training.world.sequence import live_drive
    from training.worldgen.drive import MAX_SWEEPS, Drive

    drive = live_drive(Drive(seed, 3, cameras=0, every=MAX_SWEEPS // 3, lidar="Pandar64"))
    assert watch(student, [drive.cloud(number) for number in range(3)]).findings == ()


def test_nominal_table_of_a_lidar_with_other_calibration_is_not_suspected(student):
    pytest.importorskip("embreex")
    from training.world.sequence import live_drive
    from training.worldgen.drive import MAX_SWEEPS, Drive

    drive = live_drive(Drive(308, 3, cameras=0, every=MAX_SWEEPS // 3, lidar="OS1-128"))
    pipeline = SegmentationPipeline(student.spec, student.backend, read_sensor("OS1-128"))
    assert "sensor_beams" not in kinds(watch(pipeline, without_rings([drive.cloud(number) for number in range(3)])))


@pytest.mark.parametrize("model", ["student", "student_undistilled", "student_world", "teacher"])
def test_shipped_models_know_their_training_data(model):
    statistics = SegmentationPipeline.load(find_model(model)).spec.statistics
    assert statistics is not None and statistics.sweeps > 100
    assert {"fill", "entropy", "share.car", "input.range"} <= set(statistics.quantiles)
