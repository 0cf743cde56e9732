import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header, String

from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.messages.clouds import MessageTypes, read_field, to_cloud, truth_to_msg
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node import adaptive_subscription, loaded_models, outputs, sweep_reporter
from xmodelkd_ros.node.extrinsics import ExtrinsicError
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.qos import latched, reliable
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.backend_selection import LIBRARIES

# The test model labels points above the sensor as building, points below as road.
ROAD, BUILDING = 4, 9
S = 1_000_000_000
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def expected_labels(msg):
    return np.where(to_cloud(msg, "fill").xyz[:, 2] > 0, BUILDING, ROAD)


def layout(msg):
    return [(f.name, f.offset, f.datatype, f.count) for f in msg.fields]


# --- labels of every point --------------------------------------------------------------------------------------------


def test_labels_every_point_in_input_order(bench, sweep):
    msg = sweep(5000, stamp=7.25, frame_id="top_lidar")  # more than the network processes at once
    labelled = bench.segment(msg)
    assert labelled.header == msg.header
    assert (labelled.height, labelled.width) == (1, 5000)
    assert layout(labelled) == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("label", 12, 2, 1),
        ("probability", 16, 7, 1),
        ("entropy", 20, 7, 1),
    ]
    assert (labelled.point_step, labelled.row_step, len(labelled.data)) == (24, 24 * 5000, 24 * 5000)
    assert (labelled.is_bigendian, labelled.is_dense) == (False, True)
    np.testing.assert_array_equal(to_cloud(labelled, "fill").xyz, to_cloud(msg).xyz)
    np.testing.assert_array_equal(read_field(labelled, "label"), expected_labels(msg))
    assert (read_field(labelled, "probability") > 1 / 13).all()


def test_labels_invalid_points_255(bench, sweep):
    msg = sweep([[10, 0, 1], [np.nan, 0, 1], [10, 0, -1], [0, 0, 0], [np.inf, 0, 0], [9, 9, 1]])
    labelled = bench.segment(msg)
    assert read_field(labelled, "label").tolist() == [BUILDING, 255, ROAD, 255, 255, BUILDING]
    assert not labelled.is_dense
    assert np.isnan(read_field(labelled, "entropy")).tolist() == [False, True, False, True, True, False]
    bench.wait(lambda: bench.status)
    assert bench.status[0].values["points_invalid"] == "3"


def test_keeps_shape_of_organized_cloud(bench, sweep):
    msg = sweep(1200, height=3)
    labelled = bench.segment(msg)
    assert (labelled.height, labelled.width, labelled.row_step) == (3, 400, 400 * 24)
    np.testing.assert_array_equal(read_field(labelled, "label"), expected_labels(msg))


@pytest.mark.parametrize("msg", [PointCloud2(), PointCloud2(height=1), PointCloud2(height=64, point_step=16)])
def test_empty_cloud_gives_empty_output(bench, msg):
    msg.header.stamp.sec, msg.header.frame_id = 3, "lidar"
    labelled = bench.segment(msg)
    assert labelled.header == msg.header
    assert (labelled.height, labelled.width, len(labelled.data)) == (msg.height, 0, 0)
    assert len(labelled.fields) == 6


def test_cloud_layout_may_change_between_messages(make_bench, sweep):
    bench = make_bench(missing_intensity="fill").start()
    for i, msg in enumerate((sweep(100), sweep(300, intensity=False), sweep(60, height=2), sweep(200))):
        msg.header.stamp.sec = i
        np.testing.assert_array_equal(read_field(bench.segment(msg), "label"), expected_labels(msg))


def test_labels_a_real_sweep(bench, pandaset):
    pytest.importorskip("pandas")
    from training.datasets.pandaset import PandaSetSequence

    cloud = PandaSetSequence(pandaset).cloud(40)
    header = Header(frame_id="pandar")
    msg = truth_to_msg(cloud, np.zeros(len(cloud), np.uint8), header, MessageTypes(PointCloud2, PointField))
    labelled = bench.segment(msg)
    assert len(labelled.data) == 24 * len(cloud) > 2_000_000
    np.testing.assert_array_equal(to_cloud(labelled, "fill").xyz, cloud.xyz)
    np.testing.assert_array_equal(read_field(labelled, "label"), expected_labels(msg))


