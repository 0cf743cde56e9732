"""Small data sets in the published layouts of the benchmarks."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from training.datasets.exposures import CameraExposures
from xmodelkd_ros.resources import label_map


def write_kitti(
    root: Path, numbers: Any, xyz: Any, raw: Any, sweeps: int = 2, images: tuple[str, ...] = ("image_2",)
) -> Path:
    """Write SemanticKITTI sequences of (N, 3) points, with raw labels or none; returns the data set's folder."""
    for number in numbers:
        folder = root / "sequences" / f"{number:02d}"
        for name in ("velodyne", *(["labels"] if raw is not None else []), *images):
            (folder / name).mkdir(parents=True)
        (folder / "calib.txt").write_text(KITTI_CALIBRATION)
        # Camera 0 moves one metre along its z per sweep, and turns right about its y.
        turns = [(k, np.cos(0.1 * k), np.sin(0.1 * k)) for k in range(sweeps)]
        poses = "".join(f"{c} 0 {s} 0 0 1 0 0 {-s} 0 {c} {k}\n" for k, c, s in turns)
        (folder / "poses.txt").write_text(poses)
        (folder / "times.txt").write_text("".join(f"{0.103736 * k:.6e}\n" for k in range(sweeps)))
        for k in range(sweeps):
            points = np.column_stack([xyz, np.linspace(0, 1, len(xyz))]).astype("<f4")
            (folder / "velodyne" / f"{k:06d}.bin").write_bytes(points.tobytes())
            if raw is not None:
                labels = np.asarray(raw, "<u4") | np.uint32(7 << 16)  # an instance in the upper bits
                (folder / "labels" / f"{k:06d}.label").write_bytes(labels.tobytes())
            for name in images:
                Image.fromarray(_gradient(48, 64)).save(folder / name / f"{k:06d}.png")
    return root


