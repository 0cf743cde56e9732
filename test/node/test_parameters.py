"""Parameters of a running node: descriptors, and validation of changes."""

import pytest
from rclpy.parameter import Parameter


@pytest.fixture(scope="module")
def bench(module_bench):
    """One segmenter for all tests of this file, each of which leaves its parameters as they were."""
    return module_bench


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("model", "other", "read-only"),
        ("backend", "onnxruntime", "read-only"),
        ("projection_extrinsic", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], "read-only"),
        ("output.label_set", "kitti", "output.label_set is 'kitti'; it must be one of native, autoware"),
        ("output.label_set", 3, "Wrong parameter type"),
        ("filter.drop_classes", ["tree"], "label set 'drive13' has no class 'tree'; it has car, "),
        ("mode", "teacher", "mode is teacher and cameras is empty; name the cameras"),
        ("mode", "both", "mode is 'both'; it must be one of student, teacher"),
        ("sync.slop", -1.0, "out of range"),
    ],
)
def test_refuses_parameter_at_run_time(bench, sweep, name, value, reason):
    (result,) = bench.node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert reason in result.reason
    assert bench.outcome(sweep(10)).message == "labelled"


def test_validates_parameter_changes_together(bench):
    (result,) = bench.node.set_parameters([Parameter("filter.drop_classes", value=["vegetation", "person"])])
    assert result.successful
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="autoware")])
    assert "label set 'autoware' has no class 'person'" in result.reason
    result = bench.node.set_parameters_atomically(
        [Parameter("output.label_set", value="autoware"), Parameter("filter.drop_classes", value=["PEDESTRIAN"])]
    )
    assert result.successful
    unset = Parameter("filter.drop_classes", Parameter.Type.STRING_ARRAY, [])
    assert bench.node.set_parameters_atomically([Parameter("output.label_set", value="native"), unset]).successful


def test_every_parameter_has_a_description(bench):
    of_rclpy = ("qos_overrides.", "use_sim_time", "start_type_description_service")
    ours = [name for name in bench.node.list_parameters([], 0).names if not name.startswith(of_rclpy)]
    assert {"model", "filter.drop_classes", "autostart"} <= set(ours)
    for descriptor in bench.node.describe_parameters(ours):
        assert descriptor.description, descriptor.name
    changeable = {d.name for d in bench.node.describe_parameters(ours) if not d.read_only}
    assert changeable == {
        "mode",
        "output.label_set",
        "filter.drop_classes",
        "sync.slop",
        "sync.deadline",
        "sync.frozen_after",
    }
