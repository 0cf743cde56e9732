"""Labelled sweeps as a recording for the Rerun viewer: points by class, other colourings, cameras, poses.

Entities below ``world/lidar``: ``labels/CLASS`` (one for each class, so that each can be shown or hidden),
``probability`` and ``entropy`` (all points, from dark blue to yellow), ``truth/CLASS`` and ``errors`` where the truth
is known, and one for each camera with its image and the labelled points in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.transforms import inverse

LIDAR = "world/lidar"
STAMP, SWEEP = "stamp", "sweep"
"""Timelines."""
_APPLICATION = "xmodelkd"
_POINT_PX, _IMAGE_POINT_PX = 1.5, 2.0
_ERROR, _PATH = (255, 70, 60), (255, 200, 0)
_PLANE_M = 2.0
"""Distance at which images are shown in front of their cameras."""
_EYE_M, _TARGET_M = (-22.0, 4.0, 16.0), (10.0, 0.0, -3.0)
"""Where the view begins, and where it looks, in the LiDAR's frame."""
_JPEG_QUALITY = 80
_VIEWER_MEMORY = "4GB"
"""Memory of the viewer, which drops the oldest sweeps above it."""


def rerun() -> Any:
    """The Rerun SDK, which must not report its use.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RERUN_ANALYTICS_ENABLED", "false")
    try:
        import rerun as sdk
    except ImportError as error:
        raise ConfigError("rerun-sdk is not installed; run 'pip install xmodelkd_ros[view]'") from error
    return sdk


class SceneRecording:
    """A recording, into a file or for a viewer.

    Args:
        labels: the label set of the labels.
        name: of what is shown.
        save: the file to write; None: open a viewer.
    """

    def __init__(self, labels: LabelMap, name: str, save: Path | None = None) -> None:
        self._rr, self._labels = rerun(), labels
        self._recording = self._rr.RecordingStream(_APPLICATION)
        if save is None:
            self._recording.spawn(memory_limit=_VIEWER_MEMORY)
        else:
            self._recording.save(str(save))
        self._recording.send_recording_name(name)
        self._path: list[NDArray[np.float64]] = []
        self._arranged = False
        self._number = 0
        self._cameras: list[str] = []
        self._log("world", self._rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        classes = [(c.id, c.name, c.color) for c in labels.classes]
        self._log("world", self._rr.AnnotationContext(classes), static=True)

    def sweep(
        self,
        stamp_ns: int,
        cloud: PointCloud,
        segmentation: Segmentation,
        *,
        truth: NDArray[np.uint8] | None = None,
        cameras: Sequence[CameraView] = (),
        world_from_lidar: NDArray[np.float64] | None = None,
    ) -> None:
        """Add a sweep.

        Args:
            stamp_ns: its stamp.
            cloud: N points.
            segmentation: their labels.
            truth: (N,) true ids in the same label set.
            cameras: images of the sweep.
            world_from_lidar: (4, 4) pose of the sensor.
        """
        rr = self._rr
        self._recording.set_time(STAMP, timestamp=np.datetime64(stamp_ns, "ns"))
        self._recording.set_time(SWEEP, sequence=self._number)
        self._number += 1
        usable = np.isfinite(cloud.xyz).all(axis=1)
        xyz, label = cloud.xyz[usable], segmentation.label[usable]
        self._pose(world_from_lidar)
        self._by_class("labels", xyz, label)
        for name, values in (("probability", segmentation.probability), ("entropy", segmentation.entropy)):
            self._log(f"{LIDAR}/{name}", rr.Points3D(xyz, colors=_heat(values[usable]), radii=_ui(rr, _POINT_PX)))
        if truth is not None:
            true = truth[usable]
            self._by_class("truth", xyz, true)
            wrong = (true != label) & (true != IGNORE)
            self._log(f"{LIDAR}/errors", rr.Points3D(xyz[wrong], colors=_ERROR, radii=_ui(rr, 2 * _POINT_PX)))
        for view in cameras:
            self._camera(view, xyz, label)

    def arrange(self, follow: bool = False) -> None:
        """Say how the viewer shows what it has got: with each sweep as it comes (``follow``), or from the start."""
        self._recording.send_blueprint(self._blueprint("following" if follow else "paused"))
        self._arranged = True

    def close(self) -> None:
        """Write what is left."""
        if not self._arranged:
            self.arrange()
        self._recording.flush()
        self._recording.disconnect()

    def _log(self, entity: str, content: Any, static: bool = False) -> None:
        self._recording.log(entity, content, static=static)

    def _by_class(self, group: str, xyz: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        for c in self._labels.classes:
            points = self._rr.Points3D(xyz[label == c.id], class_ids=c.id, radii=_ui(self._rr, _POINT_PX))
            self._log(f"{LIDAR}/{group}/{c.name}", points)

    def _pose(self, world_from_lidar: NDArray[np.float64] | None) -> None:
        if world_from_lidar is None:
            return
        rotation, position = world_from_lidar[:3, :3], world_from_lidar[:3, 3]
        self._log(LIDAR, self._rr.Transform3D(translation=position, mat3x3=rotation))
        self._path.append(position)
        self._log("world/path", self._rr.LineStrips3D([np.array(self._path)], colors=_PATH))

    def _camera(self, view: CameraView, xyz: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        rr, camera = self._rr, view.camera
        entity = f"{LIDAR}/{camera.name}"
        if camera.name not in self._cameras:
            self._cameras.append(camera.name)
            self._mount(entity, camera)
        self._log(entity, rr.Image(view.image).compress(jpeg_quality=_JPEG_QUALITY))
        index, pixels, _ = camera.project_visible(xyz)
        # Rerun's pixels begin at their corner.
        points = rr.Points2D(pixels + 0.5, class_ids=label[index], radii=_ui(rr, _IMAGE_POINT_PX))
        self._log(f"{entity}/labels", points)

    def _mount(self, entity: str, camera: CameraModel) -> None:
        rr, pose = self._rr, inverse(camera.from_lidar)
        self._log(entity, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]), static=True)
        pinhole = rr.Pinhole(
            image_from_camera=camera.intrinsic,
            width=camera.width,
            height=camera.height,
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=_PLANE_M,
        )
        self._log(entity, pinhole, static=True)

    def _blueprint(self, play_state: str) -> Any:
        import rerun.blueprint as rrb

        hidden = {f"{LIDAR}/{name}": rrb.EntityBehavior(visible=False) for name in ("probability", "entropy", "truth")}
        eye = rrb.EyeControls3D(position=_EYE_M, look_target=_TARGET_M, tracking_entity=LIDAR)
        scene = rrb.Spatial3DView(origin="world", name="labels", overrides=hidden, eye_controls=eye)
        views = [rrb.Spatial2DView(origin=f"{LIDAR}/{name}", name=name) for name in self._cameras]
        content = rrb.Horizontal(scene, rrb.Vertical(*views), column_shares=[3, 2]) if views else scene
        return rrb.Blueprint(content, rrb.TimePanel(timeline=SWEEP, play_state=play_state), collapse_panels=True)


def _ui(rr: Any, pixels: float) -> Any:
    """A radius in pixels of the screen."""
    return rr.Radius.ui_points(pixels)


def _heat(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, 3) colours of values from 0 (dark blue) to 1 (yellow); grey where there is none."""
    from matplotlib import colormaps

    colors = np.asarray(colormaps["cividis"](np.nan_to_num(values).clip(0, 1), bytes=True)[:, :3], np.uint8)
    colors[~np.isfinite(values)] = 90
    return colors
