"""nuScenes-lidarseg: key frames of scenes, with point labels and the images of six cameras.

A data set is a folder::

    v1.0-trainval/*.json                          tables; also v1.0-mini, v1.0-test
    samples/LIDAR_TOP/*.pcd.bin                   float32 x, y, z, intensity (0 to 255), ring
    samples/CAM_FRONT/*.jpg                       1600 x 900, rectified
    lidarseg/v1.0-trainval/TOKEN_lidarseg.bin     uint8 class of each point of a key frame; not for v1.0-test
    panoptic/v1.0-trainval/TOKEN_panoptic.npz     class * 1000 + instance; read where there is no lidarseg

Only the tables and sweeps are required. Images that are missing, key frames without a sweep, and scenes without any
are left out with a note; sweeps without a label file are unlabelled.

A drive is a scene of 20 s. Its sweeps are the key frames, two per second, as only these have labels.

nuScenes' points are motion-compensated: a sweep is in the sensor frame at its stamp, the end of the rotation. Firing
times are not published, so all points count as fired then. The sensor's own axes are x right, y forward; here they are
converted to REP-103 (x forward, y left). Returns from the ego vehicle are kept and have no label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.binary import points_in, read_labels, read_panoptic_labels, read_rows
from training.datasets.folder_content import FolderContent, missing_note
from training.datasets.nuscenes_tables import LIDAR, Mount, Record, Tables, read_tables
from training.datasets.sequence import JpegFile
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import PoseTrack, inverse
from xmodelkd_ros.resources import label_map

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


class NuScenesSequence:
    """The key frames of one scene; a :class:`training.datasets.sequence.DriveSequence`.

    Attributes:
        label_map: the label set of :meth:`labels`, nuscenes16.
        cameras: intrinsic and extrinsic of each camera, sorted by name.
        base_from_lidar: (4, 4) base_link from sensor.
        has_poses: whether the poses are there.
        notes: what is left out and why.

    Args:
        tables: tables of its version.
        scene: its name.
        content: the files of the data set.

    Raises:
        ConfigError: no key frame has a sweep, or a table lacks a row that another table refers to.
    """

    source = DataSource(
        "nuScenes-lidarseg",
        "CC BY-NC-SA 4.0",
        "nuScenes and nuScenes-lidarseg by Motional (Caesar et al., CVPR 2020; Fong et al., RA-L 2022), "
        "https://www.nuscenes.org, CC BY-NC-SA 4.0 and terms of use: no commercial use, also of weights trained on it",
    )
    intensity_range = (0.0, 255.0)

    def __init__(self, tables: Tables, scene: str, content: FolderContent) -> None:
        self._tables = tables
        self.name = f"nuScenes {scene}"
        self.label_map: LabelMap = label_map("nuscenes16")
        self.notes: list[str] = []
        try:
            samples = tables.samples[tables.scenes[scene]]
            frames = [tables.records[sample] for sample in samples]
            self._frames = [frame for frame in frames if LIDAR in frame and content.has(frame[LIDAR].file)]
            if not self._frames:
                raise ConfigError("none of its sweeps in samples/LIDAR_TOP is there")
            self._sweeps = [frame[LIDAR] for frame in self._frames]
            records = {channel: record for frame in frames for channel, record in frame.items()}
            mounts = {channel: tables.mounts[record.mount] for channel, record in records.items()}
            self._world_from_ego = self._track() if tables.ego else None
        except LookupError as error:
            raise ConfigError(
                f"{tables.root / tables.version} is incomplete: {scene} refers to {error}, which its tables lack; "
                "fetch it again"
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{tables.root / tables.version}: {scene}: {error}; fetch it again") from error
        self.has_poses = self._world_from_ego is not None
        self._ego_from_lidar = mounts.pop(LIDAR).ego_from_sensor @ _OWN_FROM_LIDAR
        self.base_from_lidar = self._ego_from_lidar  # nuScenes' ego frame is a base_link
        self._note_missing_sweeps(len(samples))
        self.cameras, self._images = self._find_cameras(mounts, content)

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
        file = tables.labels.get(self._sweeps[index].token)
        if file is None:
            return np.full(points_in(sweep, _BYTES_PER_POINT), IGNORE, np.uint8)
        read = read_panoptic_labels if file.endswith(".npz") else read_labels
        return tables.class_of_raw[read(tables.root / file, np.uint8, sweep, _BYTES_PER_POINT)]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) zeros: the points are motion-compensated to the sweep's stamp."""
        return np.zeros(points_in(self._file(index), _BYTES_PER_POINT), np.float32)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) map of the scene's city from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp.

        Raises:
            ConfigError: the data set has no poses.
        """
        if self._world_from_ego is None:
            raise ConfigError(f"{self.name} has no poses: {self._tables.version}/ego_pose.json is missing; fetch it")
        stamp_s = self._since_start_s(self._sweeps[self._checked(index)])
        return np.asarray(self._world_from_ego.poses(stamp_s + times_s) @ self._ego_from_lidar)

    def images(self, index: int) -> tuple[JpegFile, ...]:
        """The image of each camera that belongs to a sweep; missing ones are left out."""
        records = self._frames[self._checked(index)]
        found = (
            (camera, records[camera.name])
            for camera in self.cameras
            if camera.name in records and records[camera.name].file in self._images
        )
        return tuple(
            JpegFile(camera, record.stamp_us * 1000, self._tables.root / record.file) for camera, record in found
        )

    def _note_missing_sweeps(self, samples: int) -> None:
        frames, labels = len(self._frames), self._tables.labels
        if frames < samples:
            self.notes.append(f"{samples - frames} of {samples} key frames have no sweep and are left out")
        unlabelled = sum(record.token not in labels for record in self._sweeps) if labels else 0
        if unlabelled:
            self.notes.append(f"{unlabelled} of {frames} sweeps have no label file and count as unlabelled")
        if not self._tables.ego:
            self.notes.append(f"{self._tables.version}/ego_pose.json is missing; poses are left out")

    def _find_cameras(
        self, mounts: dict[str, Mount], content: FolderContent
    ) -> tuple[tuple[CameraModel, ...], set[str]]:
        """The cameras with images, and the image files that are there."""
        cameras, images = [], set()
        for name, mount in sorted(mounts.items()):
            files = [frame[name].file for frame in self._frames if name in frame]
            there = [file for file in files if content.has(file)]
            if not there:
                continue
            try:
                from_lidar = inverse(mount.ego_from_sensor) @ self._ego_from_lidar
                cameras.append(CameraModel(name, *_IMAGE_SIZE, mount.intrinsic, from_lidar))
            except ConfigError as error:
                self.notes.append(f"{name} is left out: {error}")
                continue
            missing = [file for file in files if file not in there]
            self.notes += missing_note(f"images of {name}", missing, len(files), "they are left out")
            images |= set(there)
        absent = sorted({f"samples/{name}" for name in mounts} - {f"samples/{camera.name}" for camera in cameras})
        if absent:
            self.notes.append(f"no images in {', '.join(absent)}; these cameras are left out")
        return tuple(cameras), images

    def _file(self, index: int) -> Path:
        return self._tables.root / self._sweeps[self._checked(index)].file

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.name} has no frame {index}; it has 0 to {len(self) - 1}")
        return index

    def _since_start_s(self, record: Record) -> float:
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
    content = FolderContent(tables.root)
    if one:
        if one not in tables.scenes:
            raise ConfigError(f"{path.parent} has no {one}; it has {min(tables.scenes)} to {max(tables.scenes)}")
        return [NuScenesSequence(tables, one, content)]
    names = [name for name in sorted(tables.scenes) if not split or _split_of(name, tables.version) == split]
    if not names:
        of_split = f" of the split '{split}'" if split else ""
        raise ConfigError(f"{path} holds no scene{of_split}; give another version, or one scene as {path}/scene-NNNN")
    stored = [name for name in names if _has_sweeps(tables, name, content)] or names[:1]
    drives = [NuScenesSequence(tables, name, content) for name in stored]
    if len(stored) < len(names):
        drives[0].notes.append(f"{len(names) - len(stored)} of {len(names)} scenes have no sweeps and are left out")
    return drives


def _has_sweeps(tables: Tables, scene: str, content: FolderContent) -> bool:
    """Whether a scene has a sweep, or its tables are incomplete, which opening it reports."""
    frames = [tables.records.get(sample, {}) for sample in tables.samples.get(tables.scenes[scene], ())]
    return not all(frames) or any(LIDAR in frame and content.has(frame[LIDAR].file) for frame in frames)


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
