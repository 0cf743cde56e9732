"""PointCloud2 decoding against struct.unpack, and encoding round trips."""

from __future__ import annotations

import array
import itertools
import os
import struct
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, message_class
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import LabelClass, LabelMap
from xmodelkd_ros.messages import clouds

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
try:
    import sensor_msgs.msg
    import std_msgs.msg
except ImportError:
    sensor_msgs = None
try:
    from sensor_msgs_py import point_cloud2
except ImportError:
    point_cloud2 = None

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64, INT64, UINT64, BOOLEAN = range(1, 12)
STRUCT_CODES = dict(enumerate("bBhHiIfdqQ?", start=INT8))


@dataclass(frozen=True)
class Family:
    """Message classes of one library."""

    name: str
    types: clouds.MessageTypes

    def header(self, frame_id: str = "lidar") -> Any:
        if self.name == "rclpy":
            header = std_msgs.msg.Header(frame_id=frame_id)
            header.stamp.sec, header.stamp.nanosec = 12, 34
            return header
        stamp = message_class("builtin_interfaces/msg/Time")(sec=12, nanosec=34)
        return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


ROSBAGS = Family("rosbags", ROSBAGS_TYPES)
FAMILIES = [ROSBAGS]
if sensor_msgs is not None:
    FAMILIES.append(Family("rclpy", clouds.MessageTypes(sensor_msgs.msg.PointCloud2, sensor_msgs.msg.PointField)))
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def test_rclpy_messages_are_tested():
    if sensor_msgs is None:
        pytest.skip("ROS messages for Python are not installed: only the classes of rosbags are tested")
    assert [f.name for f in FAMILIES] == ["rosbags", "rclpy"]


@dataclass(frozen=True)
class FieldSpec:
    name: str
    offset: int
    datatype: int
    count: int = 1

    @property
    def end(self) -> int:
        return self.offset + struct.calcsize(STRUCT_CODES[self.datatype]) * max(self.count, 1)

    def point_field(self, types: clouds.MessageTypes) -> Any:
        return types.PointField(name=self.name, offset=self.offset, datatype=self.datatype, count=self.count)


@dataclass(frozen=True)
class CloudSpec:
    """A PointCloud2 as plain numbers; ``values[name]`` has one value for each point."""

    fields: list[FieldSpec]
    values: dict[str, list[float]] = field(default_factory=dict)
    height: int = 1
    width: int = 0
    point_step: int = 16
    row_padding: int = 0
    big_endian: bool = False

    @property
    def row_step(self) -> int:
        return self.width * self.point_step + self.row_padding

    def bytes(self) -> bytearray:
        # Not zero, so that out-of-bounds reads show.
        data = bytearray(b"\xab" * (self.height * self.row_step))
        order = ">" if self.big_endian else "<"
        for f, index in itertools.product(self.fields, range(self.height * self.width)):
            row, column = divmod(index, self.width)
            start = row * self.row_step + column * self.point_step + f.offset
            struct.pack_into(order + STRUCT_CODES[f.datatype], data, start, self.values[f.name][index])
        return data

    def message(self, family: Family, **changes: Any) -> Any:
        layout = {
            "header": family.header(),
            "height": self.height,
            "width": self.width,
            "fields": [f.point_field(family.types) for f in self.fields],
            "is_bigendian": self.big_endian,
            "point_step": self.point_step,
            "row_step": self.row_step,
            "is_dense": False,
            "data": self.bytes(),
        }
        layout.update(changes)
        if family.name == "rosbags" and isinstance(layout["data"], bytearray):
            layout["data"] = np.frombuffer(bytes(layout["data"]), np.uint8)
        return family.types.PointCloud2(**layout)

    def expected(self, name: str) -> np.ndarray:
        """The values converted to the declared type by struct."""
        datatype = next(f.datatype for f in self.fields if f.name == name)
        code = "<" + STRUCT_CODES[datatype]
        return np.array([struct.unpack(code, struct.pack(code, v))[0] for v in self.values[name]])


