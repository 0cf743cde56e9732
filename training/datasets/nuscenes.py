"""nuScenes-lidarseg: key frames of scenes, with point labels and the images of six cameras.

A data set is a folder::

    v1.0-trainval/*.json                          tables; also v1.0-mini, v1.0-test
    samples/LIDAR_TOP/*.pcd.bin                   float32 x, y, z, intensity (0 to 255), ring
    samples/CAM_FRONT/*.jpg                       1600 x 900, rectified
    lidarseg/v1.0-trainval/TOKEN_lidarseg.bin     uint8 class of each point of a key frame; not for v1.0-test

A drive is a scene of 20 s. Its sweeps are the key frames, two per second, as only these have labels.

nuScenes' points are motion-compensated: a sweep is in the sensor frame at its stamp, the end of the rotation. Firing
times are not published, so all points count as fired then. The sensor's own axes are x right, y forward; here they are
converted to REP-103 (x forward, y left). Returns from the ego vehicle are kept and have no label.
"""

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

from training.datasets.binary import points_in, read_labels, read_rows
from training.datasets.sequence import JpegFile
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import PoseTrack, inverse, transform
from xmodelkd_ros.resources import label_map, translation

_T = TypeVar("_T")

_LIDAR = "LIDAR_TOP"
_IMAGE_SIZE = (1600, 900)
_BYTES_PER_POINT = 20

_OWN_FROM_LIDAR = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
"""The sensor's own axes (x right, y forward) from REP-103's."""

_VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
    "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
)
"""Numbers of the 150 validation scenes of v1.0-trainval in the official split; the other 700 are for training."""
_MINI_VAL = "103 916"
"""Validation scenes of v1.0-mini, which has its own split."""

