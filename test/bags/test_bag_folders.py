"""Bags of several files and folders that differ from their metadata.yaml: what the files hold is read."""

from __future__ import annotations

import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from test.example_bags import CLOUD_TYPE, START_NS, STORAGES, SUFFIX, TEXT_TYPE, sweep, text
from xmodelkd_ros.bags.bag import STANDARD_TYPES, BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.errors import BagError

S = 1_000_000_000


def write_split(folder: Path, storage: str, times_s: list[list[float]], version: Any = 9) -> Path:
    """A bag of several files, each with sweeps recorded at START_NS plus some seconds, and its metadata.yaml."""
    folder.mkdir()
    information: dict[str, Any] = {}
    for number, times in enumerate(times_s):
        part = folder / f"{folder.name}_{number}"
        with Writer(part, version=version, storage_plugin=StoragePlugin[storage.upper()]) as writer:
            points = writer.add_connection("/points", CLOUD_TYPE, typestore=STANDARD_TYPES)
            for time_s in times:
                data = STANDARD_TYPES.serialize_cdr(sweep(round(time_s * 10)), CLOUD_TYPE)
                writer.write(points, START_NS + round(time_s * S), data)
        own = yaml.safe_load((part / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        name = f"{part.name}{SUFFIX[storage]}"
        (part / name).rename(folder / name)
        shutil.rmtree(part)
        information = information or {**own, "relative_file_paths": [], "files": [], "message_count": 0}
        information["relative_file_paths"].append(name)
        information["files"].append({**own["files"][0], "path": name} if own.get("files") else {"path": name})
        information["message_count"] += len(times)
    write_metadata(folder, information)
    return folder


def write_metadata(folder: Path, information: dict[str, Any]) -> None:
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))


def metadata(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"])


def read_times_s(path: Path) -> tuple[list[float], list[str]]:
    with BagReader(path) as bag:
        read = [round((message.log_time_ns - START_NS) / S, 3) for message in bag.messages(["/points"])]
        return read, bag.notes


@STORAGES
def test_duration_is_that_of_the_files_not_of_the_metadata(tmp_path: Path, storage: str):
    """Some recorders write the duration of one split."""
    bag = write_split(tmp_path / "bag", storage, [[0, 10], [20, 30], [40, 50]])
    assert metadata(bag)["duration"]["nanoseconds"] <= 11 * S
    with BagReader(bag) as reader:
        assert RecordedDrive(reader).duration_s == pytest.approx(50)
        assert (reader.start_ns, reader.end_ns) == (START_NS, START_NS + 50 * S)
        assert reader.topics["/points"].count == 6


@STORAGES
@pytest.mark.parametrize(
    "times_s",
    [[[0, 2, 4], [1, 3, 5]], [[4, 5], [2, 3], [0, 1]], [[0, 5], [1, 2], [3, 4]], [[], [0, 1], []]],
    ids=["overlapping", "reversed", "nested", "empty files"],
)
def test_splits_are_merged_by_time(tmp_path: Path, storage: str, times_s: list[list[float]]):
    bag = write_split(tmp_path / "bag", storage, times_s)
    times, notes = read_times_s(bag)
    assert times == sorted(time for part in times_s for time in part) and notes == []
    with BagReader(bag) as reader:
        later = [message.log_time_ns for message in reader.raw(start_ns=START_NS + S, stop_ns=START_NS + 3 * S)]
        assert later == [START_NS + round(time * S) for time in times if 1 <= time < 3]


def test_message_in_several_splits_is_read_once(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1, 2], [2, 3, 4]])
    times, notes = read_times_s(bag)
    assert times == [0, 1, 2, 3, 4]
    assert notes == ["1 messages are in several storage files; each is read once"]


def test_copy_of_a_whole_file_adds_nothing(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1, 2]])
    shutil.copy(bag / "bag_0.mcap", bag / "bag_1.mcap")
    times, notes = read_times_s(bag)
    assert times == [0, 1, 2] and "3 messages are in several storage files; each is read once" in notes
    with BagReader(bag) as reader:
        assert reader.topics["/points"].count == 3


@STORAGES
def test_missing_split_is_named_and_the_others_are_read(tmp_path: Path, storage: str):
    bag = write_split(tmp_path / "bag", storage, [[0, 1], [2, 3], [4, 5]])
    (bag / f"bag_1{SUFFIX[storage]}").unlink()
    times, notes = read_times_s(bag)
    assert times == [0, 1, 4, 5]
    assert notes[0] == (
        f"storage files that metadata.yaml lists are missing, their messages are not read: bag_1{SUFFIX[storage]} "
        "(2 messages)"
    )