def plain_cloud(points: int = 3, **changes: Any) -> CloudSpec:
    fields = [FieldSpec(name, 4 * i, FLOAT32) for i, name in enumerate(("x", "y", "z", "intensity"))]
    values = {f.name: [10.0 * i + k for k in range(points)] for i, f in enumerate(fields)}
    return replace(CloudSpec(fields, values, width=points), **changes)


def value_strategy(datatype: int) -> st.SearchStrategy[float]:
    if datatype in (FLOAT32, FLOAT64):
        return st.floats(width=32 if datatype == FLOAT32 else 64) | st.just(0.0)
    if datatype == BOOLEAN:
        return st.booleans()
    size = 8 * struct.calcsize(STRUCT_CODES[datatype])
    signed = datatype in (INT8, INT16, INT32, INT64)
    return st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1) if signed else st.integers(0, 2**size - 1)


@st.composite
def layouts(draw: st.DrawFn, any_datatype: bool = True) -> CloudSpec:
    """Random order, gaps, types, counts, padding, organisation and byte order."""
    optional = draw(st.lists(st.sampled_from(["intensity", "ring", "time", "tag"]), unique=True))
    names = draw(st.permutations(["x", "y", "z", *optional]))
    datatypes = st.integers(INT8, BOOLEAN) if any_datatype else st.just(FLOAT32)
    fields, end = [], 0
    for name in names:
        count = draw(st.sampled_from([1, 1, 1, 0, 3]))
        fields.append(FieldSpec(name, end + draw(st.integers(0, 5)), draw(datatypes), count))
        end = fields[-1].end
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    values = {
        f.name: draw(st.lists(value_strategy(f.datatype), min_size=height * width, max_size=height * width))
        for f in fields
    }
    point_step = end + draw(st.integers(0, 9))
    return CloudSpec(fields, values, height, width, point_step, draw(st.integers(0, 7)), draw(st.booleans()))


def as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(family=st.sampled_from(FAMILIES), spec=layouts())
def test_decodes_every_layout_as_struct_does(family: Family, spec: CloudSpec):
    cloud = clouds.to_cloud(spec.message(family), missing_intensity="fill")

    assert (cloud.height, cloud.width) == (spec.height, spec.width)
    assert cloud.xyz.dtype == np.float32 and cloud.intensity.dtype == np.float32
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(cloud.xyz[:, axis], as_float32(spec.expected(name)))
    if "intensity" in spec.values:
        np.testing.assert_array_equal(cloud.intensity, as_float32(spec.expected("intensity")))
    else:
        np.testing.assert_array_equal(cloud.intensity, np.zeros(len(cloud)))
    assert (cloud.ring is not None) == ("ring" in spec.values)


@settings(max_examples=100, deadline=None)
@given(family=st.sampled_from(FAMILIES), spec=layouts())
def test_reads_every_field_in_its_type_and_native_order(family: Family, spec: CloudSpec):
    message = spec.message(family)
    for f in spec.fields:
        values = clouds.read_field(message, f.name)
        assert values.dtype == np.dtype(STRUCT_CODES[f.datatype])
        np.testing.assert_array_equal(values, spec.expected(f.name))
        assert clouds.has_field(message, f.name)
    assert not clouds.has_field(message, "label")


@settings(max_examples=100, deadline=None)
@given(family=st.sampled_from(FAMILIES), spec=layouts(), data=st.data())
def test_filter_keeps_point_bytes(family: Family, spec: CloudSpec, data: st.DataObject):
    points = spec.height * spec.width
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=points, max_size=points)))
    message = spec.message(family)

    kept = clouds.filter_msg(message, keep)

    assert type(kept) is family.types.PointCloud2
    assert (kept.height, kept.width, kept.row_step) == (1, keep.sum(), keep.sum() * spec.point_step)
    assert (kept.header, kept.fields, kept.point_step) == (message.header, message.fields, message.point_step)
    rows = np.frombuffer(bytes(spec.bytes()), np.uint8).reshape(spec.height, spec.row_step)
    steps = rows[:, : spec.width * spec.point_step].reshape(points, spec.point_step)
    assert bytes(kept.data) == steps[keep].tobytes()


