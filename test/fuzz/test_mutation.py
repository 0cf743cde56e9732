"""Harm that can be done again, of every kind, and messages that ROS could have sent."""

import json

import pytest

pytest.importorskip("rosbags")

from test.fuzz import good_messages as good
from test.fuzz.mutation import DEEP, Mutator
from test.fuzz.ros_messages import TYPES, mutated, random_message

MAKERS = [good.cloud, good.raw_image, good.compressed_image, good.calibration, good.transforms]


def serialized(message):
    return bytes(TYPES.serialize_cdr(message, message.__msgtype__))


@pytest.mark.parametrize("maker", MAKERS)
def test_the_same_numbers_make_the_same_message(maker):
    once, again = ([serialized(mutated(Mutator.of("x", 3, n), maker)) for n in range(30)] for _ in range(2))
    assert once == again
    assert len(set(once)) > 20
    assert once != [serialized(mutated(Mutator.of("x", 4, n), maker)) for n in range(30)]


@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_made_can_be_sent_and_is_what_was_sent(maker):
    for number in range(60):
        data = serialized(mutated(Mutator.of("sent", 0, number), maker))
        assert serialized(TYPES.deserialize_cdr(data, maker(Mutator.of("x", 0, 0)).__msgtype__)) == data


def test_random_messages_are_of_every_type_of_field():
    for msgtype in ("sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState", "tf2_msgs/msg/TFMessage"):
        sent = [serialized(random_message(Mutator.of(msgtype, 0, number), msgtype)) for number in range(20)]
        assert len(set(sent)) > 15, "they differ"
        assert all(serialized(TYPES.deserialize_cdr(data, msgtype)) == data for data in sent)


def test_every_kind_of_harm_happens_to_bytes():
    whole = bytes(range(1, 201)) * 5
    harmed = [Mutator.of("bytes", 0, n).harmed_bytes(whole, most=1) for n in range(300)]
    assert all(any(len(data) * sign > len(whole) * sign for data in harmed) for sign in (1, -1))
    assert any(len(data) == len(whole) and b"\0" in data for data in harmed)
    assert sum(data != whole for data in harmed) > 280
    assert Mutator.of("bytes", 0, 0).harmed_bytes(b"") is not None


def test_every_kind_of_harm_happens_to_json():
    whole = {"name": "x", "numbers": [1, 2, 3], "inner": {"a": 1.5}}
    harmed = [Mutator.of("json", 0, n).harmed_json(whole) for n in range(400)]
    assert whole == {"name": "x", "numbers": [1, 2, 3], "inner": {"a": 1.5}}, "it stays as it is"
    texts = [Mutator.of("text", 0, n).json_text(value) for n, value in enumerate(harmed)]
    assert any(len(text) > 100_000 for text in texts), "lists that are too deep"
    tables = [value for value in harmed if isinstance(value, dict)]
    assert any("name" not in table for table in tables)
    assert any(isinstance(table.get("numbers"), list) and len(table["numbers"]) == 4 for table in tables)
    assert any(b"NaN" in text for text in texts) and any(b"Infinity" in text for text in texts)
    assert json.loads(Mutator.of("text", 0, 1).json_text({"a": 1})) == {"a": 1}
    assert DEEP not in str(texts)