def test_status_of_a_sweep(bench, sweep):
    status = bench.outcome(sweep(1000, stamp=2.5))
    assert (status.level, status.message, status.stamp_ns) == (DiagnosticStatus.OK, "labelled", 2_500_000_000)
    assert (status.values["mode"], status.values["cameras"], status.values["points"]) == ("student", "", "1000")
    stages = [k for k in status.values if k.endswith("_ms")]
    assert stages == [f"{s}_ms" for s in ("latency", "decode", "project", "normalize", "infer", "decide", "publish")]
    total = sum(float(status.values[k]) for k in stages[1:])
    assert 0 < total < float(status.values["latency_ms"]) + 1


# --- invalid input affects its own sweep only -------------------------------------------------------------------------


def test_rejects_cloud_without_intensity(bench, sweep):
    status = bench.outcome(sweep(10, intensity=False))
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "dropped: bad_cloud")
    assert "missing_intensity to 'fill'" in status.values["detail"]
    bench.segment(sweep(10, stamp=2.0))
    bench.wait(lambda: any(d.values.get("dropped.bad_cloud") == "1" for d in bench.diagnostics))
    assert any("missing_intensity" in d.values.get("last_problem", "") for d in bench.diagnostics)


def test_rejects_cloud_without_x_or_with_truncated_data(bench, sweep):
    renamed, cut = sweep(10, stamp=1.0), sweep(10, stamp=2.0)
    renamed.fields[0].name = "u"
    cut.data = cut.data[:50]
    assert "no field 'x'" in bench.outcome(renamed).values["detail"]
    assert "data holds 50 bytes" in bench.outcome(cut).values["detail"]
    assert bench.outcome(sweep(10, stamp=3.0)).message == "labelled"


def test_unexpected_error_affects_one_sweep(bench, sweep, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LoadedModels, "segment", lambda *_: 1 / 0)
        status = bench.outcome(sweep(10))
    assert (status.message, status.values["detail"]) == ("unlabelled: failed", "ZeroDivisionError('division by zero')")
    assert bench.outcome(sweep(10, stamp=2.0)).message == "labelled"


# --- overload and order -----------------------------------------------------------------------------------------------