@families
def test_positions_and_intensity_are_views(family: Family):
    message = plain_cloud().message(family)
    cloud = clouds.to_cloud(message)
    for values in (cloud.xyz, cloud.intensity):
        assert np.shares_memory(values, np.frombuffer(message.data, np.uint8))
        assert not values.flags.writeable


@pytest.mark.parametrize(
    "buffer", [bytes, lambda d: array.array("B", d), lambda d: np.frombuffer(d, np.uint8), memoryview]
)
def test_accepts_any_buffer(buffer: Any):
    spec = plain_cloud()
    cloud = clouds.to_cloud(spec.message(ROSBAGS, data=buffer(bytes(spec.bytes()))))
    np.testing.assert_array_equal(cloud.xyz, np.array([spec.values[n] for n in "xyz"]).T)


@pytest.mark.parametrize(("height", "width"), [(0, 0), (1, 0), (0, 5), (64, 0), (0, 2**32 - 1)])
@families
def test_accepts_empty_clouds_with_any_layout(family: Family, height: int, width: int):
    spec = CloudSpec([], {}, height=height, width=width, point_step=0)
    cloud = clouds.to_cloud(spec.message(family, data=bytearray()))
    assert (len(cloud), cloud.height, cloud.width) == (0, height, width)

    nothing = np.zeros(0, np.float32)
    labelled = clouds.labels_to_msg(
        cloud, Segmentation(np.zeros(0, np.uint8), nothing, nothing), family.header(), family.types
    )
    assert (labelled.height, labelled.width, len(labelled.data)) == (height, width, 0)
    assert len(clouds.filter_msg(labelled, np.zeros(0, bool)).data) == 0


@families
def test_finds_intensity_by_documented_names_only(family: Family):
    for name in clouds.INTENSITY_FIELDS:
        spec = plain_cloud()
        spec.fields[3] = FieldSpec(name, 12, FLOAT32)
        spec.values[name] = spec.values["intensity"]
        np.testing.assert_array_equal(clouds.to_cloud(spec.message(family)).intensity, spec.values["intensity"])
    spec.fields[3] = FieldSpec("signal", 12, FLOAT32)
    spec.values["signal"] = spec.values["intensity"]
    with pytest.raises(CloudError, match=r"no field intensity or i or reflectivity or .*; it has x, y, z, signal"):
        clouds.to_cloud(spec.message(family))
    np.testing.assert_array_equal(clouds.to_cloud(spec.message(family), "fill").intensity, [0, 0, 0])


def test_prefers_intensity_to_reflectivity():
    spec = plain_cloud(point_step=20)
    spec.fields.insert(0, FieldSpec("reflectivity", 16, UINT16))
    spec.values["reflectivity"] = [7, 8, 9]
    np.testing.assert_array_equal(clouds.to_cloud(spec.message(ROSBAGS)).intensity, spec.values["intensity"])


@pytest.mark.parametrize("name", clouds.RING_FIELDS)
@pytest.mark.parametrize("datatype", [UINT8, UINT16, INT32, UINT64, FLOAT32])
def test_rings_are_integers(name: str, datatype: int):
    spec = plain_cloud(point_step=24)
    spec.fields.append(FieldSpec(name, 16, datatype))
    spec.values[name] = [0, 63, 127]
    ring = clouds.to_cloud(spec.message(ROSBAGS)).ring
    assert ring.dtype.kind in "iu"
    np.testing.assert_array_equal(ring, [0, 63, 127])


def test_invalid_rings_become_minus_one():
    spec = plain_cloud(point_step=20)
    spec.fields.append(FieldSpec("ring", 16, FLOAT32))
    spec.values["ring"] = [float("nan"), float("-inf"), 1e30]
    np.testing.assert_array_equal(clouds.to_cloud(spec.message(ROSBAGS)).ring, [-1, -1, 65535])


