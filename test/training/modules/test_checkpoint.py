"""Checkpoints that hold something else than a run would leave. Found by ``python -m test.fuzz``."""

import errno
import tracemalloc
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from test.guards import MemoryBomb  # noqa: E402
from training.modules.checkpoint import (  # noqa: E402
    CHECKPOINT,
    read_checkpoint,
    read_run,
    read_steps,
)
from training.predict.predictor import predictor_of  # noqa: E402
from training.runs.trainer import RestoreErrors  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402

SHIPPED = Path(__file__).parents[3] / "models" / "student"


@pytest.fixture
def held():
    return torch.load(SHIPPED / CHECKPOINT, weights_only=True)


@pytest.fixture
def run(tmp_path):
    return tmp_path


def refused(run, held, match="holds another network, or one of another version"):
    torch.save(held, run / CHECKPOINT)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=match) as error:
            predictor_of(read_checkpoint(run))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert str(run) in str(error.value)


def first_weight(held):
    return next(name for name, value in held["state_dict"].items() if value.ndim == 4)


@pytest.mark.parametrize(
    "value",
    ["expanded", "meta", "sparse", "complex", "text", "none", "shape"],
)
def test_weights_that_are_none(run, held, value):
    name = first_weight(held)
    held["state_dict"][name] = {
        "expanded": torch.zeros(1).expand(1 << 20, 1 << 20),
        "meta": torch.empty(3, 3, device="meta"),
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.zeros(3, 3, dtype=torch.complex64),
        "text": "no tensor",
        "none": None,
        "shape": torch.zeros(3, 3),
    }[value]
    refused(run, held)


PARTS = ("hyper_parameters", "global_step", "state_dict", "inputs", "origins", "branch")
MAY_BE = (("branch", None), ("global_step", 3), ("origins", []), ("origins", {}))
"""No image branch, three steps, no origins."""


@pytest.mark.parametrize(
    ("part", "value"), [(p, v) for p in PARTS for v in (None, [], 3, "x", {}) if (p, v) not in MAY_BE]
)
def test_parts_that_are_something_else(run, held, part, value):
    held[part] = value
    refused(run, held)


def test_origins_that_are_no_texts(run, held):
    held["origins"] = [{"name": 1, "license": 2, "attribution": 3}]
    refused(run, held)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "widths", [2**30] * 5),
        ("model", "widths", [4096] * 5),
        ("model", "blocks", [10**9] * 4),
        ("model", "head_channels", 10**9),
        ("model", "max_points", 10**12),
        ("model", "channels", ["z"]),
        ("optimizer", "epochs", float("nan")),
    ],
)
def test_settings_of_a_network_that_is_not_the_weights(run, held, section, name, value):
    held["hyper_parameters"]["config"][section][name] = value
    refused(run, held)


def test_arguments_that_no_network_takes(run, held):
    held["hyper_parameters"]["unknown"] = 1
    refused(run, held)


def test_an_image_branch_of_another_size(run, held):
    held["branch"] = {"features": 10**12, "weights": {"classify.weight": torch.zeros(13, 8)}}
    refused(run, held)


def test_a_checkpoint_takes_no_more_room_than_it_fills(run, held):
    held["global_step"] = MemoryBomb()
    refused(run, held, "cannot read checkpoint")


def test_a_file_that_says_it_is_larger_than_it_is(run, held):
    torch.save(held, run / CHECKPOINT)
    data = bytearray((run / CHECKPOINT).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = (0x70000000).to_bytes(4, "little") * 2
    (run / CHECKPOINT).write_bytes(data)
    with pytest.raises(ConfigError, match="cannot read checkpoint"):
        read_steps(run)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; give this user read permission"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; check its disk"),
        (MemoryError(), "out of memory; stop other programs, or use a machine with more memory"),
    ],
)
def test_a_checkpoint_that_may_be_whole_is_not_to_be_removed(run, held, monkeypatch, error, said):
    torch.save(held, run / CHECKPOINT)

    def fail(path):
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    for read in (read_checkpoint, read_steps, read_run):
        with pytest.raises(ConfigError) as refusal:
            read(run)
        assert str(refusal.value) == f"cannot read {run / CHECKPOINT}: {said}"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (ImportError("no module named x"), "no module named x; install or update that library"),
    ],
)
@pytest.mark.parametrize("where", ["torch.load", "training.modules.checkpoint.InputSpec.from_dict"])
def test_nor_is_it_to_blame_for_what_the_machine_lacks(run, held, monkeypatch, error, said, where):
    torch.save(held, run / CHECKPOINT)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(ConfigError, match=f"cannot read {run / CHECKPOINT}: {said}"):
        read_checkpoint(run)


def test_a_disk_that_fails_is_said(run):
    """The memory of this process has nothing at its beginning, and reading there is an error of input."""
    (run / CHECKPOINT).symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match=r"last\.ckpt: Input/output error; check its disk"):
        read_steps(run)


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "no\0file"])
def test_a_run_that_is_not_there_is_said(run, name):
    (run / "folder" / CHECKPOINT).mkdir(parents=True)
    for place in (run / name, run / "folder"):
        with pytest.raises(ConfigError, match=r"holds no last\.ckpt: name a run, or train one"):
            read_steps(place)


def test_a_model_folder_is_not_to_be_removed(run):
    (run / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=f"cannot read checkpoint {run / CHECKPOINT}; remove {run} and train again"):
        read_checkpoint(run)
    (run / "model.json").touch()
    with pytest.raises(ConfigError, match=f"cannot read checkpoint {run / CHECKPOINT}; fetch or export {run} again"):
        read_checkpoint(run)


@pytest.mark.parametrize("steps", ["x", -1, 1.5, float("inf"), 10**30, True, [1]])
def test_steps_that_nobody_counted(run, held, steps):
    held["global_step"] = steps
    torch.save(held, run / CHECKPOINT)
    for read in (read_steps, read_run):
        with pytest.raises(ConfigError, match="holds another network"):
            read(run)


def test_lengths_that_are_texts_are_not_multiplied(run, held):
    held["hyper_parameters"]["config"]["optimizer"] |= {"epochs": "x" * 1000, "steps": 10**10}
    torch.save(held, run / CHECKPOINT)
    with pytest.raises(ConfigError, match="holds another network"):
        read_run(run).check_finished("start")


def test_what_is_shipped_is_taken(run, held):
    torch.save(held, run / CHECKPOINT)
    assert predictor_of(read_checkpoint(run)).inputs.projection.width == 1024
    assert read_steps(run) > 100 and read_run(run).origins[0].name and read_run(run).weights


def test_a_run_that_cannot_go_on_names_its_checkpoint(run):
    """The state of optimizer and averages, which PyTorch Lightning takes as it is, shows only in the first step."""
    restoring, checkpoint = RestoreErrors(), run / CHECKPOINT
    restoring.setup(None, None, "fit")
    with (
        pytest.raises(ConfigError, match=r"cannot go on from .*last\.ckpt: KeyError\('x'\); remove .* and train again"),
        restoring.named(checkpoint),
    ):
        raise KeyError("x")
    for error in (MemoryError(), OSError(), ConfigError("said already")):
        with pytest.raises(type(error)), restoring.named(checkpoint):
            raise error
    restoring.on_train_batch_end()
    with pytest.raises(KeyError), restoring.named(checkpoint):
        raise KeyError("a later step is not the checkpoint's")
