"""Shared fixtures: generated drives, small benchmark folders and short training runs."""

import contextlib
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from test.training import folders
from training.worldgen.sensing.products import BEAM_TABLES

CONFIGS = Path(__file__).parents[2] / "config" / "training"
TINY = [
    "model.widths=[8, 8, 16, 16, 16]",
    "model.blocks=[0, 0, 0, 0]",
    "model.head_channels=8",
    "model.width=512",
    "optimizer.crop_columns=256",
    "optimizer.points=2000",
    "optimizer.steps=2",
    "optimizer.epochs=2",
    # Makes the steps after an interruption visible in the averaged weights.
    "optimizer.ema_decay=0.5",
    "optimizer.learning_rate=0.02",
    "precision=32-true",
    "start=''",
]
"""Overrides that turn a shipped configuration into a run of seconds."""


@pytest.fixture(scope="session")
def tiny():
    """The overrides of a run of seconds."""
    return TINY


pytest.importorskip("embreex", reason="generating drives needs the extra datasets")


@pytest.fixture(scope="session", autouse=True)
def few_sweeps_in_statistics():
    """Exports compute the statistics of few training sweeps."""
    from training.deploy import statistics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_SWEEPS", 4)
        yield


@dataclass(frozen=True)
class Generated:
    """Output of ``python -m training.world``.

    Attributes:
        folder: folder of the drive, or of the drives.
        said: printed output of the command.
        bag: the drive's bag.
        drive: arguments of the drive.
    """

    folder: Path
    said: str
    bag: Path | None = None
    drive: dict[str, int | str] | None = None


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A validation drive with two coarse sweeps and six cameras: folder and bag. Read only."""
    place = tmp_path_factory.mktemp("world")
    drive = {"seed": 18, "sweeps": 2, "cameras": 6, "columns": 300, "lidar": "VLP-32C"}
    folder, bag = place / "drive", place / "drive.mcap"
    options = [word for name, value in drive.items() for word in (f"--{name}", value)]
    return Generated(folder, _generate(*options, "--bag", bag, out=folder), bag, drive)


@pytest.fixture(scope="session")
def drives(tmp_path_factory):
    """A folder of two training drives, seeds 0 and 1: two sweeps each, five seconds apart."""
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
    """Creates (N, 3) points at 8 to 12 m, each on a beam of a LiDAR: x forward, y left."""

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
    """Writes SemanticKITTI sequences in the published layout; returns the data set's folder."""
    return partial(folders.write_kitti, tmp_path / "kitti")


@pytest.fixture
def write_nuscenes(tmp_path):
    """Writes a version of nuScenes with a few scenes; returns the data set's folder."""
    return partial(folders.write_nuscenes, tmp_path / "nuscenes")


# --- short runs of image branch, teacher and student, on two labelled frames and one unlabelled ---


@pytest.fixture(scope="session")
def images(tmp_path_factory, pandaset):
    """The run of an image branch."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from training.config.image_training import ImageTrainingConfig
    from training.train_images import train_images

    words = [
        f"data.{use}=[{{dataset: pandaset, path: '{pandaset}', frames: [0, {end}]}}]"
        for use, end in (("train", 2), ("validation", 1))
    ]
    words += ["optimizer.steps=1", "optimizer.epochs=2", "features=8"]
    words += ["optimizer.places=500", "optimizer.workers=0", "precision=32-true"]
    words += [f"run={tmp_path_factory.mktemp('runs') / 'images'}"]
    return train_images(ImageTrainingConfig.read(CONFIGS / "pandaset_images.yaml", words))


@pytest.fixture(scope="session")
def config(tmp_path_factory, pandaset):
    """Creates the configuration of a run, ``teacher`` or ``distilled``; the latter has an unlabelled frame."""
    from training.config.training import TrainingConfig

    folder, real = tmp_path_factory.mktemp("runs"), f"dataset: pandaset, path: '{pandaset}'"

    def make(name, kind, *overrides):
        without = "" if kind == "teacher" else f", {{{real}, frames: [41, 42], labels: none}}"
        words = [*TINY, f"data.train=[{{{real}, frames: [0, 2]}}{without}]"]
        words += [f"data.validation=[{{{real}, frames: [58, 59]}}]", f"run={folder / name}", *overrides]
        return TrainingConfig.read(CONFIGS / f"pandaset_{kind}.yaml", words)

    return make


@pytest.fixture(scope="session")
def teacher(images, config):
    """The run of a teacher."""
    from training.train import train

    return train(config("teacher", "teacher", f"teacher.image_branch={images}"))


@pytest.fixture(scope="session")
def student_config(teacher, config):
    """The settings of a student with all distillation losses."""
    more = ["logits_weight=2", "lovasz_weight=1", "pseudo_share=0", "features_weight=1", "contrast_weight=0.1"]
    more = [f"distill.{change}" for change in (*more, "fuse_m=0.2")]
    return config("taught", "distilled", f"distill.teacher={teacher}", *more)


@pytest.fixture(scope="session")
def student(student_config):
    """The run of that student."""
    from training.train import train

    return train(student_config)
