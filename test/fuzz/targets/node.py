"""The node: callbacks with mutated messages, parameters at run time and at startup, and TF."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from test.conftest import write_height_model, write_light_model
from test.fuzz import seed_messages
from test.fuzz.invariants import check_message, check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import mutated, size, to_rclpy
from test.fuzz.target import InvariantError, Limits, Target, ensure
from test.fuzz.targets.codec import check_pose
from test.ros import Bench
from xmodelkd_ros.core import errors
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ConfigError, first_line
from xmodelkd_ros.messages.clouds import to_cloud
from xmodelkd_ros.messages.headers import stamp_from_ns, stamp_ns
from xmodelkd_ros.node import parameters
from xmodelkd_ros.node.extrinsics import CameraPoses, TfExtrinsic, transform_cloud
from xmodelkd_ros.node.segment_node import SegmentNode
from xmodelkd_ros.node.teacher_pace import TeacherPace
from xmodelkd_ros.resources import label_map

S, PERIOD_NS = 1_000_000_000, 100_000_000
AHEAD = [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]
_IDS = {"label": range(13), "class_id": [c.id for c in label_map("autoware").classes]}
_NAMES = tuple(definition.name for definition in parameters.definitions(["front"]))
_CHANGEABLE = tuple(name for name in _NAMES if parameters.is_changeable(name))
_EXPECTED = ("labelled", "dropped: bad_cloud", "dropped: out_of_order", "dropped: overload")
_OURS = tuple(name for name in dir(errors) if name.endswith("Error"))


class Models:
    """A small student and teacher in a temporary folder, which is also the user's cache folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.student = write_height_model(self.folder / "height")
        self.teacher = write_light_model(self.folder / "light")
        self._environment = mock.patch.dict(os.environ, XDG_CACHE_HOME=self._folder.name)
        self._environment.start()

    def close(self) -> None:
        """Remove them."""
        self._environment.stop()
        self._folder.cleanup()


def any_value(mutator: Mutator, name: str) -> Any:
    """A random value for a parameter, of any ROS type."""
    texts = ("teacher", "student", "native", "autoware", "car", "road", "fill", "collector", mutator.text())
    kind = mutator.below(9)
    if kind < 3:
        return mutator.real()
    if kind < 5:
        return mutator.pick(texts)
    if kind == 5:
        return [mutator.pick(texts) for _ in range(mutator.below(4))]
    if kind == 6:
        return [mutator.real() for _ in range(mutator.pick((0, 1, 7, 7, 8)))]
    if kind == 7:
        return mutator.integer(64, signed=True)
    return mutator.pick((True, False))


@dataclass
class Episode:
    """Events for a running node in order: parameter changes, camera messages, clouds."""

    changes: list[Parameter[Any]] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    clouds: list[Any] = field(default_factory=list)
    must_label: bool = False