_CHUNK = 1 << 20
"""Characters of a table read at once; longer than any row."""
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class _Mount:
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
class _Record:
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
        ego: translation (metres) and quaternion (x, y, z, w) of the vehicle in the map frame, by token.
        labels: label file of each sweep (by the token of its row), relative to the data set; empty if the data set
            has none.
        class_of_raw: (256,) nuscenes16 id of each raw label in these files; 255 for ignored ones.
    """

    root: Path
    version: str
    scenes: Mapping[str, str]
    samples: Mapping[str, list[str]]
    records: Mapping[str, dict[str, _Record]]
    mounts: Mapping[str, _Mount]
    ego: Mapping[str, tuple[list[float], list[float]]]
    labels: Mapping[str, str]
    class_of_raw: NDArray[np.uint8]


class NuScenesSequence:
    """The key frames of one scene; a :class:`training.datasets.sequence.DriveSequence`.

    Attributes:
        label_map: the label set of :meth:`labels`, nuscenes16.
        cameras: intrinsic and extrinsic of each camera, sorted by name.
        base_from_lidar: (4, 4) base_link from sensor.

    Raises:
        ConfigError: a key frame lacks its sweep, or a table lacks a row that another table refers to.
    """

    source = DataSource(
        "nuScenes-lidarseg",
        "CC BY-NC-SA 4.0",
        "nuScenes and nuScenes-lidarseg by Motional (Caesar et al., CVPR 2020; Fong et al., RA-L 2022), "
        "https://www.nuscenes.org, CC BY-NC-SA 4.0 and terms of use: no commercial use, also of weights trained on it",
    )
    intensity_range = (0.0, 255.0)

    def __init__(self, tables: Tables, scene: str) -> None:
        self._tables = tables
        self.name = f"nuScenes {scene}"
        self.label_map: LabelMap = label_map("nuscenes16")
        try:
            self._frames = [tables.records[sample] for sample in tables.samples[tables.scenes[scene]]]
            self._sweeps = [frame[_LIDAR] for frame in self._frames]
            first = {channel: tables.mounts[record.mount] for channel, record in self._frames[0].items()}
            self._world_from_ego = self._track()
        except LookupError as error:
            raise ConfigError(
                f"{tables.root / tables.version} is incomplete: {scene} refers to {error}, which its tables lack; "
                "fetch it again"
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{tables.root / tables.version}: {scene}: {error}; fetch it again") from error
        self._ego_from_lidar = first[_LIDAR].ego_from_sensor @ _OWN_FROM_LIDAR
        self.base_from_lidar = self._ego_from_lidar  # nuScenes' ego frame is a base_link
        self.cameras = tuple(
            CameraModel(name, *_IMAGE_SIZE, mount.intrinsic, inverse(mount.ego_from_sensor) @ self._ego_from_lidar)
            for name, mount in sorted(first.items())
            if name != _LIDAR
        )

    def __len__(self) -> int:
        return len(self._sweeps)

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: its end, to which its points are motion-compensated."""
        return self._sweeps[self._checked(index)].stamp_us * 1000

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep in the sensor frame at its stamp, with intensity 0 to 255 and ring."""
        rows = read_rows(self._file(index), "<f4", 5)
        xyz = np.column_stack([rows[:, 1], -rows[:, 0], rows[:, 2]])
        return PointCloud(xyz, np.ascontiguousarray(rows[:, 3]), rows[:, 4].astype(np.uint16))

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) nuscenes16 class ids of the points of :meth:`cloud`, 255 for unlabelled ones and for v1.0-test."""
        sweep, tables = self._file(index), self._tables
        if not tables.labels:
            return np.full(points_in(sweep, _BYTES_PER_POINT), IGNORE, np.uint8)
        token = self._sweeps[index].token
        if token not in tables.labels:
            raise ConfigError(
                f"{tables.root / tables.version}: lidarseg.json has no label file for {sweep}; fetch it again"
            )
        raw = read_labels(tables.root / tables.labels[token], np.uint8, sweep, _BYTES_PER_POINT)
        return tables.class_of_raw[raw]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) zeros: the points are motion-compensated to the sweep's stamp."""
        return np.zeros(points_in(self._file(index), _BYTES_PER_POINT), np.float32)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) map of the scene's city from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""
        stamp_s = self._since_start_s(self._sweeps[self._checked(index)])
        return np.asarray(self._world_from_ego.poses(stamp_s + times_s) @ self._ego_from_lidar)

    def images(self, index: int) -> tuple[JpegFile, ...]:
        """The image of each camera that belongs to a sweep."""
        records = self._frames[self._checked(index)]
        return tuple(
            JpegFile(camera, records[camera.name].stamp_us * 1000, self._tables.root / records[camera.name].file)
            for camera in self.cameras
            if camera.name in records
        )

    def _file(self, index: int) -> Path:
        return self._tables.root / self._sweeps[self._checked(index)].file

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.name} has no frame {index}; it has 0 to {len(self) - 1}")
        return index

    def _since_start_s(self, record: _Record) -> float:
        # Relative to the first sweep: a double cannot hold microseconds since 1970 with a fraction.
        return (record.stamp_us - self._sweeps[0].stamp_us) * 1e-6

    def _track(self) -> PoseTrack:
        """The poses at all sweeps and all exposures, so that images use their own poses."""
        pose_at = {
            self._since_start_s(one): self._tables.ego[one.ego] for frame in self._frames for one in frame.values()
        }
        times = sorted(pose_at)
        return PoseTrack(times, [pose_at[t][0] for t in times], [pose_at[t][1] for t in times])