CONTRADICTIONS = {
    "point_step is 0": {"point_step": 0},
    "data holds 47 bytes, but height 1 x width 3 points of 16 bytes take 48": {"data": bytearray(47)},
    "data holds 0 bytes": {"data": bytearray()},
    "data holds 48 bytes, but height 2": {"height": 2},
    f"data holds 48 bytes, but height 1 x width {2**32 - 1}": {"width": 2**32 - 1},
    f"data holds 48 bytes, but height {2**32 - 1}": {"height": 2**32 - 1},
    "field 'z' ends at byte 12, but point_step is 9": {"point_step": 9, "row_step": 27},
}


@pytest.mark.parametrize("message_part", CONTRADICTIONS)
@families
def test_rejects_inconsistent_sizes(family: Family, message_part: str):
    message = plain_cloud().message(family, **CONTRADICTIONS[message_part])
    with pytest.raises(CloudError, match=message_part):
        clouds.to_cloud(message)


@pytest.mark.parametrize(
    ("bad", "message_part"),
    [
        (FieldSpec("z", 8, 0), "field 'z' has datatype 0; PointField defines 1 to 11"),
        (FieldSpec("z", 8, 12), "field 'z' has datatype 12"),
        (FieldSpec("z", 13, FLOAT32), "field 'z' ends at byte 17, but point_step is 16"),
        (FieldSpec("z", 2**32 - 1, FLOAT32), f"field 'z' ends at byte {2**32 + 3}"),
        (FieldSpec("z", 8, FLOAT32, 2**32 - 1), "field 'z' ends at byte 17179869188"),
        (FieldSpec("zz", 8, FLOAT32), "the cloud has no field 'z'; it has x, y, zz, intensity"),
        (FieldSpec("X", 8, FLOAT32), "the cloud has no field 'z'; it has x, y, X, intensity"),
        (FieldSpec("x", 8, FLOAT32), "the cloud has 2 fields named 'x'"),
    ],
)
@families
def test_rejects_invalid_fields(family: Family, bad: FieldSpec, message_part: str):
    message = plain_cloud().message(family)
    message.fields[2] = bad.point_field(family.types)
    with pytest.raises(CloudError, match=message_part):
        clouds.to_cloud(message)


@pytest.mark.parametrize("row_step", [0, 1, 3, 16, 47, 48, 49, 51, 2**32 - 1])
@pytest.mark.parametrize("excess", [0, 5, 16])
@families
def test_row_step_of_a_single_row_has_no_meaning(family: Family, row_step: int, excess: int):
    spec = plain_cloud()
    message = spec.message(family, row_step=row_step, data=spec.bytes() + bytearray(excess))
    np.testing.assert_array_equal(clouds.to_cloud(message).xyz, np.array([spec.values[n] for n in "xyz"]).T)
    kept = clouds.filter_msg(message, np.array([True, False, True]))
    assert (kept.width, kept.row_step, len(kept.data)) == (2, 32, 32)
    np.testing.assert_array_equal(clouds.to_cloud(kept).xyz[:, 0], [spec.values["x"][0], spec.values["x"][2]])


def organised(padding: int, height: int = 4, width: int = 25) -> CloudSpec:
    """Rows of a scan, with bytes that are no coordinates where there is no point."""
    values = np.random.default_rng(0).uniform(2, 50, (4, height * width)).astype(np.float32).tolist()
    spec = plain_cloud(height=height, width=width, row_padding=padding)
    return replace(spec, values=dict(zip(("x", "y", "z", "intensity"), values, strict=True)))


