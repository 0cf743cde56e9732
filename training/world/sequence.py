"""Generated drives as datasets."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.datasets.sequence import CameraImage, decode_jpeg
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import Drive
from training.worldgen.sensing.camera import CameraRender
from training.worldgen.sensing.lidar import Scan
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.rig import Rig
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.transforms import PoseTrack, inverse
from xmodelkd_ros.resources import label_map

WORLD_SOURCE = DataSource(f"xmodelkd_ros world {WORLD_VERSION}", "Apache-2.0", attribution="")
_EPOCH_NS = 1_700_000_000_000_000_000
"""Time zero of every drive: ROS tools treat stamps near zero as unset."""
_JPEG_QUALITY = 90


class Recording(Protocol):
    """A drive as :class:`WorldSequence` reads it: :class:`training.worldgen.drive.Drive`, or :class:`StoredDrive`."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def sweeps(self) -> int: ...  # noqa: D102

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def rig(self) -> Rig: ...  # noqa: D102

    @property
    def track(self) -> PoseTrack: ...  # noqa: D102

    def end_s(self, index: int) -> float:
        """End of a sweep, seconds since the start of the drive."""

    def scan(self, index: int) -> Scan:
        """The sweep of a frame."""


class WorldSequence:
    """A generated drive as a :class:`training.datasets.sequence.DriveSequence`.

    Args:
        recording: the drive, generated live or stored.
        image: returns the image of a frame (number) and camera (number).
    """

    source = WORLD_SOURCE
    intensity_range = (0.0, 255.0)
    has_poses = True

    def __init__(self, recording: Recording, image: Callable[[int, int], CameraImage]) -> None:
        self._recording, self._image = recording, image
        self.seed = recording.seed
        self.name = f"world {WORLD_VERSION} seed {self.seed}"
        if recording.number:
            self.name += f" sweep {recording.number}"
        self.label_map: LabelMap = label_map("drive13")
        self.notes: list[str] = []
        self.rig = recording.rig
        self.cameras: tuple[CameraModel, ...] = recording.rig.cameras
        self.base_from_lidar: NDArray[np.float64] = recording.rig.base_from_lidar
        self.scan = lru_cache(maxsize=2)(recording.scan)

    def __len__(self) -> int:
        return self._recording.sweeps

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: its end."""
        return stamp_ns(self._recording.end_s(self._checked(index)))

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep as fired, with intensity 0 to 255, and the beam number as ring if there are beams."""
        scan, lidar = self.scan(self._checked(index)), self._lidar(index)
        intensity = scan.intensity[scan.mask].astype(np.float32)
        return PointCloud(scan.points(lidar), intensity, scan.ring(lidar))

    def sensor(self) -> SensorSpec:
        """The LiDAR's own beam table, height and attitude; without beams, rows of its field of view."""
        lidar, (roll, pitch) = self.rig.lidar, self.rig.attitude_deg
        rings = lidar.elevations_deg if lidar.has_rings else ()
        return SensorSpec(
            lidar.name, lidar.elevations_deg, rings, height_m=self.rig.height_m, roll_deg=roll, pitch_deg=pitch
        )

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) drive13 class ids of the points of :meth:`cloud`."""
        scan = self.scan(self._checked(index))
        return scan.label[scan.mask]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) firing times of the points of :meth:`cloud`, seconds relative to the sweep's stamp."""
        return self.scan(self._checked(index)).time_s(self._lidar(index))

    def compensated(self, index: int) -> NDArray[np.float32]:
        """(N, 3) motion-compensated points of :meth:`cloud`, in the sensor frame at the sweep's stamp."""
        end = self._recording.end_s(self._checked(index))
        return self.scan(index).compensated(self._lidar(index), self._poses, end)

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""
        return self._poses(self._recording.end_s(self._checked(index)) + np.asarray(times_s, np.float64))

    def images(self, index: int) -> Sequence[CameraImage]:
        """The image of each camera that belongs to a sweep."""
        return tuple(self._image(self._checked(index), camera) for camera in range(len(self.cameras)))

    def lidar_in_camera(self, index: int, camera: int) -> NDArray[np.float64]:
        """(4, 4) camera (at its exposure) from LiDAR (at the sweep's stamp): extrinsic and motion in between."""
        end = self._recording.end_s(self._checked(index))
        stamp, shutter = self._poses(np.array([end, end + self.rig.shutter_s[camera]]))
        return np.asarray(self.cameras[camera].from_lidar @ inverse(shutter) @ stamp)

    def _poses(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._recording.track.poses(times_s) @ self.base_from_lidar)

    def _lidar(self, index: int) -> LidarModel:
        return self.rig.lidar.at(index)

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.name} has no frame {index}; it has 0 to {len(self) - 1}")
        return index


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """A lazily rendered image; attributes as in :class:`training.datasets.sequence.CameraImage`."""

    camera: CameraModel
    stamp_ns: int
    render: Callable[[], CameraRender]
    render_labels: Callable[[], NDArray[np.uint8]]

    @cached_property
    def rendered(self) -> CameraRender:
        """The image as rendered, with the classes and distances of its pixels."""
        return self.render()

    def jpeg(self) -> bytes:
        """The image encoded as JPEG."""
        return _jpeg(self.rendered.rgb)

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB after JPEG compression, as read from a stored drive."""
        return decode_jpeg(self.jpeg())

    def labels(self) -> NDArray[np.uint8] | None:
        """(H, W) drive13 ids of the pixels, 255 for the sky."""
        return self.rendered.label if "rendered" in vars(self) else self.render_labels()


def live_drive(drive: Drive) -> WorldSequence:
    """A drive whose frames are generated on access."""

    def image(index: int, camera: int) -> CameraImage:
        stamp = stamp_ns(drive.end_s(index) + drive.rig.shutter_s[camera])
        return RenderedImage(
            drive.rig.cameras[camera],
            stamp,
            lambda: drive.image(index, camera),
            lambda: drive.image_labels(index, camera),
        )

    return WorldSequence(drive, image)


def stamp_ns(time_s: float) -> int:
    """ROS stamp of a time in a drive."""
    return _EPOCH_NS + round(time_s * 1e6) * 1000


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return _encoded(rgb, "jpeg", quality=_JPEG_QUALITY)


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
