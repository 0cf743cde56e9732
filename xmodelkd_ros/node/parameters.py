"""The node's parameters: one table, declared with descriptors and checked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation, ids_of
from xmodelkd_ros.inference.backend import BACKENDS, PRECISIONS
from xmodelkd_ros.messages.clouds import AUTOWARE_LABEL_FIELD, LABEL_FIELD, MISSING_INTENSITY, MissingIntensity
from xmodelkd_ros.resources import label_map, translation

_MODES = ("student", "teacher")
_SYNC_POLICIES = ("collector", "approximate")
_LABEL_SETS = ("native", "autoware")
_RELIABILITIES = ("auto", "best_effort", "reliable")

_OFF_UNIT = 0.01
"""How far from 1 the length of a quaternion may be: digits that were cut off, but no angles."""

_Type = Parameter.Type


class _Row(NamedTuple):
    """One parameter. An empty list has no type in ROS, so lists are declared by type and start without a value."""

    name: str
    default: Any
    type: Parameter.Type
    read_only: bool
    description: str
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None


_TABLE = (
    _Row("model", "student", _Type.STRING, True, "Model: name of one that the package ships, or path of a folder."),
    _Row(
        "teacher_model",
        "teacher",
        _Type.STRING,
        True,
        "Model that looks at the cameras too; it is loaded where cameras are named.",
    ),
    _Row(
        "mode",
        "student",
        _Type.STRING,
        False,
        "student: LiDAR only. teacher: LiDAR and cameras, and the student where these fail.",
        _MODES,
    ),
    _Row("backend", "auto", _Type.STRING, True, "Library that runs the network; auto: the faster one.", BACKENDS),
    _Row("precision", "auto", _Type.STRING, True, "Numbers the network computes with.", PRECISIONS),
    _Row(
        "engine_cache_dir",
        "",
        _Type.STRING,
        True,
        "Folder where engines of TensorRT are kept, and which library was how fast. Empty: the user's cache folder.",
    ),
    _Row("sensor", "", _Type.STRING, True, "Sensor file (xmodelkd fit-sensor) of a LiDAR the model does not know."),
    _Row(
        "projection_frame",
        "",
        _Type.STRING,
        True,
        "Frame of the LiDAR that the points are seen from, where clouds come in another frame (base_link). "
        "Empty: the cloud's own frame.",
    ),
    _Row(
        "projection_extrinsic",
        [],
        _Type.DOUBLE_ARRAY,
        True,
        "x y z qx qy qz qw of the cloud's frame in projection_frame (p_projection = T p_cloud). Empty: from TF.",
    ),
    _Row(
        "points_reliability",
        "auto",
        _Type.STRING,
        True,
        "Delivery of the input: reliable where all its publishers offer that and best effort otherwise, or always one.",
        _RELIABILITIES,
    ),
    _Row(
        "missing_intensity",
        "reject",
        _Type.STRING,
        True,
        "What to do with clouds without an intensity field, where the model needs one: drop them, or take zeros.",
        MISSING_INTENSITY,
    ),
    _Row(
        "output.label_set",
        "native",
        _Type.STRING,
        False,
        "Classes of the output: the model's own, or Autoware's numbers in its point layout PointXYZCPE.",
        _LABEL_SETS,
    ),
    _Row(
        "filter.drop_classes",
        [],
        _Type.STRING_ARRAY,
        False,
        "Classes (names of the output's label set) whose points ~/filtered leaves out.",
    ),
    _Row("cameras", [], _Type.STRING_ARRAY, True, "Names of the cameras; cameras.NAME.image_topic and so on say more."),
    _Row(
        "sync.policy",
        "collector",
        _Type.STRING,
        True,
        "How images are matched to sweeps: collector never keeps a sweep beyond its deadline; approximate is "
        "message_filters' ApproximateTimeSynchronizer, which labels only sweeps that all cameras saw.",
        _SYNC_POLICIES,
    ),
    _Row(
        "sync.slop",
        0.05,
        _Type.DOUBLE,
        False,
        "Seconds that an image may be away from the sweep.",
        range=(0.0, 1.0),
    ),
    _Row(
        "sync.deadline",
        0.05,
        _Type.DOUBLE,
        False,
        "Seconds that a sweep waits for images after it came, in ROS time, and four times that in real time.",
        range=(0.0, 1.0),
    ),
    _Row(
        "sync.frozen_after",
        1.0,
        _Type.DOUBLE,
        False,
        "Seconds after which a camera whose image stays the same to the bit counts as missing; 0: never.",
        range=(0.0, 3600.0),
    ),
    _Row(
        "fixed_frame",
        "",
        _Type.STRING,
        True,
        "Frame in which TF says how the vehicle moved between image and sweep (odom). Empty: as if it stood still.",
    ),
    _Row("autostart", True, _Type.BOOL, True, "Whether the node configures and activates itself."),
)


_CAMERAS = next(row for row in _TABLE if row.name == "cameras")


def _camera_rows(name: str) -> tuple[_Row, ...]:
    """The parameters of one camera."""
    group = f"cameras.{name}"
    return (
        _Row(f"{group}.image_topic", f"{name}/image_raw", _Type.STRING, True, "Topic of its images."),
        _Row(
            f"{group}.info_topic",
            "",
            _Type.STRING,
            True,
            "Topic of its CameraInfo. Empty: camera_info beside image_topic.",
        ),
        _Row(
            f"{group}.compressed",
            False,
            _Type.BOOL,
            True,
            "Whether to take CompressedImage, from image_topic/compressed.",
        ),
        _Row(
            f"{group}.rectified",
            False,
            _Type.BOOL,
            True,
            "Whether the images are rectified (image_rect): without distortion, seen by the CameraInfo's P.",
        ),
        _Row(
            f"{group}.time_offset",
            0.0,
            _Type.DOUBLE,
            False,
            "Seconds to add to the images' stamps to bring them to the LiDAR's clock.",
            range=(-10.0, 10.0),
        ),
        _Row(
            f"{group}.extrinsic",
            [],
            _Type.DOUBLE_ARRAY,
            True,
            "x y z qx qy qz qw of the LiDAR's frame in the camera's optical frame (p_camera = T p_lidar). Empty: TF.",
        ),
    )


_CHANGEABLE = frozenset(row.name for row in _TABLE if not row.read_only)


def changeable(name: str) -> bool:
    """Whether a parameter may be set while the node runs."""
    return name in _CHANGEABLE or (name.startswith("cameras.") and name.endswith(".time_offset"))


@dataclass(frozen=True)
class CameraParameters:
    """The parameters of one camera, named as they are in ROS.

    Attributes:
        name: of the camera.
        image_topic: of its images, as they are subscribed to.
        info_topic: of its CameraInfo.
    """

    name: str
    image_topic: str
    info_topic: str
    compressed: bool
    rectified: bool
    time_offset: float
    extrinsic: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_pose(f"cameras.{self.name}.extrinsic", self.extrinsic)

    @classmethod
    def of(cls, name: str, values: dict[str, Any]) -> CameraParameters:
        """From the values of :func:`_camera_rows`, with topics as image_transport names them."""
        image, info = values.pop("image_topic"), values.pop("info_topic")
        base = image.removesuffix("/compressed")
        beside = base.rpartition("/")
        topic = f"{base}/compressed" if values["compressed"] else image
        return cls(name, topic, info or f"{beside[0]}{beside[1]}camera_info", **values)


@dataclass(frozen=True)
class Parameters:
    """The parameters' values, checked as far as that is possible without the model.

    Attributes are named as the parameters, without their group.
    """

    model: str
    teacher_model: str
    mode: str
    backend: str
    precision: str
    engine_cache_dir: str
    sensor: str
    projection_frame: str
    projection_extrinsic: tuple[float, ...]
    points_reliability: Literal["auto", "best_effort", "reliable"]
    missing_intensity: MissingIntensity
    label_set: Literal["native", "autoware"]
    drop_classes: tuple[str, ...]
    cameras: tuple[CameraParameters, ...]
    policy: Literal["collector", "approximate"]
    slop: float
    deadline: float
    frozen_after: float
    fixed_frame: str
    autostart: bool

    def __post_init__(self) -> None:
        _check_pose("projection_extrinsic", self.projection_extrinsic)
        if self.projection_extrinsic and not self.projection_frame:
            raise ConfigError("projection_extrinsic is set and projection_frame is empty; name the LiDAR's frame too")
        if self.mode == "teacher" and not self.cameras:
            raise ConfigError(
                "mode is teacher and cameras is empty; name the cameras and their topics (config/cameras.param.yaml)"
            )
        for topic in ("image_topic", "info_topic"):
            topics = [getattr(camera, topic) for camera in self.cameras]
            if len(set(topics)) < len(topics):
                raise ConfigError(f"two cameras have one {topic}: {', '.join(sorted(topics))}; give each its own")


def _check_pose(name: str, values: tuple[float, ...]) -> None:
    good = len(values) == 7 and np.all(np.isfinite(values)) and abs(np.linalg.norm(values[3:]) - 1) < _OFF_UNIT
    if values and not good:
        raise ConfigError(f"{name} is {list(values)}; give x y z qx qy qz qw with a quaternion of length 1")


def declare(node: Node) -> None:
    """Declare every parameter of the table, and those of the cameras that it names.

    Raises:
        ConfigError: a camera's name cannot be one of parameters.
        rclpy.exceptions.InvalidParameterTypeException: an override has another type.
        rclpy.exceptions.InvalidParameterValueException: an override is out of its range.
    """
    for row in _TABLE:
        _declare(node, row)
    names = _value(node, _CAMERAS, {})
    if not all(map(str.isidentifier, names)) or len(set(names)) < len(names):
        raise ConfigError(f"cameras is {list(names)}; give each a name of its own, of letters, digits and underscores")
    for row in (row for name in names for row in _camera_rows(name)):
        _declare(node, row)


def unknown(node: Node) -> list[str]:
    """Names that were given for parameters of this node, below one of its groups, and are none of them: misspelt."""
    groups = {row.name.partition(".")[0] for row in _TABLE if "." in row.name} | {_CAMERAS.name}
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public way to ask for what nobody declared
    return sorted(n for n in given if n.partition(".")[0] in groups and not node.has_parameter(n))


def _declare(node: Node, row: _Row) -> None:
    constraints = f"one of {', '.join(row.choices)}" if row.choices else ""
    descriptor = ParameterDescriptor(
        description=row.description, additional_constraints=constraints, read_only=row.read_only
    )
    if row.range:
        descriptor.floating_point_range = [FloatingPointRange(from_value=row.range[0], to_value=row.range[1])]
    node.declare_parameter(row.name, row.type if row.default == [] else row.default, descriptor)


def read(node: Node, changes: Sequence[Parameter[Any]] = ()) -> Parameters:
    """The declared parameters' values.

    Args:
        node: a node on which :func:`declare` was called.
        changes: values that are about to be set.

    Raises:
        ConfigError: a value that cannot be used.
    """
    changed = {p.name: p.value for p in changes}
    values = _values(node, _TABLE, changed)
    cameras = [(name, _values(node, _camera_rows(name), changed)) for name in values["cameras"]]
    described = tuple(_resolved(node, CameraParameters.of(name, of)) for name, of in cameras)
    return Parameters(**{**values, "cameras": described})


def _resolved(node: Node, camera: CameraParameters) -> CameraParameters:
    """The camera with the full names of its topics."""
    names = {}
    for topic in ("image_topic", "info_topic"):
        given = getattr(camera, topic)
        try:
            names[topic] = node.resolve_topic_name(given)
        except Exception as error:  # rclpy's exceptions for names share no base class
            reason = str(error).splitlines()[0].partition(", at ")[0]
            raise ConfigError(f"cameras.{camera.name}.{topic} '{given}' is no name of a topic: {reason}") from error
    return replace(camera, **names)


def _values(node: Node, rows: Sequence[_Row], changed: Mapping[str, Any]) -> dict[str, Any]:
    return {row.name.rsplit(".", 1)[-1]: _value(node, row, changed) for row in rows}


def _value(node: Node, row: _Row, changed: Mapping[str, Any]) -> Any:
    value = changed.get(row.name, node.get_parameter_or(row.name, Parameter(row.name, row.type, row.default)).value)
    if row.choices and value not in row.choices:
        raise ConfigError(f"{row.name} is '{value}'; it must be one of {', '.join(row.choices)}")
    return tuple(value or ()) if row.default == [] else value


@dataclass(frozen=True, eq=False)
class OutputOptions:
    """How labels leave the node.

    Attributes:
        labels: the classes of the output.
        into: the table from the model's classes to those, or None for the model's own.
        label_field: name of the field in the labelled cloud.
        drop_ids: ids of the points that the filtered cloud leaves out.
    """

    labels: LabelMap
    into: LabelTranslation | None
    label_field: str
    drop_ids: tuple[int, ...]

    @classmethod
    def of(cls, parameters: Parameters, model_labels: LabelMap) -> OutputOptions:
        """Look the parameters' names up in the tables.

        Raises:
            LabelError: a class that the label set lacks, or no table between the sets.
        """
        if parameters.label_set == "native":
            return cls(model_labels, None, LABEL_FIELD, ids_of(model_labels, parameters.drop_classes))
        autoware = label_map("autoware")
        into = translation(model_labels, autoware)
        return cls(autoware, into, AUTOWARE_LABEL_FIELD, ids_of(autoware, parameters.drop_classes))