@pytest.mark.parametrize("declared", ["0", "1", "width", "point_step", "packed", "packed + 8", "right", "huge"])
@pytest.mark.parametrize("padding", [0, 1, 12, 32, 400])
@pytest.mark.parametrize("height", [2, 4])
@pytest.mark.parametrize("last_row", ["whole", "short"])
def test_size_of_the_data_settles_the_row_step(declared: str, padding: int, height: int, last_row: str):
    spec = organised(padding, height)
    sizes = {"width": 25, "point_step": 16, "packed": 400, "packed + 8": 408, "right": spec.row_step, "huge": 2**31}
    data = spec.bytes()
    data = data[: len(data) - padding] if last_row == "short" else data
    message = spec.message(ROSBAGS, row_step=sizes.get(declared, 0), data=data)
    cloud = clouds.to_cloud(message)
    np.testing.assert_array_equal(cloud.xyz, np.array([spec.expected(n) for n in "xyz"]).T)
    assert (cloud.height, cloud.width) == (height, 25)
    kept = clouds.filter_msg(message, np.arange(len(cloud)) % 3 == 0)
    np.testing.assert_array_equal(clouds.to_cloud(kept).xyz, cloud.xyz[::3])


@pytest.mark.parametrize("excess", [1, 4, 16, 64, 1600, 4096])
@pytest.mark.parametrize("fill", [0x00, 0xAB, 0xFF])
@pytest.mark.parametrize("padding", [0, 8])
def test_bytes_after_the_last_row_are_not_read(excess: int, fill: int, padding: int):
    spec = organised(padding)
    message = spec.message(ROSBAGS, data=spec.bytes() + bytearray([fill] * excess))
    np.testing.assert_array_equal(clouds.to_cloud(message).xyz[:, 0], spec.expected("x"))


def test_rows_padded_by_whole_points_are_recognised():
    spec = organised(32)
    data = bytearray(len(spec.bytes()))
    for row in range(4):
        data[row * 432 : row * 432 + 400] = spec.bytes()[row * 432 : row * 432 + 400]
    for declared in (0, 400):
        cloud = clouds.to_cloud(spec.message(ROSBAGS, row_step=declared, data=data))
        np.testing.assert_array_equal(cloud.xyz[:, 2], spec.expected("z"))


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("data_is_big", [False, True])
def test_big_endian_flag_of_little_endian_data_is_not_believed(flag: bool, data_is_big: bool):
    """RViz and PCL ignore the flag, so drivers that set it for no reason go unnoticed."""
    spec = organised(0)
    message = replace(spec, big_endian=data_is_big).message(ROSBAGS, is_bigendian=flag)
    if data_is_big and not flag:
        return  # no driver is known to do this
    cloud = clouds.to_cloud(message)
    np.testing.assert_array_equal(cloud.xyz[:, 1], spec.expected("y"))
    np.testing.assert_array_equal(cloud.intensity, spec.expected("intensity"))
    kept = clouds.filter_msg(message, np.ones(len(cloud), bool))
    assert kept.is_bigendian == data_is_big
    np.testing.assert_array_equal(clouds.to_cloud(kept).xyz, cloud.xyz)


def test_capitals_of_field_names_do_not_count():
    spec = plain_cloud(point_step=20)
    spec.fields[:] = [replace(f, name=name) for f, name in zip(spec.fields, ("X", "Y", "Z", "Intensity"), strict=True)]
    spec.fields.append(FieldSpec("Ring", 16, UINT16))
    spec.values.update({f.name: [1, 2, 3] for f in spec.fields})
    cloud = clouds.to_cloud(spec.message(ROSBAGS))
    np.testing.assert_array_equal(cloud.xyz, [[1] * 3, [2] * 3, [3] * 3])
    np.testing.assert_array_equal(cloud.ring, [1, 2, 3])
    assert clouds.used_fields(spec.message(ROSBAGS)) == {"intensity": "Intensity", "ring": "Ring"}


@pytest.mark.parametrize("datatype", [INT64, UINT64, BOOLEAN])
@families
def test_newer_datatypes_are_read_and_passed_on(family: Family, datatype: int):
    spec = plain_cloud(point_step=24)
    spec.fields.append(FieldSpec("extra", 16, datatype))
    spec.values["extra"] = [True, False, True] if datatype == BOOLEAN else [2**62 + 1, 0, 7]
    message = spec.message(family)
    assert len(clouds.to_cloud(message)) == 3
    np.testing.assert_array_equal(clouds.read_field(message, "extra"), spec.values["extra"])
    kept = clouds.filter_msg(message, np.array([True, True, False]))
    np.testing.assert_array_equal(clouds.read_field(kept, "extra"), spec.values["extra"][:2])


