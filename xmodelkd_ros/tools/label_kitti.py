"""Labelled sweeps in the layout of SemanticKITTI, which the usual labelling tools open.

``velodyne/``, ``labels/``, ``times.txt``, ``calib.txt``; ``poses.txt`` where /tf has motion, ``image_2/`` and
``image_3/`` where the bag has rectified cameras; and ``labels.yaml``, which says what the numbers mean. The training's
loader reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import yaml
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader, RawMessage
from xmodelkd_ros.bags.image_replay import RecordedImage
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.bags.transform_tree import TransformTree, chain_poses, is_moving
from xmodelkd_ros.core.atomic_write import disk_errors, make_folder
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.core.intensity_scale import recognise
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.messages.headers import Prediction
from xmodelkd_ros.messages.images import image_to_array

LABELS_FILE = "labels.yaml"
_RAW = {
    "car": 10,
    "bicycle": 11,
    "motorcycle": 15,
    "truck": 18,
    "other-vehicle": 20,
    "person": 30,
    "two_wheeler": 31,
    "bicyclist": 31,
    "motorcyclist": 32,
    "road": 40,
    "parking": 44,
    "sidewalk": 48,
    "other-ground": 49,
    "building": 50,
    "fence": 51,
    "other_static": 52,
    "road_marking": 60,
    "vegetation": 70,
    "trunk": 71,
    "terrain": 72,
    "pole": 80,
    "traffic-sign": 81,
    "traffic_sign": 81,
    "hazard": 99,
}
"""The benchmark's numbers in label files by the names of its classes and of drive13's: other_static is its "other
structure", hazard its "other object"."""
_FIRST_OWN = 300
"""Number of the first class of other label sets, beyond those of the benchmark."""
_CAMERA_0 = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
"""Optical frame from LiDAR, where there is no camera."""
_FOLDERS = ("image_2", "image_3")
_SAME_AXES = 1e-3


def raw_numbers(labels: LabelMap) -> dict[int, int]:
    """The number in label files of each class id."""
    known = all(c.name in _RAW for c in labels.classes)
    if known and len({_RAW[c.name] for c in labels.classes}) == len(labels):
        return {c.id: _RAW[c.name] for c in labels.classes}
    return {c.id: _FIRST_OWN + k for k, c in enumerate(labels.classes)}


