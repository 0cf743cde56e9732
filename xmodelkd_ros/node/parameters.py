"""The node's parameters: one table, declared with descriptors and checked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation, ids_of
from xmodelkd_ros.inference.backend import BACKENDS, PRECISIONS
from xmodelkd_ros.messages import MissingIntensity
from xmodelkd_ros.resources import label_map, translation

_MODES = ("student",)
_MISSING_INTENSITY = ("reject", "fill")
_LABEL_SETS = ("native", "autoware")
_RELIABILITIES = ("auto", "best_effort", "reliable")

_Type = Parameter.Type


class _Row(NamedTuple):
    """One parameter. An empty list has no type in ROS, so lists are declared by type and start without a value."""

    name: str
    default: Any
    type: Parameter.Type
    read_only: bool
    description: str
    choices: tuple[str, ...] = ()


_TABLE = (
    _Row("model", "student", _Type.STRING, True, "Model: name of one that the package ships, or path of a folder."),
    _Row("mode", "student", _Type.STRING, False, "student: LiDAR only.", _MODES),
    _Row("backend", "auto", _Type.STRING, True, "Inference library; auto takes the fastest installed.", BACKENDS),
    _Row("precision", "auto", _Type.STRING, True, "Numbers the network computes with.", PRECISIONS),
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
        _MISSING_INTENSITY,
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
    _Row("autostart", True, _Type.BOOL, True, "Whether the node configures and activates itself."),
)


CHANGEABLE = frozenset(row.name for row in _TABLE if not row.read_only)
"""Parameters that may be set while the node runs."""


@dataclass(frozen=True)
class Parameters:
    """The parameters' values, checked as far as that is possible without the model.

    Attributes are named as the parameters, without their group.
    """

    model: str
    mode: str
    backend: str
    precision: str
    sensor: str
    projection_frame: str
    projection_extrinsic: tuple[float, ...]
    points_reliability: Literal["auto", "best_effort", "reliable"]
    missing_intensity: MissingIntensity
    label_set: Literal["native", "autoware"]
    drop_classes: tuple[str, ...]
    autostart: bool

    def __post_init__(self) -> None:
        extrinsic = self.projection_extrinsic
        if not extrinsic:
            return
        if len(extrinsic) != 7 or not np.all(np.isfinite(extrinsic)) or not any(extrinsic[3:]):
            raise ConfigError(
                f"projection_extrinsic is {list(extrinsic)}; give x y z qx qy qz qw with a quaternion that is not zero"
            )
        if not self.projection_frame:
            raise ConfigError("projection_extrinsic is set and projection_frame is empty; name the LiDAR's frame too")


def declare(node: Node) -> None:
    """Declare every parameter of the table.

    Raises:
        rclpy.exceptions.InvalidParameterTypeException: an override has another type.
    """
    for row in _TABLE:
        constraints = f"one of {', '.join(row.choices)}" if row.choices else ""
        descriptor = ParameterDescriptor(
            description=row.description, additional_constraints=constraints, read_only=row.read_only
        )
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
    values: dict[str, Any] = {}
    for row in _TABLE:
        default = Parameter(row.name, row.type, row.default)
        value = changed.get(row.name, node.get_parameter_or(row.name, default).value)
        if row.choices and value not in row.choices:
            raise ConfigError(f"{row.name} is '{value}'; it must be one of {', '.join(row.choices)}{_why(row, value)}")
        values[row.name.rsplit(".", 1)[-1]] = tuple(value or ()) if row.default == [] else value
    return Parameters(**values)


def _why(row: _Row, value: str) -> str:
    return " (this model has no teacher)" if (row.name, value) == ("mode", "teacher") else ""


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
            return cls(model_labels, None, "label", ids_of(model_labels, parameters.drop_classes))
        autoware = label_map("autoware")
        into = translation(model_labels, autoware)
        return cls(autoware, into, "class_id", ids_of(autoware, parameters.drop_classes))
