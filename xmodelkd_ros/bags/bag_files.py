"""The storage files of a bag: of a rosbag2 folder with or without a usable metadata.yaml, or a single file.

Files are recognized by their first bytes. What metadata.yaml says is only compared with what there is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from shlex import quote
from typing import Any

import yaml

from xmodelkd_ros.bags import mcap_records, sqlite_file
from xmodelkd_ros.bags.storage import ZSTD_MAGIC
from xmodelkd_ros.core.errors import BagError, listed, one_line

METADATA = "metadata.yaml"
STORAGE_MAGICS = (mcap_records.MAGIC, sqlite_file.MAGIC, ZSTD_MAGIC)
_SUFFIXES = (".mcap", ".db3")
_COMPRESSED = (".zstd", ".zst")
_PACKETS = "packet capture (pcap); play it to the LiDAR's ROS 2 driver and record a bag with 'ros2 bag record'"
_PCAP_MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")
"""Seconds and nanoseconds in both byte orders, and pcapng."""
_OTHER_KINDS = (
    (b"PK\x03\x04", "zip archive; unpack it and name the bag in it"),
    (b"\x1f\x8b", "gzip file; unpack it with 'gunzip' or 'tar xzf' and name the bag in it"),
    (b"BZh", "bzip2 file; unpack it and name the bag in it"),
    (b"\xfd7zXZ\x00", "xz file; unpack it and name the bag in it"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive; unpack it and name the bag in it"),
    (b"Rar!", "RAR archive; unpack it and name the bag in it"),
    (b"\x04\x22\x4d\x18", "lz4 file; unpack it with 'lz4 -d' and name the bag in it"),
    (b"version https://git-lfs", "pointer of Git LFS; fetch the bag itself with 'git lfs pull'"),
    *((magic, _PACKETS) for magic in _PCAP_MAGICS),
)
"""First bytes of files that users take for bags, and what to do with them."""
_TAR_AT, _TAR = 257, b"ustar"
_ROS1 = b"#ROSBAG"


@dataclass
class BagFiles:
    """The storage files of a bag.

    Attributes:
        paths: the files.
        claimed: number of messages by metadata.yaml; None without a usable one.
        notes: one line about each irregularity.
    """

    paths: list[Path]
    claimed: int | None = None
    notes: list[str] = field(default_factory=list)


def find_files(path: Path) -> BagFiles:
    """Find the storage files of a bag.

    Args:
        path: rosbag2 folder, its metadata.yaml, or a storage file.

    Raises:
        BagError: there is none; the message says what there is instead.
    """
    if not os.path.exists(path):  # also False for invalid file names
        raise BagError(f"bag {path} does not exist; give the path of a rosbag2 folder or an .mcap file")
    if path.name == METADATA:
        path = path.parent
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise BagError(f"{path} is neither a file nor a folder; give a rosbag2 folder, an .mcap or a .db3 file")
    head = _head(path)
    if _other_kind(head) or not (head.startswith(STORAGE_MAGICS) or _has_suffix(path)):
        raise BagError(f"{path} is not a bag; {_instead(path, head)}")
    return BagFiles([path])


def storage_files(folder: Path) -> list[Path]:
    """The files in a folder that are storage files by their first bytes or their suffix, sorted by number."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    return sorted(filter(_is_storage, files), key=_sort_key)


def _is_storage(file: Path) -> bool:
    if _has_suffix(file):
        return True
    try:
        return _head(file).startswith(STORAGE_MAGICS)
    except BagError:  # others need not be readable
        return False


def _has_suffix(path: Path) -> bool:
    name = path.name.lower()
    for suffix in _COMPRESSED:
        name = name[: -len(suffix)] if name.endswith(suffix) else name
    return name.endswith(_SUFFIXES)


