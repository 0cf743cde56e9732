"""Teacher mode over real DDS: a sweep waits for its images, and gets labels whatever the cameras do."""

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
# The camera looks along the LiDAR's +x: optical x = -y, y = -z, z = x.
AHEAD = [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]
BEHIND = [0.0, 0.0, 0.0, 0.5, 0.5, -0.5, 0.5]


def header(stamp_ns, frame="camera"):
    made = Header(frame_id=frame)
    made.stamp = stamp_from_ns(stamp_ns, type(made.stamp))
    return made


def picture(stamp_ns, brightness=200, shape=(HEIGHT, WIDTH)):
    data = np.full((*shape, 3), brightness, np.uint8).tobytes()
    return Image(
        header=header(stamp_ns), height=shape[0], width=shape[1], encoding="rgb8", step=3 * shape[1], data=data
    )


def calibration(stamp_ns=0, focal=32.0):
    k = [focal, 0.0, WIDTH / 2 - 0.5, 0.0, focal, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0]
    return CameraInfo(header=header(stamp_ns), height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", k=k)


class Cameras:
    """What a bench with cameras has more."""

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
        """Until the node listens, and knows the calibrations."""
        publishers = [*self.images.values(), *self.infos.values()]
        self.bench.wait(lambda: all(p.get_subscription_count() for p in publishers), "the node's subscriptions")
        for publisher in self.infos.values():
            publisher.publish(calibration())
        infos = self.bench.node._processor._camera_infos.latest
        self.bench.wait(lambda: set(infos) == set(self.infos), "calibrations")
        return self


@pytest.fixture
def make_teacher(make_bench, light_model):
    """A bench in teacher mode, active, with its cameras."""

    def make(names=("front",), image_type=Image, **parameters):
        poses = {f"cameras.{name}.extrinsic": pose for name, pose in zip(names, (AHEAD, BEHIND), strict=False)}
        kinds = {f"cameras.{name}.compressed": image_type is CompressedImage for name in names}
        given = {"teacher_model": str(light_model), "mode": "teacher", "cameras": list(names), "sync.deadline": 0.3}
        bench = make_bench(**{**given, **poses, **kinds, **parameters}).start()
        return bench, Cameras(bench, names, image_type)

    return make


def ahead(msg):
    """Which points the camera sees: 90 degrees wide, half as high."""
    x, y, z = to_cloud(msg).xyz.T
    return (x > 0.1) & (np.abs(y) < x) & (np.abs(z) < x / 2)


def looked(bench, cameras, msg, stamp_ns, **brightness):
    """Publish images, and then their sweep; its labels and its status."""
    for name, value in brightness.items():
        cameras.images[name].publish(picture(stamp_ns, value))
    labelled = bench.segment(msg)
    bench.wait(lambda: len(bench.status) >= len(bench.labels), "a status")
    return read_field(labelled, "label"), bench.status[-1]


def test_the_teacher_sees_what_is_bright(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    msg = sweep(1000, stamp=1.0)
    labels, status = looked(bench, cameras, msg, S, front=200)
    seen = ahead(msg)
    assert 50 < seen.sum() < 950
    assert (labels[seen] == CAR).mean() > 0.9, "but those that hide behind others"
    assert set(np.unique(labels[~seen])) == {ROAD, BUILDING}
    assert (status.level, status.values["mode"], status.values["cameras"]) == (DiagnosticStatus.OK, "teacher", "front")
    assert status.values["release_reason"] == "complete"
    stages = [name.removesuffix("_ms") for name in status.values if name.endswith("_ms")]
    assert stages == [
        *("latency", "decode", "decode_images", "project", "normalize", "views", "images", "infer", "decide", "publish")
    ]


def test_without_an_image_the_student_labels_at_the_deadline(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    start = time.monotonic()
    labels, status = looked(bench, cameras, sweep(100, stamp=1.0), S)
    assert 0.3 < time.monotonic() - start < 1.0
    assert set(np.unique(labels)) == {ROAD, BUILDING}
    assert (status.level, status.message, status.values["mode"]) == (DiagnosticStatus.WARN, "labelled", "student")
    assert (status.values["front.missing"], status.values["release_reason"]) == ("no image", "deadline")
    bench.wait(lambda: any("without cameras front: no image" in d.message for d in bench.diagnostics))


def test_of_two_cameras_the_one_that_is_there_is_used(make_teacher, sweep):
    bench, cameras = make_teacher(("front", "rear"))
    cameras.wait()
    msg = sweep(1000, stamp=1.0)
    labels, status = looked(bench, cameras, msg, S, rear=200)
    assert (status.values["mode"], status.values["cameras"]) == ("teacher", "rear")
    behind = to_cloud(msg).xyz[:, 0] < 0
    assert (labels == CAR).any() and not (labels[~behind] == CAR).any()


def test_a_camera_that_sees_no_point_is_said(make_teacher, sweep):
    """Its parameters are in millimetres, say: it would look ahead from far before the vehicle."""
    bench, cameras = make_teacher(("front", "rear"), **{"cameras.rear.extrinsic": [10_000.0, *AHEAD[1:]]})
    cameras.wait()
    _, status = looked(bench, cameras, sweep(1000, stamp=1.0), S, front=200, rear=200)
    assert (status.level, status.values["mode"], status.values["cameras"]) == (
        DiagnosticStatus.WARN,
        "teacher",
        "front",
    )
    assert status.values["rear.missing"] == NO_POINTS
    bench.wait(lambda: any(f"without cameras rear: {NO_POINTS}" in d.message for d in bench.diagnostics))


def test_where_no_camera_sees_a_point_the_student_labels(make_teacher, sweep):
    bench, cameras = make_teacher(("front",), **{"cameras.front.extrinsic": [10_000.0, *AHEAD[1:]]})
    cameras.wait()
    labels, status = looked(bench, cameras, sweep(1000, stamp=1.0), S, front=200)
    assert (status.values["mode"], status.values["cameras"]) == ("student", "")
    assert status.values["front.missing"] == NO_POINTS
    assert CAR not in labels


def test_an_empty_sweep_says_nothing_of_the_cameras(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    labels, status = looked(bench, cameras, sweep(0, stamp=1.0), S, front=200)
    assert len(labels) == 0
    assert (status.level, status.values["cameras"]) == (DiagnosticStatus.OK, "front")


def test_an_image_that_comes_late_is_waited_for(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    bench.points.publish(sweep(100, stamp=1.0))
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        bench.executor.spin_once(timeout_sec=0.01)
    assert not bench.labels
    cameras.images["front"].publish(picture(S + 10 * MS))
    bench.wait(lambda: bench.status, "a status")
    assert (bench.status[0].values["mode"], bench.status[0].values["release_reason"]) == ("teacher", "complete")


def test_an_offset_brings_a_camera_to_the_lidars_clock(make_teacher, sweep):
    bench, cameras = make_teacher(**{"cameras.front.time_offset": -5.0})
    cameras.wait()
    cameras.images["front"].publish(picture(6 * S))
    assert bench.outcome(sweep(100, stamp=1.0)).values["mode"] == "teacher"
    (result,) = bench.node.set_parameters([Parameter("cameras.front.time_offset", value=0.0)])
    assert result.successful
    cameras.images["front"].publish(picture(2 * S))
    assert bench.outcome(sweep(100, stamp=2.0)).values["mode"] == "teacher"


def test_compressed_images(make_teacher, sweep):
    cv2 = pytest.importorskip("cv2")
    bench, cameras = make_teacher(image_type=CompressedImage)
    cameras.wait()
    data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 200, np.uint8))[1].tobytes()
    cameras.images["front"].publish(CompressedImage(header=header(S), format="jpeg", data=data))
    msg = sweep(1000, stamp=1.0)
    labels = read_field(bench.segment(msg), "label")
    assert (labels[ahead(msg)] == CAR).mean() > 0.9


def test_the_mode_changes_while_the_node_runs(make_teacher, sweep):
    bench, cameras = make_teacher(mode="student")
    assert not cameras.images["front"].get_subscription_count()
    assert bench.outcome(sweep(100, stamp=1.0)).values["mode"] == "student"
    (result,) = bench.node.set_parameters([Parameter("mode", value="teacher")])
    assert result.successful
    cameras.wait()
    assert looked(bench, cameras, sweep(100, stamp=2.0), 2 * S, front=200)[1].values["mode"] == "teacher"
    bench.points.publish(sweep(100, stamp=3.0))  # waits for its image
    bench.wait(lambda: len(bench.node._processor._sync._collector), "a sweep that waits")
    (result,) = bench.node.set_parameters([Parameter("mode", value="student")])
    bench.wait(lambda: len(bench.labels) == 3, "the sweep that waited")
    bench.wait(lambda: not cameras.images["front"].get_subscription_count(), "the end of the subscriptions")
    assert bench.outcome(sweep(100, stamp=4.0)).values["mode"] == "student"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            Image(header=header(S), height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH, data=b"1"),
            "cannot decode",
        ),
        (Image(header=header(S)), "cannot decode"),
        (Image(header=header(S), encoding="rgb8"), "image 'rgb8 0x0' is empty"),
        (picture(S, shape=(64, 64)), "is 64x64, but the camera is calibrated for 64x32"),
        (Image(header=header(S), height=2, width=2, encoding="32FC1", step=8, data=bytes(16)), "is a depth image"),
    ],
)
def test_a_broken_image_costs_its_camera_only(make_teacher, sweep, broken, reason):
    bench, cameras = make_teacher()
    cameras.wait()
    cameras.images["front"].publish(broken)
    status = bench.outcome(sweep(100, stamp=1.0))
    assert (status.message, status.values["mode"]) == ("labelled", "student")
    assert reason in status.values["front.missing"]


