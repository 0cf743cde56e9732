"""Parameters of a running node: descriptors, validation of changes, and the services that read and set them."""

import pytest
import rclpy
import yaml
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, get_parameter_value, parameter_value_to_python
from sensor_msgs.msg import PointCloud2

from test.waiting import wait_until
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.node import parameters, unknown_parameters
from xmodelkd_ros.node.segment_node import SegmentNode


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
        ("output.label_set", "kitti", "output.label_set is 'kitti'; it must be one of native, autoware, "),
        ("output.label_set", 3, "Wrong parameter type"),
        ("filter.drop_classes", ["tree"], "label set 'drive13' has no class 'tree'; it has car, "),
        ("output.layout", "dense", "output.layout is 'dense'; it must be one of compact, input, autoware"),
        ("output.min_probability", 1.5, "out of range"),
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
    """In either order; classes that are set must exist in the label set that will be used."""
    changes = [
        Parameter("output.label_set", value="autoware"),
        Parameter("filter.drop_classes", value=["FLAT_SURFACE"]),
    ]
    back = [Parameter("output.label_set", value="native"), Parameter("filter.drop_classes", value=["person"])]
    for order in (1, -1):
        assert bench.node.set_parameters_atomically(changes[::order]).successful
        result = bench.node.set_parameters_atomically([back[0], changes[1]][::order])
        assert "label set 'drive13' has no class 'FLAT_SURFACE'" in result.reason
        assert bench.node.set_parameters_atomically(back[::order]).successful
    assert bench.node.set_parameters([Parameter("filter.drop_classes", value=[])])[0].successful


@pytest.fixture
def filtered(bench, sweep):
    """Function that returns the number of points in the filtered cloud of a sweep with 100 points."""
    clouds = bench.listen(PointCloud2, "segmenter/filtered")
    bench.wait(bench.connected)

    def count():
        before = len(clouds)
        bench.points.publish(sweep(100))
        bench.wait(lambda: len(clouds) > before)
        return clouds[-1].width

    return count


def test_classes_of_another_label_set_do_not_block_its_change(bench, filtered, capfd):
    def change(name, value):
        (result,) = bench.node.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason

    change("filter.drop_classes", ["road", "building"])
    assert filtered() == 0
    change("output.label_set", "autoware")
    assert filtered() == 100
    warning = "filter.drop_classes: label set 'autoware' has no road, building, so no points are dropped for these"
    assert warning in capfd.readouterr().err
    change("sync.slop", 0.06)
    assert warning not in capfd.readouterr().err
    change("output.label_set", "outdoor8")
    assert filtered() == 0, "it has road, and names buildings among its manmade things"
    change("output.label_set", "native")
    assert filtered() == 0
    change("filter.drop_classes", [])
    change("sync.slop", 0.05)


# --- through the services, as ros2 param, rqt_reconfigure and Foxglove do ---------------------------------------------


@pytest.fixture
def service(bench):
    """Function that calls a parameter service of the segmenter."""
    return caller(bench.probe, bench.wait)


def caller(probe, wait):
    def call(service_type, name, **request):
        client = probe.create_client(service_type, f"segmenter/{name}")
        wait(client.service_is_ready)
        future = client.call_async(service_type.Request(**request))
        wait(future.done)
        probe.destroy_client(client)
        return future.result()

    return call


@pytest.fixture
def ros2_param_set(service):
    """Function that sets a parameter to the text of a command line; returns the result."""

    def call(name, text):
        change = ParameterMsg(name=name, value=get_parameter_value(text))
        return service(SetParameters, "set_parameters", parameters=[change]).results[0]

    return call


@pytest.mark.parametrize("nothing", ["[]", "['']", '[""]', ""])
def test_filter_can_be_emptied_while_running(bench, ros2_param_set, filtered, nothing):
    assert ros2_param_set("filter.drop_classes", "[road]").successful
    assert filtered() == 50
    result = ros2_param_set("filter.drop_classes", nothing)
    assert result.successful, result.reason
    assert filtered() == 100
    assert bench.node.get_parameter("filter.drop_classes").value == [""]