def test_overload_drops_and_counts_older_sweeps(bench, sweep, monkeypatch):
    started, gate = threading.Event(), threading.Event()
    segment = LoadedModels.segment

    def slow(*args):
        started.set()
        assert gate.wait(timeout=20)
        return segment(*args)

    monkeypatch.setattr(LoadedModels, "segment", slow)
    bench.points.publish(sweep(10, stamp=1.0))
    bench.wait(started.is_set)
    for stamp in (2.0, 3.0, 4.0, 5.0):
        bench.points.publish(sweep(10, stamp=stamp))
    bench.wait(lambda: len(bench.status) == 3)
    gate.set()
    bench.wait(lambda: len(bench.labels) == 2 and len(bench.status) == 5)
    assert [stamp_ns(m.header.stamp) // S for m in bench.labels] == [1, 5]
    dropped = {s.stamp_ns // S for s in bench.status if s.message == "dropped: overload"}
    assert dropped == {2, 3, 4}
    bench.wait(lambda: any(d.values.get("dropped.overload") == "3" for d in bench.diagnostics))


def test_counts_sweeps_lost_by_the_middleware(bench):
    (subscription,) = [s for s in bench.node.subscriptions if s.topic_name == "/points"]
    handlers = {handler.event_type.name: handler for handler in subscription.event_handlers}
    handlers["RCL_SUBSCRIPTION_MESSAGE_LOST"].callback(SimpleNamespace(total_count_change=3))
    bench.wait(lambda: "dropped.lost_in_transport" in bench.diagnostics[-1].values if bench.diagnostics else False)
    assert bench.diagnostics[-1].values["dropped.lost_in_transport"] == "3"


def test_output_is_in_stamp_order_until_clock_jumps_back(bench, sweep):
    stamps = (5.0, 5.1, 5.05, 5.1, 5.2, 2.0, 2.1)
    outcomes = [bench.outcome(sweep(10, stamp=stamp)).message for stamp in stamps]
    assert [s for s, o in zip(stamps, outcomes, strict=True) if o == "dropped: out_of_order"] == [5.05]
    bench.wait(lambda: len(bench.labels) == 6)
    assert [stamp_ns(m.header.stamp) / S for m in bench.labels] == [5.0, 5.1, 5.1, 5.2, 2.0, 2.1]


def test_reports_a_stopped_input(make_bench, sweep):
    bench = make_bench(backend="auto").start()
    for i in range(5):
        bench.outcome(sweep(10, stamp=1 + i / 10))
    bench.wait(lambda: any(d.level == DiagnosticStatus.ERROR for d in bench.diagnostics), "an error")
    stale = next(d for d in bench.diagnostics if d.level == DiagnosticStatus.ERROR)
    assert stale.message.startswith("stale: no sweep for ")
    assert (stale.values["published"], stale.values["model"]) == ("5", "height")
    assert stale.values["backend"] in LIBRARIES and stale.values["model_backend_choice"]
    assert len(stale.values["model_sha256"]) == 12


# --- other outputs ----------------------------------------------------------------------------------------------------


def test_builds_colored_and_filtered_clouds_only_for_subscribers(make_bench, sweep, monkeypatch):
    bench = make_bench(**{"filter.drop_classes": ["road"]}).start()
    with monkeypatch.context() as patch:
        for function in ("colored_to_msg", "filter_msg"):
            patch.setattr(outputs, function, lambda *_: pytest.fail("built without subscriber"))
        assert bench.outcome(sweep(100)).message == "labelled"
    colored, filtered = (bench.listen(PointCloud2, f"segmenter/{name}") for name in ("colored", "filtered"))
    bench.wait(bench.connected)
    msg = sweep(100, stamp=2.0)
    bench.points.publish(msg)
    bench.wait(lambda: colored and filtered)

    colors = read_field(colored[0], "rgb").view(np.uint32)
    palette = {c.id: (c.color[0] << 16) + (c.color[1] << 8) + c.color[2] for c in label_map("drive13").classes}
    assert colors.tolist() == [palette[label] for label in expected_labels(msg)]
    assert colored[0].header == filtered[0].header == msg.header

    assert layout(filtered[0]) == layout(msg)
    xyz = to_cloud(msg).xyz
    np.testing.assert_array_equal(to_cloud(filtered[0]).xyz, xyz[xyz[:, 2] > 0])


def test_label_info_is_latched_and_follows_the_label_set(bench):
    infos = bench.listen(String, "segmenter/label_info_json", lambda m: json.loads(m.data)["name"], latched())
    bench.wait(lambda: infos == ["drive13"])
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="autoware")])
    assert result.successful
    bench.wait(lambda: infos == ["drive13", "autoware"])


def test_converts_label_set_to_vision_label_info():
    class LabelInfo:
        def __init__(self, class_map):
            self.class_map = class_map

    types = type("types", (), {"LabelInfo": LabelInfo, "VisionClass": dict})
    info = outputs.label_info(label_map("drive13"), types)
    assert len(info.class_map) == 13
    assert info.class_map[4] == {"class_id": 4, "class_name": "road"}


# --- parameters -------------------------------------------------------------------------------------------------------


def test_label_set_changes_from_the_next_sweep(bench, sweep):
    assert layout(bench.segment(sweep(10)))[3][0] == "label"
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="autoware")])
    assert result.successful
    msg = sweep(100, stamp=2.0)
    labelled = bench.segment(msg)
    assert layout(labelled)[3] == ("class_id", 12, 2, 1)
    structure, flat_surface = 9, 8
    expected = np.where(to_cloud(msg).xyz[:, 2] > 0, structure, flat_surface)
    np.testing.assert_array_equal(read_field(labelled, "class_id"), expected)
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="outdoor8")])
    assert result.successful
    labelled, outdoor8 = bench.segment(sweep(100, stamp=3.0)), label_map("outdoor8")
    assert layout(labelled)[3][0] == "label", "only Autoware's field has another name"
    expected = np.where(to_cloud(msg).xyz[:, 2] > 0, outdoor8.id_of("manmade"), outdoor8.id_of("road"))
    np.testing.assert_array_equal(read_field(labelled, "label"), expected)


def test_label_set_can_change_before_activation(make_bench, sweep):
    bench = make_bench(autostart=False)
    assert bench.node.trigger_configure() == SUCCESS
    (result,) = bench.node.set_parameters([Parameter("output.label_set", value="autoware")])
    assert result.successful
    assert bench.node.trigger_activate() == SUCCESS
    bench.wait(bench.connected)
    assert layout(bench.segment(sweep(10)))[3][0] == "class_id"


