"""PandaSet sequences: sweeps as fired by the Pandar64, labels, camera images and calibration.

PandaSet stores sweeps as pickles, and unpickling can run code; :mod:`training.datasets.table_pickle` runs none.

Published points are motion-compensated and in the world frame. A driver delivers neither, so both are undone here:
every point is in the sensor frame at its firing time, with REP-103 axes (x forward, y left, z up).

Required are ``lidar/`` with ``poses.json`` and ``timestamps.json``. Sweeps that are missing, label files, cameras and
images are left out with a note. The static calibration is not part of every download; without it there are no cameras,
and the LiDAR counts as mounted as in sequence 002.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.safe_yaml import parse_yaml
from training.datasets.folder_content import FolderContent, files_in, missing_note
from training.datasets.sequence import JpegFile
from training.datasets.table_pickle import columns, unpickled
from training.datasets.unpacking import SUFFIXES, unpacked
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.file_reading import content_errors, read_file
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.transforms import PoseTrack, inverse, transform
from xmodelkd_ros.resources import label_map, translation

_BASE_FROM_EGO = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
"""PandaSet's ego frame is x right, y forward; base_link is x forward, y left (REP-103). Their common origin is at the
height of the axles, 0.3 m above the road."""

_IMAGE_SIZE = (1920, 1080)
_CALIBRATION = "static_extrinsic_calibration.yaml"
_REFERENCE_CAMERA = "front_camera"
_EGO_FROM_LIDAR = (
    (-0.0000331, 0.7815546, 1.8594468),
    (0.005271745135843247, -0.005800922276205767, 0.7182195844097718, 0.6957723669234235),
)
"""Position, and quaternion x, y, z, w, of this module's LiDAR frame in the ego frame, from sequence 002."""
_TIME_SLICES = 64
"""Poses are evaluated in the middle of 64 time slices of a sweep: 1.6 ms, or 3 cm at 20 m/s."""

_MAX_SWEEP_S = 60.0
"""A sweep takes 0.1 s; times this far from its stamp are damaged."""
_MAX_STAMP_S = 2.0**33
_MAX_TABLE_BYTES = 1 << 28
"""Twenty times the size of a sweep; limits bombs, whose ratio can be a thousand."""

_REP103_FROM_RAW = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
"""The Pandar64's own axes: x left, -y forward."""

_OPTICAL_CENTRE_M = (-0.02125, 0.00125, 0.01375)
_ROLL_RAD = 0.0005
"""Optical centre and roll of the beams in the frame of the calibration file (REP-103 axes).

Found by minimising the entropy of the histogram of elevations (0.01 degree bins) over frames 0, 4 and 8, in which the
car stands still: it falls from 6.70 to 4.84 nats, and only then are the 64 beams separated."""