class KittiFolder:
    """A folder with the labelled sweeps of a drive.

    Args:
        out: the folder to create.
        drive: the drive.
        labels: the label set of the labels.
        prediction: what they are from.

    Attributes:
        notes: what is left out and why, one line each.
    """

    def __init__(self, out: Path, drive: RecordedDrive, labels: LabelMap, prediction: Prediction) -> None:
        self._out, self._drive, self._labels, self._prediction = out, drive, labels, prediction
        self.notes: list[str] = []
        self._raw = np.zeros(IGNORE + 1, np.uint32)
        for class_id, number in raw_numbers(labels).items():
            self._raw[class_id] = number
        self._stamps_ns: list[int] = []
        self._full_scale = 1.0
        self._tree: TransformTree | None = None
        self._cameras: dict[str, CameraModel] = {}
        self._camera_from_lidar = _CAMERA_0

    def begin(self, reader: BagReader, copy_all: bool) -> Sequence[str]:
        """Write what concerns all sweeps; other messages of the bag are not taken."""
        first = self._drive.first_sweep()
        if first.cloud.intensity is not None:
            self._full_scale = max(float(recognise(first.cloud.intensity).limits[1]), 1e-9)
        self._tree = TransformTree(reader, first.stamp_ns)
        self._frame = first.message.header.frame_id
        self._choose_cameras()
        (self._out / "calib.txt").write_text(_calibration([*self._cameras.values()], self._camera_from_lidar))
        (self._out / LABELS_FILE).write_text(self._labels_text(), encoding="utf-8")
        return ()

    def copy(self, message: RawMessage) -> None:
        """Nothing: the layout has no other topics."""

    def sweep(self, sweep: RecordedSweep, segmentation: Segmentation) -> None:
        """Write the points that have a position, their labels, and the images."""
        stem = f"{len(self._stamps_ns):06d}"
        self._stamps_ns.append(sweep.stamp_ns)
        cloud, valid = sweep.cloud, np.isfinite(sweep.cloud.xyz).all(axis=1)
        intensity = np.zeros(len(cloud), np.float32) if cloud.intensity is None else cloud.intensity
        rows = np.column_stack([cloud.xyz, intensity / np.float32(self._full_scale)])[valid].astype("<f4")
        rows.tofile(self._out / "velodyne" / f"{stem}.bin")
        self._raw[segmentation.label[valid]].astype("<u4").tofile(self._out / "labels" / f"{stem}.label")
        for image in self._drive.images(sweep) if self._cameras else ():
            if image.camera.name in self._cameras:
                self._write_image(stem, image)

    def _write_image(self, stem: str, image: RecordedImage) -> None:
        folder = self._out / _FOLDERS[[*self._cameras].index(image.camera.name)]
        data = bytes(image.message.data)
        if hasattr(image.message, "format") and data.startswith(b"\xff\xd8\xff"):
            (folder / f"{stem}.jpg").write_bytes(data)
            return
        try:
            from xmodelkd_ros.opencv import opencv

            opencv().imwrite(str(folder / f"{stem}.png"), image_to_array(image.message)[..., ::-1])
        except XModelKDError as error:
            self._note(f"image of {image.camera.name} left out: {error}")

    def _choose_cameras(self) -> None:
        """Up to two rectified cameras; the second one parallel to the first, as in a stereo pair."""
        for camera in self._drive.cameras(self._frame).values():
            if camera.distortion is not None:
                self._note(f"camera {camera.name} is left out: its images are not rectified")
            elif not self._cameras:
                self._cameras[camera.name], self._camera_from_lidar = camera, camera.from_lidar
            elif len(self._cameras) < len(_FOLDERS) and _is_parallel(camera.from_lidar, self._camera_from_lidar):
                self._cameras[camera.name] = camera
            else:
                self._note(f"camera {camera.name} is left out: the layout takes one camera, or a stereo pair")

    def _labels_text(self) -> str:
        numbers = raw_numbers(self._labels)
        names = {0: "unlabeled", **{numbers[c.id]: c.name for c in self._labels.classes}}
        colors = {0: [0, 0, 0], **{numbers[c.id]: list(c.color[::-1]) for c in self._labels.classes}}
        data: Mapping[str, object] = {
            "label_set": self._labels.name,
            "source": "prediction",
            "model": self._prediction.model,
            "sha256": self._prediction.sha256,
            "intensity_scale": float(self._full_scale),
            "labels": names,
            "color_map": colors,
        }
        comment = (
            "# Numbers of the classes in labels/ (colours: blue, green, red). Write source: truth once the labels are\n"
            "# corrected by hand, so that they count as ground truth.\n"
        )
        return comment + str(yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None))

    def _write_times_and_poses(self) -> None:
        seconds = [(stamp - self._stamps_ns[0]) * 1e-9 for stamp in self._stamps_ns]
        (self._out / "times.txt").write_text("".join(f"{second:.6e}\n" for second in seconds))
        assert self._tree is not None
        chain = self._tree.chain_above(self._frame)
        if not is_moving(chain):
            self._note(f"no poses: /tf has no motion of {self._frame}")
            return
        world_from_lidar = chain_poses(chain, np.array([(s - self._tree.origin_ns) * 1e-9 for s in self._stamps_ns]))
        camera = self._camera_from_lidar
        poses = camera @ inverse(world_from_lidar[0]) @ world_from_lidar @ inverse(camera)
        np.savetxt(self._out / "poses.txt", poses[:, :3].reshape(-1, 12), fmt="%.9e")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def __enter__(self) -> KittiFolder:
        with disk_errors(self._out):
            for name in ("velodyne", "labels", *_FOLDERS):
                make_folder(self._out / name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        with disk_errors(self._out):
            if self._stamps_ns:
                self._write_times_and_poses()
            for name in _FOLDERS:
                if not any((self._out / name).iterdir()):
                    (self._out / name).rmdir()


def _is_parallel(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return bool(np.abs(first[:3, :3] - second[:3, :3]).max() < _SAME_AXES)


def _calibration(cameras: Sequence[CameraModel], camera_from_lidar: NDArray[np.float64]) -> str:
    """``calib.txt``: P2 and P3 of the cameras, Tr from LiDAR to the first one's optical frame."""
    lines = []
    for name, camera in zip(("P2", "P3"), cameras, strict=False):
        shift = camera.from_lidar @ inverse(camera_from_lidar)
        projection = camera.intrinsic @ np.column_stack([np.eye(3), shift[:3, 3]])
        lines.append((name, projection))
    lines.append(("Tr", camera_from_lidar[:3]))
    return "".join(f"{name}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n" for name, matrix in lines)