@pytest.mark.parametrize("name", ["ring", "channel", "intensity", "time", "tag"])
@pytest.mark.parametrize("datatype", [0, 12, 99, 255])
def test_unknown_datatypes_of_fields_that_are_not_needed_do_not_count(name: str, datatype: int):
    spec = plain_cloud(point_step=20)
    spec.fields[3] = FieldSpec("tag2", 12, FLOAT32)
    spec.values["tag2"] = spec.values["intensity"]
    message = spec.message(ROSBAGS)
    message.fields.append(FieldSpec(name, 16, datatype).point_field(ROSBAGS.types))
    cloud = clouds.to_cloud(message, "fill")
    assert cloud.ring is None and not cloud.intensity.any()
    assert clouds.filter_msg(message, np.ones(3, bool)).fields == message.fields


def test_ignores_invalid_fields_that_are_not_read():
    spec = plain_cloud()
    message = spec.message(ROSBAGS)
    message.fields.append(FieldSpec("extra", 400, 99).point_field(ROSBAGS.types))
    assert len(clouds.to_cloud(message)) == 3
    with pytest.raises(CloudError, match="field 'extra' has datatype 99"):
        clouds.read_field(message, "extra")


@settings(max_examples=200, deadline=None)
@given(
    spec=layouts(any_datatype=False),
    changes=st.dictionaries(
        st.sampled_from(["height", "width", "point_step", "row_step"]), st.integers(0, 2**32 - 1), max_size=4
    ),
    length=st.none() | st.integers(0, 200),
)
def test_raises_only_cloud_error(spec: CloudSpec, changes: dict[str, int], length: int | None):
    if length is not None:
        changes = {**changes, "data": spec.bytes()[:length]}
    try:
        cloud = clouds.to_cloud(spec.message(ROSBAGS, **changes), "fill")
    except CloudError:
        return
    assert len(cloud) <= len(changes.get("data", spec.bytes()))


def segmented(points: int = 4, height: int = 1) -> tuple[PointCloud, Segmentation]:
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    label = rng.integers(0, 13, points).astype(np.uint8)
    probability, entropy = rng.random((2, points), np.float32)
    return PointCloud(xyz, rng.random(points, np.float32), None, height), Segmentation(label, probability, entropy)


@pytest.mark.parametrize("label_field", ["label", "class_id"])
@families
def test_labelled_cloud_layout(family: Family, label_field: str):
    cloud, segmentation = segmented(6, height=2)
    header = family.header("roof")
    message = clouds.labels_to_msg(cloud, segmentation, header, family.types, label_field)

    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, FLOAT32, 1),
        ("y", 4, FLOAT32, 1),
        ("z", 8, FLOAT32, 1),
        (label_field, 12, UINT8, 1),
        ("probability", 16, FLOAT32, 1),
        ("entropy", 20, FLOAT32, 1),
    ]
    assert (message.point_step, message.row_step, len(message.data)) == (24, 72, 144)
    assert (message.height, message.width, message.is_bigendian, message.is_dense) == (2, 3, False, True)
    assert message.header == header
    points = list(struct.iter_unpack("<3fB3x2f", bytes(message.data)))
    columns = (*cloud.xyz.T, segmentation.label, segmentation.probability, segmentation.entropy)
    np.testing.assert_array_equal(np.array(points, np.float32).T, columns)


