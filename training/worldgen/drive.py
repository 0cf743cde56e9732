"""A drive through a generated street: a seed in, frames of LiDAR sweeps and camera images out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.worldgen.motion.pavement import pavement_poses
from training.worldgen.scene import Scene
from training.worldgen.sensing.camera import CameraRender, Light, render, render_labels
from training.worldgen.sensing.lidar import Scan, scan
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import LIDARS, UNSEEN_LIDARS, lidar_by_name
from training.worldgen.sensing.rig import Carrier, Rig
from training.worldgen.sensing.surfaces import Appearance
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import PoseTrack, inverse

PERIOD_S = 0.1
_LEAD_S = 0.3
"""End of the first sweep. All its firings and exposures then lie within the ego track, which starts at zero."""
_TRAIL_S = 0.1
"""After the end of a sweep, for its last exposures."""
_TRACK_STEP_S = 0.01
MAX_SWEEPS = 100
"""Ten seconds, the horizon over which traffic is planned free of collisions."""
EACH_LIDAR = "each"
"""In place of the name of a LiDAR: another LiDAR, mounting and vehicle for each sweep. ``each NAME``: another unit of
that product."""

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def split_of(seed: int) -> str:
    """Data split of a seed: last digit 9 is test, 8 validation, all others training.

    Test drives also contain building styles, street layouts and a LiDAR model that no other split has.
    """
    return {9: TEST, 8: VALIDATION}.get(seed % 10, TRAIN)


@dataclass(frozen=True, eq=False)
class Frame:
    """A sweep and its camera images."""

    index: int
    scan: Scan
    images: tuple[CameraRender, ...]


class Drive:
    """A generated drive. The same arguments give the same bytes.

    Frames can be generated in any order and from several threads.

    Args:
        seed: of all randomness; also determines the split (:func:`split_of`).
        sweeps: number of sweeps.
        cameras: 0, 1 (front) or 6.
        columns: firings of each beam per revolution; 0 keeps the sensor's own number.
        every: revolutions of the LiDAR (10 per second) from one sweep to the next.
        lidar: name of the LiDAR; empty: drawn from the seed.

    Attributes:
        seed: of the drive.
        sweeps: number of sweeps.
        number: of the first sweep among those that share the scene (:func:`drives_of`); 0 if none do.
        period_s: from one sweep to the next.
        scene: streets, static objects, traffic and the ego vehicle's motion.
        rig: the sensors.
        track: trajectory of the vehicle.
        light: of the images.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, seed: int, sweeps: int, cameras: int = 6, columns: int = 0, every: int = 1, lidar: str = ""
    ) -> None:
        if sweeps < 1 or every < 1 or sweeps * every > MAX_SWEEPS:
            raise ConfigError(
                f"a drive of {sweeps} sweeps, one every {every} turns: it can have 1 to {MAX_SWEEPS} turns in all; "
                "use more seeds for more sweeps"
            )
        if cameras not in (0, 1, 6):
            raise ConfigError(f"a rig with {cameras} cameras is not available; use 0, 1 or 6")
        if seed < 0 or columns < 0:
            raise ConfigError(f"seed is {seed} and columns {columns}, but both must be at least 0")
        self.seed, self.sweeps, self.number, self.period_s = seed, sweeps, 0, every * PERIOD_S
        unseen = split_of(seed) == TEST
        lidars = (lidar_by_name(lidar, unseen),) if lidar else self._candidate_lidars()
        self.scene = Scene.generate(self._rng("scene"), _LEAD_S + MAX_SWEEPS * PERIOD_S, unseen)
        self._columns = columns
        self.rig = self._with_columns(Rig.sample(self._rng("rig"), cameras, lidars))
        times = np.arange(0.0, _LEAD_S + (sweeps + 1) * self.period_s, _TRACK_STEP_S)
        self.track = PoseTrack.of_matrices(times, self.scene.ego.world_from_base(times))
        self._appearance = Appearance.sample(self._rng("appearance"))
        self.light = Light.sample(self._rng("light"))

    def end_s(self, index: int) -> float:
        """End time of a sweep, seconds since the start of the drive."""
        return _LEAD_S + (self.number + index) * self.period_s

    def world_from_lidar(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 4, 4) poses of the LiDAR in the world."""
        return np.asarray(self.track.poses(times_s) @ self.rig.base_from_lidar)

    def scan(self, index: int) -> Scan:
        """The sweep of a frame."""
        return scan(
            self.rig.lidar.at(index),
            self.scene.tracer,
            self._appearance,
            self.world_from_lidar,
            self.end_s(index),
            self._rng("lidar", self.number + index),
        )

    def image(self, index: int, camera: int) -> CameraRender:
        """The image of one camera of a frame."""
        model, pose, time = self._exposure(index, camera)
        rng = self._rng("camera", self.number + index, camera)
        return render(self.scene.tracer, self._appearance, self.light, model, pose, time, rng)

    def image_labels(self, index: int, camera: int) -> NDArray[np.uint8]:
        """(H, W) class ids of the pixels of :meth:`image`, without its colours."""
        return render_labels(self.scene.tracer, *self._exposure(index, camera))

    def _exposure(self, index: int, camera: int) -> tuple[CameraModel, NDArray[np.float64], float]:
        """A camera, the pose of its optical frame in the world, and the time of its image in a frame."""
        model = self.rig.cameras[camera]
        time = self.end_s(index) + self.rig.shutter_s[camera]
        return model, self.world_from_lidar(np.array([time]))[0] @ inverse(model.from_lidar), time

    def frames(self, indices: Iterable[int], threads: int = 2) -> Iterator[Frame]:
        """Frames in the order of ``indices``, generated ahead of the consumer by several threads."""
        with ThreadPoolExecutor(threads) as pool:
            pending: list[tuple[int, list[Future[Scan]], list[Future[CameraRender]]]] = []
            for index in indices:
                scans = [pool.submit(self.scan, index)]
                images = [pool.submit(self.image, index, k) for k in range(len(self.rig.cameras))]
                pending.append((index, scans, images))
                if len(pending) > threads:
                    yield _finished(*pending.pop(0))
            for frame in pending:
                yield _finished(*frame)

    def with_each_lidar(self, product: str = "") -> list[Drive]:
        """Drives of one sweep, one for each sweep of this one: in its scene, each with a LiDAR and vehicle of its own.

        Args:
            product: name of all LiDARs; empty: products take turns in a random order.

        Raises:
            ConfigError: the name is unknown, or reserved for test drives.
        """
        unseen = split_of(self.seed) == TEST
        products = (*LIDARS, *UNSEEN_LIDARS) if unseen else LIDARS
        if product:
            products = (lidar_by_name(product, unseen),)
        order = self._rng("products").permutation(len(products))
        return [self._with_lidar(number, products[order[number % len(order)]]) for number in range(self.sweeps)]

    def _with_lidar(self, number: int, product: LidarModel) -> Drive:
        """The drive of sweep ``number`` with another LiDAR."""
        rng = self._rng("each rig", number)
        drive = copy.copy(self)
        drive.sweeps, drive.number = 1, number
        drive._appearance = Appearance.sample(self._rng("appearance", number))
        carrier = Carrier.sample(rng)
        drive.rig = self._with_columns(Rig.sample(rng, len(self.rig.cameras), (product,), carrier))
        drive.track = self._vehicle_track(rng, carrier, drive.end_s(0))
        return drive

    def _vehicle_track(self, rng: np.random.Generator, carrier: Carrier, end: float) -> PoseTrack:
        """Trajectory around the end of a sweep: on a pavement if the vehicle may and one is free, else on the lane."""
        times = end + np.arange(-_LEAD_S, _TRAIL_S, _TRACK_STEP_S)
        scene, poses = self.scene, self.scene.ego.world_from_base(times)
        if carrier.walks:
            place = poses[0, :2, 3]
            walk = pavement_poses(rng, scene.streets.walks, scene.streets.height, scene.tracer, place, times)
            poses = poses if walk is None else walk
        return PoseTrack.of_matrices(times, poses)

    def _with_columns(self, rig: Rig) -> Rig:
        """The rig with the number of columns that all LiDARs shall have, if one was given."""
        return replace(rig, lidar=replace(rig.lidar, columns=self._columns)) if self._columns else rig

    def _candidate_lidars(self) -> tuple[LidarModel, ...]:
        """LiDAR models to draw from; 30 % of test drives draw from those that no other split has."""
        unseen = split_of(self.seed) == TEST and self._rng("unseen lidar").random() < 0.3
        return UNSEEN_LIDARS if unseen else LIDARS

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Independent random generator for each purpose: an added draw in one place changes nothing elsewhere."""
        return np.random.default_rng((self.seed, *purpose.encode(), *numbers))


def for_each_sweep(lidar: str) -> bool:
    """Whether a setting asks for another LiDAR for each sweep: :data:`EACH_LIDAR`, or that and a product's name."""
    return lidar.split(" ")[0] == EACH_LIDAR


def drives_of(
    seed: int, sweeps: int, cameras: int = 6, columns: int = 0, every: int = 1, lidar: str = ""
) -> list[Drive]:
    """The drive of a seed; if ``lidar`` is :func:`for_each_sweep`, one of a single sweep for each sweep, in one scene.

    Arguments and errors as in :class:`Drive`.
    """
    if for_each_sweep(lidar):
        return Drive(seed, sweeps, cameras, columns, every).with_each_lidar(lidar[len(EACH_LIDAR) :].strip())
    return [Drive(seed, sweeps, cameras, columns, every, lidar)]


def _finished(index: int, scans: list[Future[Scan]], images: list[Future[CameraRender]]) -> Frame:
    return Frame(index, scans[0].result(), tuple(image.result() for image in images))
