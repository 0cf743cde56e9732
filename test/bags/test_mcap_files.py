"""MCAP files by what they hold: with and without index, summary, chunks and end, written by the official library."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from test.example_bags import CLOUD_TYPE, START_NS, TEXT_TYPE, sweep, text, write_bag
from xmodelkd_ros.bags.bag import STANDARD_TYPES, BagReader
from xmodelkd_ros.bags.recover import recover
from xmodelkd_ros.core.errors import BagError

writer_module = pytest.importorskip("mcap.writer")
CompressionType, IndexType, Writer = writer_module.CompressionType, writer_module.IndexType, writer_module.Writer

CHUNK = 20_000
SWEEPS = 6


def definition(msgtype: str) -> bytes:
    return STANDARD_TYPES.generate_msgdef(msgtype, ros_version=2)[0].encode()


def cloud(index: int, points: int = 200) -> bytes:
    return bytes(STANDARD_TYPES.serialize_cdr(sweep(index, points), CLOUD_TYPE))


def words(content: str) -> bytes:
    return bytes(STANDARD_TYPES.serialize_cdr(text(content), TEXT_TYPE))


def add_channel(writer: Any, topic: str, msgtype: str, encoding: str = "cdr", schema: str = "ros2msg") -> int:
    schema_id = writer.register_schema(msgtype, schema, definition(msgtype) if schema == "ros2msg" else b"")
    return writer.register_channel(topic, encoding, schema_id, {"offered_qos_profiles": ""})


def write_mcap(path: Path, times: Iterable[int] = range(SWEEPS), end: bool = True, **options: Any) -> Path:
    """A file with sweeps on /points, whose log times are START_NS plus these times, and a text before each."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK, **{"compression": CompressionType.ZSTD, **options})
        writer.start("ros2", "test")
        points, words_id = add_channel(writer, "/points", CLOUD_TYPE), add_channel(writer, "/words", TEXT_TYPE)
        for index, time_ns in enumerate(times):
            for channel, data in ((words_id, words(str(index))), (points, cloud(index))):
                writer.add_message(channel, START_NS + time_ns, data, START_NS + time_ns)
        writer.add_attachment(1, 2, "notes.txt", "text/plain", b"hello")
        writer.add_metadata("drive", {"driver": "me"})
        if end:
            writer.finish()
    return path


def read_times(path: Path) -> list[int]:
    """Log times of the sweeps less START_NS, after checking that index and content agree."""
    with BagReader(path) as bag:
        read = list(bag.messages(["/points"]))
        assert bag.topics["/points"].count == len(read)
        times = [message.log_time_ns - START_NS for message in bag.raw()]
        assert times == sorted(times) and (bag.start_ns - START_NS, bag.end_ns - START_NS) == (times[0], times[-1])
        middle = times[len(times) // 2] + START_NS
        assert [m.log_time_ns for m in bag.raw(start_ns=middle)] == [
            t + START_NS for t in times if t + START_NS >= middle
        ]
        return [message.log_time_ns - START_NS for message in read]


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.CHUNK},
        {"index_types": IndexType.MESSAGE},
        {"index_types": IndexType.NONE},
        {"index_types": IndexType.NONE, "use_statistics": False},
        {"use_statistics": False},
        {"use_summary_offsets": False},
        {"repeat_channels": False},
        {"repeat_schemas": False},
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE},
        {"enable_crcs": False},
    ],
    ids=str,
)
def test_reads_all_messages_whatever_index_there_is(tmp_path: Path, options: dict[str, Any]):
    path = write_mcap(tmp_path / "drive.mcap", **options)
    assert read_times(path) == list(range(SWEEPS))
    with BagReader(path) as bag:
        assert bag.notes == []


@pytest.mark.parametrize("options", [{}, {"index_types": IndexType.NONE}, {"use_chunking": False}], ids=str)
@pytest.mark.parametrize("times", [(3, 1, 2, 0, 5, 4), (5, 4, 3, 2, 1, 0), (0, 50, 1, 49, 2, 48), (7,) * 6], ids=str)
def test_reads_in_order_of_time_whatever_order_is_written(tmp_path: Path, options: dict[str, Any], times: tuple[int]):
    """Chunks overlap, and messages in chunks are out of order."""
    assert read_times(write_mcap(tmp_path / "drive.mcap", times, **options)) == sorted(times)


@pytest.mark.parametrize("start", [-START_NS, -START_NS - 5, 0])
def test_reads_times_of_recording_of_zero_and_below(tmp_path: Path, start: int):
    times = [start + index for index in range(3)]
    write = write_mcap if start + START_NS >= 0 else write_negative
    path = write(tmp_path / "drive.mcap", times)
    assert read_times(path) == times


def write_negative(path: Path, times: list[int]) -> Path:
    """rosbag2 writes its signed times as they are."""
    placeholder = 0x1122334455667700
    write_mcap(path, [placeholder - START_NS + index for index in range(len(times))], use_chunking=False)
    data = path.read_bytes()
    for index, time_ns in enumerate(times):
        data = data.replace(struct.pack("<Q", placeholder + index), struct.pack("<q", START_NS + time_ns))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}], ids=str)