class Callbacks(Target):
    """A node in teacher mode with one camera; its outputs are read from DDS."""

    name = "node"
    limits = Limits(seconds=5.0, memory=16 << 20)
    _clock_ns = 1000 * S
    _SETTINGS = {  # noqa: RUF012
        "mode": "teacher",
        "output.label_set": "native",
        "sync.slop": 0.05,
        "sync.deadline": 0.0,
        "sync.frozen_after": 1.0,
        "cameras.front.time_offset": 0.0,
    }

    def __enter__(self) -> Target:
        self._models = Models()
        given = {"model": str(self._models.student), "teacher_model": str(self._models.teacher), "cameras": ["front"]}
        more = {"cameras.front.extrinsic": AHEAD, "backend": "onnxruntime", "points_reliability": "reliable"}
        self._bench = Bench({**given, **more, **self._SETTINGS}).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bench.close()
        self._models.close()

    def seed_input(self) -> Any:
        # Three in a row: the node then accepts a clock that was set back, whatever the earlier stamps.
        xyz = seed_messages.points(Mutator.of("good", 0, 0), 200)
        clouds = [to_rclpy(seed_messages.sweep(xyz)) for _ in range(3)]
        info = to_rclpy(seed_messages.calibration(Mutator.of("good", 0, 0)))
        return Episode(infos=[info], images=[to_rclpy(seed_messages.picture())], clouds=clouds, must_label=True)

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        if mutator.chance(0.03):
            return self.seed_input(), 10_000
        episode, made = Episode(), []
        for _ in range(mutator.pick((0, 0, 0, 1, 2))):
            name = mutator.pick(_CHANGEABLE)
            episode.changes.append(Parameter(name, value=any_value(mutator, name)))
        for makers, messages in (
            ((seed_messages.calibration,), episode.infos),
            (
                (
                    seed_messages.raw_image,
                    seed_messages.compressed_image,
                    lambda m: seed_messages.picture(S, m.below(256)),
                ),
                episode.images,
            ),
            ((seed_messages.cloud, lambda m: seed_messages.sweep(seed_messages.points(m, 60))), episode.clouds),
        ):
            for _ in range(mutator.pick((0, 1, 1)) if messages is not episode.clouds else 1):
                made.append(mutated(mutator, mutator.pick(makers)))
                messages.append(to_rclpy(made[-1]))
        return episode, sum(map(size, made))

    def execute(self, value: Any) -> None:
        node, statuses = self._bench.node, []
        try:
            for change in value.changes:
                ensure(isinstance(node.set_parameters([change])[0].successful, bool), "no answer to a parameter")
            self._send_camera(value.infos, value.images)
            statuses = [self._sent(cloud) for cloud in value.clouds]
        finally:
            if value.changes:
                node.set_parameters([Parameter(name, value=of) for name, of in self._SETTINGS.items()])
        if value.must_label:
            ensure(statuses[-1] == "labelled", f"a good sweep is not labelled: {statuses}")
        elif statuses[-1:] != ["labelled"]:
            raise CloudError(statuses[-1])

    def _send_camera(self, infos: list[Any], images: list[Any]) -> None:
        processor = self._bench.node._processor
        processor._fallback._pace = TeacherPace()  # sweeps arrive back to back, which would pause the teacher
        self._clock_ns += PERIOD_NS
        for info in infos:
            processor._camera_infos.latest["front"] = info
        for image in images if processor._sync.mode == "teacher" else ():
            self._stamp(image)
            processor._sync._on_image("front", image)

    def _stamp(self, message: Any) -> None:
        """Set the current time, unless the stamp was mutated."""
        if stamp_ns(message.header.stamp) == S:
            message.header.stamp = stamp_from_ns(self._clock_ns, type(message.header.stamp))

    def _sent(self, cloud: Any) -> str:
        """Send a cloud to the node, check the output and return the status message."""
        bench = self._bench
        self._stamp(cloud)
        self._clock_ns += 1
        bench.labels.clear(), bench.status.clear()
        bench.node._processor.on_points(cloud)
        bench.wait(lambda: bench.status, "a status")
        status = bench.status[0]
        outcome = status.message.partition(";")[0]  # warnings about the input follow
        ensure(outcome in _EXPECTED, f"{outcome}: {status.values.get('detail')}")
        if outcome == "labelled":
            _check_missing(status.values)
            bench.wait(lambda: bench.labels, "labels")
            (labelled,) = bench.labels
            name = labelled.fields[3].name
            check_message(cloud, to_cloud(cloud), labelled, name, np.array(_IDS[name]))
        return str(outcome)


def _check_missing(values: dict[str, str]) -> None:
    """Check that no camera was left unused because of an unexpected error."""
    for reason in (text for key, text in values.items() if key.endswith(".missing")):
        unexpected = reason.removeprefix("the teacher failed: ") if reason.startswith("the teacher failed") else ""
        if reason.startswith("its image cannot be used") or (unexpected and not unexpected.startswith(_OURS)):
            raise InvariantError(f"{reason}"[:120])


