"""SemanticKITTI: sweeps of KITTI's odometry benchmark with labels, poses and camera images.

A sequence is a folder::

    velodyne/000000.bin   float32 x, y, z, reflectance (0 to 1)
    labels/000000.label   uint32: class in the lower 16 bits, instance in the upper; not for sequences 11 to 21
    calib.txt             P2, P3: projections of the rectified colour cameras; Tr: camera 0 from Velodyne
    poses.txt             camera 0 in the world, one line for each sweep
    times.txt             seconds since the sequence began, one line for each sweep
    image_2/000000.png    left colour camera; image_3: the right one

A folder that ``xmodelkd label --format semantickitti`` wrote has a ``labels.yaml`` too, which says what the numbers
mean, in which scale intensities are, and whether the labels are predictions or were corrected by hand.

Only the sweeps are required. What else is missing or damaged is left out with a note: sweeps without a label file are
unlabelled, cameras need calib.txt, and poses need calib.txt and poses.txt. Without times.txt, sweeps are 0.1 s apart.

KITTI's points are motion-compensated to the instant at which the HDL-64E faces forward and triggers the cameras, which
is the time in ``times.txt``. Firing times are not published, so this cannot be undone: all points count as fired at the
sweep's stamp, and the motion of half a turn blurs the beams.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.safe_yaml import parse_yaml
from training.datasets.binary import points_in, read_labels, read_rows
from training.datasets.folder_content import files_in, missing_note
from training.datasets.sequence import JpegFile, PngFile, image_size
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, LabelError, quoted
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import PoseTrack, inverse
from xmodelkd_ros.resources import label_map

SPLITS = {"train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), "val": (8,)}
"""Sequence numbers of the benchmark's split; 11 to 21 are the test split, whose labels are not published."""

CLASS_OF_RAW = {
    10: "car",
    11: "bicycle",
    13: "other-vehicle",  # bus
    15: "motorcycle",
    16: "other-vehicle",  # on rails
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    44: "parking",
    48: "sidewalk",
    49: "other-ground",
    50: "building",
    51: "fence",
    60: "road",  # lane marking
    70: "vegetation",
    71: "trunk",
    72: "terrain",
    80: "pole",
    81: "traffic-sign",
    # The moving variants, which the single-scan benchmark merges.
    252: "car",
    253: "bicyclist",
    254: "person",
    255: "motorcyclist",
    256: "other-vehicle",  # on rails
    257: "other-vehicle",  # bus
    258: "truck",
    259: "other-vehicle",
}
"""The benchmark's single-scan classes by the numbers in the label files. All others are ignored: 0 unlabeled,
1 outlier, 52 other structure, 99 other object."""

_BYTES_PER_POINT = 16
_MAX_INTENSITY = 255.0
"""The Velodyne reports 0 to 255 and KITTI divides by 255; all datasets here use the sensor's scale."""

_BASE_FROM_LIDAR = np.array([[1, 0, 0, 0.76], [0, 1, 0, 0], [0, 0, 1, 1.73], [0, 0, 0, 1]], np.float64)
"""From KITTI's drawing of the car, not calibrated: 1.73 m above the road, 0.76 m ahead of the rear axle."""

_EPOCH_NS = 1_316_995_200_000_000_000
"""Time zero of every sequence: 2011-09-26 UTC, when KITTI was recorded. The files do not hold the time of day."""

_PERIOD_S = 0.1
_MAX_NUMBER = 10**6
"""Larger names of sweeps are stamps, not line numbers of poses.txt and times.txt."""

