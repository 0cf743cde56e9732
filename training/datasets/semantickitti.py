"""SemanticKITTI: sweeps of KITTI's odometry benchmark with labels, poses and optional camera images.

A sequence is a folder::

    calib.txt             P2, P3: projections of the rectified colour cameras; Tr: camera 0 from Velodyne
    poses.txt             camera 0 in the world, one line for each sweep
    times.txt             seconds since the sequence began, one line for each sweep
    velodyne/000000.bin   float32 x, y, z, reflectance (0 to 1)
    labels/000000.label   uint32: class in the lower 16 bits, instance in the upper; not for sequences 11 to 21
    image_2/000000.png    left colour camera, optional; image_3: the right one

KITTI's points are motion-compensated to the instant at which the HDL-64E faces forward and triggers the cameras, which
is the time in ``times.txt``. Firing times are not published, so this cannot be undone: all points count as fired at the
sweep's stamp, and the motion of half a turn blurs the beams.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.datasets.binary import points_in, read_labels, read_rows
from training.datasets.sequence import PngFile
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
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

_CAMERAS = {"image_2": "P2", "image_3": "P3"}


class SemanticKittiSequence:
    """One SemanticKITTI sequence (:class:`training.datasets.sequence.DriveSequence`), as ``dataset/sequences/08``.

    The world frame is the sensor frame at the first sweep.

    Attributes:
        label_map: the label set of :meth:`labels`, semantickitti19.
        cameras: intrinsic and extrinsic of the cameras with images, named after their folders.
        base_from_lidar: (4, 4) base_link from sensor.

    Raises:
        ConfigError: the folder is not such a sequence, or a file in it cannot be read.
    """

    source = DataSource(
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
        self._class_of_raw = _lookup(self.label_map)
        self._has_labels = (self.path / "labels").is_dir()
        self._sweeps = self._count_sweeps()
        calibration = _calibration(self.path / "calib.txt")
        self._stamps_s = self._lines("times.txt", 1)[:, 0]
        poses = self._lidar_poses(calibration["Tr"])
        try:
            self._world_from_lidar = PoseTrack.of_matrices(self._stamps_s, poses)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}; fetch calib.txt, poses.txt and times.txt again") from error
        self.cameras = tuple(
            _camera(name, calibration[matrix], calibration["Tr"], self.path / name / "000000.png")
            for name, matrix in _CAMERAS.items()
            if (self.path / name).is_dir()
        )

    def __len__(self) -> int:
        return self._sweeps

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: the instant its points are motion-compensated to."""
        return _EPOCH_NS + round(float(self._stamps_s[self._checked(index)]) * 1e6) * 1000

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep in the sensor frame at its stamp, with intensity 0 to 255."""
        x_y_z_reflectance = read_rows(self._sweep(index), "<f4", 4)
        intensity = x_y_z_reflectance[:, 3] * np.float32(_MAX_INTENSITY)
        return PointCloud(np.ascontiguousarray(x_y_z_reflectance[:, :3]), intensity)

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) semantickitti19 ids of the points of :meth:`cloud`, 255 for unlabelled ones and for all test sweeps."""
        sweep = self._sweep(index)
        if not self._has_labels:
            return np.full(points_in(sweep, _BYTES_PER_POINT), IGNORE, np.uint8)
        raw = read_labels(self.path / "labels" / f"{index:06d}.label", "<u4", sweep, _BYTES_PER_POINT)
        return self._class_of_raw[raw & 0xFFFF]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) zeros: the points are motion-compensated to the sweep's stamp."""
        return np.zeros(points_in(self._sweep(index), _BYTES_PER_POINT), np.float32)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""
        return self._world_from_lidar.poses(self._stamps_s[self._checked(index)] + times_s)

    def images(self, index: int) -> tuple[PngFile, ...]:
        """The image of each camera that belongs to a sweep, exposed at its stamp."""
        stamp = self.stamp_ns(index)
        return tuple(PngFile(camera, stamp, self.path / camera.name / f"{index:06d}.png") for camera in self.cameras)

    def _sweep(self, index: int) -> Path:
        return self.path / "velodyne" / f"{self._checked(index):06d}.bin"

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.path} has no frame {index}; it has 0 to {len(self) - 1}")
        return index

    def _count_sweeps(self) -> int:
        found = sorted(file.name for file in (self.path / "velodyne").glob("*.bin"))
        if not found:
            raise ConfigError(
                f"{self.path} is not a SemanticKITTI sequence (no velodyne/*.bin); give a folder such as "
                "dataset/sequences/08"
            )
        if found[-1] != f"{len(found) - 1:06d}.bin":
            raise ConfigError(f"{self.path} has {len(found)} sweeps, but the last is {found[-1]}; fetch the others")
        return len(found)

    def _lidar_poses(self, camera_from_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
        """(F, 4, 4) world from LiDAR; the file has camera 0 relative to its own first pose."""
        world_from_camera = _homogeneous(self._lines("poses.txt", 12))
        return np.asarray(inverse(camera_from_lidar) @ world_from_camera @ camera_from_lidar)

    def _lines(self, name: str, columns: int) -> NDArray[np.float64]:
        """(F, columns) numbers of a text file with one line per sweep."""
        path = self.path / name
        try:
            rows = [[float(word) for word in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot read {path}: {getattr(error, 'strerror', None) or error}; fetch the sequence's {name}"
            ) from error
        if len(rows) < self._sweeps or any(len(row) != columns for row in rows):
            raise ConfigError(
                f"{path} has {len(rows)} lines; {self._sweeps} sweeps need a line of {columns} numbers each; "
                f"fetch the sequence's {name} again"
            )
        return np.array(rows[: self._sweeps])


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


def _lookup(classes: LabelMap) -> NDArray[np.uint8]:
    """(65536,) class id of each raw 16-bit label."""
    lookup = np.full(1 << 16, IGNORE, np.uint8)
    for raw, name in CLASS_OF_RAW.items():
        lookup[raw] = classes.id_of(name)
    return lookup


def _calibration(path: Path) -> dict[str, NDArray[np.float64]]:
    """(4, 4) matrices by name; their last row is 0, 0, 0, 1."""
    try:
        pairs = (line.split(":") for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        rows = {name.strip(): [float(word) for word in numbers.split()] for name, numbers in pairs}
        matrices = {name: _homogeneous(np.array([row]))[0] for name, row in rows.items() if len(row) == 12}
        missing = {"Tr", *_CAMERAS.values()} - set(matrices)
        if missing:  # some archives hold a file without Tr
            raise ValueError(f"no {', '.join(sorted(missing))} of 12 numbers")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read calibration {path}: {getattr(error, 'strerror', None) or error}; use the one of KITTI's "
            "odometry calibration archive"
        ) from error
    return matrices


def _homogeneous(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 4, 4) from (F, 12): three rows of four numbers each."""
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = rows.reshape(-1, 3, 4)
    return matrices


def _camera(
    name: str, projection: NDArray[np.float64], camera_from_lidar: NDArray[np.float64], image: Path
) -> CameraModel:
    """A colour camera. Its axes are those of camera 0, so that its projection is K times a translation."""
    intrinsic = projection[:3, :3]
    shift = np.eye(4)
    shift[:3, 3] = np.linalg.solve(intrinsic, projection[:3, 3])
    try:
        with Image.open(image) as opened:  # sizes differ from sequence to sequence
            width, height = opened.size
    except Exception as error:  # each decoder has its own exceptions for damaged files
        raise ConfigError(
            f"cannot read image {image}: {getattr(error, 'strerror', None) or error}; fetch it, or remove the folder "
            f"{name}"
        ) from error
    return CameraModel(name, width, height, intrinsic, shift @ camera_from_lidar)
