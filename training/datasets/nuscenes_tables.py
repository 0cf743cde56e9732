"""nuScenes' tables of one version: JSON files of rows that refer to each other by tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.datasets.folder_content import files_in
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.resources import label_map, translation

_T = TypeVar("_T")

LIDAR = "LIDAR_TOP"
LABEL_FILES = {"lidarseg": "_lidarseg.bin", "panoptic": "_panoptic.npz"}
"""Suffixes of label files by their folder."""

_CHUNK = 1 << 20
"""Characters of a table read at once; longer than any row."""
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Mount:
    """Calibration of a sensor on a vehicle.

    Attributes:
        channel: the sensor's name.
        ego_from_sensor: (4, 4) ego from sensor; the ego frame is x forward, y left, on the road below the rear axle.
        intrinsic: (3, 3) for a camera, else empty.
    """

    channel: str
    ego_from_sensor: NDArray[np.float64]
    intrinsic: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Record:
    """A sensor's data for a key frame.

    Attributes:
        token: token of the row.
        stamp_us: microseconds since 1970.
        file: relative to the data set.
        mount: token of the sensor's calibration.
        ego: token of the ego pose at the stamp.
    """

    token: str
    stamp_us: int
    file: str
    mount: str
    ego: str


@dataclass(frozen=True, eq=False)
class Tables:
    """The required content of a version's tables.

    Attributes:
        root: the data set.
        version: for instance ``v1.0-mini``.
        scenes: token of each scene by name.
        samples: tokens of the key frames of each scene (by its token), ascending in time.
        records: data of the LiDAR and the cameras for each key frame, by channel.
        mounts: the calibrations.
        ego: translation (metres) and quaternion (x, y, z, w) of the vehicle in the map frame, by token; empty if the
            data set has no ``ego_pose.json``.
        labels: label file of each sweep that has one (by the token of its row), relative to the data set: of
            nuScenes-lidarseg, or else of Panoptic nuScenes.
        class_of_raw: (256,) nuscenes16 id of each raw label in these files; 255 for ignored ones.
    """

    root: Path
    version: str
    scenes: Mapping[str, str]
    samples: Mapping[str, list[str]]
    records: Mapping[str, dict[str, Record]]
    mounts: Mapping[str, Mount]
    ego: Mapping[str, tuple[list[float], list[float]]]
    labels: Mapping[str, str]
    class_of_raw: NDArray[np.uint8]


@lru_cache(maxsize=4)
def read_tables(folder: Path) -> Tables:
    """Read a version's tables, cached; of the two large ones only the rows of key frames are kept.

    Raises:
        ConfigError: a table is missing or damaged.
    """
    root, version = folder.parent, folder.name
    channels = _read(
        folder, "sensor", lambda row: (_text(row["token"]), _text(row["channel"])) if _is_used(row) else None
    )
    mounts = _read(
        folder, "calibrated_sensor", lambda row: _mount(row, channels) if row["sensor_token"] in channels else None
    )
    records: dict[str, dict[str, Record]] = {}
    for one, sample in _read(
        folder,
        "sample_data",
        lambda row: _record(row) if _is_key(row) and row["calibrated_sensor_token"] in mounts else None,
    ).items():
        records.setdefault(sample, {})[mounts[one.mount].channel] = one
    used_poses = {one.ego for frame in records.values() for one in frame.values()}
    ego = {}
    if (folder / "ego_pose.json").is_file():
        ego = _read(folder, "ego_pose", lambda row: _ego(row) if row["token"] in used_poses else None)
    labels = _label_files(root, folder)
    return Tables(
        root,
        version,
        _read(folder, "scene", lambda row: (_text(row["name"]), _text(row["token"]))),
        _samples(folder),
        records,
        mounts,
        ego,
        labels,
        _class_of_raw(folder) if labels else np.full(256, IGNORE, np.uint8),
    )


def _is_used(row: Mapping[str, Any]) -> bool:
    return bool(row["channel"] == LIDAR or row["modality"] == "camera")


def _is_key(row: Mapping[str, Any]) -> bool:
    return bool(row["is_key_frame"])


def _mount(row: Mapping[str, Any], channels: Mapping[str, str]) -> tuple[str, Mount]:
    pose = transform(row["translation"], _xyzw(row["rotation"]))
    intrinsic = np.array(row["camera_intrinsic"], np.float64)
    return _text(row["token"]), Mount(channels[row["sensor_token"]], pose, intrinsic)


def _record(row: Mapping[str, Any]) -> tuple[Record, str]:
    """The record of a row, and the token of its key frame."""
    one = Record(
        _text(row["token"]),
        int(row["timestamp"]),
        _text(row["filename"]),
        _text(row["calibrated_sensor_token"]),
        _text(row["ego_pose_token"]),
    )
    return one, _text(row["sample_token"])


def _ego(row: Mapping[str, Any]) -> tuple[str, tuple[list[float], list[float]]]:
    return _text(row["token"]), (list(row["translation"]), _xyzw(row["rotation"]))


def _xyzw(wxyz: list[float]) -> list[float]:
    w, x, y, z = wxyz
    return [x, y, z, w]


def _samples(folder: Path) -> dict[str, list[str]]:
    """Tokens of the key frames of each scene, ascending in time."""
    rows = _read(
        folder, "sample", lambda row: (_text(row["token"]), (int(row["timestamp"]), _text(row["scene_token"])))
    )
    found: dict[str, list[str]] = {}
    for token, (_, scene) in sorted(rows.items(), key=lambda item: item[1]):
        found.setdefault(scene, []).append(token)
    return found


def _label_files(root: Path, folder: Path) -> dict[str, str]:
    """Label files by the tokens of the sweeps; empty for v1.0-test. The files are named after these tokens."""
    for kind, suffix in LABEL_FILES.items():
        place = f"{kind}/{folder.name}"
        found = {name.removesuffix(suffix): f"{place}/{name}" for name in files_in(root / place) if suffix in name}
        if found:
            if (folder / f"{kind}.json").is_file():
                rows = _read(folder, kind, lambda row: (_text(row["sample_data_token"]), _text(row["filename"])))
                known = set(found.values())
                found |= {token: file for token, file in rows.items() if file in known or (root / file).is_file()}
            return found
    return {}


def _class_of_raw(folder: Path) -> NDArray[np.uint8]:
    """(256,) nuscenes16 id of each raw label, by the class names in ``category.json``.

    The file of nuScenes without lidarseg has no numbers; then they are those of nuScenes-lidarseg.
    """
    raw, own = label_map("nuscenes32"), translation(label_map("nuscenes32"), label_map("nuscenes16")).lookup
    lookup = np.full(256, IGNORE, np.uint8)
    numbers = {}
    if (folder / "category.json").is_file():
        numbers = _read(folder, "category", lambda row: (_text(row["name"]), row.get("index")))
    if not any(index is not None for index in numbers.values()):
        numbers = {c.name: c.id for c in raw.classes}
    for name, index in numbers.items():
        if not (raw.has_class(name) and isinstance(index, int) and 0 <= index < IGNORE):
            raise ConfigError(
                f"{folder}: category.json has {quoted(name)} as number {quoted(index)}, which nuScenes-lidarseg does "
                "not define"
            )
        lookup[index] = own[raw.id_of(name)]
    return lookup


def _read(folder: Path, table: str, keep: Callable[[Mapping[str, Any]], tuple[Any, _T] | None]) -> dict[Any, _T]:
    """Read a table into a dictionary; ``keep`` returns the key and value of a row, or None to skip it.

    Raises:
        ConfigError: the table is missing or damaged, or a row lacks a field.
    """
    try:
        return dict(pair for row in _rows(folder / f"{table}.json") if (pair := keep(row)) is not None)
    except ConfigError as error:
        raise ConfigError(f"{folder / table}.json: {error}; fetch it again") from error
    except KeyError as error:
        raise ConfigError(f"{folder / table}.json has a row without {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{folder} is not a version of nuScenes ({table}.json: {getattr(error, 'strerror', None) or error}); "
            "give a folder such as nuscenes/v1.0-mini that holds all its tables"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{quoted(value)} is not a string")
    return value


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Iterate over the rows of a table without loading it whole: the largest have 2.6 million."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK).lstrip()
        if not text.startswith("["):
            raise ValueError("not a list of rows")
        at = 1
        while True:
            at = _end_of_gap(text, at)
            if text[at : at + 1] == "]":
                return
            try:
                row, at = decode(text, at)
            except ValueError:  # incomplete at the end of the buffer, or damaged
                more = file.read(_CHUNK) if len(text) - at < _CHUNK else ""
                if not more:
                    raise
                text, at = text[at:] + more, 0
                continue
            yield row


def _end_of_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at