@pytest.mark.parametrize(
    "change",
    [
        Parameter("filter.drop_classes", value=[]),
        Parameter("filter.drop_classes", Parameter.Type.STRING_ARRAY, []),
        Parameter("filter.drop_classes", value=()),
        Parameter("filter.drop_classes", value=[""]),
    ],
)
def test_filter_can_be_emptied_by_rclpy(bench, change):
    (result,) = bench.node.set_parameters([Parameter("filter.drop_classes", value=["road"])])
    assert result.successful
    assert bench.node.set_parameters_atomically([change]).successful
    assert bench.node.get_parameter("filter.drop_classes").value == [""]


def test_values_whose_meaning_is_clear_are_converted(bench, ros2_param_set):
    assert ros2_param_set("filter.drop_classes", "road").successful
    assert bench.node.get_parameter("filter.drop_classes").value == ["road"]
    assert ros2_param_set("filter.drop_classes", "[]").successful
    assert ros2_param_set("sync.slop", "1").successful
    assert bench.node.get_parameter("sync.slop").value == 1.0
    assert ros2_param_set("sync.slop", "0.05").successful
    assert ros2_param_set("sync.slop", "5e-2").successful, "text in YAML"
    assert bench.node.get_parameter("sync.slop").value == 0.05


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sync.slop", "wide", "sync.slop takes a number, not 'wide'"),
        ("sync.slop", "nan", "sync.slop takes a number, not 'nan'"),
        ("sync.slop", "true", "sync.slop takes a number, not True"),
        ("filter.drop_classes", "[1, 2]", "filter.drop_classes takes a list of names, not [1, 2]"),
        ("filter.drop_classes", "3", "filter.drop_classes takes a list of names, not 3"),
        ("mode", "1", "mode takes text, not 1"),
    ],
)
def test_values_of_another_type_are_refused_by_name(ros2_param_set, name, text, message):
    assert ros2_param_set(name, text).reason == f"Wrong parameter type: {message}"


@pytest.mark.parametrize("name", ["cameras", "camera_names"])
def test_cameras_can_be_read_under_both_names(service, name):
    (value,) = service(GetParameters, "get_parameters", names=[name]).values
    assert value.string_array_value == [""]
    (descriptor,) = service(DescribeParameters, "describe_parameters", names=[name]).descriptors
    assert descriptor.description.startswith("Names of the cameras") and descriptor.read_only


@pytest.mark.parametrize(
    ("given", "cameras"),
    [
        ({"camera_names": [""], "cameras": ["front"]}, ["front"]),
        ({"camera_names": ["front"], "cameras": []}, ["front"]),
        ({"camera_names": ["front"], "cameras": ["front"]}, ["front"]),
    ],
)
def test_a_dump_without_cameras_does_not_hide_those_of_another_file(given, cameras):
    assert started(given, lambda node: [camera.name for camera in parameters.read(node).cameras]) == cameras


def test_different_cameras_under_both_names_are_refused():
    with pytest.raises(ConfigError, match=r"camera_names is \['front'\] and cameras is \['left'\], two names of one"):
        started({"camera_names": ["front"], "cameras": ["left"]}, parameters.read)


def started(given, read):
    """What a function reads from a node that is started with parameters."""
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = SegmentNode(context=context, parameter_overrides=overrides)
        result = read(node)
        node.close()
        return result
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ("name", "near"),
    [("camera", "cameras"), ("Cameras", "cameras"), ("camera.front.image_topic", "Parameter cameras names no camera")],
)
def test_misspelt_cameras_are_recognised_without_cameras(bench, name, near, monkeypatch):
    monkeypatch.delattr(Node, "list_parameters", raising=False)  # as on Humble and Iron
    assert near in unknown_parameters.proposal(bench.node, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sync.slope", "segmenter has no parameter sync.slope. The nearest is sync.slop"),
        ("drop_classes", "segmenter has no parameter drop_classes. The nearest is filter.drop_classes"),
        ("cameras.front.time_offset", "Parameter cameras names no camera, not front"),
        ("zzz", "segmenter has no parameter zzz"),
    ],
)
def test_setting_an_unknown_parameter_names_the_nearest(ros2_param_set, service, name, message):
    result = ros2_param_set(name, "0.1")
    assert not result.successful and result.reason.endswith(message)
    changes = [ParameterMsg(name=n, value=get_parameter_value("0.06")) for n in (name, "sync.slop")]
    result = service(SetParametersAtomically, "set_parameters_atomically", parameters=changes).result
    assert not result.successful and message in result.reason


