"""Drives that several test modules share: generated ones, which take seconds to make, and tiny benchmark folders."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.world.sensing.sensors import BEAM_TABLES
from xmodelkd_ros.resources import label_map

CONFIGS = Path(__file__).parents[2] / "config" / "training"
TINY = [
    "model.widths=[8, 8, 16, 16, 16]",
    "model.blocks=[0, 0, 0, 0]",
    "model.table=8",
    "model.width=512",
    "optimizer.crop_columns=256",
    "optimizer.points=2000",
    "optimizer.steps=2",
    "optimizer.epochs=2",
    # So that what happens after an interruption shows in the averaged weights, too.
    "optimizer.ema_decay=0.5",
    "optimizer.learning_rate=0.02",
    "precision=32-true",
    "start=''",
]
"""Makes a run of seconds from a configuration that is shipped."""


@pytest.fixture(scope="session")
def tiny():
    """These settings, for tests that make their own configuration of them."""
    return TINY


pytest.importorskip("embreex", reason="generating drives needs the extra datasets")


@dataclass(frozen=True)
class Generated:
    """What ``python -m training.world`` left.

    Attributes:
        folder: the drive, or the drives.
        said: what the command printed.
        bag: the drive's bag.
        drive: arguments that make the same drive.
    """

    folder: Path
    said: str
    bag: Path | None = None
    drive: dict[str, int | str] | None = None


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A drive to choose with, two coarse sweeps and six cameras: folder and bag. Change nothing in it."""
    place = tmp_path_factory.mktemp("world")
    drive = {"seed": 18, "sweeps": 2, "cameras": 6, "columns": 300, "lidar": "VLP-32C"}
    folder, bag = place / "drive", place / "drive.mcap"
    options = [word for name, value in drive.items() for word in (f"--{name}", value)]
    return Generated(folder, _generate(*options, "--bag", bag, out=folder), bag, drive)


@pytest.fixture(scope="session")
def drives(tmp_path_factory):
    """A folder of two drives to train on, of the seeds 0 and 1: two sweeps each, five seconds apart."""
    folder = tmp_path_factory.mktemp("world") / "drives"
    said = _generate("--seed", 0, 1, "--sweeps", 2, "--every", 50, "--cameras", 0, out=folder)
    return Generated(folder, said)


def _generate(*words, out):
    from training.world import __main__ as world

    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert world.main([*map(str, words), "--out", str(out)]) == 0
    return said.getvalue()


@pytest.fixture(scope="session")
def sweep_of():
    """Makes (N, 3) points 8 to 12 m away, each on a beam of a LiDAR: x forward, y left."""

    def make(lidar, columns=64):
        azimuth = np.pi - (np.arange(columns) + 0.5) * (2 * np.pi / columns)
        elevation = np.radians(BEAM_TABLES[lidar])
        azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuth, elevation))
        flat = np.cos(elevation)
        rays = np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        return rays * (10 + 2 * np.cos(azimuth))[:, None]

    return make


@pytest.fixture
def write_kitti(tmp_path):
    """Writes SemanticKITTI sequences as they are published; returns the data set's folder."""

    def write(numbers, xyz, raw, sweeps=2, images=("image_2",)):
        for number in numbers:
            folder = tmp_path / "kitti" / "sequences" / f"{number:02d}"
            for name in ("velodyne", *(["labels"] if raw is not None else []), *images):
                (folder / name).mkdir(parents=True)
            (folder / "calib.txt").write_text(KITTI_CALIBRATION)
            # Camera 0 goes one metre ahead, its z, from sweep to sweep, and turns to the right, about its y.
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
        return tmp_path / "kitti"

    return write


@pytest.fixture
def write_nuscenes(tmp_path):
    """Writes a version of nuScenes with some scenes; returns the data set's folder."""

    def write(scenes, xyz, raw, version="v1.0-mini", samples=2):
        tables = _nuscenes_tables(scenes, version, samples)
        root = tmp_path / "nuscenes"
        (root / version).mkdir(parents=True)
        for name, rows in tables.items():
            (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
        points = np.column_stack([-xyz[:, 1], xyz[:, 0], xyz[:, 2], np.linspace(0, 255, len(xyz)), np.arange(len(xyz))])
        points[:, 4] %= 32
        buffer = io.BytesIO()
        Image.fromarray(_gradient(900, 1600)).save(buffer, "jpeg")
        files = {
            row["filename"]: points.astype("<f4").tobytes()
            for row in tables["sample_data"]
            if "LIDAR" in row["filename"]
        }
        files |= {row["filename"]: buffer.getvalue() for row in tables["sample_data"] if "CAM" in row["filename"]}
        if raw is not None:
            files |= {row["filename"]: np.asarray(raw, np.uint8).tobytes() for row in tables["lidarseg"]}
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write


KITTI_CALIBRATION = """P0: 50 0 32 0 0 50 24 0 0 0 1 0
P1: 50 0 32 -20 0 50 24 0 0 0 1 0
P2: 50 0 32 3 0 50 24 0 0 0 1 0
P3: 50 0 32 -17 0 50 24 0 0 0 1 0
Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""
"""Cameras look along the sensor's x; P2 sees from 6 cm to the left of camera 0."""

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
    """Key frames half a second apart, in which the vehicle goes a metre; cameras are triggered 40 ms earlier."""
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
        for k in reversed(range(samples)):  # rows are in no order
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


# --- short runs of everything that teaches, on two frames with labels and one without ---------------------------------


@pytest.fixture(scope="session")
def images(tmp_path_factory, pandaset):
    """The run of an image branch."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from training.config import ImageTrainingConfig
    from training.train_images import train_images

    source = f"[{{dataset: pandaset, path: '{pandaset}', frames: [0, 2]}}]"
    words = [f"data.train={source}", f"data.choose={source}", "optimizer.steps=1", "optimizer.epochs=2", "features=8"]
    words += ["optimizer.places=500", "optimizer.workers=0", "precision=32-true"]
    words += [f"run={tmp_path_factory.mktemp('runs') / 'images'}"]
    return train_images(ImageTrainingConfig.read(CONFIGS / "pandaset_images.yaml", words))


@pytest.fixture(scope="session")
def config(tmp_path_factory, pandaset):
    """Makes the settings of a run, ``teacher`` or ``distilled``; only the latter has the frame without labels."""
    from training.config import TrainingConfig

    folder, real = tmp_path_factory.mktemp("runs"), f"dataset: pandaset, path: '{pandaset}'"

    def make(name, kind, *overrides):
        without = "" if kind == "teacher" else f", {{{real}, frames: [41, 42], labels: none}}"
        words = [*TINY, f"data.train=[{{{real}, frames: [0, 2]}}{without}]"]
        words += [f"data.choose=[{{{real}, frames: [58, 59]}}]", f"run={folder / name}", *overrides]
        return TrainingConfig.read(CONFIGS / f"pandaset_{kind}.yaml", words)

    return make


@pytest.fixture(scope="session")
def teacher(images, config):
    """The run of a teacher."""
    from training.train import train

    return train(config("teacher", "teacher", f"teacher.image_branch={images}"))


@pytest.fixture(scope="session")
def taught(teacher, config):
    """The settings of a student that takes all that a teacher can give."""
    more = ["logits_weight=2", "lovasz_weight=1", "pseudo_share=0", "features_weight=1", "contrast_weight=0.1"]
    more = [f"distill.{change}" for change in (*more, "fuse_m=0.2")]
    return config("taught", "distilled", f"distill.teacher={teacher}", *more)


@pytest.fixture(scope="session")
def student(taught):
    """The run of that student."""
    from training.train import train

    return train(taught)