@pytest.mark.skipif(sensor_msgs is None, reason="ROS messages for Python are not installed")
@families
@settings(max_examples=60, deadline=None)
@given(spec=layouts())
def test_labels_are_added_to_any_layout(family: Family, spec: CloudSpec):
    """Every point keeps its bytes, whatever the fields, the order of bytes and the padding; labels read back."""
    msg = spec.message(family)
    count = msg.height * msg.width
    rng = np.random.default_rng(0)
    label, values = rng.integers(0, 256, count).astype(np.uint8), rng.random((2, count), np.float32)
    labelled = clouds.with_labels(msg, Segmentation(label, *values), family.types, "predicted_label")
    assert (labelled.height, labelled.width, labelled.header) == (msg.height, msg.width, msg.header)
    assert labelled.point_step % 4 == 0 or count == 0
    assert [f.name for f in labelled.fields[: len(msg.fields)]] == [f.name for f in msg.fields]
    before, after = (clouds.PointLayout.from_message(m) for m in (msg, labelled))
    assert after.byte_order == before.byte_order and len(after.data) == count * labelled.point_step
    step = before.point_step
    rows = np.frombuffer(bytes(spec.bytes()), np.uint8).reshape(spec.height, spec.row_step)
    old = rows[:, : spec.width * step].reshape(count, step)
    new = np.frombuffer(bytes(labelled.data), np.uint8).reshape(count, -1)[:, :step]
    np.testing.assert_array_equal(new, old)
    names = ["predicted_label", *(f.name for f in labelled.fields[-2:])]
    for name, expected in zip(names, (label, *values), strict=True):
        np.testing.assert_array_equal(clouds.read_field(labelled, name), expected)


@families
def test_labels_beside_those_that_a_cloud_has(family: Family):
    spec = plain_cloud(3)
    labels = Segmentation(np.array([1, 2, 255], np.uint8), *np.ones((2, 3), np.float32))
    once = clouds.with_labels(spec.message(family), labels, family.types)
    assert not once.is_dense and [f.name for f in once.fields[-3:]] == ["label", "probability", "entropy"]
    with pytest.raises(CloudError, match="has a field 'label' already"):
        clouds.with_labels(once, labels, family.types)
    twice = clouds.with_labels(once, labels, family.types, "predicted_label")
    expected = ["predicted_label", "predicted_probability", "predicted_entropy"]
    assert [f.name for f in twice.fields[-3:]] == expected
    np.testing.assert_array_equal(clouds.read_field(twice, "label"), clouds.read_field(twice, "predicted_label"))
    with pytest.raises(CloudError, match="4 labels for 3 points"):
        clouds.with_labels(
            spec.message(family), Segmentation(np.zeros(4, np.uint8), *np.ones((2, 4), np.float32)), family.types
        )


def test_rclpy_serializes_labelled_clouds():
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    cloud, segmentation = segmented(6, height=2)
    here, there = FAMILIES[1], ROSBAGS
    message = clouds.labels_to_msg(cloud, segmentation, here.header(), here.types)
    raw = serialization.serialize_message(message)
    read = get_typestore(Stores.ROS2_KILTED).deserialize_cdr(raw, "sensor_msgs/msg/PointCloud2")
    expected = clouds.labels_to_msg(cloud, segmentation, there.header(), there.types)
    assert bytes(read.data) == bytes(expected.data)
    assert (read.header, read.fields, read.row_step) == (expected.header, expected.fields, expected.row_step)


@families
def test_invalid_points_clear_is_dense(family: Family):
    cloud, valid = segmented()
    invalid = Segmentation(valid.label.copy(), valid.probability.copy(), valid.entropy.copy())
    invalid.label[1], invalid.probability[1], invalid.entropy[1] = 255, 0, np.nan
    message = clouds.labels_to_msg(cloud, invalid, family.header(), family.types)
    assert message.is_dense is False
    np.testing.assert_array_equal(clouds.read_field(message, "entropy"), invalid.entropy)


def test_rejects_labels_of_another_length():
    with pytest.raises(CloudError, match="3 labels for 4 points"):
        clouds.labels_to_msg(segmented(4)[0], segmented(3)[1], ROSBAGS.header(), ROSBAGS.types)


LABELS = LabelMap("two", (LabelClass(0, "car", (255, 128, 1), ("auto",)), LabelClass(7, "road", (0, 0, 255))))


