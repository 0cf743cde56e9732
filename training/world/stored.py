"""Stored generated drives: writing to a folder and reading back, with the same bytes as a live drive.

A stored sweep has no coordinates: they follow from its ranges and the beam table.
A drive's folder::

    drive.json                    seed, version of the world, sensors, poses, stamps
    lidar/000.npz                 the arrays of training.worldgen.sensing.lidar.Scan
    camera/front_camera/000.jpg   images
    labels/front_camera/000.png   class ids of the pixels, 255 for the sky
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets.sequence import JpegFile
from training.world.sequence import WorldSequence, _encoded, _jpeg, stamp_ns
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import MAX_SWEEPS, Drive, Frame
from training.worldgen.sensing.lidar import Scan
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.rig import Rig
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.transforms import PoseTrack
from xmodelkd_ros.resources import label_map

_DRIVE_FILE = "drive.json"
_MAX_DURATION_S = 3600.0
"""Longer drives are damaged."""
_SCAN_TYPES = {"range_steps": "uint16", "intensity": "uint8", "label": "uint8", "instance": "int32"}


class StoredDrive:
    """A drive in a folder, as :func:`store` writes it.

    Raises:
        ConfigError: the folder is not a stored drive or of another world version, or a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            data = parse_json((folder / _DRIVE_FILE).read_text(encoding="utf-8"))
            version = data["version"]
            if version == WORLD_VERSION:  # other versions may have other content
                self._set(data)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, ConfigError) as error:
            raise ConfigError(
                f"{folder} is not a generated drive ({_DRIVE_FILE}: {quoted(error)}); write one with "
                "'python -m training.world'"
            ) from error
        if version != WORLD_VERSION:
            raise ConfigError(
                f"{folder} is of world version {quoted(version)}, this is {WORLD_VERSION}; write it again"
            )

    def _set(self, data: Any) -> None:
        self.seed, self.sweeps = int(data["seed"]), int(data["sweeps"])
        self._first_end, self.period_s = float(data["first_end_s"]), float(data["period_s"])
        self.number = int(data["number"])
        if not (
            min(self.seed, self.number) >= 0
            and 0 < self.sweeps <= MAX_SWEEPS
            and 0 < self.period_s * self.sweeps < _MAX_DURATION_S
        ):
            raise ValueError(f"seed {self.seed}, {self.sweeps} sweeps, one each {self.period_s} s")
        if not 0 <= self._first_end < _MAX_DURATION_S:
            raise ValueError(f"the first sweep ends at {self._first_end} s")
        self.rig, track = _rig_from(data), data["track"]
        self.track = PoseTrack(track["times_s"], track["positions"], track["quaternions"])

    def end_s(self, index: int) -> float:
        """End of a sweep, seconds since the start of the drive."""
        return self._first_end + index * self.period_s

    def scan(self, index: int) -> Scan:
        """The sweep of a frame."""
        path = self.folder / "lidar" / f"{index:03d}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                scan = Scan(**{field.name: arrays[field.name] for field in fields(Scan)})
            _check_scan(scan, (self.rig.lidar.columns, self.rig.lidar.slots))
            return scan
        except Exception as error:  # damaged archives raise many kinds of errors
            raise ConfigError(f"cannot read sweep {path}: {error}; write the drive again") from error

    def image(self, index: int, camera: int) -> JpegFile:
        """The image of one camera of a frame."""
        model = self.rig.cameras[camera]
        stamp = stamp_ns(self.end_s(index) + self.rig.shutter_s[camera])
        path = self.folder / "camera" / model.name / f"{index:03d}.jpg"
        return JpegFile(model, stamp, path, self.folder / "labels" / model.name / f"{index:03d}.png")


def stored_drives(path: Path) -> list[WorldSequence]:
    """Open the drive in a folder, or all drives in its subfolders and theirs.

    Raises:
        ConfigError: no drive is found, or one cannot be read.
    """
    stored = [StoredDrive(folder) for folder in drive_folders(path)]
    return [WorldSequence(drive, drive.image) for drive in stored]


