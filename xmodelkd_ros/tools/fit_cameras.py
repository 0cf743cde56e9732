"""``xmodelkd fit-cameras``: writes the node's camera parameters for a bag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.mounted_cameras import MountedCamera, missing_for_cameras, node_parameters
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import BagError, ConfigError, ImageError
from xmodelkd_ros.messages.images import image_to_array

_HEADER = """\
# Cameras of {bag}, written by xmodelkd fit-cameras. Start the node with this file:
#   ros2 launch xmodelkd_ros segment.launch.py mode:=teacher cameras_file:=/path/to/this.yaml
# Without 'extrinsic' the node uses TF. 'time_offset' shifts the image stamp to that of the sweep in which the LiDAR
# scanned the camera's field of view.
"""


def fit_cameras(bag: Path, out: Path | None = None, points_topic: str = "") -> Path:
    """Write the node's parameters for the cameras of a bag; returns the parameter file.

    Args:
        bag: bag with images, CameraInfo and ``/tf_static``.
        out: parameter file; ``<bag>.cameras.yaml`` in the current folder if None.
        points_topic: topic of the sweeps; may be empty if the bag has only one PointCloud2 topic.

    Raises:
        XModelKDError: the bag cannot be read or has no cameras, or the file cannot be written.
    """
    with BagReader(bag) as reader:
        recording = RecordedDrive(reader, points_topic, missing_intensity="fill")
        sweep = recording.first_sweep()
        cameras = list(recording.mounted_cameras(sweep.message.header.frame_id).values())
        for image in recording.images(sweep):  # which notes clocks that differ
            try:
                image_to_array(image.message)
            except ImageError as error:
                recording.note(f"camera {image.camera.name}: {error}")
        print_notes([*reader.notes, *recording.notes])
        missing = [] if cameras else missing_for_cameras(reader)
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise BagError(f"{bag} has {', '.join(f'no {what}' for what in missing)}; record {them} too")
    if not cameras:
        raise BagError(f"{bag} has no camera that can be used; the notes above name what each one lacks")
    out = out or Path(f"{bag.stem}.cameras.yaml")
    try:
        with atomic_file(out) as unfinished:
            unfinished.write_text(_HEADER.format(bag=bag.name) + _as_yaml(cameras), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}; choose another file") from error
    for camera in cameras:
        model = camera.model
        print(f"{model.name}: {camera.image_topic}, {model.width}x{model.height}, {camera.time_offset_s * 1e3:+.0f} ms")
    print(f"written to {out}; give it to segment.launch.py as cameras_file")
    return out


def _as_yaml(cameras: Sequence[MountedCamera]) -> str:
    parameters: dict[str, Any] = {"cameras": [camera.model.name for camera in cameras]}
    for camera in cameras:
        parameters |= {f"cameras.{camera.model.name}.{key}": value for key, value in node_parameters(camera).items()}
    text = yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False, default_flow_style=None, width=120)
    return str(text)
