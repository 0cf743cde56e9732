"""ROS parameters of the segmenter, defined by the fields of two dataclasses: declared, read and validated together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.usable_points import checked_ego_box, checked_min_range
from xmodelkd_ros.inference.backend import BACKENDS, PRECISIONS
from xmodelkd_ros.messages.headers import frame_name
from xmodelkd_ros.messages.topics import camera_topics

_UNIT_NORM_TOLERANCE = 0.01
"""Maximum deviation of a quaternion's norm from 1: accepts rounded digits, rejects Euler angles."""

NO_NAMES, NO_POSE = ("",), (0.0,) * 7
"""Values of arrays that are not set. ROS reads no empty list from a file, so that a dump of one could not be loaded."""


@dataclass(frozen=True)
class _Parameter:
    """Definition of a ROS parameter.

    Attributes:
        default: default value, which also gives the type; of an array a tuple.
        description: text of the descriptor.
        group: prefix of the name, if any.
        changeable: whether it may be set while the node runs.
        choices: allowed values of a string; by default those of the field's Literal type.
        range: allowed range of a number.
        name: full name in ROS, filled in by :func:`_definitions`.
        other_name: another name under which its value is read at start.
    """

    default: Any
    description: str
    group: str = ""
    changeable: bool = False
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    name: str = ""
    other_name: str = ""

    def declare(self, node: Node) -> None:
        descriptor = ParameterDescriptor(
            description=self.description,
            additional_constraints=f"one of {', '.join(self.choices)}" if self.choices else "",
            read_only=not self.changeable,
        )
        if self.range:
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.range[0], to_value=self.range[1])]
        value = self.convert(self._start_value(start_values(node)))
        default = self.convert(None)
        if _type_of(value) == _type_of(default):
            node.declare_parameter(self.name, value, descriptor, ignore_override=True)
        else:
            node.declare_parameter(self.name, default, descriptor)  # raises: the override has another type

    def _start_value(self, given: Mapping[str, Any]) -> Any:
        """The value given at start under either name, None without one.

        Raises:
            ConfigError: the two names have different values; which file comes later is not known.
        """
        if not self.other_name:
            return given.get(self.name)
        values = {name: self.convert(given[name]) for name in (self.name, self.other_name) if name in given}
        first, *others = [value for value in values.values() if value != list(self.default)] or [None]
        if others and others[0] != first:
            raise ConfigError(
                f"{self.name} is {first} and {self.other_name} is {others[0]}, two names of one parameter; give one"
            )
        return first

    def convert(self, value: Any) -> Any:
        """A value in the parameter's type, where it is clear what is meant; any other value unchanged.

        Files and ``ros2 param set`` give an empty list no type or a wrong one, a number without a decimal point is an
        integer, and 1e-3 is text in YAML. None is the default.
        """
        if not isinstance(self.default, tuple):
            if value is None:
                return self.default
            return _number(value) if isinstance(self.default, float) else value
        if isinstance(value, str) and isinstance(self.default[0], str):
            return [value]
        if value is None or isinstance(value, str) or not isinstance(value, Iterable):
            return list(self.default) if value is None else value
        values = list(value) or list(self.default)
        is_float = isinstance(self.default[0], float) and all(type(one) in (int, float) for one in values)
        return [float(one) for one in values] if is_float else values

    def value(self, node: Node, changes: Mapping[str, Any]) -> Any:
        """Return the value that the node has, or is about to get.

        Raises:
            ConfigError: the value is not one of the choices.
        """
        value = changes[self.name] if self.name in changes else node.get_parameter(self.name).value
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} is '{value}'; it must be one of {', '.join(self.choices)}")
        if not isinstance(self.default, tuple):
            return value
        return tuple(value) if any(value) else ()


def _number(value: Any) -> Any:
    """The value as a float if it is a whole number, or text that is a number; otherwise unchanged."""
    try:
        number = float(value) if type(value) in (int, str) else math.nan
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _parameter(default: Any, description: str, **more: Any) -> Any:
    """Field of a parameter class; see :class:`_Parameter` for the arguments."""
    return field(metadata={"parameter": _Parameter(default, description, **more)})


