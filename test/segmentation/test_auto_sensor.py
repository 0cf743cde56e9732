"""The LiDAR estimated from the first sweeps, and the models that follow the estimate."""

import re
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from test.street import street
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import Mounting, sample_sweep
from xmodelkd_ros.resources import given_sensor
from xmodelkd_ros.segmentation import beam_fitting
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS, AutoSensor, chosen_sensor
from xmodelkd_ros.segmentation.beam_fitting import BeamFitting
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

ROAD, BUILDING = 4, 9
SECOND_NS = 1_000_000_000


def sweeps(count=SWEEPS, **more):
    return [street(x=0.8 * k, seed=k, **more) for k in range(count)]


def follow(auto, clouds, start_ns=0, frame="lidar"):
    for k, cloud in enumerate(clouds):
        auto.begin(start_ns + k * SECOND_NS // 10, frame)
        sensor = auto.of(cloud)
    return sensor


def settled(clouds=None, **more):
    """A final estimate."""
    auto = AutoSensor()
    follow(auto, sweeps(**more) if clouds is None else clouds)
    assert auto.is_final
    auto.news()
    return auto


def test_estimate_is_provisional_then_final_and_said_once():
    auto, clouds = AutoSensor(), sweeps(SWEEPS + 2)
    assert (auto.state, auto.sensor) == ("no usable sweep yet", None)
    first = auto.of(clouds[0])
    assert len(first.beam_elevations_deg) == 32 and first.height_m == pytest.approx(1.8, abs=0.05)
    assert auto.description.startswith("provisional (1 of 10 sweeps): 32 beams +2.0 to -24.0 deg by ring field; 1.8")
    assert auto.news() == [] and auto.facts["final"] is False
    follow(auto, clouds[1:SWEEPS])
    assert auto.is_final and auto.facts["sweeps"] == SWEEPS
    (line,) = auto.news()
    assert line.startswith("sensor: estimated from 10 sweeps: 32 beams") and "ground intensity 10." in line
    final = auto.sensor
    follow(auto, clouds[SWEEPS:])
    assert auto.sensor is final and auto.news() == []


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python", "/bin/false"])
def test_fit_in_the_background_gives_the_same_sensor(monkeypatch, python):
    """Also where no process can be started."""
    monkeypatch.setattr(sys, "executable", python)
    clouds = [replace(cloud, ring=None) for cloud in sweeps()]
    auto = AutoSensor(in_background=True)
    follow(auto, clouds)
    deadline = time.monotonic() + 20
    while not auto.is_final and time.monotonic() < deadline:
        time.sleep(0.02)
        auto.of(replace(clouds[0]))
    assert auto.sensor == settled(clouds).sensor


def test_sweep_that_several_models_label_counts_once():
    auto, cloud = AutoSensor(), street()
    assert auto.of(cloud) is auto.of(cloud)
    assert auto.state == "provisional (1 of 10 sweeps)"


def test_unusable_sweeps_do_not_count():
    auto, empty = AutoSensor(), PointCloud(np.zeros((0, 3), np.float32))
    assert auto.of(empty) is None and auto.of(PointCloud(np.full((999, 3), np.nan, np.float32))) is None
    assert auto.state == "no usable sweep yet" and auto.description == auto.state


@pytest.mark.parametrize(
    ("change", "frame"),
    [
        ({}, "rear_lidar"),
        ({"beams": (15, -15, 16)}, "lidar"),
        ({"ring": None}, "lidar"),
        ({"rows": 32}, "lidar"),
    ],
    ids=["frame", "beams", "no rings", "organised"],
)
def test_estimate_starts_again_with_another_lidar_after_a_jump_of_time(change, frame):
    auto = settled()
    cloud = street(**{name: value for name, value in change.items() if name == "beams"})
    cloud = replace(cloud, ring=None) if "ring" in change else cloud
    if "rows" in change:
        kept = len(cloud) // 32 * 32
        cloud = PointCloud(cloud.xyz[:kept], cloud.intensity[:kept], cloud.ring[:kept], 32, kept // 32)
    follow(auto, [replace(cloud)], 2 * SECOND_NS, frame)
    assert auto.is_final, "not without a jump"
    follow(auto, [cloud], -100 * SECOND_NS, frame)
    assert auto.state == "provisional (1 of 10 sweeps)"
    assert auto.news() == ["the sweeps are those of another LiDAR: its sensor is estimated anew"]


@pytest.mark.parametrize("start_ns", [-100 * SECOND_NS, 3600 * SECOND_NS])
def test_looped_bag_keeps_its_sensor(start_ns):
    auto = settled()
    final = auto.sensor
    assert follow(auto, sweeps(3), start_ns) is final and auto.news() == []


def test_beams_of_a_sensor_file_are_kept_and_its_mounting_is_estimated():
    product = given_sensor("VLP-16")
    auto = AutoSensor(product)
    sensor = follow(auto, sweeps(beams=(15, -15, 16), pitch=8))
    assert sensor.beam_elevations_deg == product.beam_elevations_deg and sensor.name == "VLP-16"
    assert sensor.pitch_deg == pytest.approx(8, abs=0.3)
    assert auto.description.startswith("file VLP-16, mounting estimated from 10 sweeps: 1.8")
    assert auto.facts["source"] == "file"
    whole = replace(product, height_m=1.0, ground_intensity=7.0)
    assert AutoSensor(whole).of(street()) == whole and AutoSensor(whole).state == "file VLP-16"


def test_settings():
    assert chosen_sensor("none") is None and chosen_sensor("None ") is None
    assert chosen_sensor("auto").given is None and chosen_sensor("").given is None
    assert chosen_sensor("vlp16").given.name == "VLP-16"


def pipeline(model, sensor=None):
    return SegmentationPipeline.load(model, sensor=sensor)


def expected(heights):
    return np.where(heights > 0.5, BUILDING, ROAD)


def agreement(result, heights):
    clear = np.abs(heights - 0.5) > 0.15
    return np.mean(result.segmentation.label[clear] == expected(heights)[clear])


@pytest.mark.parametrize("height", [0.6, 3.0])
@pytest.mark.parametrize(("roll", "pitch"), [(0, 0), (0, 10), (5, -8), (180, 0), (172, 6)])
def test_labels_do_not_depend_on_the_mounting(any_lidar_model, height, roll, pitch):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    for cloud in sweeps(3, height=height, roll=roll, pitch=pitch, beams=(24, -24, 32)):
        result = segmenter.segment(cloud)
    heights = (cloud.xyz @ leveling_rotation(roll, pitch).T)[:, 2] + height
    assert agreement(result, heights) > 0.995


def test_image_of_a_sensor_upside_down_is_that_of_an_upright_one(any_lidar_model):
    """As a sensor file says it, from the first sweep on."""
    upright, turned = street(), street(roll=180, beams=(24, -2, 32))
    file = SensorSpec("roof", tuple(np.linspace(24, -2, 32)), height_m=1.8, roll_deg=180.0, ground_intensity=10.0)
    inputs = []
    for cloud, sensor in (
        (upright, replace(file, beam_elevations_deg=tuple(np.linspace(2, -24, 32)), roll_deg=0.0)),
        (turned, file),
    ):
        segmenter = pipeline(any_lidar_model, AutoSensor(sensor))
        result = segmenter.segment(PointCloud(cloud.xyz, cloud.intensity))
        image = np.full(16 * 128, np.nan)
        pixel = segmenter._projector.project(PointCloud(cloud.xyz)).point
        image[pixel >= 0] = np.linalg.norm(cloud.xyz[pixel[pixel >= 0]], axis=1)
        inputs.append((image, result))
    (first, result), (second, turned_result) = inputs
    both = np.isfinite(first) & np.isfinite(second)
    assert both.mean() > 0.8 and np.median(np.abs(first - second)[both]) < 0.05
    assert turned_result.statistics["input.height"] == pytest.approx(result.statistics["input.height"], abs=0.1)


def test_rings_rows_and_elevations_give_the_same_pixels(any_lidar_model):
    cloud = street()
    pixels = []
    for sweep in (cloud, replace(cloud, ring=None), PointCloud(cloud.xyz[: len(cloud) // 2 * 2], None, None, 2)):
        segmenter = pipeline(any_lidar_model, AutoSensor())
        segmenter.segment(sweep)
        pixels.append(segmenter._projector.project(sweep).pixel[: len(cloud) // 2 * 2])
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_labels_without_intensity(any_lidar_model):
    cloud = street()
    segmenter = pipeline(any_lidar_model, AutoSensor())
    assert not segmenter.needs_intensity and segmenter.spec.uses_intensity and segmenter.spec.is_relative
    heights = cloud.xyz[:, 2] + 1.8
    for intensity in (None, np.zeros(len(cloud), np.float32), np.full(len(cloud), np.nan, np.float32)):
        result = segmenter.segment(PointCloud(cloud.xyz, intensity))
        assert result.statistics["input.has_intensity"] == 0
        assert agreement(result, heights) > 0.99
    measured = pipeline(any_lidar_model, AutoSensor()).segment(cloud)
    assert measured.statistics["input.has_intensity"] == 1
    assert measured.statistics["input.relative_intensity"] == pytest.approx(np.log(2), abs=0.1)


@pytest.mark.parametrize("scale", [1 / 255, 16.0, 257.0])
def test_scale_of_intensities_does_not_matter_and_is_no_warning(any_lidar_model, scale):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    monitor = InputMonitor(segmenter)
    for cloud in sweeps(4):
        scaled = replace(cloud, intensity=cloud.intensity * np.float32(scale))
        result = segmenter.segment(scaled)
        monitor.add(scaled, result)
    assert monitor.findings == ()
    assert result.statistics["input.relative_intensity"] == pytest.approx(np.log(2), abs=0.1)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda c: replace(c, intensity=np.zeros(len(c), np.float32)), "intensity", "the model labels without it"),
        (lambda c: replace(c, intensity=c.intensity - 128), "intensity", r"negative values, counted from -1\d\d"),
        (lambda c: replace(c, xyz=c.xyz * np.float32(1000)), "no_usable_points", "millimetres"),
        (lambda c: replace(c, xyz=c.xyz * np.float32(np.nan)), "no_usable_points", "NaN"),
        (lambda c: replace(c, xyz=c.xyz + np.float32([9e3, 4e5, 0])), "no_usable_points", "a map's frame"),
    ],
    ids=["no intensity", "negative", "mm", "NaN", "map"],
)
def test_other_faults_are_still_warned_of(any_lidar_model, change, kind, said):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    monitor = InputMonitor(segmenter)
    for cloud in map(change, sweeps(4)):
        monitor.add(cloud, segmenter.segment(cloud))
    (finding,) = monitor.findings
    assert finding.kind == kind
    assert re.search(said, finding.text), finding.text


def test_sweeps_of_another_lidar_in_the_same_drive_are_noticed(any_lidar_model):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    monitor = InputMonitor(segmenter)
    for cloud in sweeps(SWEEPS, beams=(2, -24.33, 80)):
        monitor.add(cloud, segmenter.segment(cloud))
    assert monitor.findings == ()
    for cloud in sweeps(8, beams=(15, -15, 16)):
        monitor.add(cloud, segmenter.segment(cloud))
    (finding,) = monitor.findings
    assert finding.kind == "sensor_beams" and "between those of" in finding.text
    assert "start the node again" in finding.text and "file" in finding.text


def test_models_with_rows_of_fixed_elevation_take_no_estimate(height_model):
    cloud = street()
    plain, auto = pipeline(height_model), pipeline(height_model, AutoSensor())
    assert auto.auto_sensor is None and auto.sensor is None and auto.sensor_facts["source"] == "none"
    np.testing.assert_array_equal(plain.segment(cloud).segmentation.label, auto.segment(cloud).segmentation.label)
    product = pipeline(height_model, chosen_sensor("VLP-16"))
    assert product.sensor.name == "VLP-16" and product.sensor_facts["description"] == "file VLP-16"


def test_warm_up_teaches_the_estimate_nothing(any_lidar_model):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    segmenter.warm_up()
    assert segmenter.sensor_facts["description"] == "no usable sweep yet"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: replace(c, xyz=c.xyz + np.float32([0.9, 0, 1.8]), ring=None), "the origin of the clouds is "),
        (lambda c: replace(c, xyz=c.xyz + np.float32([2.5, 0.8, -0.7])), "ring numbers and elevations do not"),
    ],
    ids=["base_link", "rings"],
)
@pytest.mark.parametrize("count", [4, SWEEPS + 4])
def test_clouds_in_the_frame_of_the_vehicle_are_noticed(any_lidar_model, change, said, count):
    segmenter = pipeline(any_lidar_model, AutoSensor())
    monitor = InputMonitor(segmenter)
    for cloud in map(change, sweeps(count)):
        monitor.add(cloud, segmenter.segment(cloud))
    (finding,) = monitor.findings
    assert finding.kind == "frame" and said in finding.text and "set projection_frame" in finding.text


@pytest.mark.parametrize(("roll", "pitch"), [(0, 10), (10, 0), (180, 0), (170, 5)])
@pytest.mark.parametrize("has_rings", [True, False])
def test_file_that_says_how_the_frame_is_turned_gives_the_same_image(any_lidar_model, roll, pitch, has_rings):
    """Clouds of one LiDAR, published in a frame that is tilted against it or upside down."""
    cloud = street()
    cloud = cloud if has_rings else replace(cloud, ring=None)
    rings = tuple(np.linspace(-24, 2, 32)) if has_rings else ()
    file = SensorSpec("level", tuple(np.linspace(2, -24, 32)), rings, height_m=1.8, ground_intensity=10.0)
    turned = replace(cloud, xyz=cloud.xyz @ leveling_rotation(roll, pitch).astype(np.float32))
    upright = pipeline(any_lidar_model, file)
    tilted = pipeline(any_lidar_model, replace(file, roll_deg=float(roll), pitch_deg=float(pitch)))
    first, second = upright._projector.project(cloud).pixel, tilted._projector.project(turned).pixel
    assert np.mean(first == second) > 0.99
    same = upright.segment(cloud).segmentation.label == tilted.segment(turned).segmentation.label
    assert np.mean(same) > 0.999


def test_scale_that_contradicts_the_sensor_file_is_a_warning(any_lidar_model):
    file = SensorSpec("own", tuple(np.linspace(2, -24, 32)), height_m=1.8, ground_intensity=10.0)
    segmenter = pipeline(any_lidar_model, AutoSensor(file))
    monitor = InputMonitor(segmenter)
    for cloud in sweeps(4):
        cloud = replace(cloud, intensity=cloud.intensity / np.float32(255))
        monitor.add(cloud, segmenter.segment(cloud))
    (finding,) = monitor.findings
    assert finding.kind == "intensity" and "the sensor file says 0 to 255" in finding.text


def test_no_sensor_is_said_to_cost_intensity(any_lidar_model):
    segmenter = pipeline(any_lidar_model, chosen_sensor("none"))
    monitor = InputMonitor(segmenter)
    result = segmenter.segment(street())
    assert result.statistics["input.has_intensity"] == 0
    assert "1.8 m above the ground, intensity is not used" in segmenter.sensor_facts["description"]
    (finding,) = monitor.add(street(), result)
    assert finding.kind == "intensity" and "--sensor auto" in finding.text


def test_file_of_another_lidar_is_noticed_in_a_short_drive(any_lidar_model):
    segmenter = pipeline(any_lidar_model, chosen_sensor("VLP-16"))
    monitor = InputMonitor(segmenter)
    for cloud in sweeps(3, beams=given_sensor("Pandar64").beam_elevations_deg):
        cloud = replace(cloud, ring=None)
        monitor.add(cloud, segmenter.segment(cloud))
    (finding,) = monitor.findings
    assert finding.kind == "sensor_beams" and "another LiDAR" in finding.text


@pytest.mark.parametrize(("roll", "beams", "kinds"), [(0.0, 16, []), (2.0, 64, ["frame"])])
def test_frame_that_is_tilted_against_the_lidar_is_levelled_or_noticed(any_lidar_model, roll, beams, kinds):
    """Never labelled by the table of another LiDAR that happens to fit; where the LiDAR is not level, it is noticed."""
    segmenter = pipeline(any_lidar_model, AutoSensor())
    monitor = InputMonitor(segmenter)
    tilt = leveling_rotation(3.0, 6.0).astype(np.float32)
    for cloud in sweeps(4, roll=roll, beams=given_sensor("VLP-16").beam_elevations_deg[::-1]):
        cloud = replace(cloud, xyz=cloud.xyz @ tilt)
        monitor.add(cloud, segmenter.segment(cloud))
    assert len(segmenter.sensor.beam_elevations_deg) == beams
    assert [finding.kind for finding in monitor.findings] == kinds


def without_ground(cloud):
    kept = cloud.xyz[:, 2] > -1
    return replace(cloud, xyz=cloud.xyz[kept], intensity=cloud.intensity[kept], ring=cloud.ring[kept], width=-1)


def test_ground_that_comes_into_view_later_is_found():
    auto = AutoSensor()
    follow(auto, [without_ground(cloud) for cloud in sweeps(SWEEPS)])
    assert auto.is_final and auto.sensor.height_m is None
    follow(auto, sweeps(100), start_ns=SECOND_NS)
    assert auto.is_final and auto.sensor.height_m == pytest.approx(1.8, abs=0.05) and auto.sensor.ground_intensity > 5
    first, again, last = auto.news()
    assert "no ground found" in first and "anew" in again and "1.8" in last


def test_slow_or_failed_fit_in_the_background_ends(monkeypatch):
    monkeypatch.setattr(beam_fitting, "_TIMEOUT_S", 0.01)
    fitting = BeamFitting([sample_sweep(street())], Mounting())
    deadline = time.monotonic() + 20
    while fitting.result() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fitting.result().problem == "their fit failed" and len(fitting.result().elevations_deg) == 64