def test_a_camera_without_calibration_is_said(make_teacher, sweep):
    bench, cameras = make_teacher()
    bench.wait(lambda: all(p.get_subscription_count() for p in cameras.images.values()), "subscriptions")
    cameras.images["front"].publish(picture(S))
    assert bench.outcome(sweep(100, stamp=1.0)).values["front.missing"] == "no CameraInfo on /front/camera_info"
    cameras.wait()
    cameras.infos["front"].publish(calibration(focal=0.0))
    bench.wait(lambda: bench.node._processor._camera_infos.latest["front"].k[0] == 0, "the calibration")
    cameras.images["front"].publish(picture(2 * S))
    assert "'front' is not calibrated" in bench.outcome(sweep(100, stamp=2.0)).values["front.missing"]
    cameras.infos["front"].publish(calibration())
    bench.wait(lambda: bench.node._processor._camera_infos.latest["front"].k[0] > 0, "the calibration")
    cameras.images["front"].publish(picture(3 * S, 201))
    assert bench.outcome(sweep(100, stamp=3.0)).values["mode"] == "teacher"


@pytest.mark.parametrize(
    "change",
    [{"width": 0, "height": 0}, {"binning_x": 100}, {"k": [1.0] * 9}, {"distortion_model": "odd", "d": [1.0]}],
)
def test_a_calibration_that_cannot_be_used_costs_its_camera_only(make_teacher, sweep, change):
    bench, cameras = make_teacher(names=("front", "rear"))
    cameras.wait()
    info = calibration()
    for name, value in change.items():
        setattr(info, name, value)
    cameras.infos["rear"].publish(info)
    changed = next(iter(change))
    known = bench.node._processor._camera_infos.latest
    bench.wait(lambda: np.array_equal(getattr(known["rear"], changed), change[changed]), "the calibration")
    _, status = looked(bench, cameras, sweep(100, stamp=1.0), S, front=200, rear=200)
    assert (status.values["mode"], status.values["cameras"]) == ("teacher", "front")
    assert "rear" in status.values["rear.missing"]


