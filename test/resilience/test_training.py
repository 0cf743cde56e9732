"""Training and export that are killed or run out of disk space: both can continue, without partial files."""

import shutil
import signal
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from training.config.training import TrainingConfig  # noqa: E402
from training.data.sources import load_source  # noqa: E402
from training.modules.checkpoint import CHECKPOINT, Checkpoint, RunState, read_checkpoint  # noqa: E402
from training.modules.point_modules import StudentModule  # noqa: E402
from training.runs.sweep_data import fit_inputs  # noqa: E402
from xmodelkd_ros.core.errors import ModelError  # noqa: E402
from xmodelkd_ros.resources import find_model  # noqa: E402
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline  # noqa: E402

CONFIG = Path(__file__).parents[2] / "config" / "training" / "labelled_student.yaml"
TRAIN, EXPORT = "training.train", "training.export"
EPOCHS, STEPS = 12, 2
SETTINGS = [
    "name=tiny",
    "model.widths=[8, 8, 16, 16, 16]",
    "model.blocks=[0, 0, 0, 0]",
    "model.head_channels=8",
    "model.separable=false",
    "model.width=512",
    "model.max_points=4096",
    "optimizer.crop_columns=256",
    "optimizer.points=2000",
    f"optimizer.epochs={EPOCHS}",
    f"optimizer.steps={STEPS}",
    "optimizer.workers=0",
    "precision=32-true",
    "start=''",
    "keep_start=0",
]


def settings(drive, run):
    """Settings of a short training run on a drive."""
    train, validation = (f"[{{dataset: bag, path: {drive}, frames: {frames}}}]" for frames in ("[0, 4]", "[4, 5]"))
    return [*SETTINGS, f"data.train={train}", f"data.validation={validation}", f"run={run}"]


def steps(run):
    """Number of steps in a run's checkpoint."""
    return torch.load(run / CHECKPOINT, weights_only=True)["global_step"]


def test_training_resumes_after_full_disk_and_kill(fork, drive, fork_server, wait_until, tmp_path):
    disk, machine = tmp_path / "disk", fork_server.machine
    disk.mkdir()
    machine.small_disk(disk, 450_000)  # room for one checkpoint of 300 kB
    words, run = [CONFIG, *settings(drive, disk / "run")], machine.path(disk / "run")
    stopped = fork(TRAIN, *words)
    assert stopped.end() == 1
    message = f"error: cannot write {disk}/run: No space left on device; make room, or choose another place"
    assert stopped.lines[-1] == message and "Traceback" not in stopped.output_text
    assert steps(run) == STEPS, "checkpoint of the first epoch"
    machine.run('mount -o remount,size=9000000 "$1"', disk)
    killed = fork(TRAIN, *words)
    wait_until(lambda: steps(run) > STEPS, "another epoch")
    killed.kill()
    assert killed.end() == -signal.SIGKILL
    assert STEPS < steps(run) < EPOCHS * STEPS, "killed before the end"
    again = fork(TRAIN, *words)
    assert again.end() == 0, again.output_text
    assert steps(run) == EPOCHS * STEPS


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(drive, tmp_path_factory):
    """A finished run with initial weights."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    config = TrainingConfig.read(CONFIG, settings(drive, folder))
    source = load_source(config.data.train[0], "train")
    arguments = {"config": config.to_dict(), "teacher_feature_dim": 0, "features": 0}
    weights = StudentModule(**arguments).state_dict()
    inputs, origins = fit_inputs(config, source), (source.origin,)
    state = RunState(folder / CHECKPOINT, config.to_dict(), EPOCHS * STEPS, weights, origins)
    Checkpoint(state, config, arguments, inputs, None).write(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_export_keeps_previous_model(fork, run, height_model, wait_until, tmp_path):
    model = tmp_path / "models" / "mine"
    shutil.copytree(height_model, model)
    killed = fork(EXPORT, run, model)
    wait_until(lambda: list(model.parent.glob(".mine-*/mine/model.onnx")), "the first network")
    killed.kill()
    assert killed.end() == -signal.SIGKILL
    assert contents(model) == contents(height_model)
    again = fork(EXPORT, run, model)
    assert again.end() == 0, again.output_text
    assert SegmentationPipeline.load(model, "onnxruntime", "int8").spec.name == "tiny"


def test_export_on_full_disk_keeps_previous_model(fork, run, height_model, fork_server, tmp_path):
    disk, machine = tmp_path / "disk", fork_server.machine
    disk.mkdir()
    machine.small_disk(disk, 50_000)  # the first network has 63 kB
    shutil.copytree(height_model, machine.path(disk / "model"))
    command = fork(EXPORT, run, disk / "model")
    assert command.end() == 1
    message = f"error: cannot write {disk}/model: No space left on device; make room, or choose another place"
    assert command.lines[-1] == message and "Traceback" not in command.output_text
    assert [path.name for path in machine.path(disk).iterdir()] == ["model"]
    assert contents(machine.path(disk / "model")) == contents(height_model)


def test_oversized_checkpoint_keeps_previous(run, tmp_path):
    """PyTorch itself would raise a RuntimeError and leave a partial file."""
    resource = pytest.importorskip("resource", reason="file size limits are of Unix")
    shutil.copytree(run, tmp_path / "run")
    checkpoint, limits = read_checkpoint(run), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.write(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "run") == contents(run)


REPLACE = """
import os, signal, sys
from pathlib import Path
from xmodelkd_ros.core import atomic_write
replace, done = os.replace, []

def replace_and_kill(*paths):
    replace(*paths)
    done.append(paths)
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_kill
with atomic_write.atomic_dir(Path(sys.argv[1])) as folder:
    (folder / "model.json").write_text("new")
"""


def test_export_killed_between_renames_can_be_repeated(start, tmp_path):
    """Between the renames neither model is in place, but both are kept."""
    (tmp_path / "replace.py").write_text(REPLACE)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("old")
    assert start(tmp_path / "replace.py", model, 1).end() == -signal.SIGKILL
    with pytest.raises(ModelError, match="no model"):
        find_model(str(model))
    kept = sorted(path.read_text() for path in tmp_path.glob(".model-*/*/model.json"))
    assert kept == ["new", "old"]
    assert start(tmp_path / "replace.py", model, 0).end() == 0
    assert find_model(str(model)) == model and (model / "model.json").read_text() == "new"
