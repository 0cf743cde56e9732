"""Teacher or student: which model labels a sweep, and the fallback to the student."""

from __future__ import annotations

import math
import time
from typing import Any

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.node.camera_frames import CameraFrameBuilder, CameraFrames
from xmodelkd_ros.node.image_input import ImageInput
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.outputs import OutputOptions
from xmodelkd_ros.node.sweep_reporter import SweepReporter
from xmodelkd_ros.node.teacher_pace import TeacherPace
from xmodelkd_ros.node.worker import NewestWinsWorker
from xmodelkd_ros.segmentation.image_gaps import CLOCKS_DIFFER
from xmodelkd_ros.segmentation.image_matching import MatchedSweep
from xmodelkd_ros.segmentation.pipeline import Result, Stopwatch

_TEACHER_QUEUE = 20
"""Queue capacity while the teacher runs, and until the student has caught up."""
_CATCH_UP = 3.0
"""Maximum duration of catching up, in multiples of the teacher's duration. After that the newest sweep wins again."""


class TeacherFallback:
    """Labels sweeps with the teacher in teacher mode, and with the student whenever the teacher cannot.

    The student takes over where no camera has a usable image, where the teacher fails, where it is too slow
    (see :class:`TeacherPace`), and for sweeps that queued while the teacher ran.

    Args:
        models: the loaded models.
        builder: builds the camera frames of sweeps.
        sync: source of the mode and of the frozen cameras.
        worker: its queue is enlarged while the teacher runs and until the student has caught up.
        reporter: logs the fallback and its reason.
    """

    def __init__(
        self,
        models: LoadedModels,
        builder: CameraFrameBuilder,
        sync: ImageInput,
        worker: NewestWinsWorker[Any],
        reporter: SweepReporter,
    ) -> None:
        self._models, self._builder, self._sync, self._worker = models, builder, sync, worker
        self._reporter = reporter
        self._pace = TeacherPace()
        self._catch_up_until_s = -math.inf

    def sweep_received(self, now_s: float) -> bool:
        """Record the arrival of a sweep; returns whether it should wait for images."""
        self._pace.add_arrival(now_s)
        return not self._pace.is_resting(now_s)

    def sweep_dropped(self, now_s: float) -> None:
        """Rest the teacher after a sweep was dropped because of overload."""
        if self._sync.mode == "teacher" and not self._pace.is_resting(now_s):
            self._pace.rest(now_s)
            self._warn("teacher_too_slow", "a sweep was dropped")

    def sweep_published(self, mode: str, duration_s: float, now_s: float) -> None:
        """Record how long a sweep took, and rest the teacher if it is too slow."""
        if mode == "teacher":
            self._add_duration(duration_s, now_s)

    def _add_duration(self, duration_s: float, now_s: float) -> None:
        if self._pace.add_duration(duration_s, now_s):
            period_ms = self._pace.period_s * 1e3
            self._warn("teacher_too_slow", f"{duration_s * 1e3:.0f} ms per sweep, one every {period_ms:.0f} ms")

    def segment(
        self,
        matched: MatchedSweep[Any, Any],
        cloud: PointCloud,
        frame_id: str,
        options: OutputOptions,
        clock: Stopwatch,
    ) -> tuple[CameraFrames, Result]:
        """Label a sweep; returns the camera frames that were used, and the labels.

        Raises:
            ExtrinsicError, CloudError, BackendError: see :meth:`LoadedModels.segment`.
        """
        teacher_mode = self._sync.mode == "teacher"
        skip_reason = self._skip_reason() if teacher_mode else ""
        use_teacher = teacher_mode and not skip_reason
        self._worker.capacity = _TEACHER_QUEUE if use_teacher or self._is_catching_up() else 1
        frames = CameraFrames()
        if use_teacher:
            start_s = time.monotonic()
            frames, result = self._try_teacher(matched, cloud, frame_id, options, clock)
            end_s = time.monotonic()
            self._catch_up_until_s = end_s + _CATCH_UP * (end_s - start_s)
            if result is not None:
                return frames, result
            self._add_duration(end_s - start_s, end_s)  # the student's time comes on top
        elif teacher_mode:
            frames = self._builder.unavailable(skip_reason)
        result = self._models.segment(cloud, frame_id, options.translation)
        clock.milliseconds.update(result.stages_ms)
        return frames, result

    def _skip_reason(self) -> str:
        """Why the teacher is not used for the next sweep in teacher mode; empty if it is."""
        if self._pace.is_resting(time.monotonic()):
            return "the teacher is too slow and rests"
        return "the teacher is late; the student catches up" if self._worker.waiting else ""

    def _is_catching_up(self) -> bool:
        if not self._worker.waiting:
            self._catch_up_until_s = -math.inf
        return time.monotonic() <= self._catch_up_until_s

    def _try_teacher(
        self,
        matched: MatchedSweep[Any, Any],
        cloud: PointCloud,
        frame_id: str,
        options: OutputOptions,
        clock: Stopwatch,
    ) -> tuple[CameraFrames, Result | None]:
        """Camera frames and the teacher's labels; None without a usable camera frame or after an error."""
        frames = self._builder.unavailable("the teacher failed")
        try:
            with clock("decode_images"):
                frames = self._builder.build(matched, frame_id).mark_frozen(self._sync.frozen_cameras)
            for camera, reason in frames.missing.items():
                if CLOCKS_DIFFER in reason:
                    self._reporter.warn(f"{camera}.clocks_differ", f"camera {camera}: {reason}")
            if not frames.used:
                return frames, None
            result = self._models.segment(cloud, frame_id, options.translation, frames.frames)
        except Exception as error:
            self._warn("teacher_failed", repr(error))
            return frames.discard(f"the teacher failed: {error!r}"), None
        if result.invalid < len(cloud):  # without valid points no camera has any in view
            frames = frames.drop_blind(result.visible_counts)
        if not frames.used:
            return frames, None
        clock.milliseconds.update(result.stages_ms)
        return frames, result

    def _warn(self, kind: str, text: str) -> None:
        self._reporter.warn(kind, f"falling back to the student, {kind}: {text}")