def _sort_key(path: Path) -> list[tuple[int, str]]:
    """Sorts bag_10 after bag_9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_TAR_AT + len(_TAR))
    except OSError as error:
        raise BagError(f"cannot read bag {path}: {error.strerror}") from error


def _other_kind(head: bytes) -> bool:
    return head.startswith((_ROS1, *(magic for magic, _ in _OTHER_KINDS))) or head[_TAR_AT:] == _TAR


def _instead(path: Path, head: bytes) -> str:
    """What a file is that is no bag, and what to do with it."""
    if head.startswith(_ROS1):
        target = path.with_suffix("")
        target = target.with_name(f"{target.name}_ros2") if target.exists() else target
        command = f"rosbags-convert --src {quote(str(path))} --dst {quote(str(target))}"
        return f"it is a ROS 1 bag; convert it with '{command}'"
    if head[_TAR_AT:] == _TAR:
        return "it is a tar archive; unpack it and name the bag in it"
    for magic, text in _OTHER_KINDS:
        if head.startswith(magic):
            return f"it is a {text}"
    return "give a rosbag2 folder, an .mcap or a .db3 file"


# --- folders ----------------------------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> BagFiles:
    try:
        there = storage_files(folder)
        metadata_file = folder / METADATA
        text = metadata_file.read_text(encoding="utf-8", errors="replace") if metadata_file.is_file() else None
    except OSError as error:
        raise BagError(f"cannot read bag {folder}: {error.strerror}") from error
    if text is None and not there:
        raise BagError(_no_bag(folder))
    metadata, problem = _parsed(text) if text is not None else (None, "is missing")
    if metadata is not None:
        return _listed_files(folder, there, metadata)
    if not there:
        raise BagError(f"cannot read bag {folder}: {METADATA} {problem}, and there is no .mcap or .db3 file")
    # rosbag2 decompresses files beside the compressed ones when it plays them.
    names = {file.name for file in there}
    files = [file for file in there if _plain(file.name) == file.name or _plain(file.name) not in names]
    if len(set(map(_pattern, files))) > 1:
        raise BagError(
            f"{folder}: {METADATA} {problem}, and the files seem to be several recordings; name one: "
            f"{listed(file.name for file in files)}"
        )
    return BagFiles(
        files, None, [f"{folder}: {METADATA} {problem}; {listed(f.name for f in files)} {_are(files)} read"]
    )


def _parsed(text: str) -> tuple[Mapping[str, Any] | None, str]:
    """The metadata; None and what is wrong with it if it is unusable."""
    try:
        metadata = yaml.safe_load(text)["rosbag2_bagfile_information"]
        if isinstance(metadata, dict):
            return metadata, ""
        problem = "is not that of a bag"
    except (TypeError, KeyError):
        problem = "is not that of a bag"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = f"is not readable ({one_line(error)})"
    return None, problem


def _listed_files(folder: Path, there: Sequence[Path], metadata: Mapping[str, Any]) -> BagFiles:
    """The files that metadata.yaml lists, and others that continue them."""
    names = _listed_names(metadata)
    by_name = {_plain(file.name): file for file in there}
    by_name |= {file.name: file for file in there}
    found = {name: by_name.get(name) or by_name.get(_plain(name)) for name in names}
    missing = [name for name, file in found.items() if file is None]
    paths = list(dict.fromkeys(file for file in found.values() if file is not None))
    known = {_plain(file.name) for file in paths}
    unlisted = [file for file in there if _plain(file.name) not in known]
    if missing and not there:
        raise BagError(f"cannot read bag {folder}: its storage files are missing: {listed(missing)}")
    notes = []
    # Renamed files may have any name.
    patterns = set(map(_pattern, paths))
    added = [file for file in unlisted if missing or not paths or _pattern(file) in patterns]
    others = [file for file in unlisted if file not in added]
    if missing:
        lost = listed(_loss(name, metadata) for name in missing)
        notes.append(f"storage files that {METADATA} lists are missing, their messages are not read: {lost}")
    if added:
        renamed = "; renamed?" if missing else ""
        notes.append(f"{METADATA} does not list {listed(f.name for f in added)}, read all the same{renamed}")
    if others:
        notes.append(f"{METADATA} does not list {listed(f.name for f in others)}, not read; name each alone")
    paths += added
    if not paths:
        raise BagError(f"cannot read bag {folder}: {METADATA} lists no storage file, and there is none")
    return BagFiles(sorted(paths, key=_sort_key), _count(metadata.get("message_count")), notes)


def _listed_names(metadata: Mapping[str, Any]) -> list[str]:
    """Names of the storage files, without folders: before version 4 their paths began with the bag's folder."""
    listing = metadata.get("relative_file_paths")
    entries = [*listing] if isinstance(listing, list) else []
    if isinstance(files := metadata.get("files"), list):
        entries += [file.get("path") for file in files if isinstance(file, dict)]
    paths = [entry.replace("\\", "/") for entry in entries if isinstance(entry, str) and entry]
    return list(dict.fromkeys(PurePath(path).name for path in paths))


def _plain(name: str) -> str:
    """Name of a file without the suffix of its compression."""
    return next((name[: -len(suffix)] for suffix in _COMPRESSED if name.endswith(suffix)), name)


def _loss(name: str, metadata: Mapping[str, Any]) -> str:
    """Name of a missing file, with its number of messages if known."""
    files = metadata.get("files")
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict) and PurePath(str(file.get("path"))).name == name:
            count = _count(file.get("message_count"))
            return name if count is None else f"{name} ({count} messages)"
    return name


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _pattern(file: Path) -> str:
    """Name of a file without numbers: equal for the splits of a recording."""
    return re.sub(r"\d+", "#", _plain(file.name))


def _are(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"


def _no_bag(folder: Path) -> str:
    """Error about a folder without storage files; names the bags below it."""
    subfolders = sorted(sub for sub in folder.iterdir() if sub.is_dir())
    below = [sub.name for sub in subfolders if (sub / METADATA).exists() or storage_files(sub)]
    if below:
        return f"{folder} is not a bag, but holds bags; name one: {listed(str(folder / name) for name in below)}"
    ros1 = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix == ".bag")
    if ros1:
        return f"{folder} is not a rosbag2 folder; {ros1[0].name}: {_instead(ros1[0], _ROS1)}"
    return f"{folder} is not a rosbag2 folder: it has no {METADATA} and no .mcap or .db3 file; name a folder with them"
