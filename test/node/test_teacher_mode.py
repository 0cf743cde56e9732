"""Teacher mode over real DDS: sweeps wait for images, and get labels whatever the cameras do."""

import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.node.camera_frames import FROZEN, NO_POINTS
from xmodelkd_ros.node.frozen_images import FrozenImageDetector
from xmodelkd_ros.node.qos import latched, reliable

CAR, ROAD, BUILDING = 0, 4, 9
S, MS = 1_000_000_000, 1_000_000
WIDTH, HEIGHT = 64, 32
# The camera faces the LiDAR's +x: optical x = -y, y = -z, z = x.
AHEAD = [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]
BEHIND = [0.0, 0.0, 0.0, 0.5, 0.5, -0.5, 0.5]


def header(stamp_ns, frame="camera"):
    made = Header(frame_id=frame)
    made.stamp = stamp_from_ns(stamp_ns, type(made.stamp))
    return made


def image(stamp_ns, brightness=200, shape=(HEIGHT, WIDTH)):
    data = np.full((*shape, 3), brightness, np.uint8).tobytes()
    return Image(
        header=header(stamp_ns), height=shape[0], width=shape[1], encoding="rgb8", step=3 * shape[1], data=data
    )


def calibration(stamp_ns=0, focal=32.0):
    k = [focal, 0.0, WIDTH / 2 - 0.5, 0.0, focal, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0]
    return CameraInfo(header=header(stamp_ns), height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", k=k)


class Cameras:
    """Publishers of cameras for a bench."""

    def __init__(self, bench, names, image_type=Image):
        self.bench = bench
        suffix = "/compressed" if image_type is CompressedImage else ""
        self.images = {
            name: bench.probe.create_publisher(image_type, f"{name}/image_raw{suffix}", reliable(100)) for name in names
        }
        self.infos = {
            name: bench.probe.create_publisher(CameraInfo, f"{name}/camera_info", reliable(100)) for name in names
        }

    def wait(self):
        """Wait until the node has subscribed and received the calibrations."""
        publishers = [*self.images.values(), *self.infos.values()]
        self.bench.wait(lambda: all(p.get_subscription_count() for p in publishers), "subscriptions of the node")
        infos = self.bench.node._processor._camera_infos.latest

        def calibrated():
            # Again until it arrives: the node may be subscribing anew, to receive reliably.
            for name in set(self.infos) - set(infos):
                self.infos[name].publish(calibration())
            return set(infos) == set(self.infos)

        self.bench.wait(calibrated, "calibrations")
        return self


@pytest.fixture
def make_teacher(make_bench, light_model):
    """Function that makes an active bench in teacher mode, and its cameras.

    Unless ``may_rest``, the teacher never counts as too slow, whatever else this machine does. ``prepare`` is called
    with the bench before it is started.
    """

    def make(names=("front",), image_type=Image, may_rest=False, prepare=lambda bench: None, **parameters):
        poses = {f"cameras.{name}.extrinsic": pose for name, pose in zip(names, (AHEAD, BEHIND), strict=False)}
        kinds = {f"cameras.{name}.compressed": image_type is CompressedImage for name in names}
        given = {"teacher_model": str(light_model), "mode": "teacher", "cameras": list(names), "sync.deadline": 0.3}
        bench = make_bench(**{**given, **poses, **kinds, **parameters})
        prepare(bench)
        bench.start()
        if not may_rest:
            bench.node._processor._fallback._pace.add_duration = lambda *_: False
        return bench, Cameras(bench, names, image_type)

    return make


def in_front_view(msg):
    """Mask of the points in the view of the front camera."""
    x, y, z = to_cloud(msg).xyz.T
    return (x > 0.1) & (np.abs(y) < x) & (np.abs(z) < x / 2)


def label_sweep(bench, cameras, msg, stamp_ns, **brightness):
    """Publish images and their sweep; returns its labels and status."""
    for name, value in brightness.items():
        cameras.images[name].publish(image(stamp_ns, value))
    labelled = bench.segment(msg)
    bench.wait(lambda: len(bench.status) >= len(bench.labels), "a status")
    return read_field(labelled, "label"), bench.status[-1]


def test_teacher_uses_the_image(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    msg = sweep(1000, stamp=1.0)
    labels, status = label_sweep(bench, cameras, msg, S, front=200)
    visible = in_front_view(msg)
    assert 50 < visible.sum() < 950
    assert (labels[visible] == CAR).mean() > 0.9, "except occluded points"
    assert set(np.unique(labels[~visible])) == {ROAD, BUILDING}
    assert (status.level, status.values["mode"], status.values["cameras"]) == (DiagnosticStatus.OK, "teacher", "front")
    assert status.values["release_reason"] == "complete"
    stages = [name.removesuffix("_ms") for name in status.values if name.endswith("_ms")]
    assert stages == [
        *("latency", "decode", "decode_images", "project", "normalize", "views", "images", "infer", "decide", "publish")
    ]


def test_student_labels_at_deadline_without_image(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    start = time.monotonic()
    labels, status = label_sweep(bench, cameras, sweep(100, stamp=1.0), S)
    assert 0.3 < time.monotonic() - start < 1.2, "at the deadline in ROS time, before that in steady time"
    assert set(np.unique(labels)) == {ROAD, BUILDING}
    assert (status.level, status.message, status.values["mode"]) == (DiagnosticStatus.WARN, "labelled", "student")
    assert (status.values["front.missing"], status.values["release_reason"]) == ("no image", "deadline")
    bench.wait(lambda: any("without cameras front: no image" in d.message for d in bench.diagnostics))


def test_uses_the_available_one_of_two_cameras(make_teacher, sweep):
    bench, cameras = make_teacher(("front", "rear"))
    cameras.wait()
    msg = sweep(1000, stamp=1.0)
    labels, status = label_sweep(bench, cameras, msg, S, rear=200)
    assert (status.values["mode"], status.values["cameras"]) == ("teacher", "rear")
    behind = to_cloud(msg).xyz[:, 0] < 0
    assert (labels == CAR).any() and not (labels[~behind] == CAR).any()


def test_reports_camera_without_points_in_view(make_teacher, sweep):
    """For example because its extrinsic is in millimetres."""
    bench, cameras = make_teacher(("front", "rear"), **{"cameras.rear.extrinsic": [10_000.0, *AHEAD[1:]]})
    cameras.wait()
    _, status = label_sweep(bench, cameras, sweep(1000, stamp=1.0), S, front=200, rear=200)
    assert (status.level, status.values["mode"]) == (DiagnosticStatus.WARN, "teacher")
    assert status.values["cameras"] == "front"
    assert status.values["rear.missing"] == NO_POINTS
    bench.wait(lambda: any(f"without cameras rear: {NO_POINTS}" in d.message for d in bench.diagnostics))


def test_student_labels_without_points_in_any_view(make_teacher, sweep):
    bench, cameras = make_teacher(("front",), **{"cameras.front.extrinsic": [10_000.0, *AHEAD[1:]]})
    cameras.wait()
    labels, status = label_sweep(bench, cameras, sweep(1000, stamp=1.0), S, front=200)
    assert (status.values["mode"], status.values["cameras"]) == ("student", "")
    assert status.values["front.missing"] == NO_POINTS
    assert CAR not in labels


def test_empty_sweep_marks_no_camera_as_missing(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    labels, status = label_sweep(bench, cameras, sweep(0, stamp=1.0), S, front=200)
    assert len(labels) == 0
    assert (status.level, status.values["cameras"]) == (DiagnosticStatus.OK, "front")


def test_waits_for_a_late_image(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    bench.points.publish(sweep(100, stamp=1.0))
    bench.wait(lambda: len(bench.node._processor._sync._collector) == 1, "a waiting sweep")
    assert not bench.labels
    cameras.images["front"].publish(image(S + 10 * MS))
    bench.wait(lambda: bench.status, "a status")
    assert (bench.status[0].values["mode"], bench.status[0].values["release_reason"]) == ("teacher", "complete")


def test_time_offset_converts_stamps_to_the_lidar_clock(make_teacher, sweep):
    bench, cameras = make_teacher(**{"cameras.front.time_offset": -5.0})
    cameras.wait()
    cameras.images["front"].publish(image(6 * S))
    assert bench.outcome(sweep(100, stamp=1.0)).values["mode"] == "teacher"
    (result,) = bench.node.set_parameters([Parameter("cameras.front.time_offset", value=0.0)])
    assert result.successful
    cameras.images["front"].publish(image(2 * S))
    assert bench.outcome(sweep(100, stamp=2.0)).values["mode"] == "teacher"


def test_decodes_compressed_images(make_teacher, sweep):
    cv2 = pytest.importorskip("cv2")
    bench, cameras = make_teacher(image_type=CompressedImage)
    cameras.wait()
    data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 200, np.uint8))[1].tobytes()
    cameras.images["front"].publish(CompressedImage(header=header(S), format="jpeg", data=data))
    msg = sweep(1000, stamp=1.0)
    labels = read_field(bench.segment(msg), "label")
    assert (labels[in_front_view(msg)] == CAR).mean() > 0.9


def test_mode_changes_at_run_time(make_teacher, sweep):
    bench, cameras = make_teacher(mode="student")
    assert not cameras.images["front"].get_subscription_count()
    assert bench.outcome(sweep(100, stamp=1.0)).values["mode"] == "student"
    (result,) = bench.node.set_parameters([Parameter("mode", value="teacher")])
    assert result.successful
    cameras.wait()
    assert label_sweep(bench, cameras, sweep(100, stamp=2.0), 2 * S, front=200)[1].values["mode"] == "teacher"
    bench.points.publish(sweep(100, stamp=3.0))  # waits for an image
    bench.wait(lambda: len(bench.node._processor._sync._collector), "a waiting sweep")
    (result,) = bench.node.set_parameters([Parameter("mode", value="student")])
    bench.wait(lambda: len(bench.labels) == 3, "labels of the waiting sweep")
    bench.wait(lambda: not cameras.images["front"].get_subscription_count(), "removal of the image subscription")
    assert bench.outcome(sweep(100, stamp=4.0)).values["mode"] == "student"


def test_broken_image_affects_its_camera_only(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    rgb, size = {"encoding": "rgb8"}, {"height": HEIGHT, "width": WIDTH}
    for second, (broken, reason) in enumerate(
        [
            (Image(**rgb, **size, step=3 * WIDTH, data=b"1"), "has 1 bytes, but height 32 x step 192"),
            (
                Image(**{**rgb, "encoding": "nv12"}, **size, step=WIDTH, data=bytes(HEIGHT * WIDTH)),
                "encoding 'nv12' is not",
            ),
            (Image(), "encoding '' is not supported"),
            (Image(**rgb), "image 'rgb8 0x0' is empty"),
            (image(0, shape=(64, 64)), "is 64x64, but the camera is calibrated for 64x32"),
            (Image(height=2, width=2, encoding="32FC1", step=8, data=bytes(16)), "is a depth image"),
        ],
        start=1,
    ):
        broken.header = header(second * S)
        cameras.images["front"].publish(broken)
        status = bench.outcome(sweep(100, stamp=float(second)))
        assert (status.message, status.values["mode"]) == ("labelled", "student"), reason
        assert reason in status.values["front.missing"]


def test_reports_camera_without_calibration(make_teacher, sweep):
    bench, cameras = make_teacher()
    bench.wait(lambda: all(p.get_subscription_count() for p in cameras.images.values()), "subscriptions")
    cameras.images["front"].publish(image(S))
    assert bench.outcome(sweep(100, stamp=1.0)).values["front.missing"] == "no CameraInfo on /front/camera_info"
    cameras.wait()
    cameras.infos["front"].publish(calibration(focal=0.0))
    bench.wait(lambda: bench.node._processor._camera_infos.latest["front"].k[0] == 0, "the calibration")
    cameras.images["front"].publish(image(2 * S))
    assert "'front' is not calibrated" in bench.outcome(sweep(100, stamp=2.0)).values["front.missing"]
    cameras.infos["front"].publish(calibration())
    bench.wait(lambda: bench.node._processor._camera_infos.latest["front"].k[0] > 0, "the calibration")
    cameras.images["front"].publish(image(3 * S, 201))
    assert bench.outcome(sweep(100, stamp=3.0)).values["mode"] == "teacher"


def test_invalid_calibration_affects_its_camera_only(make_teacher, sweep):
    bench, cameras = make_teacher(names=("front", "rear"))
    cameras.wait()
    latest = bench.node._processor._camera_infos.latest
    for second, change in enumerate(
        [{"width": 0, "height": 0}, {"binning_x": 100}, {"k": [1.0] * 9}, {"distortion_model": "odd", "d": [1.0]}],
        start=1,
    ):
        info = calibration(second)
        for name, value in change.items():
            setattr(info, name, value)
        cameras.infos["rear"].publish(info)
        bench.wait(lambda: latest["rear"].header.stamp.nanosec == second, "the calibration")  # noqa: B023
        images = {"front": 200 + second, "rear": 200 + second}
        _, status = label_sweep(bench, cameras, sweep(100, stamp=float(second)), second * S, **images)
        assert (status.values["mode"], status.values["cameras"]) == ("teacher", "front"), change
        assert "rear" in status.values["rear.missing"]


def test_unforeseen_image_error_affects_its_camera_only(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher()
    cameras.wait()
    monkeypatch.setattr("xmodelkd_ros.node.camera_frames.image_to_array", lambda msg: 1 / 0)
    labels, status = label_sweep(bench, cameras, sweep(100, stamp=1.0), S, front=200)
    assert (status.message, status.values["mode"], (labels == 255).any()) == ("labelled", "student", False)
    assert status.values["front.missing"].startswith("its image cannot be used: ZeroDivisionError")


def test_receives_latched_calibration_in_every_mode(make_teacher, sweep):
    def publish_once(bench):
        """Publish before there is a subscriber, so that a volatile subscription never receives it."""
        bench.probe.create_publisher(CameraInfo, "once/camera_info", latched()).publish(calibration())

    topic = {"cameras.front.info_topic": "once/camera_info"}
    bench, cameras = make_teacher(mode="student", prepare=publish_once, **topic)
    bench.wait(lambda: "front" in bench.node._processor._camera_infos.latest, "the latched calibration")
    for mode in ("teacher", "student", "teacher"):
        assert bench.node.set_parameters([Parameter("mode", value=mode)])[0].successful
    bench.wait(lambda: cameras.images["front"].get_subscription_count(), "the node's image subscription")
    assert label_sweep(bench, cameras, sweep(100, stamp=1.0), S, front=200)[1].values["mode"] == "teacher"


def test_counts_of_unused_images_survive_a_mode_change(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    for _ in range(2):
        cameras.images["front"].publish(image(S))
    sync = bench.node._processor._sync
    bench.wait(lambda: sync.image_counts.get("front.images_duplicate") == 1, "a duplicate")
    bench.node.set_parameters([Parameter("mode", value="student")])
    assert sync.image_counts.get("front.images_duplicate") == 1


def test_frozen_camera_that_stops_has_no_image(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher(**{"sync.frozen_after": 0.05, "sync.deadline": 0.01})
    cameras.wait()
    for tenth in (10, 11):
        status = label_sweep(bench, cameras, sweep(50, stamp=tenth / 10), tenth * S // 10, front=200)[1]
    assert status.values["front.missing"] == FROZEN
    monkeypatch.setattr("xmodelkd_ros.node.frozen_images._FROZEN_S", 0.0)
    reason = bench.outcome(sweep(50, stamp=1.2)).values["front.missing"]
    assert reason == "no image: the nearest is 0.200 s before the sweep, more than the slop (0.05 s)"


def test_detects_noise_in_luminance_alone():
    """At night images have no colour: in UYVY every other byte is 128, and only the others differ."""
    for width, height in ((1920, 1080), (640, 480), (1280, 960), (1936, 1216)):
        images = np.full((2, height * width * 2), 128, np.uint8)
        images[:, 1::2] = np.random.default_rng(0).integers(0, 30, (2, height * width))
        frozen = FrozenImageDetector()
        assert [frozen.unchanged_ns("front", number * S, data) for number, data in enumerate(images)] == [0, 0]
        assert frozen.unchanged_ns("front", 2 * S, images[1].copy()) == S


def test_camera_with_identical_images_for_a_second_counts_as_missing(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    modes, missing = [], set()
    for tenth in range(10, 24):
        brightness = 200 if tenth < 23 else 201
        status = label_sweep(bench, cameras, sweep(50, stamp=tenth / 10), tenth * S // 10, front=brightness)[1]
        modes.append(status.values["mode"])
        missing.add(status.values.get("front.missing"))
    assert missing == {None, FROZEN}
    assert modes == ["teacher"] * 11 + ["student"] * 2 + ["teacher"]
    bench.wait(lambda: any(d.values.get("front.images_frozen") == "2" for d in bench.diagnostics))


def test_student_labels_if_the_teacher_fails(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher()
    cameras.wait()
    teacher = bench.node._models._teacher
    monkeypatch.setattr(teacher, "segment", lambda *_: 1 / 0)
    labels, status = label_sweep(bench, cameras, sweep(100, stamp=1.0), S, front=200)
    assert set(np.unique(labels)) == {ROAD, BUILDING}
    assert (status.level, status.message, status.values["mode"]) == (DiagnosticStatus.WARN, "labelled", "student")
    assert status.values["front.missing"] == "the teacher failed: ZeroDivisionError('division by zero')"


def test_teacher_that_is_too_slow_rests(make_teacher, sweep, monkeypatch):
    monkeypatch.setattr("xmodelkd_ros.node.teacher_pace._WINDOW", 5)
    bench, cameras = make_teacher(may_rest=True)
    cameras.wait()
    teacher = bench.node._models._teacher
    segment = teacher.segment
    monkeypatch.setattr(teacher, "segment", lambda *a: time.sleep(0.1) or segment(*a))
    modes = []
    for number in range(8):
        msg, stamp_ns = sweep(20, stamp=1 + number / 20), S + number * S // 20
        status = label_sweep(bench, cameras, msg, stamp_ns, front=100 + number)[1]
        modes.append(status.values["mode"])
    assert modes == ["teacher"] * 5 + ["student"] * 3
    assert status.values["front.missing"] == "the teacher is too slow and rests"
    status = bench.outcome(sweep(20, stamp=3.0))
    assert (status.values["mode"], status.values["release_reason"]) == ("student", "flushed"), "waits for no image"
    stamps = iter(range(4, 1000))
    while not any("front: the teacher is too slow" in d.message for d in bench.diagnostics):
        bench.outcome(sweep(20, stamp=float(next(stamps))))


@pytest.fixture
def gated(make_teacher, monkeypatch):
    """Function that makes a bench with a teacher that blocks at a gate.

    It returns the bench, the events started and gate, and a function to send sweeps with images.
    """
    started, gate = threading.Event(), threading.Event()

    def make(may_rest=False):
        bench, cameras = make_teacher(may_rest=may_rest)
        cameras.wait()
        teacher = bench.node._models._teacher
        segment = teacher.segment
        monkeypatch.setattr(teacher, "segment", lambda *a: started.set() or (gate.wait(timeout=20) and segment(*a)))

        def send(make_sweep, *stamps):
            for stamp in stamps:
                cameras.images["front"].publish(image(stamp * S, 100 + stamp))
                bench.points.publish(make_sweep(20, stamp=float(stamp)))

        return bench, started, gate, send

    yield make
    gate.set()


def test_student_labels_sweeps_that_queued_behind_the_teacher(gated, sweep):
    bench, started, gate, send = gated()
    send(sweep, 1)
    bench.wait(started.is_set)
    send(sweep, 2, 3, 4)
    bench.wait(lambda: bench.node._processor._worker.waiting == 3, "waiting sweeps")
    gate.set()
    bench.wait(lambda: len(bench.status) == 4, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher", "student", "student", "teacher"]
    assert bench.status[1].values["front.missing"] == "the teacher is late; the student catches up"


def test_very_slow_teacher_loses_no_sweep_and_rests(gated, sweep):
    bench, started, gate, send = gated(may_rest=True)
    send(sweep, 1)
    bench.wait(started.is_set)
    for stamp in range(2, 14):
        send(sweep, stamp)
        bench.wait(lambda: bench.node._processor._worker.waiting == stamp - 1, "one more waiting sweep")  # noqa: B023
    gate.set()
    bench.wait(lambda: len(bench.status) == 13, "status")
    send(sweep, 14)
    bench.wait(lambda: len(bench.status) == 14, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher"] + ["student"] * 13
    assert bench.status[-1].values["front.missing"] == "the teacher is too slow and rests"
    assert bench.node._processor._worker.capacity == 1, "the student has caught up"


def test_mode_change_loses_no_sweep(gated, sweep):
    bench, started, gate, send = gated(may_rest=True)
    send(sweep, 1)
    bench.wait(started.is_set)
    send(sweep, 2, 3, 4)
    bench.wait(lambda: bench.node._processor._worker.waiting == 3, "waiting sweeps")
    (result,) = bench.node.set_parameters([Parameter("mode", value="student")])
    assert result.successful
    bench.points.publish(sweep(20, stamp=5.0))
    bench.wait(lambda: bench.node._processor._worker.waiting == 4, "one more waiting sweep")
    gate.set()
    bench.wait(lambda: len(bench.status) == 5, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher"] + ["student"] * 4


def test_deactivation_releases_waiting_sweeps(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    bench.points.publish(sweep(100, stamp=1.0))
    bench.wait(lambda: len(bench.node._processor._sync._collector), "a waiting sweep")
    bench.node.trigger_deactivate()
    bench.wait(lambda: len(bench.status) == 1, "its status")
    assert (bench.status[0].values["mode"], bench.status[0].values["release_reason"]) == ("student", "flushed")


def test_clocks_that_differ_are_reported(make_teacher, sweep, capfd):
    """The LiDAR's stamps count from its start, those of the camera are Unix time."""
    bench, cameras = make_teacher(**{"sync.deadline": 0.01})
    cameras.wait()
    expected = "no image: the clocks of LiDAR and cameras differ: images are stamped 1795986770 s (20786.9 days) after"
    for tenth in range(3):
        cameras.images["front"].publish(image(1_795_986_782 * S + tenth * S // 10, 200))
        bench.wait(lambda: bench.node._processor._sync._collector._buffers["front"].newest_ns is not None)
        status = bench.outcome(sweep(50, stamp=12 + tenth / 10))
        assert status.values["front.missing"].startswith(expected)
    bench.wait(lambda: any(expected in d.message for d in bench.diagnostics))
    log = capfd.readouterr().err
    assert f"camera front: {expected}" in log and "synchronise the LiDAR (PTP, GPS)" in log
