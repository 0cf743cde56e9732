"""ROS messages: valid, random, mutated by field, and deserialized from mutated bytes.

Values always fit the types of their fields, as DDS guarantees. Messages are built with the classes of the rosbags
library, whose definitions provide the types, and converted to rclpy messages by serialization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from test.fuzz.mutation import Mutator
from xmodelkd_ros.harness.sweep_log import message_class as rclpy_class

TYPES = get_typestore(Stores.ROS2_KILTED)
_ATTEMPTS = 8
_INTEGERS = {"bool": (1, False)} | {
    f"{sign}int{bits}": (bits, not sign) for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def mutated(mutator: Mutator, good: Callable[[Mutator], Any]) -> Any:
    """A valid message, or one with mutated fields, from mutated bytes, or random in all its fields."""
    message = good(mutator)
    way = mutator.random.random()
    if way < 0.2:
        return message
    if way < 0.7:
        return with_mutated_fields(mutator, message)
    if way < 0.9:
        return _from_mutated_bytes(mutator, message)
    return random_message(mutator, message.__msgtype__)


def with_mutated_fields(mutator: Mutator, message: Any) -> Any:
    """A copy with one or a few fields changed."""
    message = copy.deepcopy(message)
    for _ in range(1 + mutator.below(3)):
        _mutate_message(mutator, message)
    return message


def _from_mutated_bytes(mutator: Mutator, message: Any) -> Any:
    data = bytes(TYPES.serialize_cdr(message, message.__msgtype__))
    for _ in range(_ATTEMPTS):
        try:
            found = TYPES.deserialize_cdr(data[:4] + mutator.mutate_bytes(data[4:]), message.__msgtype__)
            TYPES.serialize_cdr(found, message.__msgtype__)  # must be serializable to be sent
        except Exception:  # not a message; the library raises various exceptions
            continue
        return found
    return message


def _fields(msgtype: str) -> Any:
    return TYPES.fielddefs[msgtype][1]


def _mutate_message(mutator: Mutator, message: Any) -> None:
    fields = _fields(message.__msgtype__)
    if not fields:
        return
    name, description = mutator.pick(fields)
    object.__setattr__(message, name, _mutated_value(mutator, getattr(message, name), description))


def _mutated_value(mutator: Mutator, value: Any, description: Any) -> Any:
    kind, detail = description
    if kind is Nodetype.NAME:
        _mutate_message(mutator, value)
        return value
    if kind is Nodetype.BASE or (kind is Nodetype.ARRAY and mutator.chance(0.3)):
        return random_value(mutator, description)
    if kind is Nodetype.ARRAY:
        value = np.array(value)
        value[mutator.below(len(value))] = random_value(mutator, detail[0])
        return value
    return _mutated_sequence(mutator, value, detail[0])


def _mutated_sequence(mutator: Mutator, values: Any, element: Any) -> Any:
    if _is_number(element):
        data = mutator.mutate_bytes(values.tobytes())
        return np.frombuffer(data[: len(data) // values.itemsize * values.itemsize], values.dtype).copy()
    values = list(values)
    new = lambda: random_value(mutator, element)  # noqa: E731
    mutator.mutate_list(values, new, lambda one: _mutated_value(mutator, one, element))
    return values


def random_message(mutator: Mutator, msgtype: str) -> Any:
    """A message that is random in all its fields."""
    values = {name: random_value(mutator, description) for name, description in _fields(msgtype)}
    return TYPES.types[msgtype](**values)


def random_value(mutator: Mutator, description: Any) -> Any:
    """A value of a field."""
    kind, detail = description
    if kind is Nodetype.NAME:
        return random_message(mutator, detail)
    if kind is Nodetype.BASE:
        return _random_base(mutator, detail[0])
    element, count = detail
    count = count if kind is Nodetype.ARRAY else mutator.below(mutator.pick((3, 8, 400 if _is_number(element) else 8)))
    if _is_number(element):
        return mutator.array(element[1][0], count)
    return [random_value(mutator, element) for _ in range(count)]


def _random_base(mutator: Mutator, name: str) -> Any:
    if name == "string":
        return mutator.text()
    if name.startswith("float"):
        value = mutator.real()
        with np.errstate(over="ignore"):
            return float(np.float32(value)) if name == "float32" else value
    bits, signed = _INTEGERS[name]
    value = mutator.integer(bits, signed)
    return bool(value) if name == "bool" else value


def _is_number(description: Any) -> bool:
    return bool(description[0] is Nodetype.BASE and description[1][0] != "string")


def size(message: Any) -> int:
    """Bytes of a message on the wire."""
    return len(TYPES.serialize_cdr(message, message.__msgtype__))


def to_rclpy(message: Any) -> Any:
    """Convert a message to its rclpy class."""
    from rclpy.serialization import deserialize_message

    data = bytes(TYPES.serialize_cdr(message, message.__msgtype__))
    return deserialize_message(data, rclpy_class(message.__msgtype__))


def in_either_library(mutator: Mutator, message: Any) -> Any:
    """The message, in half of the cases as its rclpy class if available (pip's rclpy lacks some types)."""
    both = rclpy_class(message.__msgtype__) is not None
    return to_rclpy(message) if both and mutator.chance(0.5) else message