@STORAGES
@pytest.mark.parametrize("content", [b"", b"no bag"])
def test_unreadable_split_is_named_and_the_others_are_read(tmp_path: Path, storage: str, content: bytes):
    bag = write_split(tmp_path / "bag", storage, [[0, 1], [2, 3]])
    (bag / f"bag_1{SUFFIX[storage]}").write_bytes(content)
    times, notes = read_times_s(bag)
    assert times == [0, 1]
    assert f"bag_1{SUFFIX[storage]} is not read: " in notes[0] and "claims 4 messages" in notes[1]


def test_last_split_of_a_killed_recorder_is_read_up_to_its_end(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1], [2, 3]])
    file = bag / "bag_1.mcap"
    file.write_bytes(file.read_bytes()[:-700])
    (bag / "metadata.yaml").unlink()
    times, notes = read_times_s(bag)
    assert times == [0, 1, 2, 3]
    assert "metadata.yaml is missing; bag_0.mcap, bag_1.mcap are read" in notes[0]


@STORAGES
def test_split_with_another_type_on_the_topic_is_noted(tmp_path: Path, storage: str):
    bag = write_split(tmp_path / "bag", storage, [[0, 1]])
    with Writer(tmp_path / "x", version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        other = writer.add_connection("/points", TEXT_TYPE, typestore=STANDARD_TYPES)
        writer.write(other, START_NS + S // 2, STANDARD_TYPES.serialize_cdr(text("x"), TEXT_TYPE))
    (tmp_path / "x" / f"x{SUFFIX[storage]}").rename(bag / f"bag_1{SUFFIX[storage]}")
    times, notes = read_times_s(bag)
    assert times == [0, 1]
    assert f"metadata.yaml does not list bag_1{SUFFIX[storage]}, read all the same" in notes
    assert f"/points: 1 messages of type {TEXT_TYPE} are not read: the others are {CLOUD_TYPE}" in notes


CHANGES: dict[str, dict[str, Any]] = {
    "folder in paths, as before version 4": {"relative_file_paths": ["bag/bag_0.db3", "bag/bag_1.db3"], "version": 3},
    "no files": {"files": None},
    "no paths": {"relative_file_paths": None},
    "one file listed": {"relative_file_paths": ["bag_0.db3"], "files": []},
    "no file listed": {"relative_file_paths": [], "files": []},
    "wrong storage": {"storage_identifier": "mcap"},
    "unknown storage": {"storage_identifier": "my_plugin"},
    "too few messages": {"message_count": 1},
    "no topics": {"topics_with_message_count": []},
    "broken topics": {"topics_with_message_count": "x"},
    "newer version": {"version": 12},
    "no version": {"version": None},
    "custom data": {"custom_data": {"driver": "me"}, "ros_distro": "rolling"},
    "compression claimed": {"compression_format": "zstd", "compression_mode": "FILE"},
    "wrong times": {"duration": {"nanoseconds": 1}, "starting_time": {"nanoseconds_since_epoch": 0}},
    "no times": {"duration": None, "starting_time": "x"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_reads_all_whatever_metadata_claims(tmp_path: Path, change: dict[str, Any]):
    bag = write_split(tmp_path / "bag", "sqlite3", [[0, 1], [2, 3]])
    write_metadata(bag, {**metadata(bag), **change})
    times, notes = read_times_s(bag)
    assert times == [0, 1, 2, 3]
    assert all("read all the same" in note for note in notes)
    with BagReader(bag) as reader:
        assert (reader.start_ns, reader.end_ns) == (START_NS, START_NS + 3 * S)


@pytest.mark.parametrize("content", [None, "", "not: a bag", "a: [", "rosbag2_bagfile_information: {version: 99}"])
def test_reads_all_without_usable_metadata(tmp_path: Path, content: str | None):
    bag = write_split(tmp_path / "bag", "mcap", [[2, 3], [0, 1]])
    (bag / "metadata.yaml").unlink()
    if content is not None:
        (bag / "metadata.yaml").write_text(content)
    times, (note,) = read_times_s(bag)
    assert times == [0, 1, 2, 3] and "metadata.yaml" in note and "bag_0.mcap, bag_1.mcap" in note


def test_says_that_files_hold_fewer_messages_than_metadata_claims(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1]])
    write_metadata(bag, {**metadata(bag), "message_count": 9})
    assert read_times_s(bag)[1] == ["metadata.yaml claims 9 messages, the storage files hold 2"]


def test_reads_renamed_folder_and_files(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1], [2, 3]]).rename(tmp_path / "other")
    assert read_times_s(bag) == ([0, 1, 2, 3], [])
    (bag / "bag_1.mcap").rename(bag / "second.mcap")
    times, notes = read_times_s(bag)
    assert times == [0, 1, 2, 3]
    assert "are missing, their messages are not read: bag_1.mcap" in notes[0]
    assert notes[1] == "metadata.yaml does not list second.mcap, read all the same; renamed?"


