"""Conversion between PointCloud2 messages and core types.

Works with the messages of rclpy and of the rosbags library, which have the same attribute names. Neither library is
imported; the caller passes the classes to construct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.usable_points import UsableMask, is_labelled
from xmodelkd_ros.messages.point_layout import (
    Column,
    PointLayout,
    allocate_data,
    extended,
    is_known_datatype,
    to_float32,
    write_points,
)
from xmodelkd_ros.messages.point_layout import MessageTypes as MessageTypes

INTENSITY_FIELDS = ("intensity", "i", "reflectivity", "intensities", "reflectance", "remission")
"""Names of the intensity field; the first that exists is used. Velodyne, Hesai, Livox, RoboSense and Ouster drivers and
Autoware write ``intensity``, clouds converted from datasets ``i`` or ``remission``, Ouster's native point types and
Livox's custom ones ``reflectivity``, Luminar ``reflectance``. Ouster's ``signal`` and ``near_ir`` count photons."""

RING_FIELDS = ("ring", "channel", "laser_id", "laser_number")
"""Names of the beam number field; the first that exists is used. Most drivers write ``ring``, Autoware ``channel``,
datasets ``laser_id`` or ``laser_number``. Livox's ``line`` and Aeva's ``beam_id`` stand for no constant elevation."""

LABEL_FIELD, AUTOWARE_LABEL_FIELD = "label", "class_id"
"""Names of the class ids: in labelled clouds, and as ground truth in recorded ones; the second in Autoware's layout."""
_PROBABILITY, _ENTROPY = "probability", "entropy"

MissingIntensity = Literal["reject", "fill"]
"""What to do with a cloud without intensity: reject it, or fill in zeros."""

MissingIntensityOption = Literal["auto", "reject", "fill"]
"""The same as an option; auto: fill for a model that was trained without intensity too, else reject."""


def missing_intensity_policy(
    models: Sequence[ModelSpec], configured: MissingIntensityOption = "auto"
) -> MissingIntensity:
    """What to do with clouds without intensity, for some models; ``fill`` if none uses intensity at all."""
    if not any(model.uses_intensity for model in models):
        return "fill"
    if configured == "auto":
        return "reject" if any(model.needs_intensity for model in models) else "fill"
    return configured


def to_cloud(msg: Any, missing_intensity: MissingIntensity = "reject") -> PointCloud:
    """Decode a PointCloud2 of any layout.

    Every point is kept, including NaN, infinite and zero positions. Only the first element of fields with several
    elements is read. Fields that are not read may be anything. Little-endian float32 values are views into the message
    if rows are contiguous.

    Args:
        msg: sensor_msgs/PointCloud2, ``data`` as bytes, array.array, numpy array or memoryview.
        missing_intensity: ``reject`` a cloud without an intensity field, or ``fill`` with zeros.

    Returns:
        Positions in the message's frame, intensity, and ring if the cloud has it.

    Raises:
        CloudError: x, y, z or intensity is missing, or the declared layout is inconsistent.
    """
    layout = PointLayout.from_message(msg)
    if len(layout) == 0:
        # Fields may be undeclared in a cloud without points.
        empty = np.zeros((0, 3), np.float32)
        return PointCloud(empty, empty[:, 0], None, layout.height, layout.width)
    return PointCloud(layout.xyz(), _intensity(layout, missing_intensity), _ring(layout), layout.height, layout.width)


def _intensity(layout: PointLayout, missing: MissingIntensity) -> NDArray[np.float32]:
    field = layout.find(INTENSITY_FIELDS)
    if field is not None and (missing == "reject" or is_known_datatype(field)):
        return to_float32(layout.values(field))
    if missing == "fill":
        return np.zeros(len(layout), np.float32)
    raise CloudError(
        f"the cloud has no field {' or '.join(INTENSITY_FIELDS)}; it has {layout.field_names}. "
        "To use zeros, set missing_intensity to 'fill' (node), or give --missing-intensity fill (xmodelkd)"
    )


def _ring(layout: PointLayout) -> NDArray[np.integer] | None:
    field = layout.find(RING_FIELDS)
    if field is None or not is_known_datatype(field):  # nothing needs the ring
        return None
    values = layout.values(field)
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        # Converted bags store everything as float; -1 means no beam.
        return np.where(np.isfinite(values), values, -1).clip(-1, 65535).astype(np.int32)
    return values


