"""Layouts of the labelled cloud, filtered clouds and the label set of the node's output."""

import json

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from test.node.test_segment_node import BUILDING, ROAD, expected_labels, layout
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import prediction_from_json, stamp_ns
from xmodelkd_ros.node.qos import latched

OWN_BOX = {"ego_box": [-2.0, -2.0, -2.0, 2.0, 2.0, 2.0]}


@pytest.fixture(scope="module")
def bench(module_bench):
    """One segmenter for the tests of this file that change only parameters."""
    return module_bench


def change(bench, **values):
    names = {"layout": "output.layout", "label_set": "output.label_set", "min_probability": "output.min_probability"}
    result = bench.node.set_parameters_atomically([Parameter(names[name], value=v) for name, v in values.items()])
    assert result.successful, result.reason


@pytest.fixture
def changed(bench):
    """Function that changes parameters of the output until the end of the test."""
    yield lambda **values: change(bench, **values)
    change(bench, layout="compact", label_set="native", min_probability=0.0)


def test_input_layout_keeps_every_field(bench, sweep, changed):
    changed(layout="input")
    msg = sweep(600, stamp=3.0, height=2)
    labelled = bench.segment(msg)
    assert (labelled.height, labelled.width, labelled.header) == (2, 300, msg.header)
    assert layout(labelled)[: len(msg.fields)] == layout(msg), "the input's fields stay where they were"
    for field in msg.fields:
        np.testing.assert_array_equal(read_field(labelled, field.name), read_field(msg, field.name))
    label = "predicted_label" if any(field.name == "label" for field in msg.fields) else "label"
    assert [name for name, *_ in layout(labelled)][len(msg.fields) :] == [label, "probability", "entropy"]
    np.testing.assert_array_equal(read_field(labelled, label), expected_labels(msg))


def test_input_layout_names_its_label_field(bench, sweep, changed):
    """A field label of the input is not overwritten, and the label set says which field holds predictions."""
    fields = []
    bench.listen(String, "segmenter/label_info_json", lambda m: fields.append(prediction_from_json(m.data)), latched())
    changed(layout="input")
    msg = sweep(20, stamp=4.0)
    assert "label" in [field.name for field in msg.fields]
    labelled = bench.segment(msg)
    np.testing.assert_array_equal(read_field(labelled, "label"), np.zeros(20))
    np.testing.assert_array_equal(read_field(labelled, "predicted_label"), expected_labels(msg))
    bench.wait(lambda: fields and fields[-1].field == "predicted_label")
    assert (fields[-1].model, len(fields[-1].sha256)) == ("height", 64)


def test_autoware_layout_is_that_of_the_label_set(bench, sweep, changed):
    changed(layout="autoware")
    first = bench.segment(sweep(20, stamp=5.0))
    changed(layout="compact", label_set="autoware")
    second = bench.segment(sweep(20, stamp=5.1))
    assert layout(first) == layout(second)
    assert "class_id" in [name for name, *_ in layout(first)]
    np.testing.assert_array_equal(read_field(first, "class_id"), read_field(second, "class_id"))


def test_refuses_a_layout_and_another_label_set(bench):
    changes = [Parameter("output.layout", value="autoware"), Parameter("output.label_set", value="outdoor8")]
    result = bench.node.set_parameters_atomically(changes)
    assert result.reason == "output.layout is autoware and output.label_set outdoor8; give one of them only"


def test_labels_below_minimum_probability_are_255_and_counted(bench, sweep, changed):
    probability = read_field(bench.segment(sweep(200, stamp=6.0)), "probability")
    limit = float(np.median(probability))
    changed(min_probability=limit)
    msg = sweep(200, stamp=6.1)
    labels = read_field(bench.segment(msg), "label")
    bench.wait(lambda: bench.status[-1].stamp_ns == stamp_ns(msg.header.stamp))
    low = probability < np.float32(limit)
    assert 0 < low.sum() < 200
    np.testing.assert_array_equal(labels, np.where(low, IGNORE, expected_labels(msg)))
    np.testing.assert_array_equal(read_field(bench.labels[-1], "probability"), probability)
    assert bench.status[-1].values["points_uncertain"] == str(low.sum())


