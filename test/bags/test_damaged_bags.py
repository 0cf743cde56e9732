"""Damaged bags give one-line errors."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from test.example_bags import (
    CLOUD_TYPE,
    START_NS,
    STORAGES,
    assert_one_line,
    read_all,
    storage_file,
    write_bag,
)
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import BagError


def test_rejects_path_without_bag(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, complaint in (
        ("missing", "does not exist"),
        ("missing.mcap", "does not exist"),
        ("x" * 300, "does not exist"),
        ("notes.txt", "is not a bag; give a rosbag2 folder, an .mcap or a .db3 file"),
        ("folder", "no metadata.yaml and no .mcap or .db3 file"),
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
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.9])
def test_rejects_bag_cut_before_its_first_chunk_or_table_ends(
    tmp_path: Path, storage: str, single_file: bool, share: float
):
    bag = write_bag(tmp_path / "bag", storage, sweeps=3, points=4000)
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    path = file if single_file else bag
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(path)
    assert_one_line(error, path)


@pytest.mark.parametrize("content", ["", "not: a bag", "a: ["])
def test_rejects_invalid_metadata_without_files(tmp_path: Path, content: str):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match="cannot read bag") as error:
        read_all(tmp_path / "bag")
    assert_one_line(error, tmp_path / "bag")


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
    """The first record claims a gigabyte, then one of the index, which is not needed."""
    file = storage_file(write_bag(tmp_path / "bag", points=4000))
    whole = file.read_bytes()
    summary = int.from_bytes(whole[-28:-20], "little")
    for at in (9, summary + 1):
        file.write_bytes(whole[:at] + (1 << 30).to_bytes(8, "little") + whole[at + 8 :])
        tracemalloc.start()
        if at == 9:
            with pytest.raises(BagError, match="cannot read bag"):
                read_all(file)
        else:
            assert read_all(file) == 4
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