def used_fields(msg: Any) -> dict[str, str]:
    """Names of the fields that :func:`to_cloud` reads as ``intensity`` and ``ring``; empty where there is none."""
    layout = PointLayout(msg.data, msg.fields, "<", 0, 0, 0, 0)
    found = {"intensity": layout.find(INTENSITY_FIELDS), "ring": layout.find(RING_FIELDS)}
    return {use: "" if field is None else str(field.name) for use, field in found.items()}


def has_field(msg: Any, name: str) -> bool:
    """Whether a PointCloud2 declares a field with this name."""
    return any(f.name == name for f in msg.fields)


def read_field(msg: Any, name: str) -> NDArray[Any]:
    """(N,) values of one field of a PointCloud2, in its own type and native byte order.

    Raises:
        CloudError: the field is missing, or the declared layout is inconsistent.
    """
    layout = PointLayout.from_message(msg)
    return layout.values(layout.require(name))


def _xyz_columns(xyz: NDArray[np.float32]) -> list[Column]:
    return [Column(name, 4 * axis, "f4", xyz[:, axis]) for axis, name in enumerate("xyz")]


def labels_to_msg(
    cloud: PointCloud, segmentation: Segmentation, header: Any, types: MessageTypes, label_field: str = LABEL_FIELD
) -> Any:
    """Encode a labelled cloud.

    x, y, z FLOAT32 at 0, 4, 8, label UINT8 at 12, probability FLOAT32 at 16, entropy FLOAT32 at 20, point_step 24.
    With ``class_id`` as the label field this is Autoware's PointXYZCPE.

    Args:
        cloud: the segmented sweep; the message has its points in the same order and organisation.
        segmentation: one label per point; ``is_dense`` is false if any is 255.
        header: the input's header.
        types: the classes to construct.
        label_field: ``label``, or ``class_id`` for Autoware.

    Raises:
        CloudError: cloud and segmentation differ in length.
    """
    if len(segmentation) != len(cloud):
        raise CloudError(f"{len(segmentation)} labels for {len(cloud)} points")
    columns = [
        *_xyz_columns(cloud.xyz),
        Column(label_field, 12, "u1", segmentation.label),
        Column(_PROBABILITY, 16, "f4", segmentation.probability),
        Column(_ENTROPY, 20, "f4", segmentation.entropy),
    ]
    is_dense = not bool((segmentation.label == IGNORE).any())
    return write_points(header, (cloud.height, cloud.width), columns, 24, is_dense, types)


