"""Damaged bags give one-line errors; unfinished recordings are recovered as far as possible."""

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
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recover import recover
from xmodelkd_ros.core.errors import BagError


def test_rejects_path_without_bag(tmp_path: Path):
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
def test_rejects_file_of_other_content(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"bag{suffix}"
    path.write_bytes(content)
    with pytest.raises(BagError, match=r"cannot read bag .*; if the file was cut short, copy it again") as error:
        read_all(path)
    assert_one_line(error, path)


@STORAGES
@pytest.mark.parametrize("single_file", [False, True], ids=["folder", "single file"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.9, 0.999])
def test_rejects_truncated_bag(tmp_path: Path, storage: str, single_file: bool, share: float):
    bag = write_bag(tmp_path / "bag", storage, sweeps=3, points=4000)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    path = file if single_file else bag
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(path)
    assert_one_line(error, path)


@pytest.mark.parametrize("content", ["", "not: a bag", "a: [", "rosbag2_bagfile_information: {version: 99}"])
def test_rejects_invalid_metadata(tmp_path: Path, content: str):
    bag = write_bag(tmp_path / "bag")
    (bag / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(bag)
    assert_one_line(error, bag)


def test_names_missing_storage_file(tmp_path: Path):
    bag = write_bag(tmp_path / "bag")
    storage_file(bag).unlink()
    with pytest.raises(BagError, match=r"missing.*bag.mcap"):
        read_all(bag)


@STORAGES
def test_rejects_empty_bag(tmp_path: Path, storage: str):
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/points", CLOUD_TYPE)
    for path in (tmp_path / "bag", storage_file(tmp_path / "bag")):
        with pytest.raises(BagError, match="is empty: it holds no messages") as error:
            read_all(path)
        assert_one_line(error, path)


def test_damaged_record_length_allocates_no_memory(tmp_path: Path):
    """The first record, and one of the index, claim a gigabyte."""
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


def test_names_topic_without_messages(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "bag")) as bag:
        assert bag.first("/points").log_time_ns == START_NS
        with pytest.raises(BagError, match="no message on /points can be read; record it again, or leave it out"):
            bag.first("/points", START_NS + 100)


def test_names_message_that_does_not_decode(tmp_path: Path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/points", CLOUD_TYPE)
        bag.write_raw("/points", 7, b"\x00\x01\x00\x00\xff\xff")
    with pytest.raises(BagError, match="message on /points at 7 ns"):
        read_all(tmp_path / "bag")


def test_callers_errors_pass_unchanged(tmp_path: Path):
    with BagReader(write_bag(tmp_path / "bag")) as bag, pytest.raises(ZeroDivisionError):
        for _ in bag.messages():
            _ = 1 / 0


# --- unfinished recordings -------------------------------------------------------------------------------------------


def record_and_stop(path: Path, sweeps: int = 5) -> Path:
    """Write the unfinished recording of a recorder whose disk fills after the last flush; returns its folder."""
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


def test_recovers_everything_flushed(tmp_path: Path):
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
def test_torn_last_record_loses_only_itself(tmp_path: Path, tail: bytes):
    file = record_and_stop(tmp_path / "drive.mcap") / "drive" / "drive.mcap"
    file.write_bytes(file.read_bytes() + tail)
    assert recover(file, tmp_path / "saved") == 6
    assert read_all(tmp_path / "saved") == 6


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_recovers_truncated_bag_up_to_the_cut(tmp_path: Path, share: float):
    file = storage_file(write_bag(tmp_path / "bag", sweeps=8, points=20_000))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    saved = recover(file, tmp_path / "saved")
    assert 8 * share - 4 <= saved - 1 <= 8 * share, "a chunk holds four"
    with BagReader(tmp_path / "saved") as bag:
        assert [bytes(m.message.data) for m in bag.messages(["/points"])] == [
            bytes(sweep(i, 20_000).data) for i in range(saved - 1)
        ]


def test_reports_topics_that_cannot_be_recovered(tmp_path: Path):
    said: list[str] = []
    assert recover(write_foreign(tmp_path / "bag", "mcap"), tmp_path / "saved", said.append) == 1
    assert said == ["cannot write topic '/wheel': message type acme_msgs/msg/Wheel is unknown"]


def test_note_on_topic_with_damaged_name_is_one_line(tmp_path: Path):
    """Found by ``python -m test.fuzz``."""
    file = storage_file(write_foreign(tmp_path / "bag", "mcap"))
    file.write_bytes(file.read_bytes().replace(b"acme_msgs/msg/Wheel", b"acme_msgs/msg\n\x1bheel"))
    said: list[str] = []
    assert recover(file, tmp_path / "saved", said.append) == 1
    assert said and all(line.isprintable() for line in said)


def test_writes_nothing_if_nothing_can_be_recovered(tmp_path: Path):
    (tmp_path / "left").mkdir()
    with pytest.raises(BagError, match=r"holds no \.mcap file"):
        recover(tmp_path / "left", tmp_path / "saved")
    for content in (b"", b"\x89MCAP0\r\n", b"no bag at all, but long enough for a record or two"):
        (tmp_path / "left" / "x.mcap").write_bytes(content)
        with pytest.raises(BagError, match="cannot read bag"):
            recover(tmp_path / "left", tmp_path / "saved")
    assert [p.name for p in tmp_path.iterdir()] == ["left"]