class PandaSetSequence:
    """One PandaSet sequence (:class:`training.datasets.sequence.DriveSequence`), such as ``pandaset/002``.

    Attributes:
        label_map: the label set of :meth:`labels`, drive13.
        cameras: intrinsic and extrinsic of each camera, sorted by name.
        base_from_lidar: (4, 4) base_link from sensor.
        has_poses: true.
        notes: what is left out and why.

    Raises:
        ConfigError: the folder is not such a sequence, or a required file in it cannot be read.
    """

    source = DataSource("PandaSet", "CC BY 4.0", "PandaSet by Scale AI and Hesai, https://pandaset.org, CC BY 4.0")
    intensity_range = (0.0, 255.0)
    has_poses = True

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.name = f"PandaSet sequence {self.path.name}"
        self.label_map: LabelMap = label_map("drive13")
        self._label_lookup = translation(label_map("pandaset42"), self.label_map).lookup
        self.notes: list[str] = []
        self._stamps_s = self._sweep_stamps()
        with self._reading("lidar/poses.json"):
            self._world_from_ego = _pose_track(self._json("lidar/poses.json"), self._stamps_s)
        self._content = FolderContent(self.path)
        self._numbers = self._find_sweeps()
        extrinsics = self._extrinsics()
        self._ego_from_lidar = self._find_ego_from_lidar(extrinsics)
        self.base_from_lidar = _BASE_FROM_EGO @ self._ego_from_lidar
        self.cameras, self._image_stamps_s = self._find_cameras(extrinsics)
        self._sweep = lru_cache(maxsize=1)(self._read_sweep)

    def __len__(self) -> int:
        return len(self._numbers)

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: its end."""
        return _nanoseconds(self._stamps_s[self._number(index)])

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep as fired, with the sensor's intensity (0 to 255)."""
        xyz, _, intensity = self._sweep(self._number(index))
        return PointCloud(xyz.copy(), intensity.copy())

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) drive13 class ids of the points of :meth:`cloud`, 255 for unlabelled ones."""
        number = self._number(index)
        file, points = self._table_file("annotations/semseg", number), len(self._sweep(number)[1])
        if not self._content.has(file):
            return np.full(points, IGNORE, np.uint8)
        with self._reading(file):
            raw = self._table(file, "class")["class"].astype(np.int64)
            if len(raw) != points or not ((raw >= 0) & (raw <= IGNORE)).all():
                raise ValueError(f"it has {len(raw)} labels for {points} points, or ids outside 0..255")
            return self._label_lookup[raw]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) firing times of the points of :meth:`cloud`, seconds relative to the sweep's stamp."""
        number = self._number(index)
        return (self._sweep(number)[1] - self._stamps_s[number]).astype(np.float32)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""
        return np.asarray(
            self._world_from_ego.poses(self._stamps_s[self._number(index)] + times_s) @ self._ego_from_lidar
        )

    def images(self, index: int) -> tuple[JpegFile, ...]:
        """The image of each camera that belongs to a sweep; missing ones are left out."""
        number = self._number(index)
        files = ((camera, _image_file(camera.name, number)) for camera in self.cameras)
        return tuple(
            JpegFile(camera, _nanoseconds(self._image_stamps_s[camera.name][number]), self.path / file)
            for camera, file in files
            if self._content.has(file)
        )

    def _find_sweeps(self) -> list[int]:
        """Numbers of the sweeps that are there."""
        files = {number: self._table_file("lidar", number) for number in range(len(self._stamps_s))}
        found = [number for number, file in files.items() if self._content.has(file)]
        if not found:
            raise ConfigError(f"{self.path} has no sweep (lidar/00.pkl.gz); fetch the sequence again")
        missing = [file for number, file in files.items() if number not in found]
        self.notes += missing_note("sweeps", missing, len(files), f"frames 0 to {len(found) - 1} are the others")
        labels = [self._table_file("annotations/semseg", number) for number in found]
        unlabelled = [file for file in labels if not self._content.has(file)]
        if len(unlabelled) < len(found):
            self.notes += missing_note("label files", unlabelled, len(found), "these sweeps count as unlabelled")
        return found

    def _table_file(self, folder: str, number: int) -> str:
        """The file of a frame's table, however it is compressed; the published name if there is none."""
        files = [f"{folder}/{number:02d}.pkl{suffix}" for suffix in SUFFIXES]
        return next(filter(self._content.has, files), files[0])

    def _extrinsics(self) -> dict[str, NDArray[np.float64]]:
        """(4, 4) camera from Pandar64 (own axes) of each camera; empty without the calibration file."""
        path = self.path / _CALIBRATION
        if not path.is_file():
            self.notes.append(f"{_CALIBRATION} is missing; cameras are left out")
            return {}
        return _extrinsics(path)

    def _find_cameras(
        self, extrinsics: dict[str, NDArray[np.float64]]
    ) -> tuple[tuple[CameraModel, ...], dict[str, NDArray[np.float64]]]:
        """The cameras with images, and the stamps of their images by name, seconds since 1970."""
        cameras, stamps = [], {}
        for name in sorted(files_in(self.path / "camera")) if extrinsics else ():
            images = [_image_file(name, number) for number in self._numbers]
            missing = [file for file in images if not self._content.has(file)]
            self.notes += missing_note(f"images of {name}", missing, len(images), "they are left out")
            if len(missing) == len(images):
                continue
            try:
                camera = self._camera(name, extrinsics)
                stamps[name] = self._stamps(f"camera/{name}/timestamps.json", len(self._stamps_s))
                cameras.append(camera)
            except ConfigError as error:
                self.notes.append(f"{name} is left out: {error}")
        if extrinsics and not cameras:
            self.notes.append("no images of cameras can be used")
        return tuple(cameras), stamps

    def _read_sweep(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
        """(N, 3) points as fired, (N,) firing times, seconds since 1970, and (N,) intensity of a sweep."""
        file = self._table_file("lidar", index)
        with self._reading(file):
            table = self._table(file, *"xyzit")
            world = np.column_stack([table[name] for name in "xyz"]).astype(np.float64)
            seconds = table["t"].astype(np.float64)
            if not (np.abs(seconds - self._stamps_s[index]) <= _MAX_SWEEP_S).all():
                raise ValueError("the firing times of its points are far from the sweep's stamp")
            xyz = self._as_fired(world, seconds).astype(np.float32)
            return xyz, seconds, table["i"].astype(np.float32)

    def _as_fired(self, world: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(seconds) == 0:
            return world
        start, end = float(seconds.min()), float(seconds.max())
        width = max(end - start, 1e-6) / _TIME_SLICES
        slices = np.minimum((seconds - start) / width, _TIME_SLICES - 1).astype(np.int64)
        xyz = np.empty_like(world)
        for k in np.unique(slices):
            members = slices == k
            lidar_from_world = inverse(self._pose_at(start + (k + 0.5) * width))
            xyz[members] = world[members] @ lidar_from_world[:3, :3].T + lidar_from_world[:3, 3]
        return xyz

    def _pose_at(self, seconds: float) -> NDArray[np.float64]:
        """(4, 4) world from LiDAR."""
        return np.asarray(self._world_from_ego.poses(seconds)[0] @ self._ego_from_lidar)

    def _find_ego_from_lidar(self, extrinsics: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """(4, 4) ego from LiDAR, through the pose and extrinsic of a camera.

        Uses the poses of the first frame, in which the car stands still, so that time offsets do not matter.
        """
        start = self._stamps_s[:1]
        for name in sorted(extrinsics, key=lambda name: name != _REFERENCE_CAMERA):
            file = f"camera/{name}/poses.json"
            if (self.path / file).is_file():
                with self._reading(file):
                    world_from_camera = _pose_track(self._json(file)[:1], start).poses(start)[0]
                    world_from_ego = self._world_from_ego.poses(start)[0]
                    return inverse(world_from_ego) @ world_from_camera @ extrinsics[name] @ _raw_from_lidar()
        self.notes.append("no poses of a calibrated camera; the LiDAR counts as mounted as in sequence 002")
        return transform(*_EGO_FROM_LIDAR)

    def _camera(self, name: str, extrinsics: dict[str, NDArray[np.float64]]) -> CameraModel:
        with self._reading(f"camera/{name}/intrinsics.json"):
            k = self._json(f"camera/{name}/intrinsics.json")
            # The images are rectified already: the distortion in the calibration file does not apply to them.
            intrinsic = np.array([[k["fx"], 0, k["cx"]], [0, k["fy"], k["cy"]], [0, 0, 1]], np.float64)
        if name not in extrinsics:
            raise ConfigError(f"{self.path / _CALIBRATION} lacks it; fetch the sequence again")
        return CameraModel(name, *_IMAGE_SIZE, intrinsic, extrinsics[name] @ _raw_from_lidar())

    def _sweep_stamps(self) -> NDArray[np.float64]:
        """Stamps of the sweeps; where the LiDAR's file is missing, the sequence's own, which are the same."""
        own, other = "lidar/timestamps.json", "meta/timestamps.json"
        return self._stamps(other if (self.path / other).is_file() and not (self.path / own).is_file() else own)

    def _stamps(self, relative: str, minimum: int = 1) -> NDArray[np.float64]:
        """The ascending stamps in a file, seconds since 1970; at least a minimum number."""
        with self._reading(relative):
            stamps = np.asarray(self._json(relative), np.float64)
            good = stamps.ndim == 1 and len(stamps) >= minimum and (np.abs(stamps) < _MAX_STAMP_S).all()
            if not good or (np.diff(stamps) < 0).any():
                raise ValueError(f"it does not hold {minimum} or more ascending times")
        return stamps

    @contextmanager
    def _reading(self, relative: str) -> Iterator[None]:
        """Turn errors in a file's content into a ConfigError that names the file."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ConfigError(
                f"{self.path / relative} has unexpected content: {quoted(error)}; fetch the sequence again"
            ) from error

    def _number(self, index: int) -> int:
        """Number of a frame in the files' names: its own unless sweeps are missing."""
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.path} has no frame {index}; it has 0 to {len(self) - 1}")
        return self._numbers[index]

    def _json(self, relative: str) -> Any:
        try:
            return parse_json((self.path / relative).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.path} is not a PandaSet sequence ({relative}: {getattr(error, 'strerror', None) or error}); "
                "give a folder such as pandaset/002 that holds lidar/ with its poses.json and timestamps.json"
            ) from error

    def _table(self, relative: str, *names: str) -> dict[str, NDArray[Any]]:
        """Columns of a table."""
        path = self.path / relative
        content = read_file(path, f"cannot read {path}: there is no such file; fetch the sequence again")
        with content_errors(path, lambda error: ConfigError(f"cannot read {path}: {error}; fetch the sequence again")):
            table = unpickled(unpacked(content, _MAX_TABLE_BYTES))
        return columns(table, names)


def _image_file(camera: str, number: int) -> str:
    return f"camera/{camera}/{number:02d}.jpg"


def _raw_from_lidar() -> NDArray[np.float64]:
    """(4, 4) Pandar64's own frame from this module's: REP-103 axes, origin in the optical centre."""
    half = _ROLL_RAD / 2
    calibrated_from_lidar = transform(_OPTICAL_CENTRE_M, (-np.sin(half), 0.0, 0.0, np.cos(half)))
    return inverse(_REP103_FROM_RAW) @ calibrated_from_lidar


def _pose_track(poses: list[dict[str, dict[str, float]]], stamps_s: NDArray[np.float64]) -> PoseTrack:
    positions = [[p["position"][k] for k in "xyz"] for p in poses]
    try:
        return PoseTrack(stamps_s, positions, [[p["heading"][k] for k in "xyzw"] for p in poses])
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _extrinsics(path: Path) -> dict[str, NDArray[np.float64]]:
    """(4, 4) camera from Pandar64 (own axes) of each camera."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
        entries = {name: sensor["extrinsic"]["transform"] for name, sensor in data.items()}
        return {
            name: transform([t["translation"][k] for k in "xyz"], [t["rotation"][k] for k in "xyzw"])
            for name, t in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ConfigError(f"cannot read calibration {path}: {quoted(error)}; fetch the sequence again") from error


def _nanoseconds(seconds: float) -> int:
    # Rounded to microseconds, the resolution of the files: a double cannot hold nanoseconds since 1970.
    return round(float(seconds) * 1e6) * 1000
