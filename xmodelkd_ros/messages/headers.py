"""Conversion of stamps, transforms and label sets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError, LabelError, quoted
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.transforms import transform


def label_info_json(label_map: LabelMap) -> str:
    """Label set as JSON, for the latched topic ``label_info_json``."""
    return json.dumps(label_map.to_dict())


def label_map_from_json(text: str) -> LabelMap:
    """Inverse of :func:`label_info_json`.

    Raises:
        LabelError: the text is not JSON, or not a label set.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise LabelError(f"label_info_json is not JSON: {error}") from error
    return LabelMap.from_dict(data)


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_from_ns(nanoseconds: int, time_type: Any) -> Any:
    """A builtin_interfaces/Time, of the given class, from nanoseconds."""
    sec, nanosec = divmod(int(nanoseconds), 1_000_000_000)
    return time_type(sec=sec, nanosec=nanosec)


def static_transforms(msg: Any) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Transforms of a tf2_msgs/TFMessage: (parent, child) to the (4, 4) matrix M with p_parent = M @ p_child."""
    return dict(frames_and_pose(stamped) for stamped in msg.transforms)


def frames_and_pose(stamped: Any) -> tuple[tuple[str, str], NDArray[np.float64]]:
    """(parent, child) of a geometry_msgs/TransformStamped, and the (4, 4) matrix M with p_parent = M @ p_child.

    Raises:
        ConfigError: the quaternion is not a rotation, or the translation is not finite.
    """
    t, q = stamped.transform.translation, stamped.transform.rotation
    frames = (stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/"))
    try:
        return frames, transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    except ConfigError as error:
        raise ConfigError(f"transform from {quoted(frames[0])} to {quoted(frames[1])}: {error}") from error
