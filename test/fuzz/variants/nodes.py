"""Parameters of the node as users write them, and frames as drivers name them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
import yaml
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter, parameter_value_to_python

from test.fuzz import seed_messages
from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import TYPES
from test.fuzz.target import FolderTarget, Limits, Target, ensure
from test.fuzz.targets.bags import short_drive
from test.fuzz.targets.node import Models
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.node import parameters, unknown_parameters
from xmodelkd_ros.node.extrinsics import Transforms
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.segment_node import SegmentNode

_LETTERS = "abcdefghijklmnopqrstuvwxyz_."
_NAMES = tuple(d.name for d in parameters.definitions(["front"]))
_VALID: dict[str, tuple[Any, ...]] = {
    "filter.drop_classes": ([], [""], ["car"], ["car", "road"]),
    "output.label_set": ("native", "autoware", "outdoor8"),
    "sync.slop": (0.05, 1, 0.01),
    "sync.deadline": (0.0, 0.1, 1),
    "sync.frozen_after": (1.0, 2),
}
"""Values that a user may set while the node runs."""


class NodeTarget(FolderTarget):
    """A target that starts nodes."""

    def __enter__(self) -> Target:
        super().__enter__()
        self.models = Models()
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        rclpy.shutdown(context=self.context)
        self.models.close()
        super().__exit__(kind, error, traceback)


class ParameterFiles(NodeTarget):
    """A misspelt name is reported with the right one, valid values are taken, and a dump gives the same node again."""

    name = "parameter_files"
    limits = Limits(seconds=10.0, memory=256 << 20, traced=False)

    def seed_input(self) -> Any:
        return {"misspelt": "", "name": "", "cameras": True, "changes": []}

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        name = mutator.pick(_NAMES)
        changes = [(key := mutator.pick(list(_VALID)), mutator.pick(_VALID[key])) for _ in range(mutator.below(4))]
        misspelt = _misspelt(mutator, name) if mutator.chance(0.7) else ""
        cameras = mutator.chance(0.5) or name.startswith("cameras.front")
        return {"misspelt": misspelt, "name": name, "cameras": cameras, "changes": changes}, 1000

    def execute(self, value: Any) -> None:
        given: dict[str, Any] = {"model": str(self.models.student)}
        if value["cameras"]:
            given |= {"cameras": ["front"], "cameras.front.extrinsic": [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]}
        if value["misspelt"] in given or value["misspelt"] in _NAMES:
            return
        with self._started(given | ({value["misspelt"]: 1.0} if value["misspelt"] else {})) as node:
            lines = unknown_parameters.warnings(node)
            if not value["misspelt"]:
                ensure(not lines, "a warning of parameters that the node has")
            else:
                meant = (value["name"], "names front, not")  # the latter if the camera's name is misspelt
                found = any(value["misspelt"] in line and any(text in line for text in meant) for line in lines)
                ensure(found, f"{value['name']} misspelt as {value['misspelt']}: {lines}"[:200])
            for name, setting in value["changes"]:
                (result,) = node.set_parameters([Parameter(name, value=setting)])
                ensure(result.successful, f"{name} refuses {setting}: {result.reason}"[:200])
            read, dump = parameters.read(node), _dump(node)
        with self._started(dump) as again:
            ensure(parameters.read(again) == read, "a dump gives another node")

    @contextmanager
    def _started(self, given: Mapping[str, Any]) -> Iterator[SegmentNode]:
        """A node with these values in its parameter file."""
        file = self.folder / "node.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(given)}}))
        node = SegmentNode(context=self.context, cli_args=["--ros-args", "--params-file", str(file)])
        try:
            yield node
        finally:
            node.close()


def _misspelt(mutator: Mutator, name: str) -> str:
    """The name with one letter more, less or other, two letters swapped, without its group, or in capitals."""
    at, letter = mutator.below(len(name) - 1), mutator.pick(_LETTERS[:-2])
    kind = mutator.below(6)
    if kind == 0:
        return name[:at] + letter + name[at:]
    if kind == 1:
        return name[:at] + name[at + 1 :]
    if kind == 2:
        return name[:at] + letter + name[at + 1 :]
    if kind == 3:
        return name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    if kind == 4 and "." in name:
        return name.rpartition(".")[2]
    return name.upper()


def _dump(node: SegmentNode) -> dict[str, Any]:
    """Values of all parameters, through the service that ``ros2 param dump`` and rqt_reconfigure call."""
    names = node.list_parameters([], 0).names
    answer = node._parameter_service._get_parameters_callback(
        GetParameters.Request(names=names), GetParameters.Response()
    )
    ensure(len(answer.values) == len(names), "the parameters cannot be read all at once")
    values = map(parameter_value_to_python, answer.values)
    ours = {name: value for name, value in zip(names, values, strict=True) if name.split(".")[0] not in _OF_RCLPY}
    return {name: value if isinstance(value, (str, bool, int, float)) else list(value) for name, value in ours.items()}


_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides")


_SLASHES = ("", "/", "//", " ")


class FrameNames(NodeTarget):
    """Frames with and without the slash of ROS 1: the extrinsics of the same cameras, in bags and in the node."""

    name = "frame_names"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)
    _EXTRINSIC = (0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 1.0)

    def __enter__(self) -> Target:
        super().__enter__()
        self._messages = list(short_drive())
        self._wanted = self._from_lidar([""] * 99)
        ensure(len(self._wanted) == 1, "the drive has no camera")
        return self

    def seed_input(self) -> Any:
        return [""] * 99, "lidar", "lidar"

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        slashes = [mutator.pick(_SLASHES[:3]) for _ in range(99)]
        return (slashes, mutator.pick(_SLASHES) + "lidar", mutator.pick(_SLASHES) + "lidar"), 1000

    def execute(self, value: Any) -> None:
        slashes, projection_frame, cloud_frame = value
        found = self._from_lidar(slashes)
        ensure(found.keys() == self._wanted.keys(), "a camera is lost")
        for name, pose in found.items():
            ensure(np.array_equal(pose, self._wanted[name]), "another extrinsic in a bag")
        given = {"model": str(self.models.student), "backend": "onnxruntime", "projection_frame": projection_frame}
        overrides = [Parameter(name, value=of) for name, of in given.items()]
        overrides.append(Parameter("projection_extrinsic", value=list(self._EXTRINSIC)))
        node = SegmentNode(context=self.context, parameter_overrides=overrides)
        try:
            models = LoadedModels(node, parameters.read(node), Transforms(node))
            one, other = (models.segment(_CLOUD, frame, None).segmentation for frame in (cloud_frame, projection_frame))
        finally:
            node.close()
        ensure(np.array_equal(one.label, other.label), "the node applies an extrinsic to a cloud that is already there")

    def _from_lidar(self, slashes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Extrinsics of the cameras of a drive, each of whose frames has a prefix in turn."""
        path, prefixes = self.folder / "frames.mcap", iter(itertools.cycle(slashes))
        path.unlink(missing_ok=True)
        with BagWriter(path) as bag:
            for topic, kind in dict.fromkeys((topic, kind) for topic, kind, _, _ in self._messages):
                bag.add_topic(topic, kind, latched="static" in topic)
            for topic, kind, at_ns, data in self._messages:
                bag.write(topic, at_ns, _renamed(TYPES.deserialize_cdr(data, kind), prefixes))
        with BagReader(path) as reader:
            drive = RecordedDrive(reader, "")
            mounted = drive.mounted_cameras(drive.first_sweep().message.header.frame_id)
            return {name: camera.model.from_lidar for name, camera in mounted.items()}


def _renamed(message: Any, prefixes: Iterator[str]) -> Any:
    """The message with a prefix before each frame."""
    for part in getattr(message, "transforms", [message]):
        if hasattr(part, "header"):
            part.header.frame_id = next(prefixes) + part.header.frame_id
        if hasattr(part, "child_frame_id"):
            part.child_frame_id = next(prefixes) + part.child_frame_id
    return message


_CLOUD = PointCloud(seed_messages.points(Mutator.of("frames", 0, 0), 60), np.full(60, 20, np.float32))