def write_nuscenes(
    root: Path, scenes: Any, xyz: Any, raw: Any, version: str = "v1.0-mini", samples: int = 2, size: Any = (1600, 900)
) -> Path:
    """Write a version of nuScenes with a few scenes; returns the data set's folder."""
    tables = _nuscenes_tables(scenes, version, samples)
    (root / version).mkdir(parents=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    points = np.column_stack([-xyz[:, 1], xyz[:, 0], xyz[:, 2], np.linspace(0, 255, len(xyz)), np.arange(len(xyz))])
    points[:, 4] %= 32
    buffer = io.BytesIO()
    Image.fromarray(_gradient(*size[::-1])).save(buffer, "jpeg")
    files = {
        row["filename"]: points.astype("<f4").tobytes() for row in tables["sample_data"] if "LIDAR" in row["filename"]
    }
    files |= {row["filename"]: buffer.getvalue() for row in tables["sample_data"] if "CAM" in row["filename"]}
    if raw is not None:
        files |= {row["filename"]: np.asarray(raw, np.uint8).tobytes() for row in tables["lidarseg"]}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


KITTI_CALIBRATION = """P0: 50 0 32 0 0 50 24 0 0 0 1 0
P1: 50 0 32 -20 0 50 24 0 0 0 1 0
P2: 50 0 32 3 0 50 24 0 0 0 1 0
P3: 50 0 32 -17 0 50 24 0 0 0 1 0
Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""
"""Cameras face along the sensor's x; P2 is 6 cm to the left of camera 0."""

_NUSCENES_CAMERAS = {
    "CAM_FRONT": (0.5, -0.5, 0.5, -0.5),
    "CAM_BACK": (0.5, -0.5, -0.5, 0.5),
    "CAM_FRONT_LEFT": (0.6743, -0.6743, 0.2126, -0.2126),
    "CAM_FRONT_RIGHT": (0.2126, -0.2126, 0.6743, -0.6743),
    "CAM_BACK_LEFT": (0.6924, -0.7031, -0.1171, 0.1148),
    "CAM_BACK_RIGHT": (0.1228, -0.1325, -0.7008, 0.6897),
}


def _gradient(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([255 * columns // width, 255 * rows // height, 0 * rows], axis=-1).astype(np.uint8)


def _nuscenes_tables(scenes, version, samples):
    """Key frames half a second and one metre apart; cameras are triggered 40 ms earlier."""
    channels = {"LIDAR_TOP": "lidar", "RADAR_FRONT": "radar", **dict.fromkeys(_NUSCENES_CAMERAS, "camera")}
    mounts = {name: ([1.7, 0.0, 1.5], quaternion, [[1266, 0, 816], [0, 1266, 491], [0, 0, 1]])
              for name, quaternion in _NUSCENES_CAMERAS.items()}  # fmt: skip
    mounts["LIDAR_TOP"] = ([0.94, 0.0, 1.84], (np.sqrt(0.5), 0, 0, -np.sqrt(0.5)), [])
    mounts["RADAR_FRONT"] = ([3.4, 0.0, 0.5], (1, 0, 0, 0), [])
    tables = {
        "sensor": [{"token": f"s-{name}", "channel": name, "modality": kind} for name, kind in channels.items()],
        "calibrated_sensor": [
            {"token": f"c-{n}", "sensor_token": f"s-{n}", "translation": t, "rotation": list(q), "camera_intrinsic": k}
            for n, (t, q, k) in mounts.items()
        ],
        "category": [{"token": str(c.id), "name": c.name, "index": c.id} for c in label_map("nuscenes32").classes],
        **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "lidarseg", "log")},
    }
    for scene in scenes:
        tables["scene"].append({"token": f"t-{scene}", "name": scene, "log_token": "log"})
        for k in reversed(range(samples)):  # rows are unordered
            sample, stamp = f"{scene}-{k}", 1_532_402_927_647_951 + 500_000 * k
            tables["sample"].append({"token": sample, "timestamp": stamp, "scene_token": f"t-{scene}"})
            for channel, kind in channels.items():
                for key in (True, False):  # False: a sweep between the key frames
                    token = f"{sample}-{channel}" + ("" if key else "-between")
                    when = stamp - 40_000 * (kind == "camera") - 50_000 * (not key)
                    ending = {"lidar": ".pcd.bin", "camera": ".jpg", "radar": ".pcd"}[kind]
                    tables["sample_data"].append({
                        "token": token, "sample_token": sample, "ego_pose_token": f"e-{token}", "timestamp": when,
                        "calibrated_sensor_token": f"c-{channel}", "is_key_frame": key,
                        "filename": f"{'samples' if key else 'sweeps'}/{channel}/{token}{ending}",
                    })  # fmt: skip
                    x = (when - 1_532_402_927_647_951) * 2e-6
                    pose = {"translation": [400 + x, 1100.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
                    tables["ego_pose"].append({"token": f"e-{token}", "timestamp": when, **pose})
            lidar = f"{sample}-LIDAR_TOP"
            file = f"lidarseg/{version}/{lidar}_lidarseg.bin"
            tables["lidarseg"].append({"token": lidar, "sample_data_token": lidar, "filename": file})
    return tables


def write_pandaset(root: Path, xyz: Any, raw: Any, frames: int = 2, size: Any = (1920, 1080)) -> Path:
    """Write a PandaSet sequence of (N, 3) world points with pandaset42 classes; the vehicle stands still."""
    import pandas

    stamps = [1557539956.45018 + 0.1 * k for k in range(frames)]
    still = {"position": {"x": 0.0, "y": 0.0, "z": 0.0}, "heading": {"w": 1.0, "x": 0.0, "y": 0.0, "z": 0.0}}
    mount = {"rotation": {"w": 0.5, "x": 0.5, "y": -0.5, "z": 0.5}, "translation": {"x": 0.0, "y": -0.04, "z": -0.04}}
    names = ("back_camera", "front_camera")
    extrinsics = {name: {"extrinsic": {"transform": mount}, "intrinsic": {"D": [0.0] * 5}} for name in names}
    texts = {"lidar/poses.json": [still] * frames, "lidar/timestamps.json": stamps}
    picture = io.BytesIO()
    Image.fromarray(_gradient(*size[::-1])).save(picture, "jpeg")
    files = {"static_extrinsic_calibration.yaml": yaml.safe_dump(extrinsics).encode()}
    for name in names:
        values = {"fx": 970.0, "fy": 970.0, "cx": 960.0, "cy": 540.0}
        texts |= {f"camera/{name}/{part}.json": value for part, value in
                  {"poses": [still] * frames, "timestamps": stamps, "intrinsics": values}.items()}  # fmt: skip
        files |= {f"camera/{name}/{k:02d}.jpg": picture.getvalue() for k in range(frames)}
    for k, stamp in enumerate(stamps):
        times = stamp + np.linspace(-0.1, 0, len(xyz))
        values = {"i": np.linspace(0, 255, len(xyz)), "t": times, "d": np.zeros(len(xyz), np.int64)}
        table = pandas.DataFrame({**dict(zip("xyz", np.asarray(xyz, np.float64).T, strict=True)), **values})
        classes = pandas.DataFrame({"class": np.asarray(raw, np.int64)})
        table.columns = pandas.Index(list(table.columns), dtype=object)  # as published; the classes as saved again
        files[f"lidar/{k:02d}.pkl.gz"] = gzip.compress(pickle.dumps(table))
        files[f"annotations/semseg/{k:02d}.pkl.gz"] = gzip.compress(pickle.dumps(classes))
    files |= {name: json.dumps(value).encode() for name, value in texts.items()}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def point_visibility(sequence, frame):
    return CameraExposures.of(sequence, frame).views(sequence.cloud(frame).xyz)
