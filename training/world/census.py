"""Statistics of a drive: points, pixels and objects of each class, and agreement of point and pixel labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.sequence import DriveSequence
from training.world.sequence import WorldSequence, live_drive
from training.worldgen.drive import MAX_SWEEPS, Drive
from training.worldgen.mesh import LABELS
from training.worldgen.sensing.camera import SKY, CameraRender
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.labels import IGNORE

BORDERS_PX = (0, 1, 2, 3)
"""Points this close to a pixel of another class are excluded: at an edge, the class within a pixel is random."""

GROUND = ("road", "road_marking", "sidewalk", "terrain")
"""Surface classes, for which ground cells are counted instead of objects."""

CELL_M = 5.0
_MIN_POINTS = 10
"""Objects and cells with fewer points over all sweeps of a drive are not counted."""

_DEPTH_SLACK = 0.02
_DEPTH_SLACK_M = 0.3
"""A point this far behind the surface in the image (metres, plus a share of the distance) is occluded for the camera,
whose viewpoint differs from the LiDAR's."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of projected points with the labels of their pixels, for each of :data:`BORDERS_PX`.

    Attributes:
        projected: points projected into an image.
        inner: (4,) those away from borders between classes.
        agreeing: (4,) inner points with the label of their pixel.
        visible: (4,) inner points that are not occluded.
        visible_agreeing: (4,) visible points with the label of their pixel.
        still: (4,) visible points on static objects.
        still_agreeing: (4,) of these, those with the label of their pixel.
    """

    projected: int
    inner: Counts
    agreeing: Counts
    visible: Counts
    visible_agreeing: Counts
    still: Counts
    still_agreeing: Counts

    @classmethod
    def none(cls) -> Agreement:
        """Counts of no points."""
        return cls(0, *np.zeros((6, len(BORDERS_PX)), np.int64))

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Shares for each border width, as in ``metrics.json``."""
        whole = np.full(len(BORDERS_PX), self.projected)
        shares = {
            "counted": (self.visible, whole),
            "agreement": (self.visible_agreeing, self.visible),
            "agreement_of_still_things": (self.still_agreeing, self.still),
            "counted_with_hidden": (self.inner, whole),
            "agreement_with_hidden": (self.agreeing, self.inner),
        }
        return {
            f"border_{border}_px": {name: _share(part[k], of[k]) for name, (part, of) in shares.items()}
            for k, border in enumerate(BORDERS_PX)
        }


@dataclass(frozen=True, eq=False)
class Census:
    """Statistics of one drive.

    Attributes:
        seed: seed of the drive.
        lidar: name of the LiDAR.
        light: kind of lighting.
        points: (13,) points of each class.
        pixels: (256,) pixels of each class; 255 is the sky.
        things: (13,) objects of each class, or for :data:`GROUND` cells of 5 x 5 m.
        pulses: pulses of all sweeps.
        agreement: agreement of points and pixels.
    """

    seed: int
    lidar: str
    light: str
    points: Counts
    pixels: Counts
    things: Counts
    pulses: int
    agreement: Agreement

    @property
    def returns(self) -> float:
        """Share of the pulses with a return."""
        return float(self.points.sum() / self.pulses)


@dataclass(eq=False)
class _Tally:
    """Running counts of a drive."""

    pixels: Counts = field(default_factory=lambda: np.zeros(256, np.int64))
    agreement: Agreement = field(default_factory=Agreement.none)
    labels: list[NDArray[np.uint8]] = field(default_factory=list)
    keys: list[NDArray[np.int64]] = field(default_factory=list)
    pulses: int = 0


