"""Definition of ROS parameters by the fields of a dataclass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from xmodelkd_ros.core.errors import ConfigError

NO_NAMES, NO_POSE = ("",), (0.0,) * 7
"""Values of arrays that are not set. ROS reads no empty list from a file, so that a dump of one could not be loaded."""


@dataclass(frozen=True)
class ParameterDefinition:
    """Definition of a ROS parameter.

    Attributes:
        default: default value, which also gives the type; of an array a tuple.
        description: text of the descriptor.
        group: prefix of the name, if any.
        changeable: whether it may be set while the node runs.
        choices: allowed values of a string; by default those of the field's Literal type.
        range: allowed range of a number.
        name: full name in ROS, filled in by :func:`definitions_of`.
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
        """Declare the parameter with the value that the node was started with, or its default.

        Raises:
            ConfigError: two names of the parameter have different values.
            rclpy.exceptions.InvalidParameterTypeException: the value at start has another type.
        """
        descriptor = ParameterDescriptor(
            description=self.description,
            additional_constraints=f"one of {', '.join(self.choices)}" if self.choices else "",
            read_only=not self.changeable,
        )
        if self.range:
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.range[0], to_value=self.range[1])]
        value = self.convert(self._start_value(start_values(node)))
        default = self.convert(None)
        if type_of(value) == type_of(default):
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


def type_of(value: Any) -> Parameter.Type | None:
    """ROS type of a value; None without one."""
    try:
        return Parameter.Type.from_parameter_value(value)
    except TypeError:  # a list of several types
        return None


def start_values(node: Node) -> dict[str, Any]:
    """Values that the node was started with (files, ``-p``), whether declared or not; None for an empty list."""
    overrides = getattr(node, "_parameter_overrides", {})  # rclpy has no public access to undeclared overrides
    return {name: override.value for name, override in overrides.items()}


def parameter_field(default: Any, description: str, **more: Any) -> Any:
    """Field of a parameter class; see :class:`ParameterDefinition` for the arguments."""
    return field(metadata={"parameter": ParameterDefinition(default, description, **more)})


def definitions_of(parameters: type, name: str = "") -> Iterator[ParameterDefinition]:
    """Definitions of a parameter class, those of a camera or filter with its name filled in."""
    types = get_type_hints(parameters)
    for described in fields(parameters):
        if "parameter" in described.metadata:
            defined: ParameterDefinition = described.metadata["parameter"]
            group, default, kind = defined.group.format(name=name), defined.default, types[described.name]
            yield replace(
                defined,
                name=f"{group}.{described.name}" if group else described.name,
                default=default.format(name=name) if isinstance(default, str) else default,
                choices=get_args(kind) if get_origin(kind) is Literal else defined.choices,
            )