def test_reads_metadata_file_and_file_with_another_suffix(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1]])
    assert read_times_s(bag / "metadata.yaml")[0] == [0, 1]
    shutil.copy(bag / "bag_0.mcap", tmp_path / "drive.bin")
    shutil.copy(bag / "bag_0.mcap", tmp_path / "drive.db3")
    assert read_times_s(tmp_path / "drive.bin") == read_times_s(tmp_path / "drive.db3") == ([0, 1], [])


def test_unrelated_file_in_folder_is_noted_and_not_read(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0, 1]])
    other = write_split(tmp_path / "other", "mcap", [[5]])
    shutil.copy(other / "other_0.mcap", bag / "calibration.mcap")
    times, (note,) = read_times_s(bag)
    assert times == [0, 1]
    assert note == "metadata.yaml does not list calibration.mcap, not read; name each alone"


@STORAGES
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_reads_single_compressed_file(tmp_path: Path, storage: str, mode: CompressionMode):
    """Alone, without the metadata.yaml that says how it is compressed."""
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        points = writer.add_connection("/points", CLOUD_TYPE, typestore=STANDARD_TYPES)
        writer.write(points, START_NS, STANDARD_TYPES.serialize_cdr(sweep(0), CLOUD_TYPE))
    (file,) = (file for file in (tmp_path / "bag").iterdir() if file.name != "metadata.yaml")
    assert file.name.endswith(".zstd") == (mode is CompressionMode.FILE)
    assert read_times_s(file) == ([0], [])


def test_compressed_file_cut_short_is_read_up_to_the_cut(tmp_path: Path):
    from xmodelkd_ros.bags.storage import zstd

    bag = write_split(tmp_path / "bag", "mcap", [[index / 10 for index in range(400)]])
    packed = zstd.compress((bag / "bag_0.mcap").read_bytes())
    file = tmp_path / "drive.mcap.zstd"
    file.write_bytes(packed[: len(packed) * 2 // 3])
    times, notes = read_times_s(file)
    assert 10 < len(times) < 400 and times == [index / 10 for index in range(len(times))]
    assert notes[0] == "drive.mcap.zstd is cut short: what it holds is read; copy it again"


QOS = {
    "names": [{"history": "keep_last", "depth": 1, "durability": "transient_local"}],
    "numbers": [{"history": 1, "depth": 1, "durability": 1}],
    "text": "- history: 1\n  depth: 1\n  durability: 1\n",
    "text with names": "- history: keep_last\n  durability: transient_local\n",
    "volatile": [{"durability": 2}],
    "unknown": [{"durability": "best_available", "liveliness": 77, "depth": "x"}],
    "damaged": "- durability: [",
    "empty": "",
}


@pytest.mark.parametrize(("name", "qos"), QOS.items(), ids=QOS.keys())
def test_qos_profiles_of_every_version(name: str, qos: Any):
    from xmodelkd_ros.bags.storage import is_latched

    assert is_latched("/map", qos) == (name in ("names", "numbers", "text", "text with names"))
    assert is_latched("/tf_static", "") and not is_latched("/tf", "")


# --- no bags ----------------------------------------------------------------------------------------------------------


def write_rosbag1(path: Path) -> Path:
    types = get_typestore(Stores.ROS1_NOETIC)
    header = types.types["std_msgs/msg/Header"](
        seq=0, stamp=types.types["builtin_interfaces/msg/Time"](sec=5, nanosec=6), frame_id="lidar"
    )
    modern = sweep(0)
    fields = [types.types["sensor_msgs/msg/PointField"](f.name, f.offset, f.datatype, f.count) for f in modern.fields]
    cloud = types.types[CLOUD_TYPE](
        header, modern.height, modern.width, fields, False, modern.point_step, modern.row_step, modern.data, True
    )
    with Rosbag1Writer(path) as writer:
        points = writer.add_connection("/points", CLOUD_TYPE, typestore=types)
        writer.write(points, START_NS, types.serialize_ros1(cloud, CLOUD_TYPE))
    return path


def test_ros1_bag_says_how_to_convert_it_and_the_command_works(tmp_path: Path):
    path = write_rosbag1(tmp_path / "drive.bag")
    command = f"rosbags-convert --src {path} --dst {tmp_path / 'drive'}"
    shutil.copy(path, tmp_path / "renamed.mcap")
    with pytest.raises(BagError, match=r"is not a bag; it is a ROS 1 bag; convert it with 'rosbags-convert --src"):
        read_times_s(tmp_path / "renamed.mcap")
    with pytest.raises(BagError) as error:
        read_times_s(path)
    assert command in str(error.value)
    _convert(command)
    with BagReader(tmp_path / "drive") as bag:
        (message,) = bag.messages(["/points"])
        np.testing.assert_array_equal(message.message.data, sweep(0).data)


def test_command_for_a_ros1_bag_works_with_any_name_and_beside_a_folder(tmp_path: Path):
    path = write_rosbag1(tmp_path / "night drive 2.bag")
    (tmp_path / "night drive 2").mkdir()
    with pytest.raises(BagError) as error:
        read_times_s(path)
    _convert(str(error.value).partition("convert it with '")[2].removesuffix("'"))
    with BagReader(tmp_path / "night drive 2_ros2") as bag:
        assert bag.points_topic() == "/points"


def test_folder_named_as_metadata_is_not_taken_for_it(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0], [1]])
    (bag / "metadata.yaml").unlink()
    (bag / "metadata.yaml").mkdir()
    assert read_times_s(bag)[0] == [0, 1]