def test_what_nobody_thought_of_costs_its_camera_only(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher()
    cameras.wait()
    monkeypatch.setattr("xmodelkd_ros.node.camera_frames.image_to_array", lambda msg: 1 / 0)
    labels, status = looked(bench, cameras, sweep(100, stamp=1.0), S, front=200)
    assert (status.message, status.values["mode"], (labels == 255).any()) == ("labelled", "student", False)
    assert status.values["front.missing"].startswith("its image cannot be used: ZeroDivisionError")


def test_a_calibration_that_was_sent_once_is_known_in_every_mode(make_teacher, sweep):
    bench, cameras = make_teacher(mode="student", **{"cameras.front.info_topic": "once/camera_info"})
    # Before anyone listens to it, by a publisher that keeps it.
    publisher = bench.probe.create_publisher(CameraInfo, "once/camera_info", latched())
    publisher.publish(calibration())
    bench.wait(lambda: "front" in bench.node._processor._camera_infos.latest, "what was sent once")
    for mode in ("teacher", "student", "teacher"):
        assert bench.node.set_parameters([Parameter("mode", value=mode)])[0].successful
    bench.wait(lambda: cameras.images["front"].get_subscription_count(), "the node's subscription")
    assert looked(bench, cameras, sweep(100, stamp=1.0), S, front=200)[1].values["mode"] == "teacher"


def test_what_was_left_unused_stays_counted_when_the_mode_changes(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    for _ in range(2):
        cameras.images["front"].publish(picture(S))
    sync = bench.node._processor._sync
    bench.wait(lambda: sync.image_counts.get("front.images_duplicate") == 1, "a duplicate")
    bench.node.set_parameters([Parameter("mode", value="student")])
    assert sync.image_counts.get("front.images_duplicate") == 1


def test_a_camera_that_froze_and_fell_silent_has_no_image(make_teacher, sweep, monkeypatch):
    monkeypatch.setattr("xmodelkd_ros.node.frozen_images._FROZEN_S", 0.2)
    bench, cameras = make_teacher(**{"sync.frozen_after": 0.05, "sync.deadline": 0.01})
    cameras.wait()
    for tenth in (10, 11):
        status = looked(bench, cameras, sweep(50, stamp=tenth / 10), tenth * S // 10, front=200)[1]
    assert status.values["front.missing"] == FROZEN
    time.sleep(0.25)
    assert bench.outcome(sweep(50, stamp=1.2)).values["front.missing"] == "no image"


def test_noise_in_the_brightness_alone_is_no_frozen_image():
    """At night a camera has no colours: in UYVY every other byte is 128, and only the others differ."""
    for width, height in ((1920, 1080), (640, 480), (1280, 960), (1936, 1216)):
        images = np.full((2, height * width * 2), 128, np.uint8)
        images[:, 1::2] = np.random.default_rng(0).integers(0, 30, (2, height * width))
        frozen = FrozenImageDetector()
        assert [frozen.unchanged_ns("front", number * S, data) for number, data in enumerate(images)] == [0, 0]
        assert frozen.unchanged_ns("front", 2 * S, images[1].copy()) == S


def test_a_camera_that_sends_one_image_for_more_than_a_second_counts_as_missing(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    modes, missing = [], set()
    for tenth in range(10, 26):
        brightness = 200 if tenth < 25 else 201
        status = looked(bench, cameras, sweep(50, stamp=tenth / 10), tenth * S // 10, front=brightness)[1]
        modes.append(status.values["mode"])
        missing.add(status.values.get("front.missing"))
    assert missing == {None, FROZEN}
    assert modes == ["teacher"] * 11 + ["student"] * 4 + ["teacher"]
    bench.wait(lambda: any(d.values.get("front.images_frozen") == "4" for d in bench.diagnostics))


def test_where_the_teacher_fails_the_student_labels(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher()
    cameras.wait()
    teacher = bench.node._models._teacher
    monkeypatch.setattr(teacher, "segment", lambda *_: 1 / 0)
    labels, status = looked(bench, cameras, sweep(100, stamp=1.0), S, front=200)
    assert set(np.unique(labels)) == {ROAD, BUILDING}
    assert (status.level, status.message, status.values["mode"]) == (DiagnosticStatus.WARN, "labelled", "student")
    assert status.values["front.missing"] == "the teacher failed: ZeroDivisionError('division by zero')"


def test_a_teacher_that_is_too_slow_rests(make_teacher, sweep, monkeypatch):
    bench, cameras = make_teacher()
    cameras.wait()
    teacher = bench.node._models._teacher
    segment = teacher.segment
    monkeypatch.setattr(teacher, "segment", lambda *a: time.sleep(0.05) or segment(*a))
    modes = []
    for number in range(24):
        status = looked(bench, cameras, sweep(20, stamp=1 + number / 20), S + number * S // 20, front=100 + number)[1]
        modes.append(status.values["mode"])
    assert modes == ["teacher"] * 20 + ["student"] * 4
    assert status.values["front.missing"] == "the teacher is too slow and rests"
    start = time.monotonic()
    assert bench.outcome(sweep(20, stamp=3.0)).values["mode"] == "student"
    assert time.monotonic() - start < 0.3, "it waits for no image"
    stamps = iter(range(4, 1000))
    while not any("front: the teacher is too slow" in d.message for d in bench.diagnostics):
        bench.outcome(sweep(20, stamp=float(next(stamps))))


@pytest.fixture
def gated(make_teacher, monkeypatch):
    """A bench whose teacher waits at a gate, which it has come to, with its first sweep."""
    bench, cameras = make_teacher()
    cameras.wait()
    teacher, begun, gate = bench.node._models._teacher, threading.Event(), threading.Event()
    segment = teacher.segment
    monkeypatch.setattr(teacher, "segment", lambda *a: begun.set() or (gate.wait(timeout=20) and segment(*a)))

    def send(make, *stamps):
        for stamp in stamps:
            cameras.images["front"].publish(picture(stamp * S, 100 + stamp))
            bench.points.publish(make(20, stamp=float(stamp)))

    yield bench, begun, gate, send
    gate.set()


def test_sweeps_that_wait_for_a_late_teacher_are_labelled_by_the_student(gated, sweep):
    bench, begun, gate, send = gated
    bench.node._processor._fallback._pace.add_duration = lambda *_: False
    send(sweep, 1)
    bench.wait(begun.is_set)
    send(sweep, 2, 3, 4)
    bench.wait(lambda: bench.node._processor._worker.waiting == 3, "sweeps that wait")
    gate.set()
    bench.wait(lambda: len(bench.status) == 4, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher", "student", "student", "teacher"]
    assert bench.status[1].values["front.missing"] == "the teacher is late; the student catches up"


def test_a_teacher_that_takes_very_long_loses_no_sweep_and_rests(gated, sweep):
    bench, begun, gate, send = gated
    send(sweep, 1)
    bench.wait(begun.is_set)
    for stamp in range(2, 14):
        send(sweep, stamp)
        bench.wait(lambda: bench.node._processor._worker.waiting == stamp - 1, "one more that waits")  # noqa: B023
    gate.set()
    bench.wait(lambda: len(bench.status) == 13, "status")
    send(sweep, 14)
    bench.wait(lambda: len(bench.status) == 14, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher"] + ["student"] * 13
    assert bench.status[-1].values["front.missing"] == "the teacher is too slow and rests"
    assert bench.node._processor._worker.capacity == 1, "all is caught up with"


def test_a_change_of_mode_loses_no_sweep(gated, sweep):
    bench, begun, gate, send = gated
    send(sweep, 1)
    bench.wait(begun.is_set)
    send(sweep, 2, 3, 4)
    bench.wait(lambda: bench.node._processor._worker.waiting == 3, "sweeps that wait")
    (result,) = bench.node.set_parameters([Parameter("mode", value="student")])
    assert result.successful
    bench.points.publish(sweep(20, stamp=5.0))
    bench.wait(lambda: bench.node._processor._worker.waiting == 4, "one more")
    gate.set()
    bench.wait(lambda: len(bench.status) == 5, "status")
    assert [status.values["mode"] for status in bench.status] == ["teacher"] + ["student"] * 4


def test_what_waits_goes_out_when_the_node_is_deactivated(make_teacher, sweep):
    bench, cameras = make_teacher()
    cameras.wait()
    bench.points.publish(sweep(100, stamp=1.0))
    bench.wait(lambda: len(bench.node._processor._sync._collector), "a sweep that waits")
    bench.node.trigger_deactivate()
    bench.wait(lambda: len(bench.status) == 1, "its status")
    assert (bench.status[0].values["mode"], bench.status[0].values["release_reason"]) == ("student", "flushed")
