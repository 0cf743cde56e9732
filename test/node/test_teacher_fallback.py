"""Choice between teacher and student, without a node."""

import time
from types import SimpleNamespace

import pytest

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.node.camera_frames import CameraFrames
from xmodelkd_ros.node.teacher_fallback import TeacherFallback
from xmodelkd_ros.segmentation.pipeline import Result, Stopwatch


@pytest.fixture
def setup():
    """A fallback in teacher mode, whose cameras have no image, and its worker and warnings."""
    worker, warnings = SimpleNamespace(waiting=0, capacity=1), []
    frames = CameraFrames((None,), {"front": "no image"})
    builder = SimpleNamespace(build=lambda *_: frames, unavailable=lambda reason: CameraFrames((), {"front": reason}))
    models = SimpleNamespace(segment=lambda *_: Result(Segmentation.unlabelled(3), "student", {}, 0))
    sync = SimpleNamespace(mode="teacher", frozen_cameras=frozenset())
    reporter = SimpleNamespace(warn=lambda kind, text: warnings.append(kind))
    fallback = TeacherFallback(models, builder, sync, worker, reporter)
    options = SimpleNamespace(translation=None)
    return fallback, worker, warnings, lambda: fallback.segment(None, [0] * 3, "lidar", options, Stopwatch())[0]


def test_queue_is_long_while_the_student_catches_up(setup):
    fallback, worker, _, segment = setup
    segment()
    assert worker.capacity == 20, "the teacher runs"
    worker.waiting, fallback._catch_up_until_s = 3, float("inf")
    assert segment().missing["front"] == "the teacher is late; the student catches up"
    assert worker.capacity == 20, "the student catches up"
    fallback._catch_up_until_s = 0.0
    segment()
    assert worker.capacity == 1, "catching up takes too long"


def test_resting_is_the_reason_while_sweeps_wait(setup):
    fallback, worker, _, segment = setup
    fallback._pace.rest(time.monotonic())
    worker.waiting = 2
    assert segment().missing["front"] == "the teacher is too slow and rests"


@pytest.mark.parametrize("fails", [True, False])
def test_teacher_whose_slow_results_are_not_used_rests(setup, fails):
    """It takes 0.1 s, at a sweep every 10 ms, and then fails, or no camera has a point in view."""
    fallback, _, warnings, segment = setup
    for number in range(5):
        fallback.sweep_received(number * 0.01)
    models, builder = fallback._models, fallback._builder
    frame = SimpleNamespace(camera=SimpleNamespace(name="front"))
    builder.build = lambda *_: CameraFrames((frame,), {})
    student = models.segment

    def slow(cloud, frame_id, translation, frames=()):
        if not frames:
            return student()
        time.sleep(0.1)
        if fails:
            raise ValueError("no luck")
        return Result(Segmentation.unlabelled(3), "teacher", {}, 0, visible_counts=(0,))

    models.segment = slow
    assert set(segment().missing) == {"front"}
    assert "teacher_too_slow" in warnings
    assert segment().missing["front"] == "the teacher is too slow and rests"


def test_teacher_rests_after_a_dropped_sweep(setup):
    fallback, _, warnings, _ = setup
    assert fallback.sweep_received(1.0), "waits for images"
    fallback.sweep_dropped(1.0)
    assert not fallback.sweep_received(1.1) and warnings == ["teacher_too_slow"]
    fallback.sweep_dropped(1.2)
    assert len(warnings) == 1, "it rests already"