def with_labels(msg: Any, segmentation: Segmentation, types: MessageTypes, label_field: str = LABEL_FIELD) -> Any:
    """A copy of a cloud with its points' labels: all of its fields, then label, probability and entropy.

    Organisation, byte order, field layout and padding within the points stay; padding of rows is left out. The new
    fields are UINT8, FLOAT32 and FLOAT32 at the next multiples of 4. Probability and entropy are called
    ``predicted_probability`` and ``predicted_entropy`` where the cloud has fields of these names.

    Args:
        msg: the cloud, of any layout.
        segmentation: one label per point; ``is_dense`` is false if any is 255.
        types: the classes to construct.
        label_field: name of the field of class ids.

    Raises:
        CloudError: cloud and segmentation differ in length, the cloud has a field of that name already, or the declared
            layout is inconsistent.
    """
    layout = PointLayout.from_message(msg)
    if len(segmentation) != len(layout):
        raise CloudError(f"{len(segmentation)} labels for {len(layout)} points")
    if has_field(msg, label_field):
        raise CloudError(f"the cloud has a field '{label_field}' already; give another name for the labels")
    names = [f"predicted_{name}" if has_field(msg, name) else name for name in (_PROBABILITY, _ENTROPY)]
    base = -(-layout.point_step // 4) * 4
    columns = [
        Column(label_field, base, "u1", segmentation.label),
        Column(names[0], base + 4, "f4", segmentation.probability),
        Column(names[1], base + 8, "f4", segmentation.entropy),
    ]
    is_dense = bool(msg.is_dense) and not bool((segmentation.label == IGNORE).any())
    return extended(msg, layout, columns, base + 12, is_dense, types)


def read_segmentation(msg: Any, label_field: str = LABEL_FIELD) -> Segmentation:
    """Decode a labelled cloud, the inverse of :func:`labels_to_msg` and :func:`with_labels`.

    Raises:
        CloudError: the label field is missing, or the declared layout is inconsistent.
    """
    return Segmentation(np.asarray(read_field(msg, label_field), np.uint8), *read_certainty(msg))


def read_certainty(msg: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N,) probability and (N,) entropy of the labels in a cloud; NaN where it has none, as beside ground truth.

    Raises:
        CloudError: the declared layout is inconsistent.
    """
    probability, entropy = (_values_beside_labels(msg, name) for name in (_PROBABILITY, _ENTROPY))
    return probability, entropy


def _values_beside_labels(msg: Any, name: str) -> NDArray[np.float32]:
    """(N,) values of a field whose name :func:`with_labels` may have changed."""
    found = next((n for n in (f"predicted_{name}", name) if has_field(msg, n)), None)
    if found is None:
        return np.full(int(msg.width) * int(msg.height), np.nan, np.float32)
    return np.asarray(read_field(msg, found), np.float32)


def is_labelled_cloud(msg: Any, usable: UsableMask) -> bool | None:
    """Whether the usable points of a labelled cloud have labels, at least 99 % of them; None for any other cloud.

    Args:
        msg: a PointCloud2.
        usable: mask of the points that must have labels.
    """
    if not (has_field(msg, LABEL_FIELD) and has_field(msg, _ENTROPY)):
        return None
    layout = PointLayout.from_message(msg)
    return is_labelled(usable(layout.xyz()), layout.values(layout.require(LABEL_FIELD)))


def colored_to_msg(
    cloud: PointCloud, label: NDArray[np.uint8], label_map: LabelMap, header: Any, types: MessageTypes
) -> Any:
    """Encode x, y, z and the class colours for RViz: ``rgb``, a FLOAT32 field with the bits 0x00RRGGBB."""
    red, green, blue = label_map.palette.astype(np.uint32).T
    rgb = (red << 16 | green << 8 | blue).view(np.float32)[label]
    columns = [*_xyz_columns(cloud.xyz), Column("rgb", 12, "f4", rgb)]
    return write_points(header, (cloud.height, cloud.width), columns, 16, _is_finite(cloud.xyz), types)


def truth_to_msg(
    cloud: PointCloud,
    label: NDArray[np.uint8],
    header: Any,
    types: MessageTypes,
    time_s: NDArray[np.float32] | None = None,
) -> Any:
    """Encode a sweep with ground truth, point_step 20, or 24 with times.

    Fields: x, y, z, ``intensity`` FLOAT32, ``label`` UINT8 @16, ``ring`` UINT16 @18 if the cloud has it, and
    ``time`` FLOAT32 @20 if times are given (seconds from the header's stamp to the firing of each point).

    Raises:
        CloudError: the cloud has no intensity.
    """
    if cloud.intensity is None:
        raise CloudError("a sweep with ground truth needs intensity")
    columns = [
        *_xyz_columns(cloud.xyz),
        Column("intensity", 12, "f4", cloud.intensity),
        Column(LABEL_FIELD, 16, "u1", label),
        *([] if cloud.ring is None else [Column("ring", 18, "u2", cloud.ring)]),
        *([] if time_s is None else [Column("time", 20, "f4", time_s)]),
    ]
    step = 20 if time_s is None else 24
    return write_points(header, (cloud.height, cloud.width), columns, step, _is_finite(cloud.xyz), types)


def _is_finite(xyz: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(xyz).all())


def filter_msg(msg: Any, keep: NDArray[np.bool_]) -> Any:
    """Copy a PointCloud2 with only some of its points, in one row and with the same layout.

    Args:
        msg: the input cloud; all fields are copied byte for byte.
        keep: (N,) mask of the points to copy.

    Raises:
        CloudError: the mask has another length, or the declared layout is inconsistent.
    """
    layout = PointLayout.from_message(msg)
    if keep.shape != (len(layout),):
        raise CloudError(f"mask of shape {keep.shape} for {len(layout)} points")
    width = int(np.count_nonzero(keep))
    result = type(msg)(
        header=msg.header,
        height=1,
        width=width,
        fields=msg.fields,
        is_bigendian=layout.byte_order == ">",
        point_step=msg.point_step,
        row_step=width * msg.point_step,
        data=b"",
        is_dense=msg.is_dense,
    )
    data = allocate_data(result, width * layout.point_step)
    if width:
        np.compress(keep, layout.records(), out=data.view((np.void, layout.point_step)))
    return result