def test_reads_file_whose_writer_was_killed_and_says_so(tmp_path: Path, options: dict[str, Any]):
    path = write_mcap(tmp_path / "drive.mcap", end=False, **options)
    times = read_times(path)
    assert times == list(range(len(times))) and len(times) >= SWEEPS - 4
    with BagReader(path) as bag:
        (note,) = bag.notes
    assert "drive.mcap is unfinished (its recorder was killed" in note and f"'xmodelkd recover {path} OUT'" in note
    assert recover(path, tmp_path / "saved.mcap") == 2 * len(times)


def test_reads_file_cut_at_any_byte_up_to_the_cut(tmp_path: Path):
    whole = write_mcap(tmp_path / "whole.mcap", use_chunking=False).read_bytes()
    for cut in range(len(whole) // 3, len(whole), 997):
        path = tmp_path / "drive.mcap"
        path.write_bytes(whole[:cut])
        times = read_times(path)
        assert times == list(range(len(times)))
        assert len(times) >= int(SWEEPS * cut / len(whole)) - 1


def replaced(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def record_at(data: bytes, opcode: int, number: int = 0) -> int:
    """Offset of the content of a record outside of chunks."""
    at, found = 8, []
    while at < len(data) - 8:
        if data[at] == opcode:
            found.append(at + 9)
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return found[number]


def test_reads_all_messages_whatever_statistics_claim(tmp_path: Path):
    def claim_one_message_at_7(data: bytearray) -> None:
        at = record_at(data, 11)
        data[at : at + 8] = struct.pack("<Q", 1)
        data[at + 26 : at + 42] = struct.pack("<QQ", 7, 7)

    assert read_times(replaced(write_mcap(tmp_path / "drive.mcap"), claim_one_message_at_7)) == list(range(SWEEPS))


def test_reads_all_messages_whatever_heads_of_chunks_claim(tmp_path: Path):
    def claim_times_of_zero(data: bytearray) -> None:
        at = record_at(data, 6)
        data[at : at + 16] = bytes(16)

    assert read_times(replaced(write_mcap(tmp_path / "drive.mcap"), claim_times_of_zero)) == list(range(SWEEPS))


def test_reads_all_messages_if_message_indexes_lack_some(tmp_path: Path):
    def empty_an_index(data: bytearray) -> None:
        at = record_at(data, 7)
        data[at + 2 : at + 6] = bytes(4)

    assert read_times(replaced(write_mcap(tmp_path / "drive.mcap"), empty_an_index)) == list(range(SWEEPS))


def test_damaged_chunk_is_an_error_and_recover_saves_the_others(tmp_path: Path):
    def flip(data: bytearray) -> None:
        at = record_at(data, 6, 1) + 60
        data[at] ^= 255

    path = replaced(write_mcap(tmp_path / "drive.mcap", compression=CompressionType.NONE), flip)
    with pytest.raises(BagError, match=r"drive.mcap: the chunk at byte \d+ is damaged: its checksum \(CRC\) is wrong"):
        read_times(path)
    said: list[str] = []
    saved = recover(path, tmp_path / "saved.mcap", said.append)
    assert 0 < saved < 2 * SWEEPS and len(said) == 1 and "is damaged: its checksum" in said[0]


@pytest.mark.parametrize("crcs", [True, False])
def test_reads_all_messages_whatever_the_summary_defines(tmp_path: Path, crcs: bool):
    def change_a_definition(data: bytearray) -> None:
        data[record_at(data, 3) + 40] ^= 1

    path = replaced(write_mcap(tmp_path / "drive.mcap", enable_crcs=crcs), change_a_definition)
    assert read_times(path) == list(range(SWEEPS))


def test_chunk_that_cannot_be_found_is_said(tmp_path: Path):
    def hide(data: bytearray) -> None:
        data[record_at(data, 6) - 9] = 0x86

    path = replaced(write_mcap(tmp_path / "drive.mcap"), hide)
    assert len(read_times(path)) < SWEEPS
    with BagReader(path) as bag:
        assert f"drive.mcap: its statistics claim {2 * SWEEPS} messages, it holds 2; copy it again" in bag.notes


def test_empty_chunks_hide_nothing(tmp_path: Path):
    """Two files one after the other, as sensors are joined by careless tools, with an empty chunk between."""
    path = write_mcap(tmp_path / "drive.mcap", compression=CompressionType.NONE)
    data = path.read_bytes()
    content = struct.pack("<QQQI", 0, 0, 0, 0) + struct.pack("<I", 0) + struct.pack("<Q", 0)
    at = record_at(data, 6, 1) - 9
    path.write_bytes(data[:at] + b"\x06" + struct.pack("<Q", len(content)) + content + data[at:])
    assert read_times(path) == list(range(SWEEPS))


def test_reads_several_channels_of_a_topic_and_skips_other_encodings_with_a_note(tmp_path: Path):
    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        first, second = add_channel(writer, "/points", CLOUD_TYPE), add_channel(writer, "/points", CLOUD_TYPE)
        json = add_channel(writer, "/json", "foxglove.PointCloud", "json", "jsonschema")
        ros1 = add_channel(writer, "/old", "sensor_msgs/PointCloud2", "ros1", "ros1msg")
        other = add_channel(writer, "/points", TEXT_TYPE)
        for time_ns, (channel, data) in enumerate(
            [
                (first, cloud(0)),
                (second, cloud(1)),
                (json, b"{}"),
                (ros1, b"x"),
                (other, words("no cloud")),
                (first, cloud(2)),
            ]
        ):
            writer.add_message(channel, START_NS + time_ns, data, START_NS + time_ns)
        writer.finish()
    with BagReader(path) as bag:
        assert [message.log_time_ns - START_NS for message in bag.messages()] == [0, 1, 5]
        assert bag.topics["/points"].count == 3
        assert sorted(bag.notes) == [
            "/json skipped: its serialization is 'json', not cdr",
            "/old skipped: its serialization is 'ros1', not cdr",
            "/points: 1 messages of type std_msgs/msg/String are not read: the others are sensor_msgs/msg/PointCloud2",
        ]


@pytest.mark.parametrize("name", ["sensor_msgs/PointCloud2", "sensor_msgs::msg::dds_::PointCloud2_"])
def test_reads_types_as_other_writers_spell_them(tmp_path: Path, name: str):
    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("", "test")
        schema = writer.register_schema(name, "ros2msg", definition(CLOUD_TYPE))
        writer.add_message(writer.register_channel("/points", "cdr", schema), START_NS, cloud(0), START_NS)
        writer.finish()
    with BagReader(path) as bag:
        assert bag.points_topic() == "/points"
        assert bytes(bag.first("/points").message.data) == bytes(sweep(0).data)


def test_bag_without_readable_cloud_says_why(tmp_path: Path):
    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros1", "test")
        channel = add_channel(writer, "/points", "sensor_msgs/PointCloud2", "ros1", "ros1msg")
        writer.add_message(channel, 1, b"x", 1)
        writer.finish()
    with BagReader(path) as bag, pytest.raises(BagError, match="/points skipped: its serialization is 'ros1', not cdr"):
        bag.points_topic()


@pytest.mark.parametrize("use_chunking", [False, True])
def test_reused_channel_ids_are_read_as_valid_at_their_place(tmp_path: Path, use_chunking: bool):
    """As in files joined without renumbering: id 1 is the cloud in the first part, and the text in the second."""
    parts = []
    for order in ((CLOUD_TYPE, TEXT_TYPE), (TEXT_TYPE, CLOUD_TYPE)):
        path = tmp_path / "part.mcap"
        with path.open("wb") as file:
            writer = Writer(file, use_chunking=use_chunking)
            writer.start("ros2", "test")
            ids = {msgtype: add_channel(writer, f"/{msgtype[-6:]}", msgtype) for msgtype in order}
            for index in range(2):
                at_ns = START_NS + 10 * len(parts) + index
                writer.add_message(ids[CLOUD_TYPE], at_ns, cloud(index), at_ns)
                writer.add_message(ids[TEXT_TYPE], at_ns, words("x"), at_ns)
            writer.finish()
        parts.append(path.read_bytes())
    first, second = parts
    joined = tmp_path / "joined.mcap"
    joined.write_bytes(first[: record_at(first, 15) - 9] + second[8:])
    with BagReader(joined) as bag:
        assert {name: topic.count for name, topic in bag.topics.items()} == {"/Cloud2": 4, "/String": 4}
        assert [m.log_time_ns - START_NS for m in bag.messages(["/Cloud2"])] == [0, 1, 10, 11]
        assert [m.message.data for m in bag.messages(["/String"])] == ["x"] * 4


@pytest.mark.parametrize("use_chunking", [False, True])
def test_reads_files_appended_to_each_other(tmp_path: Path, use_chunking: bool):
    """As ``cat`` joins recordings, each with its own summary and end; the second one gives the ids another meaning."""
    first = write_mcap(tmp_path / "first.mcap", range(3), use_chunking=use_chunking).read_bytes()
    path = tmp_path / "second.mcap"
    with path.open("wb") as file:
        writer = Writer(file, use_chunking=use_chunking)
        writer.start("ros2", "test")
        channel = add_channel(writer, "/points", CLOUD_TYPE)
        for index in range(3, 6):
            writer.add_message(channel, START_NS + index, cloud(index), START_NS + index)
        writer.finish()
    joined = tmp_path / "joined.mcap"
    for data, sweeps in ((first + path.read_bytes(), 6), (path.read_bytes() + first, 6), (3 * first, 9)):
        joined.write_bytes(data)
        assert len(read_times(joined)) == sweeps
    with BagReader(joined) as bag:
        assert bag.notes == []


def test_memory_does_not_grow_with_the_number_of_chunks(tmp_path: Path):
    import tracemalloc

    path = write_bag(tmp_path / "bag", sweeps=40, points=40_000)
    size = sum(file.stat().st_size for file in path.iterdir())
    with BagReader(path) as bag:
        tracemalloc.start()
        for _ in bag.raw(["/points"]):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < size / 4