def test_projects_from_lidar_frame_and_publishes_in_input_frame(make_bench, sweep):
    # base_link is 1.8 m below the LiDAR: what lies 1 m above base_link is below the LiDAR.
    bench = make_bench(projection_frame="lidar", projection_extrinsic=[0.0, 0.0, -1.8, 0.0, 0.0, 0.0, 1.0]).start()
    xyz = [[10, 0, 1], [10, 5, 3]]
    labelled = bench.segment(sweep(xyz, stamp=1.0, frame_id="base_link"))
    assert read_field(labelled, "label").tolist() == [ROAD, BUILDING]
    np.testing.assert_array_equal(to_cloud(labelled, "fill").xyz, xyz)
    labelled = bench.segment(sweep(xyz, stamp=2.0, frame_id="lidar"))
    assert read_field(labelled, "label").tolist() == [BUILDING, BUILDING]


def test_ego_box_in_the_clouds_frame_and_minimum_range_in_the_lidars(make_bench, sweep):
    """The box is where the cloud says; the range is measured from the sensor, 1.8 m above the cloud's origin."""
    bench = make_bench(
        projection_frame="lidar",
        projection_extrinsic=[0.0, 0.0, -1.8, 0.0, 0.0, 0.0, 1.0],
        ego_box=[-2.0, -1.0, -0.1, 2.5, 1.0, 1.7],
        min_range=1.0,
    ).start()
    xyz = [[2, 0, 1.5], [2, 0, 1.9], [5, 0, 3], [0, 0.5, 2.3], [3, 0, 0], [0.0, 0.0, -0.3]]
    status = bench.outcome(sweep(np.array(xyz), frame_id="base_link"))
    bench.wait(lambda: bench.labels)
    labels = bench.labels[-1]
    assert (read_field(labels, "label") == IGNORE).tolist() == [True, False, False, True, False, False]
    np.testing.assert_array_equal(to_cloud(labels, "fill").xyz, np.array(xyz, np.float32))
    assert (read_field(labels, "probability") == 0).tolist() == [True, False, False, True, False, False]
    assert np.isnan(read_field(labels, "entropy")).tolist() == [True, False, False, True, False, False]
    assert not labels.is_dense
    assert status.values["points_invalid"] == "2"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ego_box", [1.0, 0.0, 0.0, -1.0, 1.0, 1.0], "ego_box is [1.0, 0.0, 0.0, -1.0, 1.0, 1.0]; give x y z"),
        ("ego_box", [1.0, 0.0], "ego_box is [1.0, 0.0]; give x y z of the minimum corner"),
        ("min_range", -1.0, "min_range is -1.0; give metres from 0"),
        ("sensor", "VLP16x", "no sensor 'VLP16x'"),
    ],
)
def test_refuses_an_impossible_sensor_setting(make_bench, name, value, message, monkeypatch):
    errors = []
    bench = make_bench(**{name: value})
    monkeypatch.setattr(bench.node, "get_logger", lambda: SimpleNamespace(error=errors.append, info=print))
    assert not bench.node.start()
    assert errors[0].startswith(message)


def test_frames_are_compared_as_tf_does(make_bench, sweep, capfd):
    """What lies 1 m above base_link is below a LiDAR 1.8 m higher; in the LiDAR's own frame it is above."""
    bench = make_bench(
        projection_frame=" //rslidar ", projection_extrinsic=[0.0, 0.0, -1.8, 0.0, 0.0, 0.0, 1.0]
    ).start()

    def label(frame, stamp):
        return read_field(bench.segment(sweep([[10, 0, 1]], stamp=stamp, frame_id=frame)), "label").tolist()

    for second, frame in enumerate(("rslidar", "/rslidar", "//rslidar", "rslidar ", "/ rslidar"), 1):
        assert label(frame, float(second)) == [BUILDING], frame
    assert "frame" not in capfd.readouterr().err
    for second, frame in enumerate(("base_link", "/base_link", "", "car1/rslidar"), 11):
        assert label(frame, float(second)) == [ROAD], frame
    log = capfd.readouterr().err
    assert "the frame of the clouds changed from 'rslidar' to 'base_link'; sensor, projection_extrinsic" in log
    assert "the cloud's frame is '' and projection_frame 'rslidar': projection_extrinsic is applied" in log
    bench.wait(lambda: bench.diagnostics and bench.diagnostics[-1].values.get("frame_changes") == "3")
    values = bench.diagnostics[-1].values
    assert (values["intensity_field"], values["ring_field"]) == ("intensity", "")