@families
def test_packs_colours_for_rviz(family: Family):
    cloud, _ = segmented(3)
    message = clouds.colored_to_msg(cloud, np.array([0, 7, 255], np.uint8), LABELS, family.header(), family.types)
    assert [(f.name, f.offset, f.datatype) for f in message.fields][3] == ("rgb", 12, FLOAT32)
    bits = [point[3] for point in struct.iter_unpack("<3fI", bytes(message.data))]
    assert bits == [0x00FF8001, 0x000000FF, 0x00404040]
    np.testing.assert_array_equal(clouds.to_cloud(message, "fill").xyz, cloud.xyz)


@families
def test_ground_truth_round_trip(family: Family):
    cloud, segmentation = segmented(5)
    cloud.xyz[2] = np.nan
    message = clouds.truth_to_msg(cloud, segmentation.label, family.header(), family.types)
    read = clouds.to_cloud(message)
    assert message.is_dense is False
    np.testing.assert_array_equal(read.xyz, cloud.xyz)
    np.testing.assert_array_equal(read.intensity, cloud.intensity)
    np.testing.assert_array_equal(clouds.read_field(message, "label"), segmentation.label)


def test_rejects_ground_truth_without_intensity():
    with pytest.raises(CloudError, match="needs intensity"):
        clouds.truth_to_msg(PointCloud(np.zeros((1, 3), np.float32)), np.zeros(1, np.uint8), None, ROSBAGS.types)


def test_rejects_masks_of_another_length():
    with pytest.raises(CloudError, match=r"mask of shape \(2,\) for 3 points"):
        clouds.filter_msg(plain_cloud().message(ROSBAGS), np.ones(2, bool))


@families
def test_encodes_and_decodes_a_full_sweep_in_milliseconds(family: Family):
    cloud, segmentation = segmented(131_072)
    encode = min(
        _seconds(lambda: clouds.labels_to_msg(cloud, segmentation, family.header(), family.types)) for _ in range(5)
    )
    message = clouds.truth_to_msg(cloud, segmentation.label, family.header(), family.types)
    decode = min(_seconds(lambda: clouds.to_cloud(message)) for _ in range(5))
    # Assigning a numpy array to a rclpy message takes 166 ms, a loop over points seconds.
    assert encode < 0.08 and decode < 0.03


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.skipif(point_cloud2 is None, reason="sensor_msgs_py is not installed: it comes with ROS")
class TestAgainstSensorMsgsPy:
    """Comparison without row padding and big-endian data, which sensor_msgs_py handles incorrectly."""

    @settings(max_examples=100, deadline=None)
    @given(spec=layouts())
    def test_both_read_the_same(self, spec: CloudSpec):
        # sensor_msgs_py renames fields with several elements.
        spec = replace(spec, row_padding=0, big_endian=False, fields=[replace(f, count=1) for f in spec.fields])
        message = spec.message(FAMILIES[1])
        theirs = point_cloud2.read_points(message)
        ours = clouds.to_cloud(message, "fill")
        for axis, name in enumerate("xyz"):
            np.testing.assert_array_equal(ours.xyz[:, axis], as_float32(theirs[name]))
        for f in spec.fields:
            np.testing.assert_array_equal(clouds.read_field(message, f.name), theirs[f.name])

    def test_it_reads_our_labels(self):
        cloud, segmentation = segmented(7)
        message = clouds.labels_to_msg(cloud, segmentation, FAMILIES[1].header(), FAMILIES[1].types)
        points = point_cloud2.read_points(message)
        np.testing.assert_array_equal(points["label"], segmentation.label)
        np.testing.assert_array_equal(points["probability"], segmentation.probability)
        np.testing.assert_array_equal(points["entropy"], segmentation.entropy)
        np.testing.assert_array_equal(point_cloud2.read_points_numpy(message, ["x", "y", "z"]), cloud.xyz)

    def test_we_read_its_clouds(self):
        xyz = segmented(7)[0].xyz
        message = point_cloud2.create_cloud_xyz32(FAMILIES[1].header(), xyz)
        np.testing.assert_array_equal(clouds.to_cloud(message, "fill").xyz, xyz)
