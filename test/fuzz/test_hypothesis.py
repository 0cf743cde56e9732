"""The same attacks, with hypothesis in charge: of the mutator's decisions, of JSON, and of what is in a cloud.

What it finds it makes small, which the attack by seed and number does not.
"""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from test.fuzz.labelled import check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.promises import BROKEN, fed
from test.fuzz.target import find
from test.fuzz.targets import TARGETS
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import LabelError, ModelError, SensorError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.strict_json import parse_json
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
def test_no_decision_of_the_mutator_breaks_a_promise(name, random):
    target = find(TARGETS[name].where)
    value, size = target.make(Mutator(random))
    outcome = fed(target, value, size)
    assert outcome.kind != BROKEN, f"{outcome.why}\n{outcome.detail}"


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
    optional={"ring_elevations_deg": st.lists(st.floats(-100, 100), max_size=4) | values},
)


@few
@given(label_sets | values)
def test_any_json_is_a_label_set_or_an_error(value):
    try:
        labels = label_map_from_json(json.dumps(value))
    except LabelError:
        return
    assert LabelMap.from_dict(labels.to_dict()) == labels
    assert labels.palette.shape == (256, 3)


@few
@given(sensors | values)
def test_any_json_is_a_sensor_or_an_error(tmp_path, value):
    (tmp_path / "sensor.json").write_text(json.dumps(value))
    try:
        sensor = SensorSpec.read(tmp_path / "sensor.json")
    except SensorError:
        return
    assert np.isfinite([*sensor.beam_elevations_deg, *sensor.ring_elevations_deg, *sensor.intensity_range]).all()


@few
@given(st.data())
def test_any_json_is_a_model_or_an_error(tmp_path, height_model, data):
    """A model.json in which one of its parts is anything."""
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
def test_any_text_is_json_or_one_error(text):
    try:
        found = parse_json(text)
    except ValueError:
        return
    json.dumps(found, allow_nan=False)
    assert found == json.loads(text), "it says what the text says"


@pytest.fixture(scope="module")
def pipeline(height_model):
    return SegmentationPipeline.load(height_model, "onnxruntime")


floats = st.floats(width=32) | st.floats(-30, 30, width=32)


@few
@given(cloud=st.integers(0, 12).flatmap(lambda n: hnp.arrays(np.float32, (n, 4), elements=floats)))
def test_whatever_is_in_a_cloud_every_point_gets_its_label_or_none(pipeline, cloud):
    points = PointCloud(cloud[:, :3], cloud[:, 3])
    found = pipeline.segment(points).segmentation
    check_segmentation(points, found, np.arange(13))