def take_census(seed: int, sweeps: int, cameras: int = 6) -> Census:
    """Count evenly spread sweeps of a drive of ten seconds."""
    drive = Drive(seed, sweeps, cameras, every=MAX_SWEEPS // sweeps)
    sequence, tally = live_drive(drive), _Tally()
    moving = _moving_instances(drive)
    for index in range(sweeps):
        scan = sequence.scan(index)
        mask = scan.mask
        tally.labels.append(scan.label[mask])
        tally.keys.append(_object_keys(sequence, index))
        tally.pulses += mask.size
        still = ~np.isin(scan.instance[mask], moving)
        for camera in range(len(sequence.cameras)):
            render = drive.image(index, camera)
            tally.pixels += np.bincount(render.label.ravel(), minlength=256)
            tally.agreement += _agreement(sequence, index, camera, render, still)
    labels = np.concatenate(tally.labels)
    return Census(
        seed,
        drive.rig.lidar.name,
        drive.light.kind,
        _per_class(labels),
        tally.pixels,
        _object_counts(labels, np.concatenate(tally.keys)),
        tally.pulses,
        tally.agreement,
    )


def point_counts(sequence: DriveSequence, frames: Iterable[int]) -> Counts:
    """(13,) labelled points of each class in frames of a drive13 sequence."""
    total = np.zeros(len(LABELS), np.int64)
    for index in frames:
        total += _per_class(sequence.labels(index))
    return total


def compare_labels(
    xyz: NDArray[np.float32],
    label: NDArray[np.uint8],
    camera: CameraModel,
    render: CameraRender,
    still: NDArray[np.bool_],
) -> Agreement:
    """Compare N points with a rendered image of the same instant.

    Args:
        xyz: (N, 3) points, metres.
        label: (N,) their class ids.
        camera: the camera; ``from_lidar`` is the camera from the frame of the points.
        render: the rendered image.
        still: (N,) whether they are on static objects.
    """
    pixels, inside = camera.project(xyz)
    column, row = np.rint(pixels[inside]).astype(np.int64).T
    index, depth = np.flatnonzero(inside), render.distance[row, column]
    in_camera = xyz[index] @ camera.from_lidar[:3, :3].T + camera.from_lidar[:3, 3]
    same = label[index] == render.label[row, column]
    visible = np.linalg.norm(in_camera, axis=1) - depth <= _DEPTH_SLACK_M + _DEPTH_SLACK * depth
    seen_still = visible & still[index]
    inner = ~np.stack([borders(render.label, width)[row, column] for width in BORDERS_PX])
    kinds = (np.ones_like(same), same, visible, visible & same, seen_still, seen_still & same)
    return Agreement(len(index), *(np.count_nonzero(inner & kind, axis=1) for kind in kinds))


def borders(label: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """(H, W) mask of the pixels with another class within ``width`` pixels."""
    window = np.ones((2 * width + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(label, window) != cv2.erode(label, window))


def _agreement(
    sequence: WorldSequence, index: int, camera: int, render: CameraRender, still: NDArray[np.bool_]
) -> Agreement:
    model = replace(sequence.cameras[camera], from_lidar=sequence.lidar_in_camera(index, camera))
    return compare_labels(sequence.compensated(index), sequence.labels(index), model, render, still)


def _moving_instances(drive: Drive) -> NDArray[np.int32]:
    return np.array([actor.meshes[0].instance[0] for actor in drive.scene.tracer.actors], np.int32)


def _object_keys(sequence: WorldSequence, index: int) -> NDArray[np.int64]:
    """(N,) number of the object of each point; for the ground, of its cell."""
    scan = sequence.scan(index)
    mask, pose = scan.mask, sequence.world_from_lidar(index)
    world = sequence.compensated(index) @ pose[:2, :3].T + pose[:2, 3]
    column, row = np.floor(world / CELL_M).astype(np.int64).T
    ground = np.isin(scan.label[mask], [LABELS.id_of(name) for name in GROUND])
    return np.where(ground, column * (1 << 20) + row, scan.instance[mask])


def _object_counts(label: NDArray[np.uint8], keys: NDArray[np.int64]) -> Counts:
    pairs, counts = np.unique(np.column_stack([label.astype(np.int64), keys]), axis=0, return_counts=True)
    return _per_class(pairs[counts >= _MIN_POINTS, 0])


def _per_class(label: NDArray[np.integer]) -> Counts:
    return np.bincount(label.astype(np.int64), minlength=IGNORE + 1)[: len(LABELS)]


def _share(part: np.int64, whole: np.int64) -> float:
    return round(float(part / whole), 5) if whole else 0.0


def sky_share(pixels: Counts) -> float:
    """Share of the sky's pixels."""
    return float(pixels[SKY] / max(pixels.sum(), 1))
