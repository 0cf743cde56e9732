"""Training in two processes, as on two devices or two machines."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config" / "training" / "pandaset_student.yaml"


def losses(run):
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return [event.value for event in events.Scalars("train/loss")]


def scores(run):
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("val0")}


@pytest.fixture
def train(drives, generated, tmp_path):
    """Trains for four steps of two sweeps in a program of its own, as Lightning starts that again for each device."""
    words = [
        "model.widths=[8, 8, 8, 8, 8]",
        "model.blocks=[0, 0, 0, 0]",
        "model.head_channels=8",
        "model.width=256",
        "model.beams=Pandar64",
    ]
    words += ["optimizer.crop_columns=256", "optimizer.points=2000", "optimizer.steps=1", "optimizer.epochs=4"]
    words += [f"data.train=[{{dataset: world, path: '{drives.folder}'}}]", "precision=32-true"]
    words += [f"data.validation=[{{dataset: world, path: '{generated.folder}'}}]"]

    def run(name, *more, launchers=((sys.executable,),)):
        command = ["-m", "training.train", str(CONFIG), *words, *more, f"run={tmp_path / name}"]
        started = [
            subprocess.Popen(
                [*launcher, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for launcher in launchers
        ]
        said = [process.communicate(timeout=300)[0] for process in started]
        assert [process.returncode for process in started] == [0] * len(started), said
        return tmp_path / name

    return run


def two_machines():
    """What starts the command on each of two machines, which are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
    return [(*torchrun, f"--node-rank={k}", "--master-addr=127.0.0.1", f"--master-port={port}") for k in (0, 1)]


def test_two_processes_learn_what_one_does_from_the_same_sweeps(train):
    one, two = train("one", "optimizer.batch=2"), train("two", "optimizer.batch=1", "devices=2")
    assert len(losses(one)) == len(losses(two)) == 4
    # Each process normalises its own batch, and averages over its own points.
    assert losses(two) == pytest.approx(losses(one), rel=0.1)
    assert losses(two)[-1] < losses(two)[0]


def test_two_machines_score_each_sweep_once(train):
    """Weights that do not move give the same scores, counted by one process or by one on each of two machines."""
    still = ("optimizer.learning_rate=1e-12", "optimizer.ema_decay=0")
    one = train("one", "optimizer.batch=2", *still)
    two = train("two", "optimizer.batch=1", "devices=1", "nodes=2", *still, launchers=two_machines())
    assert scores(two) == pytest.approx(scores(one), abs=0.02)