def test_lidars_that_share_a_topic_are_noticed_once(bench, sweep, capfd):
    for second, frame in enumerate(("left", "right", "/left", "right", "left"), 1):
        assert bench.outcome(sweep(10, stamp=float(second), frame_id=frame)).message == "labelled"
    log = capfd.readouterr().err
    assert log.count("the frame of the clouds changed") == 1
    assert "from 'left' to 'right'; if that is not a LiDAR's own frame, set projection_frame" in log


def test_publishes_unlabelled_sweep_until_transform_is_available(make_bench, sweep, monkeypatch):
    available = {}

    def extrinsic(frame_id):
        if frame_id not in available:
            raise ExtrinsicError(f"no transform from '{frame_id}'")
        return available[frame_id]

    monkeypatch.setattr(loaded_models, "choose_extrinsic", lambda *_: extrinsic)
    bench = make_bench(projection_frame="lidar").start()
    status = bench.outcome(sweep([[10, 0, 1]], stamp=1.0, frame_id="base_link"))
    assert (status.message, status.values["detail"]) == ("unlabelled: no_transform", "no transform from 'base_link'")
    bench.wait(lambda: bench.labels)
    assert read_field(bench.labels[-1], "label").tolist() == [IGNORE]
    available["base_link"] = transform((0, 0, -1.8), (0, 0, 0, 1))
    assert bench.outcome(sweep([[10, 0, 1]], stamp=2.0, frame_id="base_link")).message == "labelled"
    assert read_field(bench.labels[-1], "label").tolist() == [ROAD]


def test_diagnostics_in_simulated_time(make_bench, sweep):
    bench = make_bench(use_sim_time=True).start()
    clock = bench.probe.create_publisher(Clock, "/clock", 1)
    message = Clock()
    message.clock.sec = 1234
    bench.wait(clock.get_subscription_count)
    before = len(bench.diagnostics)
    clock.publish(message)  # then the clock stops
    bench.segment(sweep(10, stamp=1233.0))
    bench.wait(lambda: len(bench.diagnostics) > before + 1)
    assert bench.diagnostics[-1].stamp_ns == 1234 * S


def test_simulated_time_without_clock_is_explained(make_bench, sweep, capfd, monkeypatch):
    assert sweep_reporter._CLOCK_S == 3.0
    monkeypatch.setattr(sweep_reporter, "_CLOCK_S", 0.1)
    bench = make_bench(use_sim_time=True).start()
    bench.segment(sweep(10, stamp=1233.0))
    expected = "use_sim_time is true, but no time arrives on /clock"
    bench.wait(lambda: bench.diagnostics and bench.diagnostics[-1].message.startswith(expected))
    assert bench.diagnostics[-1].level == DiagnosticStatus.WARN
    assert expected in capfd.readouterr().err


def test_receives_sweeps_where_rclpy_passes_messages_only(make_bench, sweep, monkeypatch):
    """As on Humble, which also has no Node.list_parameters."""
    monkeypatch.setattr(adaptive_subscription, "_PASSES_INFO", False)
    bench = make_bench(modle="other").start()
    callback = bench.node._input._subscription.callback
    callback(sweep(10))
    bench.wait(lambda: bench.labels)
    assert bench.segment(sweep(10, stamp=2.0)).width == 10


# --- life cycle -------------------------------------------------------------------------------------------------------


def test_lifecycle_transitions(make_bench, sweep):
    bench = make_bench(autostart=False)
    assert bench.node.start()  # does nothing
    assert bench.points.get_subscription_count() == 0
    assert bench.node.trigger_configure() == SUCCESS
    for stamp in (1.0, 1.1):
        assert bench.node.trigger_activate() == SUCCESS
        bench.wait(bench.connected)
        bench.segment(sweep(10, stamp=stamp))
        assert bench.node.trigger_deactivate() == SUCCESS
        bench.wait(lambda: bench.points.get_subscription_count() == 0)
    assert bench.node.trigger_cleanup() == SUCCESS
    assert bench.node.trigger_configure() == SUCCESS
    assert bench.node.trigger_activate() == SUCCESS
    bench.wait(bench.connected)
    bench.segment(sweep(10, stamp=0.5))  # the order check starts anew
    assert bench.node.trigger_shutdown() == SUCCESS