class Start(Target):
    """A node started with arbitrary parameters: it starts, or reports the reason in one line.

    With ``backend: auto`` the first start measures the back ends and caches the selection. Another model, precision or
    cache folder makes it measure again, which takes seconds.
    """

    name = "node_start"
    limits = Limits(seconds=20.0, memory=256 << 20)  # includes the shipped models

    def __enter__(self) -> Target:
        self._models = Models()
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        rclpy.shutdown(context=self._context)
        self._models.close()

    def seed_input(self) -> Any:
        return self._given(True, "auto")

    def _given(self, cameras: bool, backend: str) -> dict[str, Any]:
        given = {"model": str(self._models.student), "backend": backend}
        more = {"teacher_model": str(self._models.teacher), "cameras": ["front"], "cameras.front.extrinsic": AHEAD}
        return {**given, **more} if cameras else given

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        values = self._given(mutator.chance(0.5), mutator.pick(("auto", "onnxruntime", "onnxruntime")))
        for _ in range(1 + mutator.below(3)):
            name = mutator.pick((*_NAMES, "cameras.rear.extrinsic", "sync.slopp", mutator.text() or "x"))
            values[name] = any_value(mutator, name)
        return values, sum(len(repr(item)) for item in values.items())

    def execute(self, value: Any) -> None:
        overrides = [Parameter(name, value=of) for name, of in value.items()]
        try:
            node = SegmentNode(context=self._context, parameter_overrides=overrides)
        except ParameterException as error:  # handled as a wrong parameter by the node's main
            raise ConfigError(first_line(error).replace("\0", "")) from error
        try:
            if not node.start():
                raise ConfigError("the node does not start")
            if node._processor is not None:
                _label(node)
        finally:
            node.close()


def _label(node: SegmentNode) -> None:
    """Label a sweep with a started node."""
    found: list[Any] = []
    publish = node._outputs.publish
    node._outputs.publish = lambda msg, cloud, labels, options, own_points: (
        found.append((cloud, labels, options)),
        publish(msg, cloud, labels, options, own_points),
    )
    node._processor.on_points(to_rclpy(seed_messages.sweep(seed_messages.points(Mutator.of("start", 0, 0), 50))))
    node.on_deactivate(None)
    ensure(len(found) == 1, "a good sweep did not go out")
    cloud, labels, options = found[0]
    check_segmentation(cloud, labels, np.array([c.id for c in options.labels.classes]))


class _Answers:
    """Stand-in for ``tf2_ros.Buffer``, which is not on pip, with given transforms."""

    def __init__(self, answers: list[TransformStamped]) -> None:
        self._answers = answers

    def _next(self) -> TransformStamped:
        if not self._answers:
            raise LookupError("no transform")
        return self._answers.pop()

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
        return self._next()

    def lookup_transform_full(self, *frames_and_times: Any) -> TransformStamped:
        return self._next()


class Tf(Target):
    """Extrinsics and ego motion from arbitrary transforms."""

    name = "tf"
    _CLOUD = PointCloud(seed_messages.points(Mutator.of("tf", 0, 0), 20))

    def seed_input(self) -> Any:
        return [to_rclpy(seed_messages.transform(Mutator.of("good", 0, i))) for i in range(6)], 0, 0

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        made = [mutated(mutator, lambda m: seed_messages.transform(m, stamp_ns=m.pick((0, S)))) for _ in range(6)]
        stamps = [mutator.integer(32, signed=True) * S + mutator.integer(32) for _ in range(2)]
        if mutator.chance(0.5):
            stamps = [S + mutator.below(S // 4) for _ in range(2)]
        return ([to_rclpy(one) for one in made], *stamps), sum(map(size, made))

    def execute(self, value: Any) -> None:
        answers, sweep_ns, image_ns = value
        answers = list(answers)
        buffer = _Answers(answers)
        pose = TfExtrinsic(buffer, "lidar")("base_link")
        check_pose(pose)
        ensure(len(transform_cloud(self._CLOUD, pose)) == len(self._CLOUD), "points are lost")
        poses = CameraPoses({}, buffer, "odom")
        check_pose(poses.from_lidar("front", "camera", "lidar", image_ns))
        motion = poses.motion("lidar", sweep_ns, image_ns)
        ensure(motion is not None, "no motion")
        check_pose(motion)
