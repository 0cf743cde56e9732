"""Recovery of unfinished and truncated recordings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from test.example_bags import (
    CLOUD_TYPE,
    START_NS,
    TEXT_TYPE,
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
from xmodelkd_ros.tools.cli import main


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
    with BagReader(left / "drive" / "drive.mcap") as bag:
        assert len(list(bag.messages())) == 6
        (note,) = bag.notes
    assert "drive.mcap is unfinished" in note and f"'xmodelkd recover {left / 'drive' / 'drive.mcap'} OUT'" in note
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


def test_recovers_topics_of_types_that_the_bag_defines(tmp_path: Path):
    said: list[str] = []
    assert recover(write_foreign(tmp_path / "bag", "mcap"), tmp_path / "saved", said.append) == 2
    assert said == []
    with BagReader(tmp_path / "saved") as bag:
        assert list(bag.first("/wheel").message.speed) == [0, 1, 2, 3]


def test_reports_topics_that_cannot_be_recovered(tmp_path: Path):
    file = storage_file(write_foreign(tmp_path / "bag", "mcap"))
    file.write_bytes(file.read_bytes().replace(b"ros2msg", b"unknown"))
    said: list[str] = []
    assert recover(file, tmp_path / "saved", said.append) == 1
    assert said == ["/wheel skipped: message type acme_msgs/msg/Wheel is unknown, and the bag does not define it"]


def test_recovers_files_beside_unreadable_ones(tmp_path: Path):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "a_0.mcap").write_bytes(b"no bag")
    write_bag(tmp_path / "left" / "a_1.mcap")
    write_bag(tmp_path / "left" / "a_2.db3", "sqlite3", topic="/other")
    said: list[str] = []
    assert recover(tmp_path / "left", tmp_path / "saved", said.append) == 8
    assert len(said) == 1 and "a_0.mcap begins neither as an MCAP nor as an SQLite file" in said[0]


def test_note_on_topic_with_damaged_name_is_one_line(tmp_path: Path):
    """Found by ``python -m test.fuzz``."""
    file = storage_file(write_foreign(tmp_path / "bag", "mcap"))
    file.write_bytes(file.read_bytes().replace(b"acme_msgs/msg/Wheel", b"acme_msgs/msg\n\x1bheel"))
    said: list[str] = []
    assert recover(file, tmp_path / "saved", said.append) == 1
    assert said and all(line.isprintable() for line in said)


def test_writes_nothing_if_nothing_can_be_recovered(tmp_path: Path):
    (tmp_path / "left").mkdir()
    with pytest.raises(BagError, match=r"holds no \.mcap or \.db3 file"):
        recover(tmp_path / "left", tmp_path / "saved")
    for content in (b"", b"\x89MCAP0\r\n", b"no bag at all, but long enough for a record or two"):
        (tmp_path / "left" / "x.mcap").write_bytes(content)
        with pytest.raises(BagError, match="cannot read bag"):
            recover(tmp_path / "left", tmp_path / "saved")
    assert [p.name for p in tmp_path.iterdir()] == ["left"]


def test_recover_says_how_many_bytes_of_a_cut_file_are_lost(tmp_path: Path, capsys):
    file = storage_file(write_bag(tmp_path / "bag", sweeps=8, points=20_000))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.7)])
    with BagReader(file) as bag:
        (lost,) = re.findall(r"the last (\d+) bytes are not", " ".join(bag.notes))
    assert main(["recover", str(file), str(tmp_path / "saved")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {file.name} is cut off or unfinished: its last {lost} bytes, from byte ")
    assert line.endswith("hold no complete record and are lost")


@pytest.mark.parametrize("wrong", [b"\x00", b"\xff"])
def test_damage_in_own_bags_is_noticed(tmp_path: Path, wrong: bytes):
    """The rosbags library writes no checksums."""
    file = storage_file(write_bag(tmp_path / "bag", sweeps=8, points=20_000))
    data = bytearray(file.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 100] = wrong * 100
    file.write_bytes(data)
    with pytest.raises(BagError, match=r"the chunk at byte \d+ is damaged: its checksum \(CRC\) is wrong"):
        read_all(file)
    said: list[str] = []
    assert 1 <= recover(file, tmp_path / "saved", said.append) < 9
    assert len(said) == 1 and "its checksum (CRC) is wrong" in said[0]