def dump(service):
    """What ``ros2 param dump`` writes: all values in nested groups."""
    names = sorted(service(ListParameters, "list_parameters").result.names)
    values = service(GetParameters, "get_parameters", names=names).values
    assert len(values) == len(names)
    tree = {}
    for name, value in zip(names, values, strict=True):
        *groups, last = name.split(".")
        group = tree
        for part in groups:
            group = group.setdefault(part, {})
        assert last not in group, f"a dump cannot hold both a value and a group {last}"
        plain = parameter_value_to_python(value)
        group[last] = plain if isinstance(plain, (str, bool, int, float)) else list(plain)
    return tree


def test_all_parameters_can_be_listed_described_and_got(service):
    names = service(ListParameters, "list_parameters").result.names
    values = service(GetParameters, "get_parameters", names=names).values
    assert len(values) == len(names) > 20
    assert all(value.type != ParameterType.PARAMETER_NOT_SET for value in values)
    descriptors = service(DescribeParameters, "describe_parameters", names=names).descriptors
    assert [d.type for d in descriptors] == [value.type for value in values]
    assert {"filter.drop_classes", "projection_extrinsic", "camera_names"} <= set(names)


def test_dump_can_be_loaded(bench, service, tmp_path):
    tree = dump(service)
    assert tree["filter"] == {"drop_classes": [""]} and tree["projection_extrinsic"] == [0.0] * 7
    assert loaded(tree, tmp_path) == parameters.read(bench.node)


def loaded(tree, folder):
    """Parameters of a node that is started with a dump."""
    file = folder / "dump.yaml"
    file.write_text(yaml.dump({"/segmenter": {"ros__parameters": tree}}))
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context)
    node = SegmentNode(context=context)
    try:
        assert unknown_parameters.warnings(node) == []
        return parameters.read(node)
    finally:
        node.close()
        rclpy.shutdown(context=context)


def test_every_parameter_has_a_description(bench):
    of_rclpy = ("qos_overrides.", "use_sim_time", "start_type_description_service")
    ours = [name for name in bench.node.list_parameters([], 0).names if not name.startswith(of_rclpy)]
    assert {"model", "filter.drop_classes", "autostart"} <= set(ours)
    for descriptor in bench.node.describe_parameters(ours):
        assert descriptor.description, descriptor.name
    changeable = {d.name for d in bench.node.describe_parameters(ours) if not d.read_only}
    assert changeable == {
        "mode",
        "output.layout",
        "output.label_set",
        "output.min_probability",
        "filter.drop_classes",
        "sync.slop",
        "sync.deadline",
        "sync.frozen_after",
    }


@pytest.mark.parametrize("key", ["cameras", "camera_names"])
def test_dump_with_cameras_can_be_loaded(key, tmp_path):
    """Also parameters whose values are empty lists or whole numbers, as people write them."""
    given = {
        key: ["front", "rear"],
        "filter.drop_classes": [],
        "sync.slop": 1,
        "cameras.front.extrinsic": [0, 0, 1, 0, 0, 0, 1],
        "cameras.rear.extrinsic": [],
    }
    file = tmp_path / "given.yaml"
    file.write_text(yaml.dump({"/**": {"ros__parameters": given}}))
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context)
    node = SegmentNode(context=context)
    probe = rclpy.create_node("probe", context=context)
    executor = SingleThreadedExecutor(context=context)
    for one in (node, probe):
        executor.add_node(one)
    try:
        read = parameters.read(node)
        tree = dump(caller(probe, lambda done: wait_until(done, step=lambda: executor.spin_once(timeout_sec=0.05))))
    finally:
        executor.shutdown()
        node.close()
        probe.destroy_node()
        rclpy.shutdown(context=context)
    assert [camera.name for camera in read.cameras] == tree["camera_names"] == ["front", "rear"]
    assert read.cameras[0].extrinsic == (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert (read.cameras[1].extrinsic, read.drop_classes, read.slop) == ((), (), 1.0)
    assert loaded(tree, tmp_path) == read
