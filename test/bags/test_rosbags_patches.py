"""Bags that are broken: one line says what is wrong, and what of a recording cut short can be saved is saved."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from test.example_bags import (
    CLOUD_TYPE,
    START_NS,
    STORAGES,
    TEXT_TYPE,
    assert_one_line,
    read_all,
    storage_file,
    sweep,
    text,
    write_bag,
    write_foreign,
)
from xmodelkd_ros.bags.bag import BagReader, BagWriter
from xmodelkd_ros.bags.recover import recover
from xmodelkd_ros.core.errors import BagError


def test_a_path_that_is_no_bag_is_rejected(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, complaint in (
        ("missing", "does not exist"),
        ("missing.mcap", "does not exist"),
        ("x" * 300, "does not exist"),
        ("notes.txt", "is not a bag; give a rosbag2 folder, an .mcap or a .db3 file"),
        ("folder", "no metadata.yaml; name the .mcap or .db3 file itself, or run 'ros2 bag reindex'"),
    ):
        with pytest.raises(BagError, match=complaint) as error:
            read_all(tmp_path / name)
        assert_one_line(error, tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello, this is not a bag at all, but long enough for a footer"])
@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_file_of_something_else_is_rejected(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"bag{suffix}"
    path.write_bytes(content)
    with pytest.raises(BagError, match=r"cannot read bag .*; if the file was cut short, copy it again") as error:
        read_all(path)
    assert_one_line(error, path)


@STORAGES
@pytest.mark.parametrize("alone", [False, True], ids=["folder", "single file"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.9, 0.999])
def test_a_bag_that_was_cut_short_is_rejected(tmp_path: Path, storage: str, alone: bool, share: float):
    bag = write_bag(tmp_path / "bag", storage, sweeps=3, points=4000)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    path = file if alone else bag
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(path)
    assert_one_line(error, path)


@pytest.mark.parametrize("content", ["", "not: a bag", "a: [", "rosbag2_bagfile_information: {version: 99}"])
def test_broken_metadata_is_rejected(tmp_path: Path, content: str):
    bag = write_bag(tmp_path / "bag")
    (bag / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(bag)
    assert_one_line(error, bag)


def test_a_storage_file_that_is_missing_is_named(tmp_path: Path):
    bag = write_bag(tmp_path / "bag")
    storage_file(bag).unlink()
    with pytest.raises(BagError, match=r"missing.*bag.mcap"):
        read_all(bag)


@STORAGES
def test_an_empty_bag_is_rejected(tmp_path: Path, storage: str):
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/points", CLOUD_TYPE)
    for path in (tmp_path / "bag", storage_file(tmp_path / "bag")):
        with pytest.raises(BagError, match="is empty: it holds no messages") as error:
            read_all(path)
        assert_one_line(error, path)


def test_a_length_that_is_damaged_takes_no_memory(tmp_path: Path):
    """Of the first record, and of one of the index: a gigabyte."""
    file = storage_file(write_bag(tmp_path / "bag", points=4000))
    whole = file.read_bytes()
    summary = int.from_bytes(whole[-28:-20], "little")
    for at in (9, summary + 1):
        file.write_bytes(whole[:at] + (1 << 30).to_bytes(8, "little") + whole[at + 8 :])
        tracemalloc.start()
        with pytest.raises(BagError, match="cannot read bag"):
            read_all(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(whole)


def test_a_topic_whose_messages_are_lost_is_named(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "bag")) as bag:
        assert bag.first("/points").log_time_ns == START_NS
        with pytest.raises(BagError, match="no message on /points can be read; record it again, or leave it out"):
            bag.first("/points", START_NS + 100)


def test_a_message_that_does_not_decode_is_named(tmp_path: Path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        bag.write_raw("/points", 7, b"\x00\x01\x00\x00\xff\xff")
    with pytest.raises(BagError, match="message on /points at 7 ns"):
        read_all(tmp_path / "bag")


def test_errors_of_the_reader_of_messages_pass_unchanged(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "bag")) as bag, pytest.raises(ZeroDivisionError):
        for _ in bag.messages():
            _ = 1 / 0


# --- recordings that were not finished --------------------------------------------------------------------------------


def record_and_stop(path: Path, sweeps: int = 5) -> Path:
    """Leaves what a recorder leaves whose disk is full after its last flush; returns its folder."""
    with pytest.raises(OSError, match="full"), BagWriter(path, keep=True) as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        bag.add_topic("/text", TEXT_TYPE, latched=True)
        for i in range(sweeps):
            bag.write("/points", START_NS + i, sweep(i))
        bag.write("/text", START_NS - 7, text("the clock was set back"))
        bag.flush()
        bag.write("/points", START_NS + sweeps, sweep(sweeps))
        raise OSError("full")
    (left,) = path.parent.iterdir()
    return left


def test_of_a_recording_that_was_not_finished_all_is_saved_that_was_flushed(tmp_path: Path):
    left = record_and_stop(tmp_path / "drive.mcap")
    assert left.name.startswith("drive.mcap.unfinished-")
    with pytest.raises(BagError, match="copy it again or repair it \\('xmodelkd recover'"):
        read_all(left / "drive" / "drive.mcap")
    assert recover(left, tmp_path / "saved.mcap") == 6
    with BagReader(tmp_path / "saved.mcap") as bag:
        assert [bytes(m.message.data) for m in bag.messages(["/points"])] == [bytes(sweep(i).data) for i in range(5)]
        assert bag.topics["/text"].latched
        assert [m.message.data for m in bag.messages()][:1] == ["the clock was set back"]


@pytest.mark.parametrize("tail", [b"\x06", b"\x06" + bytes(7), b"\x06" + b"\xff" * 40, bytes(5000)])
def test_a_torn_record_at_the_end_costs_only_itself(tmp_path: Path, tail: bytes):
    file = record_and_stop(tmp_path / "drive.mcap") / "drive" / "drive.mcap"
    file.write_bytes(file.read_bytes() + tail)
    assert recover(file, tmp_path / "saved") == 6
    assert read_all(tmp_path / "saved") == 6


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_a_bag_that_was_cut_short_is_saved_up_to_the_cut(tmp_path: Path, share: float):
    file = storage_file(write_bag(tmp_path / "bag", sweeps=8, points=20_000))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    saved = recover(file, tmp_path / "saved")
    assert 8 * share - 4 <= saved - 1 <= 8 * share, "a chunk holds four"
    with BagReader(tmp_path / "saved") as bag:
        assert [bytes(m.message.data) for m in bag.messages(["/points"])] == [
            bytes(sweep(i, 20_000).data) for i in range(saved - 1)
        ]


def test_topics_that_cannot_be_saved_are_said(tmp_path: Path):
    said: list[str] = []
    assert recover(write_foreign(tmp_path / "bag", "mcap"), tmp_path / "saved", said.append) == 1
    assert said == ["cannot write topic '/wheel': message type acme_msgs/msg/Wheel is unknown"]


def test_a_note_on_a_topic_with_a_damaged_name_is_one_line(tmp_path: Path):
    """Found by ``python -m test.fuzz``."""
    file = storage_file(write_foreign(tmp_path / "bag", "mcap"))
    file.write_bytes(file.read_bytes().replace(b"acme_msgs/msg/Wheel", b"acme_msgs/msg\n\x1bheel"))
    said: list[str] = []
    assert recover(file, tmp_path / "saved", said.append) == 1
    assert said and all(line.isprintable() for line in said)


def test_where_there_is_nothing_to_save_nothing_is_written(tmp_path: Path):
    (tmp_path / "left").mkdir()
    with pytest.raises(BagError, match=r"holds no \.mcap file"):
        recover(tmp_path / "left", tmp_path / "saved")
    for content in (b"", b"\x89MCAP0\r\n", b"no bag at all, but long enough for a record or two"):
        (tmp_path / "left" / "x.mcap").write_bytes(content)
        with pytest.raises(BagError, match="cannot read bag"):
            recover(tmp_path / "left", tmp_path / "saved")
    assert [p.name for p in tmp_path.iterdir()] == ["left"]