def nuscenes_drives(path: Path, split: str) -> list[NuScenesSequence]:
    """Open the scenes of a data set, or one of them.

    Args:
        path: the folder of a version's tables (``nuscenes/v1.0-trainval``), or the data set's folder if it holds one
            version; or one scene, written like a folder: ``nuscenes/v1.0-mini/scene-0061``.
        split: of a whole version: ``train`` or ``val``; empty for all.

    Raises:
        ConfigError: no scene is found, or a table cannot be read.
    """
    one = path.name if path.name.startswith("scene-") else ""
    tables = read_tables(_version_folder(path.parent if one else path).resolve())
    if one:
        if one not in tables.scenes:
            raise ConfigError(f"{path.parent} has no {one}; it has {min(tables.scenes)} to {max(tables.scenes)}")
        return [NuScenesSequence(tables, one)]
    names = [name for name in sorted(tables.scenes) if not split or _split_of(name, tables.version) == split]
    if not names:
        of_split = f" of the split '{split}'" if split else ""
        raise ConfigError(f"{path} holds no scene{of_split}; give another version, or one scene as {path}/scene-NNNN")
    return [NuScenesSequence(tables, name) for name in names]


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
    records: dict[str, dict[str, _Record]] = {}
    for one, sample in _read(
        folder,
        "sample_data",
        lambda row: _record(row) if _is_key(row) and row["calibrated_sensor_token"] in mounts else None,
    ).items():
        records.setdefault(sample, {})[mounts[one.mount].channel] = one
    used_poses = {one.ego for frame in records.values() for one in frame.values()}
    labels = _label_files(root, folder)
    return Tables(
        root,
        version,
        _read(folder, "scene", lambda row: (_text(row["name"]), _text(row["token"]))),
        _samples(folder),
        records,
        mounts,
        _read(folder, "ego_pose", lambda row: _ego(row) if row["token"] in used_poses else None),
        labels,
        _class_of_raw(folder) if labels else np.full(256, IGNORE, np.uint8),
    )


def _version_folder(path: Path) -> Path:
    """The folder of the tables: the given one, or the only one in it."""
    if (path / "scene.json").is_file() or path.name.startswith("v1.0-"):
        return path
    versions = sorted(child.parent.name for child in path.glob("v1.0-*/scene.json"))
    if len(versions) != 1:
        found = (
            f"more than one version ({', '.join(versions)})" if versions else "no nuScenes tables (v1.0-*/scene.json)"
        )
        raise ConfigError(f"{path} holds {found}; give the folder of one, such as {path}/v1.0-mini")
    return path / versions[0]


def _split_of(scene: str, version: str) -> str:
    if version == "v1.0-test":
        return "test"
    listed = (_MINI_VAL if version == "v1.0-mini" else _VAL).split()
    ranges = [[int(end) for end in part.split("-")] for part in listed]
    number = int(scene.removeprefix("scene-"))
    return "val" if any(ends[0] <= number <= ends[-1] for ends in ranges) else "train"


def _is_used(row: Mapping[str, Any]) -> bool:
    return bool(row["channel"] == _LIDAR or row["modality"] == "camera")


def _is_key(row: Mapping[str, Any]) -> bool:
    return bool(row["is_key_frame"])


def _mount(row: Mapping[str, Any], channels: Mapping[str, str]) -> tuple[str, _Mount]:
    pose = transform(row["translation"], _xyzw(row["rotation"]))
    intrinsic = np.array(row["camera_intrinsic"], np.float64)
    return _text(row["token"]), _Mount(channels[row["sensor_token"]], pose, intrinsic)


def _record(row: Mapping[str, Any]) -> tuple[_Record, str]:
    """The record of a row, and the token of its key frame."""
    one = _Record(
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
    """Label files by the tokens of the sweeps; empty without nuScenes-lidarseg and for v1.0-test."""
    if next((root / "lidarseg" / folder.name).glob("*.bin"), None) is None:
        return {}
    return _read(folder, "lidarseg", lambda row: (_text(row["sample_data_token"]), _text(row["filename"])))


def _class_of_raw(folder: Path) -> NDArray[np.uint8]:
    """(256,) nuscenes16 id of each raw label, by the class names in ``category.json``."""
    raw, own = label_map("nuscenes32"), translation(label_map("nuscenes32"), label_map("nuscenes16")).lookup
    lookup = np.full(256, IGNORE, np.uint8)
    for name, index in _read(folder, "category", lambda row: (_text(row["name"]), int(row["index"]))).items():
        if not (raw.has_class(name) and 0 <= index < IGNORE):
            raise ConfigError(
                f"{folder}: category.json has '{name}' as number {index}, which nuScenes-lidarseg does not define"
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
        remedy = "; fetch nuScenes-lidarseg, whose category.json replaces the old one" if table == "category" else ""
        raise ConfigError(f"{folder / table}.json has a row without {error}{remedy}") from error
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