def test_lifecycle_transitions_by_service(make_bench, sweep):
    bench = make_bench(autostart=False)
    client = bench.probe.create_client(ChangeState, "segmenter/change_state")
    bench.wait(client.service_is_ready)

    def change(transition):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        bench.wait(future.done)
        return future.result().success

    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    bench.wait(bench.connected)
    bench.segment(sweep(10))
    assert not change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_DEACTIVATE)
    assert change(Transition.TRANSITION_CLEANUP)


def input_reliability(bench):
    infos = bench.probe.get_subscriptions_info_by_topic("/points")
    return [info.qos_profile.reliability.name.lower() for info in infos]


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_input_reliability_parameter(make_bench, reliability):
    bench = make_bench(points_reliability=reliability).start()
    assert input_reliability(bench) == [reliability]


def test_input_reliability_follows_publishers(make_bench, sweep):
    bench = make_bench(points_reliability="auto").start()
    bench.wait(lambda: input_reliability(bench) == ["reliable"])
    best_effort = reliable(5)
    best_effort.reliability = ReliabilityPolicy.BEST_EFFORT
    driver = bench.probe.create_publisher(PointCloud2, "points", best_effort)
    bench.wait(lambda: input_reliability(bench) == ["best_effort"])
    bench.wait(driver.get_subscription_count)
    driver.publish(sweep(10, stamp=3.0))
    bench.wait(lambda: bench.labels)
    bench.probe.destroy_publisher(driver)
    bench.wait(lambda: input_reliability(bench) == ["reliable"])
    bench.wait(bench.points.get_subscription_count)
    assert bench.outcome(sweep(10, stamp=4.0)).message == "labelled"


def test_failed_configuration_removes_publishers(make_bench):
    override = {"qos_overrides./segmenter/filtered.publisher.reliability": "maybe"}
    bench = make_bench(autostart=False, **override)
    assert bench.node.trigger_configure() == FAILURE
    assert not [p for p in bench.node.publishers if p.topic_name.startswith("/segmenter/")]


@pytest.mark.parametrize(
    "override",
    [
        "qos_overrides./points.subscription.history",
        "qos_overrides./front/image_raw.subscription.reliability",
        "qos_overrides./front/camera_info.subscription.history",
    ],
)
def test_failed_activation_leaves_neither_threads_nor_subscriptions(make_bench, light_model, override):
    more = {"teacher_model": str(light_model), "mode": "teacher", "cameras": ["front"], override: "maybe"}
    more["cameras.front.extrinsic"] = [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]
    bench = make_bench(autostart=False, **more)
    bench.node.trigger_configure()
    threads, timers = set(threading.enumerate()), len(list(bench.node.timers))
    subscriptions = len(list(bench.node.subscriptions))
    assert bench.node.trigger_activate() == FAILURE
    assert set(threading.enumerate()) <= threads
    assert (len(list(bench.node.subscriptions)), len(list(bench.node.timers))) == (subscriptions, timers)


def test_invalid_parameter_can_be_corrected_after_failed_configuration(make_bench):
    bench = make_bench(autostart=False, **{"filter.drop_classes": ["tree"]})
    assert bench.node.trigger_configure() == FAILURE
    assert not [p for p in bench.node.publishers if p.topic_name.startswith("/segmenter/labels")]
    (result,) = bench.node.set_parameters([Parameter("filter.drop_classes", value=["vegetation"])])
    assert result.successful
    assert bench.node.trigger_configure() == SUCCESS
    assert bench.node.trigger_activate() == SUCCESS


def test_deactivation_finishes_pending_sweeps(bench, sweep, monkeypatch):
    started, gate = threading.Event(), threading.Event()
    segment = LoadedModels.segment
    monkeypatch.setattr(
        LoadedModels, "segment", lambda *args: started.set() or (gate.wait(timeout=20) and segment(*args))
    )
    bench.points.publish(sweep(10))
    bench.wait(started.is_set)
    worker = bench.node._processor._worker
    stop = worker.stop
    monkeypatch.setattr(worker, "stop", lambda: (gate.set(), stop()))
    assert bench.node.trigger_deactivate() == SUCCESS
    assert gate.is_set(), "the worker was stopped"
    bench.wait(lambda: len(bench.labels) == 1)
