"""ROS parameters of the segmenter, defined by the fields of two dataclasses: declared, read and validated together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter

from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.usable_points import checked_ego_box, checked_min_range
from xmodelkd_ros.inference.backend import BACKENDS, PRECISIONS
from xmodelkd_ros.messages.headers import frame_name
from xmodelkd_ros.messages.topics import camera_topics
from xmodelkd_ros.node.parameter_definition import (
    NO_NAMES,
    NO_POSE,
    ParameterDefinition,
    definitions_of,
    parameter_field,
    start_values,
    type_of,
)

NATIVE, AUTOWARE = "native", "autoware"
LABEL_SETS = (NATIVE, AUTOWARE, "nuscenes16", "outdoor8", "pandaset9", "semantickitti19")
"""Label sets of the output: the model's own, and those with a table from the shipped models' set."""

_UNIT_NORM_TOLERANCE = 0.01
"""Maximum deviation of a quaternion's norm from 1: accepts rounded digits, rejects Euler angles."""

_CAMERA_GROUP, _FILTER_GROUP = "cameras.{name}", "filters.{name}"


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera, with the full names of its topics."""

    name: str
    image_topic: str = parameter_field("{name}/image_raw", "Topic of its images.", group=_CAMERA_GROUP)
    info_topic: str = parameter_field(
        "", "Topic of its CameraInfo. Empty: camera_info in the namespace of image_topic.", group=_CAMERA_GROUP
    )
    compressed: bool = parameter_field(
        False, "Whether to subscribe to CompressedImage on image_topic/compressed.", group=_CAMERA_GROUP
    )
    rectified: bool = parameter_field(
        False,
        "Whether the images are rectified (image_rect): no distortion, projected with the CameraInfo's P.",
        group=_CAMERA_GROUP,
    )
    time_offset: float = parameter_field(
        0.0,
        "Seconds to add to image stamps to convert them to the LiDAR's clock.",
        group=_CAMERA_GROUP,
        changeable=True,
        range=(-10.0, 10.0),
    )
    extrinsic: tuple[float, ...] = parameter_field(
        NO_POSE,
        "x y z qx qy qz qw of the LiDAR's frame in the camera's optical frame (p_camera = T p_lidar). All zero: TF.",
        group=_CAMERA_GROUP,
    )

    def __post_init__(self) -> None:
        _check_pose(f"cameras.{self.name}.extrinsic", self.extrinsic)


@dataclass(frozen=True)
class FilterParameters:
    """Parameters of one filtered cloud, ``~/filtered/NAME``."""

    name: str
    keep: tuple[str, ...] = parameter_field(
        NO_NAMES,
        "Classes (names in the output's label set) whose points pass. Empty: all but those of drop.",
        group=_FILTER_GROUP,
        changeable=True,
    )
    drop: tuple[str, ...] = parameter_field(
        NO_NAMES,
        "Classes whose points do not pass. Unlabelled points pass, unless keep is given.",
        group=_FILTER_GROUP,
        changeable=True,
    )
    min_probability: float = parameter_field(
        0.0,
        "Labels of a lower probability do not count: without keep their points pass, with keep they do not.",
        group=_FILTER_GROUP,
        changeable=True,
        range=(0.0, 1.0),
    )


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node, validated as far as possible without the model.

    Each field is a parameter, with its group and descriptor, except ``cameras`` and ``filters``: the parameters of each
    named camera, and of each filter that the node is started with.
    """

    model: str = parameter_field("student", "Model: name of a shipped one, or path of a model folder.")
    teacher_model: str = parameter_field(
        "teacher", "Model that uses camera images too; loaded if cameras are configured."
    )
    mode: Literal["student", "teacher"] = parameter_field(
        "student", "student: LiDAR only. teacher: LiDAR and cameras, with the student as fallback.", changeable=True
    )
    backend: str = parameter_field("auto", "Inference engine; auto: the fastest one on this CPU.", choices=BACKENDS)
    precision: str = parameter_field("auto", "Numerical precision of the network.", choices=PRECISIONS)
    engine_cache_dir: str = parameter_field(
        "", "Folder that caches TensorRT engines and measured speeds of back ends. Empty: the user's cache folder."
    )
    sensor: str = parameter_field(
        "auto",
        "The LiDAR. auto: estimated from the first sweeps, if the model is one for any LiDAR. none: the LiDAR that the "
        "model was trained on. Or a sensor file (from xmodelkd fit-sensor), or a name such as VLP-16.",
    )
    projection_frame: str = parameter_field(
        "", "The LiDAR's own frame, where clouds arrive in another frame (base_link). Empty: the cloud's frame."
    )
    projection_extrinsic: tuple[float, ...] = parameter_field(
        NO_POSE,
        "x y z qx qy qz qw of the cloud's frame in projection_frame (p_projection = T p_cloud). All zero: from TF.",
    )
    ego_box: tuple[float, ...] = parameter_field(
        (0.0,) * 6,
        "Box around the vehicle's own returns, in the cloud's frame: x y z of the minimum corner, x y z of the maximum "
        "corner (m). Points inside are invalid. Six zeros: the sensor file's, if it has one.",
    )
    min_range: float = parameter_field(
        0.0,
        "Points nearer to the sensor (m) are invalid. 0: the sensor file's minimum range, or the model's.",
    )
    points_reliability: Literal["auto", "best_effort", "reliable"] = parameter_field(
        "auto", "QoS of the input. auto: reliable if all its publishers offer that, otherwise best effort."
    )
    missing_intensity: Literal["auto", "reject", "fill"] = parameter_field(
        "auto",
        "Clouds without an intensity field, where the model uses one: reject them, or fill in zeros. auto: fill if the "
        "model was trained without intensity too.",
    )
    layout: Literal["compact", "input", "autoware"] = parameter_field(
        "compact",
        "Fields of ~/labels. compact: x y z label probability entropy. input: all fields of the input and these three. "
        "autoware: PointXYZCPE, with Autoware's label set.",
        group="output",
        changeable=True,
    )
    label_set: str = parameter_field(
        NATIVE,
        "Classes of the output: native, the model's own; autoware, with its point layout PointXYZCPE; or another "
        "shipped label set.",
        group="output",
        changeable=True,
        choices=LABEL_SETS,
    )
    min_probability: float = parameter_field(
        0.0, "Labels of a lower probability become 255.", group="output", changeable=True, range=(0.0, 1.0)
    )
    drop_classes: tuple[str, ...] = parameter_field(
        NO_NAMES,
        "Deprecated, see filters.NAME.drop: classes whose points ~/filtered omits. Empty, or one empty name: none.",
        group="filter",
        changeable=True,
    )
    camera_names: tuple[str, ...] = parameter_field(
        NO_NAMES,
        "Names of the cameras; each has parameters cameras.NAME.image_topic and so on. Read at start as 'cameras' too.",
        other_name="cameras",  # not its name, because ros2 param dump cannot write a value and a group under one name
    )
    policy: Literal["collector", "approximate"] = parameter_field(
        "collector",
        "Image matching. collector: no sweep waits longer than sync.deadline. approximate: message_filters' "
        "ApproximateTimeSynchronizer, which drops sweeps without an image from every camera.",
        group="sync",
    )
    slop: float = parameter_field(
        0.05, "Maximum image-to-sweep time difference in seconds.", group="sync", changeable=True, range=(0.0, 1.0)
    )
    deadline: float = parameter_field(
        0.05,
        "Maximum seconds from a sweep's arrival that it waits for images, in ROS time; four times that in steady time.",
        group="sync",
        changeable=True,
        range=(0.0, 1.0),
    )
    frozen_after: float = parameter_field(
        1.0,
        "Seconds after which a camera with bit-identical images counts as missing; 0: never.",
        group="sync",
        changeable=True,
        range=(0.0, 3600.0),
    )
    fixed_frame: str = parameter_field(
        "", "Frame (odom) in which TF gives the vehicle's motion between image and sweep. Empty: motion is ignored."
    )
    autostart: bool = parameter_field(True, "Whether the node configures and activates itself.")
    cameras: tuple[CameraParameters, ...] = ()
    filters: tuple[FilterParameters, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ego_box", checked_ego_box(self.ego_box))
        checked_min_range(self.min_range)
        _check_pose("projection_extrinsic", self.projection_extrinsic)
        if self.layout == AUTOWARE and self.label_set not in (NATIVE, AUTOWARE):
            raise ConfigError(f"output.layout is autoware and output.label_set {self.label_set}; give one of them only")
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


_DEFINITIONS = tuple(definitions_of(Parameters))
_CAMERA_NAMES = next(definition for definition in _DEFINITIONS if definition.name == "camera_names")


def definitions(cameras: Sequence[str], filters: Sequence[str] = ()) -> tuple[ParameterDefinition, ...]:
    """Definitions of all parameters of a node with these cameras and filters."""
    of_cameras = (row for name in cameras for row in definitions_of(CameraParameters, name))
    of_filters = (row for name in filters for row in definitions_of(FilterParameters, name))
    return (*_DEFINITIONS, *of_cameras, *of_filters)


_KINDS = {str: "text", float: "a number", bool: "true or false"}
_LISTS = {str: "a list of names", float: "a list of numbers"}
_BY_NAME = {definition.name: definition for definition in definitions(["NAME"], ["NAME"])}
_FILTER = re.compile(r"filters\.(\w+)\.")


def _check_pose(name: str, values: tuple[float, ...]) -> None:
    valid = (
        len(values) == 7 and np.all(np.isfinite(values)) and abs(np.linalg.norm(values[3:]) - 1) < _UNIT_NORM_TOLERANCE
    )
    if values and not valid:
        raise ConfigError(f"{name} is {list(values)}; give x y z qx qy qz qw with a quaternion of length 1")


def declare(node: Node) -> None:
    """Declare all parameters, including those of the cameras and filters that the node is started with.

    Raises:
        ConfigError: a camera's name cannot be part of a parameter's name, or a filter's of a topic's.
        rclpy.exceptions.InvalidParameterTypeException: an override has another type.
        rclpy.exceptions.InvalidParameterValueException: an override is out of its range.
    """
    for definition in _DEFINITIONS:
        definition.declare(node)
    names = _CAMERA_NAMES.value(node, {})
    if not all(map(str.isidentifier, names)) or len(set(names)) < len(names):
        raise ConfigError(f"cameras is {list(names)}; give each a unique name of letters, digits and underscores")
    filters = _filter_names(start_values(node))
    if not all(map(str.isidentifier, filters)):
        raise ConfigError(f"filters are {filters}; give each a name of letters, digits and underscores")
    for definition in definitions(names, filters)[len(_DEFINITIONS) :]:
        definition.declare(node)


def _filter_names(parameters: Iterable[str]) -> list[str]:
    """Names of the filters among the names of parameters."""
    return sorted({found[1] for found in map(_FILTER.match, parameters) if found})


def _definition(name: str) -> ParameterDefinition | None:
    return _BY_NAME.get(re.sub(r"^(cameras|filters)\.\w+\.", r"\1.NAME.", name))


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
    if definition is None or change.type_ == type_of(definition.convert(None)):
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
        result.append(Parameter(name, value=value) if type_of(value) is not None else change)
    return result


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
    names = _filter_names(f"filters.{name}" for name in node.get_parameters_by_prefix("filters"))
    filters = tuple(_read_filter(node, name, changed) for name in names)
    return Parameters(**values, cameras=cameras, filters=filters)


def _read_filter(node: Node, name: str, changes: Mapping[str, Any]) -> FilterParameters:
    values = _values(node, tuple(definitions_of(FilterParameters, name)), changes)
    if values["keep"] and values["drop"]:
        raise ConfigError(f"filters.{name} has keep and drop; give one of them")
    return FilterParameters(name, **values)


def _values(node: Node, rows: Sequence[ParameterDefinition], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {row.name.rpartition(".")[2]: row.value(node, changes) for row in rows}


def _read_camera(node: Node, name: str, changes: Mapping[str, Any]) -> CameraParameters:
    """Parameters of a camera, with topics named as by image_transport and resolved by the node."""
    values = _values(node, tuple(definitions_of(CameraParameters, name)), changes)
    topics = camera_topics(values["image_topic"], values["info_topic"], values["compressed"])
    values["image_topic"], values["info_topic"] = topics
    for topic in ("image_topic", "info_topic"):
        try:
            values[topic] = node.resolve_topic_name(values[topic])
        except Exception as error:  # rclpy's exceptions for names share no base class
            reason = str(error).splitlines()[0].partition(", at ")[0]
            raise ConfigError(f"cameras.{name}.{topic} '{values[topic]}' is no valid topic name: {reason}") from error
    return CameraParameters(name, **values)
