"""The same targets driven by hypothesis, which shrinks failing inputs, unlike the campaign by seed and number."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from test.fuzz.invariants import check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.oracle import FAILED, run_input
from test.fuzz.target import load_target
from test.fuzz.targets import TARGETS
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import LabelError, ModelError, SensorError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.usable_points import MAX_RANGE_M
from xmodelkd_ros.messages.headers import label_map_from_json
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

for _library in ("onnx", "sensor_msgs", "rosbags"):
    pytest.importorskip(_library)

few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.large_base_example],
)


@pytest.mark.parametrize("name", ["points", "images", "camera_infos", "transforms", "label_infos"])
@few
@given(random=st.randoms(use_true_random=False))
def test_mutated_inputs_do_not_fail(name, random):
    target = load_target(TARGETS[name].path)
    value, size = target.generate(Mutator(random))
    outcome = run_input(target, value, size)
    assert outcome.kind != FAILED, f"{outcome.why}\n{outcome.detail}"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
rows = st.fixed_dictionaries(
    {"id": st.integers(-1, 256) | values, "name": st.text(max_size=3) | values},
    optional={
        "color": st.lists(st.integers(-1, 256), min_size=3, max_size=3) | values,
        "aliases": st.lists(st.text(max_size=3), max_size=2) | values,
    },
)
label_sets = st.fixed_dictionaries({"name": st.text() | values, "classes": st.lists(rows, max_size=4) | values})
sensors = st.fixed_dictionaries(
    {
        "name": st.text() | values,
        "beam_elevations_deg": st.lists(st.floats(-100, 100), max_size=4) | values,
        "intensity_range": st.lists(st.floats(), min_size=2, max_size=2) | values,
    },
    optional={
        "ring_elevations_deg": st.lists(st.floats(-100, 100) | st.none(), max_size=4) | values,
        "ego_box": st.lists(st.floats(-10, 10), min_size=6, max_size=6) | values,
        "min_range_m": st.floats(-1, 1100) | values,
    },
)


@few
@given(label_sets | values)
def test_any_json_is_label_set_or_error(value):
    try:
        labels = label_map_from_json(json.dumps(value))
    except LabelError:
        return
    assert LabelMap.from_dict(labels.to_dict()) == labels
    assert labels.palette.shape == (256, 3)


@few
@given(sensors | values)
def test_any_json_is_sensor_or_error(tmp_path, value):
    (tmp_path / "sensor.json").write_text(json.dumps(value))
    try:
        sensor = SensorSpec.read(tmp_path / "sensor.json")
    except SensorError:
        return
    assert np.isfinite([*sensor.beam_elevations_deg, *sensor.intensity_range]).all()
    assert all(math.isnan(v) or abs(v) <= 90 for v in sensor.ring_elevations_deg), "null: the number does not occur"
    assert len(sensor.ego_box) in (0, 6) and 0 <= sensor.min_range_m < MAX_RANGE_M


@few
@given(st.data())
def test_any_json_is_model_or_error(tmp_path, height_model, data):
    """A model.json with one arbitrary entry."""
    model = json.loads((height_model / "model.json").read_text())
    part = data.draw(st.sampled_from(sorted(model)))
    model[part] = data.draw(values)
    (tmp_path / "model.json").write_text(json.dumps(model))
    try:
        spec = ModelSpec.read(tmp_path)
    except ModelError:
        return
    assert spec.max_points == 2000


@few
@given(st.text() | st.binary() | values.map(json.dumps))
def test_any_text_is_json_or_value_error(text):
    try:
        found = parse_json(text)
    except ValueError:
        return
    json.dumps(found, allow_nan=False)
    assert found == json.loads(text), "parsed value equals that of json.loads"


@pytest.fixture(scope="module")
def pipeline(height_model):
    return SegmentationPipeline.load(height_model, "onnxruntime")


floats = st.floats(width=32) | st.floats(-30, 30, width=32)


@few
@given(cloud=st.integers(0, 12).flatmap(lambda n: hnp.arrays(np.float32, (n, 4), elements=floats)))
def test_any_cloud_gives_valid_labels(pipeline, cloud):
    points = PointCloud(cloud[:, :3], cloud[:, 3])
    found = pipeline.segment(points).segmentation
    check_segmentation(points, found, np.arange(13))