def drive_folders(path: Path) -> list[Path]:
    """The folder of a drive itself, or those in it: drives, or sweeps of drives in which each has its own LiDAR.

    Raises:
        ConfigError: no drive is found.
    """
    if (path / _DRIVE_FILE).exists():
        return [path]
    folders = [file.parent for level in ("*", "*/*") for file in path.glob(f"{level}/{_DRIVE_FILE}")]
    finished = [folder for folder in folders if not any(p.startswith(".") for p in folder.relative_to(path).parts)]
    if not finished:
        raise ConfigError(f"{path} holds no generated drive; write one with 'python -m training.world'")
    return sorted(finished)


def store(drive: Drive, folder: Path, frames: Iterable[Frame]) -> int:
    """Write frames of a drive into a new folder, atomically; returns the number of bytes written.

    Raises:
        ConfigError: the folder exists, or cannot be written.
        DiskError: the disk is full or fails.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already; remove it or choose another folder")
    text = json.dumps(_describe(drive), indent=1)
    with atomic_dir(folder) as unfinished:
        written = sum(_store_frame(drive.rig, unfinished, frame) for frame in frames)
        (unfinished / _DRIVE_FILE).write_text(text, encoding="utf-8")
    return written + len(text)


def _store_frame(rig: Rig, folder: Path, frame: Frame) -> int:
    scan, number = frame.scan, f"{frame.index:03d}"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{field.name: getattr(scan, field.name) for field in fields(scan)})
    files = {folder / "lidar" / f"{number}.npz": buffer.getvalue()}
    for camera, render in zip(rig.cameras, frame.images, strict=True):
        files[folder / "camera" / camera.name / f"{number}.jpg"] = _jpeg(render.rgb)
        files[folder / "labels" / camera.name / f"{number}.png"] = _encoded(render.label, "png", optimize=False)
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return sum(map(len, files.values()))


def _describe(drive: Drive) -> dict[str, Any]:
    rig = drive.rig
    cameras = [
        {
            "name": c.name,
            "width": c.width,
            "height": c.height,
            "intrinsic": c.intrinsic.tolist(),
            "from_lidar": c.from_lidar.tolist(),
            "shutter_s": s,
        }
        for c, s in zip(rig.cameras, rig.shutter_s, strict=True)
    ]
    track = drive.track
    return {
        "version": WORLD_VERSION,
        "seed": drive.seed,
        "sweeps": drive.sweeps,
        "number": drive.number,
        "first_end_s": drive.end_s(0),
        "period_s": drive.period_s,
        "lidar": asdict(rig.lidar),
        "base_from_lidar": rig.base_from_lidar.tolist(),
        "cameras": cameras,
        "track": {
            "times_s": track.times_s.tolist(),
            "positions": track.positions.tolist(),
            "quaternions": track.quaternions.tolist(),
        },
    }


def _rig_from(data: dict[str, Any]) -> Rig:
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data["lidar"].items()}
    for name, value in values.items():
        if not isinstance(value, str) and not np.isfinite(np.asarray(value, np.float64)).all():
            raise ValueError(f"lidar.{name} is not finite")
    lidar = LidarModel(**values)
    for name in ("columns", "lines", "turn", "returns"):
        if not isinstance(getattr(lidar, name), int):
            raise TypeError(f"lidar.{name} is {quoted(getattr(lidar, name))}")
    base_from_lidar = np.array(data["base_from_lidar"], np.float64)
    if base_from_lidar.shape != (4, 4) or not np.isfinite(base_from_lidar).all():
        raise ValueError("base_from_lidar is not a 4 x 4 matrix")
    cameras = tuple(
        CameraModel(c["name"], c["width"], c["height"], np.array(c["intrinsic"]), np.array(c["from_lidar"]))
        for c in data["cameras"]
    )
    shutters = tuple(float(c["shutter_s"]) for c in data["cameras"])
    if not all(abs(shutter) < _MAX_DURATION_S for shutter in shutters):
        raise ValueError(f"shutters open at {shutters} s")
    return Rig(lidar, base_from_lidar, cameras, shutters)


def _check_scan(scan: Scan, shape: tuple[int, int]) -> None:
    """Raise a ValueError for arrays that do not fit the drive's LiDAR."""
    for name, dtype in _SCAN_TYPES.items():
        array = getattr(scan, name)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not {dtype} of {shape}")
    if not np.isin(scan.label, [*(c.id for c in label_map("drive13").classes), IGNORE]).all():
        raise ValueError("it has labels outside the label set")
