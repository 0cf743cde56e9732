"""Conversion of stamps, transforms and label sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError, LabelError, quoted, short_line
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.transforms import transform

_PREDICTION = "prediction"
"""Source of labels that a model has predicted."""


@dataclass(frozen=True)
class Prediction:
    """Where predicted labels in a bag are from; ground truth has none.

    Attributes:
        model: name of the model.
        sha256: of its network.
        field: the field of the clouds that holds the class ids.
    """

    model: str
    sha256: str
    field: str = "label"


def label_info_json(label_map: LabelMap, prediction: Prediction | None = None) -> str:
    """Label set as JSON, for the latched topic ``label_info_json``; predictions say so (``"source": "prediction"``)."""
    source = {} if prediction is None else {"source": _PREDICTION, **asdict(prediction)}
    return json.dumps({**label_map.to_dict(), **source})


def prediction_from_json(text: str) -> Prediction | None:
    """Where the labels of a ``label_info_json`` are from; None for ground truth.

    Raises:
        LabelError: the text is not JSON, or says so in another way.
    """
    try:
        data = parse_json(text)
        if data.get("source") != _PREDICTION:
            return None
        return Prediction(str(data["model"]), str(data["sha256"]), str(data["field"]))
    except (ValueError, KeyError, AttributeError) as error:
        raise LabelError(f"label_info_json does not say what its labels are: {quoted(error)}") from error


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


def data_source_json(source: DataSource) -> str:
    """Dataset, licence and attribution as JSON, for the latched topic ``data_source_json``."""
    return json.dumps(asdict(source))


def data_source_from_json(text: str) -> DataSource:
    """Inverse of :func:`data_source_json`; licence and attribution may be missing.

    Raises:
        ConfigError: the text is not such JSON.
    """
    try:
        data = parse_json(text)
        values = [data["name"], *(data.get(key, "") for key in ("license", "attribution"))]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"it is not JSON with name, license and attribution: {quoted(text)}") from error
    if not all(isinstance(value, str) for value in values):
        raise ConfigError(f"its name, license or attribution is not text: {quoted(text)}")
    return DataSource(*(short_line(value) for value in values))


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_from_ns(nanoseconds: int, time_type: Any) -> Any:
    """A builtin_interfaces/Time, of the given class, from nanoseconds."""
    sec, nanosec = divmod(int(nanoseconds), 1_000_000_000)
    return time_type(sec=sec, nanosec=nanosec)


def frame_name(frame_id: str) -> str:
    """A frame as TF knows it: without blanks around it, and without the leading slashes of ROS 1, which tf2 drops."""
    return str(frame_id).strip().lstrip("/").strip()


def without_prefix(frame: str) -> str:
    """The last part of a frame: ``car1/lidar`` is vehicle car1's ``lidar`` (``tf_prefix``)."""
    return frame.rpartition("/")[2]


def nearest_frame_hint(frame: str, known: Iterable[str]) -> str:
    """End of an error about an unknown frame: the known one with another prefix or spelling; empty without any."""
    names = sorted({name for name in known if name})
    if not names or frame in names:
        return ""
    same = [name for name in names if without_prefix(name) == without_prefix(frame)]
    by_lower = {name.lower(): name for name in names}
    found = same or [by_lower[name] for name in get_close_matches(frame.lower(), by_lower, 1)]
    return f"; no transform has the frame {quoted(frame)}" + (f", but {quoted(found[0])}" if found else "")


def static_transforms(msg: Any) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Transforms of a tf2_msgs/TFMessage: (parent, child) to the (4, 4) matrix M with p_parent = M @ p_child."""
    return dict(frames_and_pose(stamped) for stamped in msg.transforms)


def frames_and_pose(stamped: Any) -> tuple[tuple[str, str], NDArray[np.float64]]:
    """(parent, child) of a geometry_msgs/TransformStamped, and the (4, 4) matrix M with p_parent = M @ p_child.

    Raises:
        ConfigError: the quaternion is not a rotation, or the translation is not finite.
    """
    t, q = stamped.transform.translation, stamped.transform.rotation
    frames = (frame_name(stamped.header.frame_id), frame_name(stamped.child_frame_id))
    try:
        return frames, transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    except ConfigError as error:
        raise ConfigError(f"transform from {quoted(frames[0])} to {quoted(frames[1])}: {error}") from error