_LABELS_FILE = "labels.yaml"
_CAMERAS = {"image_2": "P2", "image_3": "P3"}
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class SemanticKittiSequence:
    """One SemanticKITTI sequence (:class:`training.datasets.sequence.DriveSequence`), as ``dataset/sequences/08``.

    The world frame is the sensor frame at the first sweep.

    Attributes:
        label_map: the label set of :meth:`labels`, semantickitti19 unless labels.yaml names another one.
        source: dataset, licence and attribution.
        predicted: whether the labels are predictions of a model.
        cameras: intrinsic and extrinsic of the cameras with images, named after their folders.
        base_from_lidar: (4, 4) base_link from sensor.
        has_poses: whether the poses are there.
        notes: what is left out and why.

    Raises:
        ConfigError: the folder has no sweeps.
    """

    source: DataSource = DataSource(
        "SemanticKITTI",
        "CC BY-NC-SA 4.0",
        "SemanticKITTI (Behley et al., ICCV 2019), http://semantic-kitti.org, CC BY-NC-SA 4.0, on the KITTI Vision "
        "Benchmark (Geiger et al., CVPR 2012), CC BY-NC-SA 3.0: no commercial use, also of weights trained on it",
    )
    intensity_range = (0.0, _MAX_INTENSITY)

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.name = f"SemanticKITTI sequence {self.path.name}"
        self.label_map: LabelMap = label_map("semantickitti19")
        self.base_from_lidar = _BASE_FROM_LIDAR
        self._class_of_raw = _lookup(self.label_map, CLASS_OF_RAW)
        self._full_scale, self.predicted = _MAX_INTENSITY, False
        self.notes: list[str] = []
        if (self.path / _LABELS_FILE).exists():
            self._take_own_labels()
        self._stems, self._lines = self._find_sweeps()
        self._labels = files_in(self.path / "labels")
        if self._labels:
            missing = [name for stem in self._stems if (name := f"{stem}.label") not in self._labels]
            self.notes += missing_note("label files", missing, len(self._stems), "these sweeps count as unlabelled")
        calibration = self._calibration()
        times_s = self._times_s()
        self._stamps_s = np.interp(self._lines, np.arange(len(times_s)), times_s)
        self._world_from_lidar, self._without_poses = self._poses(calibration, times_s)
        self.has_poses = self._world_from_lidar is not None and self._lines[-1] < len(self._world_from_lidar.times_s)
        self.cameras, self._images = self._find_cameras(calibration)

    def __len__(self) -> int:
        return len(self._stems)

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: the instant its points are motion-compensated to."""
        return _EPOCH_NS + round(float(self._stamps_s[self._checked(index)]) * 1e6) * 1000

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep in the sensor frame at its stamp, with intensity 0 to 255."""
        x_y_z_reflectance = read_rows(self._sweep(index), "<f4", 4)
        intensity = x_y_z_reflectance[:, 3] * np.float32(self._full_scale)
        return PointCloud(np.ascontiguousarray(x_y_z_reflectance[:, :3]), intensity)

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) class ids of the points of :meth:`cloud`, 255 for unlabelled ones and for all test sweeps."""
        sweep = self._sweep(index)
        name = f"{sweep.stem}.label"
        if name not in self._labels:
            return np.full(points_in(sweep, _BYTES_PER_POINT), IGNORE, np.uint8)
        raw = read_labels(self.path / "labels" / name, "<u4", sweep, _BYTES_PER_POINT)
        return self._class_of_raw[raw & 0xFFFF]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) zeros: the points are motion-compensated to the sweep's stamp."""
        return np.zeros(points_in(self._sweep(index), _BYTES_PER_POINT), np.float32)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp.

        Raises:
            ConfigError: the sequence has no pose of the sweep.
        """
        line = self._lines[self._checked(index)]
        if self._world_from_lidar is None or line >= len(self._world_from_lidar.times_s):
            problem = self._without_poses or f"poses.txt has {len(self._world_from_lidar.times_s)} lines"
            raise ConfigError(f"{self.name} has no pose of sweep {self._stems[index]}: {problem}; fetch it")
        return self._world_from_lidar.poses(self._stamps_s[index] + times_s)

    def images(self, index: int) -> tuple[JpegFile, ...]:
        """The image of each camera that belongs to a sweep, exposed at its stamp; missing ones are left out."""
        stamp, stem = self.stamp_ns(index), self._stems[index]
        found = ((camera, self._images[camera.name].get(stem)) for camera in self.cameras)
        return tuple(
            (PngFile if file.endswith(".png") else JpegFile)(camera, stamp, self.path / camera.name / file)
            for camera, file in found
            if file
        )

    def _take_own_labels(self) -> None:
        """Take what labels.yaml says of a folder that is not of the benchmark."""
        path = self.path / _LABELS_FILE
        try:
            data = parse_yaml(path.read_text(encoding="utf-8"))
            numbers = {int(raw): str(name) for raw, name in data["labels"].items() if int(raw) != 0}
            self.label_map = label_map(str(data["label_set"]))
            self._class_of_raw = _lookup(self.label_map, numbers)
            self._full_scale, self.predicted = float(data["intensity_scale"]), data["source"] != "truth"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, LabelError) as error:
            raise ConfigError(
                f"cannot read {path}: {quoted(error)}; needs label_set, source, intensity_scale and labels"
            ) from error
        self.name = f"labelled folder {self.path.name}"
        self.source = DataSource(self.name, "as its owner says", "")
        self.base_from_lidar = np.eye(4)

    def _sweep(self, index: int) -> Path:
        return self.path / "velodyne" / f"{self._stems[self._checked(index)]}.bin"

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.path} has no frame {index}; it has 0 to {len(self) - 1}")
        return index

    def _find_sweeps(self) -> tuple[list[str], list[int]]:
        """Names of the sweeps' files, without suffix and in order, and the line of each in poses.txt and times.txt."""
        stems = sorted(name[:-4] for name in files_in(self.path / "velodyne") if name.endswith(".bin"))
        if not stems:
            hint = "; KITTI's raw layout is another one" if (self.path / "velodyne_points").is_dir() else ""
            raise ConfigError(
                f"{self.path} is not a SemanticKITTI sequence (no velodyne/*.bin); give a folder such as "
                f"dataset/sequences/08{hint}"
            )
        if not all(stem.isdecimal() for stem in stems) or int(stems[-1]) >= _MAX_NUMBER:
            return stems, list(range(len(stems)))
        lines = [int(stem) for stem in stems]
        missing = [f"{number:06d}.bin" for number in sorted({*range(lines[-1])} - {*lines})]
        self.notes += missing_note("sweeps", missing, lines[-1] + 1, f"frames 0 to {len(lines) - 1} are the others")
        return stems, lines

    def _calibration(self) -> dict[str, NDArray[np.float64]]:
        """The matrices in calib.txt; empty, with a note, if it is missing or damaged."""
        try:
            return _read_calibration(self.path / "calib.txt")
        except ConfigError as error:
            self.notes.append(f"{error}; poses and cameras are left out")
            return {}

    def _times_s(self) -> NDArray[np.float64]:
        """Time of each line number, seconds; in steps of 0.1 s, with a note, if times.txt is missing or damaged."""
        lines = self._lines[-1] + 1
        try:
            times = _rows(self.path / "times.txt", 1)[:, 0]
            if len(times) < lines or not np.isfinite(times).all() or (np.diff(times) < 0).any():
                raise ConfigError(f"times.txt has {len(times)} lines for {lines} sweeps, or times that do not ascend")
            return times
        except ConfigError as error:
            self.notes.append(f"{error}; sweeps count as {_PERIOD_S} s apart")
            return np.arange(lines) * _PERIOD_S

    def _poses(
        self, calibration: dict[str, NDArray[np.float64]], times_s: NDArray[np.float64]
    ) -> tuple[PoseTrack | None, str]:
        """The sensor's track, and the reason if there is none; the file has camera 0 relative to its own first pose."""
        if "Tr" not in calibration:
            if calibration:
                self.notes.append("calib.txt has no Tr; poses and cameras are left out")
            return None, "calib.txt has no Tr"
        camera_from_lidar = calibration["Tr"]
        try:
            world_from_camera = _homogeneous(_rows(self._pose_file(), 12))[: len(times_s)]
            with np.errstate(invalid="ignore"):  # PoseTrack rejects what is not finite
                poses = np.asarray(inverse(camera_from_lidar) @ world_from_camera @ camera_from_lidar)
            track = PoseTrack.of_matrices(times_s[: len(poses)], poses)
        except ConfigError as error:
            self.notes.append(f"{error}; poses are left out")
            return None, str(error)
        lines = self._lines[-1] + 1
        if len(poses) < lines:
            self.notes.append(f"poses.txt has {len(poses)} lines for {lines} sweeps; later sweeps have no pose")
        return track, ""

    def _pose_file(self) -> Path:
        """The sequence's own file, or KITTI's ``poses/08.txt`` beside ``sequences/``."""
        own, other = self.path / "poses.txt", self.path / ".." / ".." / "poses" / f"{self.path.name}.txt"
        return other if other.is_file() and not own.is_file() else own

    def _find_cameras(
        self, calibration: dict[str, NDArray[np.float64]]
    ) -> tuple[tuple[CameraModel, ...], dict[str, dict[str, str]]]:
        """The cameras with images, and the image of each sweep, by the sweep's name."""
        cameras, images = [], {}
        for name, matrix in _CAMERAS.items() if "Tr" in calibration else ():
            files = {Path(file).stem: file for file in sorted(files_in(self.path / name))}
            found = {s: files[s] for s in self._stems if files.get(s, "").endswith(_IMAGE_SUFFIXES)}
            if not found:
                continue
            try:
                if matrix not in calibration:
                    raise ConfigError(f"calib.txt has no {matrix}")
                size = image_size(self.path / name / next(iter(found.values())))
                cameras.append(_camera(name, calibration[matrix], calibration["Tr"], size))
            except ConfigError as error:
                self.notes.append(f"{error}; {name} is left out")
                continue
            missing = [f"{name}/{stem}.png" for stem in self._stems if stem not in found]
            self.notes += missing_note(f"images of {name}", missing, len(self._stems), "they are left out")
            images[name] = found
        if "Tr" in calibration and not cameras:
            self.notes.append("no cameras: no image of a sweep can be used in image_2/ and image_3/")
        return tuple(cameras), images