def _definitions(parameters: type, camera: str = "") -> Iterator[_Parameter]:
    """Definitions of a parameter class, those of a camera with its name filled in."""
    types = get_type_hints(parameters)
    for described in fields(parameters):
        if "parameter" in described.metadata:
            defined: _Parameter = described.metadata["parameter"]
            group, default, kind = defined.group.format(camera=camera), defined.default, types[described.name]
            yield replace(
                defined,
                name=f"{group}.{described.name}" if group else described.name,
                default=default.format(camera=camera) if isinstance(default, str) else default,
                choices=get_args(kind) if get_origin(kind) is Literal else defined.choices,
            )


_CAMERA_GROUP = "cameras.{camera}"


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera, with the full names of its topics."""

    name: str
    image_topic: str = _parameter("{camera}/image_raw", "Topic of its images.", group=_CAMERA_GROUP)
    info_topic: str = _parameter(
        "", "Topic of its CameraInfo. Empty: camera_info in the namespace of image_topic.", group=_CAMERA_GROUP
    )
    compressed: bool = _parameter(
        False, "Whether to subscribe to CompressedImage on image_topic/compressed.", group=_CAMERA_GROUP
    )
    rectified: bool = _parameter(
        False,
        "Whether the images are rectified (image_rect): no distortion, projected with the CameraInfo's P.",
        group=_CAMERA_GROUP,
    )
    time_offset: float = _parameter(
        0.0,
        "Seconds to add to image stamps to convert them to the LiDAR's clock.",
        group=_CAMERA_GROUP,
        changeable=True,
        range=(-10.0, 10.0),
    )
    extrinsic: tuple[float, ...] = _parameter(
        NO_POSE,
        "x y z qx qy qz qw of the LiDAR's frame in the camera's optical frame (p_camera = T p_lidar). All zero: TF.",
        group=_CAMERA_GROUP,
    )

    def __post_init__(self) -> None:
        _check_pose(f"cameras.{self.name}.extrinsic", self.extrinsic)


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node, validated as far as possible without the model.

    Each field is a parameter, with its group and descriptor, except ``cameras``: the parameters of each named camera.
    """

    model: str = _parameter("student", "Model: name of a shipped one, or path of a model folder.")
    teacher_model: str = _parameter("teacher", "Model that uses camera images too; loaded if cameras are configured.")
    mode: Literal["student", "teacher"] = _parameter(
        "student", "student: LiDAR only. teacher: LiDAR and cameras, with the student as fallback.", changeable=True
    )
    backend: str = _parameter("auto", "Inference engine; auto: the fastest one on this CPU.", choices=BACKENDS)
    precision: str = _parameter("auto", "Numerical precision of the network.", choices=PRECISIONS)
    engine_cache_dir: str = _parameter(
        "", "Folder that caches TensorRT engines and measured speeds of back ends. Empty: the user's cache folder."
    )
    sensor: str = _parameter(
        "",
        "LiDAR other than the one the model was trained on: sensor file (from xmodelkd fit-sensor) or name, as VLP-16.",
    )
    projection_frame: str = _parameter(
        "", "The LiDAR's own frame, where clouds arrive in another frame (base_link). Empty: the cloud's frame."
    )
    projection_extrinsic: tuple[float, ...] = _parameter(
        NO_POSE,
        "x y z qx qy qz qw of the cloud's frame in projection_frame (p_projection = T p_cloud). All zero: from TF.",
    )
    ego_box: tuple[float, ...] = _parameter(
        (0.0,) * 6,
        "Box around the vehicle's own returns, in the cloud's frame: x y z of the minimum corner, x y z of the maximum "
        "corner (m). Points inside are invalid. Six zeros: the sensor file's, if it has one.",
    )
    min_range: float = _parameter(
        0.0,
        "Points nearer to the sensor (m) are invalid. 0: the sensor file's minimum range, or the model's.",
    )
    points_reliability: Literal["auto", "best_effort", "reliable"] = _parameter(
        "auto", "QoS of the input. auto: reliable if all its publishers offer that, otherwise best effort."
    )
    missing_intensity: Literal["reject", "fill"] = _parameter(
        "reject", "Clouds without an intensity field, where the model needs one: reject them, or fill in zeros."
    )
    label_set: Literal["native", "autoware"] = _parameter(
        "native",
        "Classes of the output: the model's own, or Autoware's class ids in its point layout PointXYZCPE.",
        group="output",
        changeable=True,
    )
    drop_classes: tuple[str, ...] = _parameter(
        NO_NAMES,
        "Classes (names in the output's label set) whose points ~/filtered omits. Empty, or one empty name: none.",
        group="filter",
        changeable=True,
    )
    camera_names: tuple[str, ...] = _parameter(
        NO_NAMES,
        "Names of the cameras; each has parameters cameras.NAME.image_topic and so on. Read at start as 'cameras' too.",
        other_name="cameras",  # not its name, because ros2 param dump cannot write a value and a group under one name
    )
    policy: Literal["collector", "approximate"] = _parameter(
        "collector",
        "Image matching. collector: no sweep waits longer than sync.deadline. approximate: message_filters' "
        "ApproximateTimeSynchronizer, which drops sweeps without an image from every camera.",
        group="sync",
    )
    slop: float = _parameter(
        0.05, "Maximum image-to-sweep time difference in seconds.", group="sync", changeable=True, range=(0.0, 1.0)
    )
    deadline: float = _parameter(
        0.05,
        "Maximum seconds from a sweep's arrival that it waits for images, in ROS time; four times that in steady time.",
        group="sync",
        changeable=True,
        range=(0.0, 1.0),
    )
    frozen_after: float = _parameter(
        1.0,
        "Seconds after which a camera with bit-identical images counts as missing; 0: never.",
        group="sync",
        changeable=True,
        range=(0.0, 3600.0),
    )
    fixed_frame: str = _parameter(
        "", "Frame (odom) in which TF gives the vehicle's motion between image and sweep. Empty: motion is ignored."
    )
    autostart: bool = _parameter(True, "Whether the node configures and activates itself.")
    cameras: tuple[CameraParameters, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ego_box", checked_ego_box(self.ego_box))
        checked_min_range(self.min_range)
        _check_pose("projection_extrinsic", self.projection_extrinsic)
        if self.projection_extrinsic and not frame_name(self.projection_frame):
            raise ConfigError("projection_extrinsic is set and projection_frame is empty; name the LiDAR's frame too")
        if self.mode == "teacher" and not self.cameras:
            raise ConfigError(
                "mode is teacher and cameras is empty; name the cameras and their topics "
                "(cameras_file:=FILE of 'xmodelkd fit-cameras BAG', or of config/cameras.param.yaml, an example)"
            )
        for topic in ("image_topic", "info_topic"):
            topics = [getattr(camera, topic) for camera in self.cameras]
            if len(set(topics)) < len(topics):
                raise ConfigError(f"two cameras share one {topic}: {', '.join(sorted(topics))}; give each its own")


_DEFINITIONS = tuple(_definitions(Parameters))
_CAMERA_NAMES = next(definition for definition in _DEFINITIONS if definition.name == "camera_names")


def definitions(cameras: Sequence[str]) -> tuple[_Parameter, ...]:
    """Definitions of all parameters of a node with these cameras."""
    return (*_DEFINITIONS, *(row for name in cameras for row in _definitions(CameraParameters, name)))


_KINDS = {str: "text", float: "a number", bool: "true or false"}
_LISTS = {str: "a list of names", float: "a list of numbers"}
_BY_NAME = {definition.name: definition for definition in definitions(["NAME"])}


def _check_pose(name: str, values: tuple[float, ...]) -> None:
    valid = (
        len(values) == 7 and np.all(np.isfinite(values)) and abs(np.linalg.norm(values[3:]) - 1) < _UNIT_NORM_TOLERANCE
    )
    if values and not valid:
        raise ConfigError(f"{name} is {list(values)}; give x y z qx qy qz qw with a quaternion of length 1")


def declare(node: Node) -> None:
    """Declare all parameters, including those of the cameras that the node is started with.

    Raises:
        ConfigError: a camera's name cannot be part of a parameter's name.
        rclpy.exceptions.InvalidParameterTypeException: an override has another type.
        rclpy.exceptions.InvalidParameterValueException: an override is out of its range.
    """
    for definition in _DEFINITIONS:
        definition.declare(node)
    names = _CAMERA_NAMES.value(node, {})
    if not all(map(str.isidentifier, names)) or len(set(names)) < len(names):
        raise ConfigError(f"cameras is {list(names)}; give each a unique name of letters, digits and underscores")
    for definition in definitions(names)[len(_DEFINITIONS) :]:
        definition.declare(node)


def start_values(node: Node) -> dict[str, Any]:
    """Values that the node was started with (files, ``-p``), whether declared or not; None for an empty list."""
    overrides = getattr(node, "_parameter_overrides", {})  # rclpy has no public access to undeclared overrides
    return {name: override.value for name, override in overrides.items()}


def _definition(name: str) -> _Parameter | None:
    return _BY_NAME.get(re.sub(r"^cameras\.\w+\.", "cameras.NAME.", name))


def is_changeable(name: str) -> bool:
    """Whether a parameter of the node may be set while it runs."""
    definition = _definition(name)
    return definition is not None and definition.changeable


def declared_name(name: str) -> str:
    """Name under which a parameter is declared: ``cameras``, the name in files, is ``camera_names``."""
    return _CAMERA_NAMES.name if name == _CAMERA_NAMES.other_name else name


def type_problem(change: Parameter[Any]) -> str:
    """What is wrong with the type of a value about to be set, after :func:`converted`; empty if nothing is."""
    definition = _definition(change.name)
    if definition is None or change.type_ == _type_of(definition.convert(None)):
        return ""
    default = definition.default
    kind = _LISTS[type(default[0])] if isinstance(default, tuple) else _KINDS[type(default)]
    return f"Wrong parameter type: {change.name} takes {kind}, not {quoted(change.value)}"


def converted(changes: Sequence[Parameter[Any]]) -> list[Parameter[Any]]:
    """Parameters about to be set, with values in the types of the declared ones where it is clear what is meant."""
    result = []
    for change in changes:
        name = declared_name(change.name)
        definition = _definition(name)
        is_set = definition is not None and change.value is not None
        value = definition.convert(change.value) if definition is not None and is_set else change.value
        result.append(Parameter(name, value=value) if _type_of(value) is not None else change)
    return result


def _type_of(value: Any) -> Parameter.Type | None:
    try:
        return Parameter.Type.from_parameter_value(value)
    except TypeError:  # a list of several types
        return None


def read(node: Node, changes: Sequence[Parameter[Any]] = ()) -> Parameters:
    """Read the values of the declared parameters.

    Args:
        node: a node whose parameters are declared (see :func:`declare`).
        changes: values that are about to be set.

    Raises:
        ConfigError: a value is invalid.
    """
    changed = {change.name: change.value for change in changes}
    values = _values(node, _DEFINITIONS, changed)
    cameras = tuple(_read_camera(node, name, changed) for name in values["camera_names"])
    return Parameters(**values, cameras=cameras)


def _values(node: Node, rows: Sequence[_Parameter], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {row.name.rpartition(".")[2]: row.value(node, changes) for row in rows}


def _read_camera(node: Node, name: str, changes: Mapping[str, Any]) -> CameraParameters:
    """Parameters of a camera, with topics named as by image_transport and resolved by the node."""
    values = _values(node, tuple(_definitions(CameraParameters, name)), changes)
    topics = camera_topics(values["image_topic"], values["info_topic"], values["compressed"])
    values["image_topic"], values["info_topic"] = topics
    for topic in ("image_topic", "info_topic"):
        try:
            values[topic] = node.resolve_topic_name(values[topic])
        except Exception as error:  # rclpy's exceptions for names share no base class
            reason = str(error).splitlines()[0].partition(", at ")[0]
            raise ConfigError(f"cameras.{name}.{topic} '{values[topic]}' is no valid topic name: {reason}") from error
    return CameraParameters(name, **values)