def _convert(command: str) -> None:
    from rosbags.convert.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0


def test_other_files_are_named_for_what_they_are(tmp_path: Path):
    bag = write_split(tmp_path / "bag", "mcap", [[0]])
    with tarfile.open(tmp_path / "bag.tar", "w") as archive:
        archive.add(bag, "bag")
    with tarfile.open(tmp_path / "bag.tar.gz", "w:gz") as archive:
        archive.add(bag, "bag")
    with zipfile.ZipFile(tmp_path / "bag.zip", "w") as packed:
        packed.write(bag / "bag_0.mcap")
    (tmp_path / "lidar.pcap").write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    (tmp_path / "pointer.mcap").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "really_zip.mcap").write_bytes((tmp_path / "bag.zip").read_bytes())
    for name, kind in (
        ("bag.tar", "a tar archive; unpack it"),
        ("bag.tar.gz", "a gzip file; unpack it"),
        ("bag.zip", "a zip archive; unpack it"),
        ("really_zip.mcap", "a zip archive; unpack it"),
        ("pointer.mcap", "a pointer of Git LFS; fetch the bag itself with 'git lfs pull'"),
        ("lidar.pcap", r"a packet capture \(pcap\); play it to the LiDAR's ROS 2 driver"),
    ):
        with pytest.raises(BagError, match=f"{name} is not a bag; it is {kind}") as error:
            read_times_s(tmp_path / name)
        assert "\n" not in str(error.value)


def test_folder_of_several_bags_lists_them(tmp_path: Path):
    for name in ("a", "b"):
        write_split(tmp_path / name, "mcap", [[0]])
    with pytest.raises(BagError, match=rf"not a bag, but holds bags; name one: {tmp_path}/a, {tmp_path}/b"):
        read_times_s(tmp_path)
    (tmp_path / "files").mkdir()
    for name in ("a", "b"):
        shutil.copy(tmp_path / name / f"{name}_0.mcap", tmp_path / "files" / f"{name}.mcap")
    with pytest.raises(BagError, match=r"seem to be several recordings; name one: a\.mcap, b\.mcap"):
        read_times_s(tmp_path / "files")
    write_rosbag1(tmp_path / "drive.bag")
    (tmp_path / "old").mkdir()
    (tmp_path / "drive.bag").rename(tmp_path / "old" / "drive.bag")
    with pytest.raises(BagError, match="it is a ROS 1 bag; convert it with"):
        read_times_s(tmp_path / "old")