def semantickitti_drives(path: Path, split: str) -> list[SemanticKittiSequence]:
    """Open a sequence, or the sequences of a whole data set.

    Args:
        path: a sequence, or the folder that holds ``sequences/``, or that folder itself.
        split: of a whole data set: ``train`` or ``val``; empty for all sequences.

    Raises:
        ConfigError: no sequence is found, or one cannot be read.
    """
    if (path / "velodyne").is_dir():
        return [SemanticKittiSequence(path)]
    folder = path / "sequences" if (path / "sequences").is_dir() else path
    sequences = sorted(child.parent for child in folder.glob("[0-9][0-9]/velodyne"))
    found = [sequence for sequence in sequences if not split or int(sequence.name) in SPLITS[split]]
    if not found:
        of_split = f" of the split '{split}'" if split else ""
        raise ConfigError(
            f"{path} holds no SemanticKITTI sequence{of_split}; give the folder that holds sequences/00 to "
            "sequences/21, or one of these"
        )
    return [SemanticKittiSequence(sequence) for sequence in found]


def _lookup(classes: LabelMap, class_of_raw: Mapping[int, str]) -> NDArray[np.uint8]:
    """(65536,) class id of each raw 16-bit label."""
    lookup = np.full(1 << 16, IGNORE, np.uint8)
    for raw, name in class_of_raw.items():
        lookup[raw] = classes.id_of(name)
    return lookup


