"""Training in two processes, as on two devices or two machines."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from training.config.training import TrainingConfig  # noqa: E402
from training.train import train  # noqa: E402

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config" / "training" / "pandaset_student.yaml"


def losses(run):
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return [event.value for event in events.Scalars("train/loss")]


def scores(run):
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("val0")}


@pytest.fixture
def settings(drives, generated, tmp_path):
    """Overrides for a run of four steps of two sweeps."""

    def make(name, *more):
        return [
            *("model.widths=[8, 8, 8, 8, 8]", "model.blocks=[0, 0, 0, 0]", "model.head_channels=8", "model.width=256"),
            *("model.beams=Pandar64", "optimizer.crop_columns=256", "optimizer.points=2000"),
            *("optimizer.steps=1", "optimizer.epochs=4", "precision=32-true"),
            f"data.train=[{{dataset: world, path: '{drives.folder}'}}]",
            f"data.validation=[{{dataset: world, path: '{generated.folder}'}}]",
            *more,
            f"run={tmp_path / name}",
        ]

    return make


@pytest.fixture
def train_alone(settings):
    """Trains in this process."""
    return lambda name, *more: train(TrainingConfig.read(CONFIG, settings(name, *more)))


@pytest.fixture
def train_together(settings, tmp_path):
    """Trains in programs of their own, which Lightning starts again for each device."""

    def run(name, *more, launchers=((sys.executable,),)):
        command = ["-m", "training.train", str(CONFIG), *settings(name, *more)]
        started = [
            subprocess.Popen(
                [*launcher, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for launcher in launchers
        ]
        output = [process.communicate(timeout=300)[0] for process in started]
        assert [process.returncode for process in started] == [0] * len(started), output
        return tmp_path / name

    return run


def two_machines():
    """Commands that start the training on each of two machines, both simulated on this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
    return [(*torchrun, f"--node-rank={k}", "--master-addr=127.0.0.1", f"--master-port={port}") for k in (0, 1)]


def test_two_processes_train_like_one_with_the_same_sweeps(train_alone, train_together):
    one, two = train_alone("one", "optimizer.batch=2"), train_together("two", "optimizer.batch=1", "devices=2")
    assert len(losses(one)) == len(losses(two)) == 4
    # Not exactly equal: each process normalises its own batch, and averages over its own points.
    assert losses(two) == pytest.approx(losses(one), rel=0.1)
    assert losses(two)[-1] < losses(two)[0]


def test_two_machines_score_each_sweep_once(train_alone, train_together):
    """With constant weights, one process and two processes on two machines get the same scores."""
    constant = ("optimizer.learning_rate=1e-12", "optimizer.ema_decay=0")
    one = train_alone("one", "optimizer.batch=2", *constant)
    options = ("optimizer.batch=1", "devices=1", "nodes=2", *constant)
    two = train_together("two", *options, launchers=two_machines())
    assert scores(two) == pytest.approx(scores(one), abs=0.02)
