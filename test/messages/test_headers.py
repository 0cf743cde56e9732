"""Label sets, stamps and transforms in messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodelkd_ros.bags.bag import message_class
from xmodelkd_ros.core.errors import LabelError
from xmodelkd_ros.messages import headers
from xmodelkd_ros.resources import label_map


def test_label_info_json_round_trip():
    assert headers.label_map_from_json(headers.label_info_json(label_map("drive13"))) == label_map("drive13")
    for text in ("{", "[]", "[" * 100_000, '{"name": "x"}', '{"name": "x", "classes": [{"id": 0}]}'):
        with pytest.raises(LabelError):
            headers.label_map_from_json(text)


@given(st.integers(-(2**31) * 10**9, (2**31 - 1) * 10**9))
def test_stamps_round_trip_in_nanoseconds(nanoseconds: int):
    stamp = headers.stamp_from_ns(nanoseconds, message_class("builtin_interfaces/msg/Time"))
    assert 0 <= stamp.nanosec < 10**9
    assert headers.stamp_ns(stamp) == nanoseconds


def test_static_transforms_by_frame_pair():
    m = message_class
    pose = m("geometry_msgs/msg/Transform")(
        translation=m("geometry_msgs/msg/Vector3")(x=1.0, y=2.0, z=3.0),
        rotation=m("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=1.0, w=0.0),
    )
    header = m("std_msgs/msg/Header")(m("builtin_interfaces/msg/Time")(sec=12, nanosec=34), "/base_link")
    stamped = m("geometry_msgs/msg/TransformStamped")(header, "lidar", pose)
    transforms = headers.static_transforms(m("tf2_msgs/msg/TFMessage")([stamped]))
    np.testing.assert_allclose(transforms["base_link", "lidar"] @ [1, 0, 0, 1], [0, 2, 3, 1], atol=1e-12)


@pytest.mark.parametrize("frame_id", ["lidar", "/lidar", "//lidar", " lidar", "lidar ", " /lidar\n", "/ lidar"])
def test_frame_names_have_no_leading_slashes_or_blanks(frame_id: str):
    assert headers.frame_name(frame_id) == "lidar"
    assert headers.frame_name(f"/car1/{frame_id.strip(' /')}") == "car1/lidar"