def _read_calibration(path: Path) -> dict[str, NDArray[np.float64]]:
    """(4, 4) matrices by name; their last row is 0, 0, 0, 1."""
    try:
        wanted = {"Tr", *_CAMERAS.values()}
        pairs = [line.partition(":")[::2] for line in path.read_text(encoding="utf-8-sig").splitlines()]
        rows = {name.strip(): [float(w) for w in numbers.split()] for name, numbers in pairs if name.strip() in wanted}
        matrices = {name: _homogeneous(np.array([row]))[0] for name, row in rows.items() if len(row) == 12}
        if not matrices or not all(np.isfinite(m).all() for m in matrices.values()):
            raise ValueError(f"no {', '.join(sorted(wanted - set(matrices)))} of 12 numbers")
        rotation = matrices.get("Tr", np.eye(4))[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=0.01):
            raise ValueError("Tr is not a rotation and a translation")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read calibration {path}: {getattr(error, 'strerror', None) or error}; use the one of KITTI's "
            "odometry calibration archive"
        ) from error
    return matrices


def _rows(path: Path, columns: int) -> NDArray[np.float64]:
    """(F, columns) numbers of a text file with one line per sweep.

    Raises:
        ConfigError: the file cannot be read, is empty, or has lines of another number of columns.
    """
    try:
        rows = [[float(word) for word in line.split()] for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    rows = [row for row in rows if row]
    if not rows or any(len(row) != columns for row in rows):
        raise ConfigError(f"cannot read {path}: its {len(rows)} lines do not all hold {columns} numbers")
    return np.array(rows)


def _homogeneous(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 4, 4) from (F, 12): three rows of four numbers each."""
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = rows.reshape(-1, 3, 4)
    return matrices


def _camera(
    name: str, projection: NDArray[np.float64], camera_from_lidar: NDArray[np.float64], size: tuple[int, int]
) -> CameraModel:
    """A colour camera. Its axes are those of camera 0, so that its projection is K times a translation."""
    intrinsic = projection[:3, :3]
    shift = np.eye(4)
    try:
        shift[:3, 3] = np.linalg.solve(intrinsic, projection[:3, 3])
    except np.linalg.LinAlgError as error:
        raise ConfigError(f"calib.txt: the projection of {name} is not one of a camera") from error
    return CameraModel(name, *size, intrinsic, shift @ camera_from_lidar)
