"""Mutations are reproducible and cover every kind, and mutated messages are serializable."""

import json

import pytest

pytest.importorskip("rosbags")

from test.fuzz import seed_messages
from test.fuzz.mutation import DEEP, Mutator
from test.fuzz.ros_messages import TYPES, mutated, random_message

MAKERS = [
    seed_messages.cloud,
    seed_messages.raw_image,
    seed_messages.compressed_image,
    seed_messages.calibration,
    seed_messages.transforms,
]


def serialized(message):
    return bytes(TYPES.serialize_cdr(message, message.__msgtype__))


@pytest.mark.parametrize("maker", MAKERS)
def test_same_seed_and_number_give_same_message(maker):
    once, again = ([serialized(mutated(Mutator.of("x", 3, n), maker)) for n in range(30)] for _ in range(2))
    assert once == again
    assert len(set(once)) > 20
    assert once != [serialized(mutated(Mutator.of("x", 4, n), maker)) for n in range(30)]


@pytest.mark.parametrize("maker", MAKERS)
def test_mutated_messages_survive_serialization(maker):
    for number in range(60):
        data = serialized(mutated(Mutator.of("sent", 0, number), maker))
        assert serialized(TYPES.deserialize_cdr(data, maker(Mutator.of("x", 0, 0)).__msgtype__)) == data


def test_random_messages_cover_field_types():
    for msgtype in ("sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState", "tf2_msgs/msg/TFMessage"):
        sent = [serialized(random_message(Mutator.of(msgtype, 0, number), msgtype)) for number in range(20)]
        assert len(set(sent)) > 15, "they differ"
        assert all(serialized(TYPES.deserialize_cdr(data, msgtype)) == data for data in sent)


def test_byte_mutations_cover_every_kind():
    whole = bytes(range(1, 201)) * 5
    mutants = [Mutator.of("bytes", 0, n).mutate_bytes(whole, max_mutations=1) for n in range(300)]
    assert all(any(len(data) * sign > len(whole) * sign for data in mutants) for sign in (1, -1))
    assert any(len(data) == len(whole) and b"\0" in data for data in mutants)
    assert sum(data != whole for data in mutants) > 280
    assert Mutator.of("bytes", 0, 0).mutate_bytes(b"") is not None


def test_json_mutations_cover_every_kind():
    whole = {"name": "x", "numbers": [1, 2, 3], "inner": {"a": 1.5}}
    mutants = [Mutator.of("json", 0, n).mutate_json(whole) for n in range(400)]
    assert whole == {"name": "x", "numbers": [1, 2, 3], "inner": {"a": 1.5}}, "the original is unchanged"
    texts = [Mutator.of("text", 0, n).json_text(value) for n, value in enumerate(mutants)]
    assert any(len(text) > 100_000 for text in texts), "lists that are too deep"
    tables = [value for value in mutants if isinstance(value, dict)]
    assert any("name" not in table for table in tables)
    assert any(isinstance(table.get("numbers"), list) and len(table["numbers"]) == 4 for table in tables)
    assert any(b"NaN" in text for text in texts) and any(b"Infinity" in text for text in texts)
    assert json.loads(Mutator.of("text", 0, 1).json_text({"a": 1})) == {"a": 1}
    assert DEEP not in str(texts)