def filtered(bench, msg, *names):
    """Publish a sweep; returns its filtered clouds."""
    received = [bench.listen(PointCloud2, f"segmenter/filtered/{name}") for name in names]
    bench.wait(bench.connected)
    bench.points.publish(msg)
    bench.wait(lambda: all(received))
    return [clouds[-1] for clouds in received]


def test_named_filters(make_bench, sweep):
    """Points in the vehicle's own box pass none. Labels that do not count do where obstacles must not vanish."""
    bench = make_bench(
        **OWN_BOX,
        **{
            "filters.high.keep": ["building"],
            "filters.not_road.drop": ["road"],
            "filters.unsure.drop": ["road"],
            "filters.unsure.min_probability": 1.0,
            "filters.sure.keep": ["building"],
            "filters.sure.min_probability": 1.0,
        },
    ).start()
    xyz = np.concatenate([[[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], to_cloud(sweep(100)).xyz, [[np.nan] * 3]])
    msg = sweep(xyz.astype(np.float32), stamp=2.0)
    high, not_road, unsure, sure = filtered(bench, msg, "high", "not_road", "unsure", "sure")
    outside = xyz[2:-1]
    np.testing.assert_array_equal(to_cloud(high).xyz, outside[outside[:, 2] > 0].astype(np.float32))
    assert layout(high) == layout(msg) and high.header == msg.header
    assert (not_road.width, unsure.width, sure.width) == (high.width + 1, 101, 0), "the point without position passes"

    (result,) = bench.node.set_parameters([Parameter("filters.high.keep", value=["road"])])
    assert result.successful
    (low,) = filtered(bench, sweep(xyz.astype(np.float32), stamp=3.0), "high")
    np.testing.assert_array_equal(to_cloud(low).xyz, outside[outside[:, 2] <= 0].astype(np.float32))
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="autoware")])
    assert result.reason.startswith("filters.high: label set 'autoware' has no class 'road'")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"filters.map.keep": ["tree"]}, "filters.map: label set 'drive13' has no class 'tree'; it has car, "),
        (
            {"filters.map.keep": ["car"], "filters.map.drop": ["road"]},
            "filters.map has keep and drop; give one of them",
        ),
    ],
)
def test_impossible_filter_is_refused(make_bench, given, reason, capfd):
    assert not make_bench(**given).node.start()
    assert reason in capfd.readouterr().err


def test_misspelt_parameter_of_a_filter_is_named(make_bench, capfd):
    make_bench(**{"filters.map.drops": ["car"]}).start()
    assert "filters.map.drops" in capfd.readouterr().err


def test_old_filter_still_works_and_says_what_replaces_it(make_bench, sweep, capfd):
    bench = make_bench(**OWN_BOX, **{"filter.drop_classes": ["road"]}).start()
    assert "use filters.NAME.drop instead" in capfd.readouterr().err
    clouds = bench.listen(PointCloud2, "segmenter/filtered")
    bench.wait(bench.connected)
    bench.points.publish(sweep(np.array([[1.0, 1.0, 1.0], [5.0, 5.0, 1.0], [5.0, 5.0, -1.0]])))
    bench.wait(lambda: clouds)
    np.testing.assert_array_equal(to_cloud(clouds[-1]).xyz, np.array([[5.0, 5.0, 1.0]], np.float32))


def test_label_info_says_that_labels_are_predictions(bench):
    infos = bench.listen(String, "segmenter/label_info_json", lambda m: json.loads(m.data), latched())
    bench.wait(lambda: infos)
    assert infos[-1]["source"] == "prediction" and infos[-1]["model"] == "height"
    assert {ROAD, BUILDING} <= {entry["id"] for entry in infos[-1]["classes"]}
