"""Bags written and read back, and bags recorded elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_idl, get_typestore

from test.example_bags import (
    CLOUD_TYPE,
    START_NS,
    STORAGES,
    SUFFIX,
    TEXT_TYPE,
    assert_one_line,
    read_all,
    storage_file,
    sweep,
    text,
    write_bag,
    write_foreign,
)
from xmodelkd_ros.bags.bag import BagReader, Topic
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import BagError
from xmodelkd_ros.messages.clouds import to_cloud
from xmodelkd_ros.messages.headers import stamp_ns


@STORAGES
@pytest.mark.parametrize("single_file", [False, True], ids=["folder", "single file"])
def test_written_bag_reads_back(tmp_path: Path, storage: str, single_file: bool):
    path = write_bag(tmp_path / "bag", storage)
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]
    with BagReader(storage_file(path) if single_file else path) as bag:
        assert bag.topics == {
            "/points": Topic("/points", CLOUD_TYPE, 3, False),
            "/label_info_json": Topic("/label_info_json", TEXT_TYPE, 1, True),
        }
        assert (bag.start_ns, bag.end_ns, bag.notes) == (START_NS, START_NS + 2, [])
        read = list(bag.messages(["/points"]))
        assert [m.log_time_ns for m in read] == [START_NS, START_NS + 1, START_NS + 2]
        for i, message in enumerate(read):
            assert bytes(message.message.data) == bytes(sweep(i).data)
            np.testing.assert_array_equal(to_cloud(message.message).xyz, to_cloud(sweep(i)).xyz)
            assert stamp_ns(message.message.header.stamp) == START_NS + i
        assert [m.message.data for m in bag.messages(["/label_info_json"])] == ["{}"]
        assert sorted({m.topic for m in bag.messages()}) == ["/label_info_json", "/points"]


@STORAGES
def test_copies_raw_messages(tmp_path: Path, storage: str):
    with BagReader(write_bag(tmp_path / "a")) as source, BagWriter(tmp_path / "b", storage) as target:
        target.add_topic("/copy", CLOUD_TYPE)
        originals = list(source.raw(["/points"]))
        for message in originals:
            target.write_raw("/copy", message.log_time_ns, message.data)
    with BagReader(tmp_path / "b") as bag:
        assert [(m.log_time_ns, m.data) for m in bag.raw()] == [(m.log_time_ns, m.data) for m in originals]


def test_reads_time_range(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "bag", sweeps=5)) as bag:
        read = bag.raw(["/points"], start_ns=START_NS + 1, stop_ns=START_NS + 3)
        assert [m.log_time_ns - START_NS for m in read] == [1, 2]


@STORAGES
def test_reads_messages_in_order_of_time(tmp_path: Path, storage: str):
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/text", TEXT_TYPE)
        for t in (5, 1, 3):
            bag.write("/text", t, text(str(t)))
    with BagReader(tmp_path / "bag") as bag:
        assert [m.message.data for m in bag.messages()] == ["1", "3", "5"]


@STORAGES
def test_times_before_1970_are_written_and_read(tmp_path: Path, storage: str):
    """Found by ``python -m test.fuzz``: recover of a damaged file."""
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/text", TEXT_TYPE)
        for time_ns in (3, -5, -(2**63)):
            bag.write("/text", time_ns, text(str(time_ns)))
    with BagReader(tmp_path / "bag") as bag:
        assert [message.log_time_ns for message in bag.messages()] == [-(2**63), -5, 3]


def test_finds_points_topic_or_lists_candidates(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "one", topic="/roof/points")) as bag:
        assert bag.points_topic() == bag.points_topic("/roof/points") == "/roof/points"
        for wrong in ("/points", "/label_info_json"):
            with pytest.raises(
                BagError, match=rf"no PointCloud2 messages on '{wrong}'; it has /roof/points \(3 sweeps"
            ):
                bag.points_topic(wrong)
    with BagWriter(tmp_path / "two") as writer:
        for topic in ("/front", "/rear", "/silent"):
            writer.add_topic(topic, CLOUD_TYPE)
        for topic in ("/front", "/rear"):
            writer.write(topic, 1, sweep(0))
    with BagReader(tmp_path / "two") as bag:
        assert bag.points_topic("/rear") == "/rear"
        with pytest.raises(
            BagError,
            match=r"several PointCloud2 topics; name one by --points-topic .*: /front \(1 sweeps\), /rear \(1 sw",
        ):
            bag.points_topic()
    with BagWriter(tmp_path / "none") as writer:
        writer.add_topic("/text", TEXT_TYPE)
        writer.write("/text", 1, text("hello"))
    with BagReader(tmp_path / "none") as bag, pytest.raises(BagError, match=r"no PointCloud2 .* it has /text \(std_m"):
        bag.points_topic()


def test_missing_topic_is_an_error(tmp_path: Path):
    with (
        BagReader(write_bag(tmp_path / "bag")) as bag,
        pytest.raises(BagError, match="no readable topic '/tf'; it has"),
    ):
        list(bag.raw(["/points", "/tf"]))


# --- bags recorded elsewhere ------------------------------------------------------------------------------------------


def replace_bytes(bag: Path, old: bytes, new: bytes) -> None:
    """Change the storage file in place; lengths are equal, so that indices remain valid."""
    assert len(old) == len(new)
    data = storage_file(bag).read_bytes()
    assert old in data
    storage_file(bag).write_bytes(data.replace(old, new))


@STORAGES
def test_reads_message_types_defined_in_bag(tmp_path: Path, storage: str):
    with BagReader(write_foreign(tmp_path / "bag", storage)) as bag:
        wheel = next(m.message for m in bag.messages(["/wheel"]))
        np.testing.assert_array_equal(wheel.speed, [0, 1, 2, 3])
        assert wheel.header.frame_id == "lidar"
        assert bag.notes == []


@STORAGES
@pytest.mark.parametrize("single_file", [False, True], ids=["folder", "single file"])
def test_skips_types_without_definition(tmp_path: Path, storage: str, single_file: bool):
    path = write_foreign(tmp_path / "bag", storage)
    # rosbag2 writes this if it does not find a type's definition; standard types need none.
    replace_bytes(path, b"ros2msg", b"unknown")
    with BagReader(storage_file(path) if single_file else path) as bag:
        assert bag.notes == [
            "/wheel skipped: message type acme_msgs/msg/Wheel is unknown, and the bag does not define it"
        ]
        assert list(bag.topics) == ["/points"]
        (message,) = bag.messages()
        assert bytes(message.message.data) == bytes(sweep(0).data)


@STORAGES
def test_skips_types_with_invalid_definition(tmp_path: Path, storage: str):
    path = write_foreign(tmp_path / "bag", storage)
    replace_bytes(path, b"float32[4] speed", b"float32[4] spe=d")
    with BagReader(path) as bag:
        assert [m.topic for m in bag.messages()] == ["/points"]
        assert bag.notes == ["/wheel skipped: the bag's definition of acme_msgs/msg/Wheel is not usable"]


def write_range(path: Path, storage: str) -> Path:
    """A Foxy bag with a standard type that has one more field today, and a sweep."""
    types = get_typestore(Stores.ROS2_FOXY)
    kind = "sensor_msgs/msg/Range"
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        sonar = writer.add_connection("/sonar", kind, typestore=types)
        message = types.types[kind](sweep(0).header, 0, 0.1, 0.2, 5.0, 1.5)
        writer.write(sonar, 1, types.serialize_cdr(message, kind))
        cloud = writer.add_connection("/points", CLOUD_TYPE, typestore=types)
        writer.write(cloud, 2, types.serialize_cdr(sweep(0), CLOUD_TYPE))
    return path


@STORAGES
def test_reads_changed_type_by_the_bags_definition(tmp_path: Path, storage: str):
    with BagReader(write_range(tmp_path / "bag", storage)) as bag:
        assert bag.first("/sonar").message.range == 1.5


@STORAGES
def test_ignores_damaged_definition_of_point_cloud(tmp_path: Path, storage: str):
    path = write_range(tmp_path / "bag", storage)
    replace_bytes(path, b"uint8[] data", b"uint8[] dada")
    with BagReader(path) as bag:
        assert bytes(bag.first("/points").message.data) == bytes(sweep(0).data)


def test_notes_invalid_definition_of_standard_type(tmp_path: Path):
    path = write_range(tmp_path / "bag", "mcap")
    replace_bytes(path, b"float32 range\n", b"float32 rang=\n")
    with BagReader(path) as bag:
        with pytest.raises(BagError, match="message on /sonar at 1 ns does not decode"):
            list(bag.messages())
        instead = "read with the standard one: the bag's definition of sensor_msgs/msg/Range is not usable"
        assert bag.notes == [f"/sonar {instead}"]


def test_skips_other_serialization_with_note(tmp_path: Path):
    types = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        json = writer.add_connection("/json", TEXT_TYPE, typestore=types, serialization_format="json")
        cdr = writer.add_connection("/cdr", TEXT_TYPE, typestore=types)
        writer.write(json, 1, b'{"data": "hello"}')
        writer.write(cdr, 2, types.serialize_cdr(text("hello"), TEXT_TYPE))
    with BagReader(storage_file(tmp_path / "bag")) as bag:
        assert bag.notes == ["/json skipped: its serialization is 'json', not cdr"]
        assert [m.message.data for m in bag.messages()] == ["hello"]


@STORAGES
def test_reads_folder_whose_metadata_has_another_qos(tmp_path: Path, storage: str):
    path = write_bag(tmp_path / "bag", storage)
    metadata = (path / "metadata.yaml").read_text()
    assert "reliability: 1" in metadata
    (path / "metadata.yaml").write_text(metadata.replace("reliability: 1", "reliability: 2"))
    with BagReader(path) as bag:
        assert len(list(bag.messages(["/points"]))) == bag.topics["/points"].count == 3


IDL = """module acme_msgs {
  module msg {
    struct Gear {
      int32 number;
    };
  };
};
"""


@STORAGES
def test_reads_types_defined_in_idl(tmp_path: Path, storage: str):
    types = get_typestore(Stores.EMPTY)
    types.register(get_types_from_idl(IDL))
    definition = f"{'=' * 80}\nIDL: acme_msgs/msg/Gear\n{IDL}"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        gear = writer.add_connection(
            "/gear", "acme_msgs/msg/Gear", msgdef=definition, rihs01=types.hash_rihs01("acme_msgs/msg/Gear")
        )
        writer.write(gear, 1, types.serialize_cdr(types.types["acme_msgs/msg/Gear"](number=3), "acme_msgs/msg/Gear"))
    with BagReader(tmp_path / "bag") as bag:
        assert [m.message.number for m in bag.messages()] == [3]


@STORAGES
@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_reads_compressed_bags(tmp_path: Path, storage: str, mode: CompressionMode):
    types = get_typestore(Stores.ROS2_KILTED)
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        cloud = writer.add_connection("/points", CLOUD_TYPE, typestore=types)
        writer.write(cloud, 2, types.serialize_cdr(sweep(0), CLOUD_TYPE))
    with BagReader(tmp_path / "bag") as bag:
        assert bytes(next(bag.messages()).message.data) == bytes(sweep(0).data)


# --- writing ----------------------------------------------------------------------------------------------------------


@STORAGES
def test_deletes_unfinished_bag(tmp_path: Path, storage: str):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        bag.write("/points", 1, sweep(0))
        assert not (tmp_path / "bag").exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@STORAGES
def test_path_with_storage_suffix_writes_single_file(tmp_path: Path, storage: str):
    path = write_bag(tmp_path / f"drive{SUFFIX[storage]}", storage)
    assert path.is_file() and list(tmp_path.iterdir()) == [path]
    assert read_all(path) == 4


def test_folder_name_may_contain_dot(tmp_path: Path):
    path = write_bag(tmp_path / "drive.2019-05-10")
    assert path.is_dir() and read_all(path) == 4


def test_does_not_overwrite(tmp_path: Path):
    for name, kind in (("bag", "folder"), ("bag.mcap", "file")):
        write_bag(tmp_path / name)
        with pytest.raises(BagError, match=f"exists already; remove it or choose another {kind}"):
            write_bag(tmp_path / name)
        assert read_all(tmp_path / name) == 4


def test_unwritable_folder_is_one_line_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match=r"cannot write bag .*: (Not a directory|File exists)"):
        write_bag(tmp_path / "file" / "bag")


@STORAGES
def test_full_disk_is_one_line_error_and_leaves_no_files(tmp_path: Path, storage: str):
    resource = pytest.importorskip("resource", reason="file size limits exist on Unix only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(BagError, match="cannot write bag") as error:
            write_bag(tmp_path / "bag", storage, points=50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_line(error, tmp_path / "bag")
    assert list(tmp_path.iterdir()) == []


def test_topic_is_added_once_with_known_type(tmp_path: Path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        with pytest.raises(BagError, match="topic '/points' was added before"):
            bag.add_topic("/points", CLOUD_TYPE)
        with pytest.raises(BagError, match="cannot write topic '/wheel': message type acme_msgs/msg/Wheel is unknown"):
            bag.add_topic("/wheel", "acme_msgs/msg/Wheel")


@STORAGES
def test_bag_contains_definitions_and_qos(tmp_path: Path, storage: str):
    with Reader(write_bag(tmp_path / "bag", storage)) as reader:
        for connection in reader.connections:
            assert connection.msgdef.format is MessageDefinitionFormat.MSG
            assert connection.digest.startswith("RIHS01_")
            (qos,) = connection.ext.offered_qos_profiles
            assert qos.reliability.name == "RELIABLE"
            assert (qos.durability.name == "TRANSIENT_LOCAL") == (connection.topic == "/label_info_json")


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41"])
def test_sqlite_bag_is_not_written_to_another_file_than_asked_for(tmp_path: Path, name: str):
    with pytest.raises(BagError, match=r"SQLite files with #, \? or % in their path; write MCAP instead"):
        write_bag(tmp_path / name / "bag", "sqlite3")
    assert list(tmp_path.iterdir()) == []
    assert read_all(write_bag(tmp_path / name / "bag", "mcap")) == 4
