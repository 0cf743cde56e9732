"""Damaged checkpoints, most of them found by ``python -m test.fuzz``, and checkpoints of older versions."""

import errno
import tracemalloc
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from test.guards import MemoryBomb  # noqa: E402
from training.modules.checkpoint import CHECKPOINT, read_checkpoint, read_run, read_steps  # noqa: E402
from training.predict.predictor import predictor_of  # noqa: E402
from training.runs.trainer import RestoreErrors, _CheckpointFiles  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402

SHIPPED = Path(__file__).parents[3] / "models" / "student"


@pytest.fixture
def stored():
    return torch.load(SHIPPED / CHECKPOINT, weights_only=True)


@pytest.fixture
def run(tmp_path):
    return tmp_path


def assert_rejected(run, stored, match="holds another network, or one of another version"):
    torch.save(stored, run / CHECKPOINT)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=match) as error:
            predictor_of(read_checkpoint(run))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert str(run) in str(error.value)


def first_weight(stored):
    return next(name for name, value in stored["state_dict"].items() if value.ndim == 4)


@pytest.mark.parametrize(
    "value",
    ["expanded", "meta", "sparse", "complex", "text", "none", "shape"],
)
def test_rejects_invalid_weights(run, stored, value):
    name = first_weight(stored)
    stored["state_dict"][name] = {
        "expanded": torch.zeros(1).expand(1 << 20, 1 << 20),
        "meta": torch.empty(3, 3, device="meta"),
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.zeros(3, 3, dtype=torch.complex64),
        "text": "no tensor",
        "none": None,
        "shape": torch.zeros(3, 3),
    }[value]
    assert_rejected(run, stored)


PARTS = ("hyper_parameters", "global_step", "state_dict", "inputs", "origins", "branch")
VALID = (("branch", None), ("global_step", 3), ("origins", []), ("origins", {}))
"""Without an image branch, after three steps, without origins."""


@pytest.mark.parametrize(
    ("part", "value"), [(p, v) for p in PARTS for v in (None, [], 3, "x", {}) if (p, v) not in VALID]
)
def test_rejects_parts_of_another_type(run, stored, part, value):
    stored[part] = value
    assert_rejected(run, stored)


def test_rejects_origins_that_are_not_text(run, stored):
    stored["origins"] = [{"name": 1, "license": 2, "attribution": 3}]
    assert_rejected(run, stored)


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
def test_rejects_settings_that_do_not_match_the_weights(run, stored, section, name, value):
    stored["hyper_parameters"]["config"][section][name] = value
    assert_rejected(run, stored)


def test_rejects_unknown_module_arguments(run, stored):
    stored["hyper_parameters"]["unknown"] = 1
    assert_rejected(run, stored)


def test_rejects_an_image_branch_of_another_size(run, stored):
    stored["branch"] = {"features": 10**12, "weights": {"classify.weight": torch.zeros(13, 8)}}
    assert_rejected(run, stored)


def test_rejects_a_checkpoint_that_allocates_more_than_its_size(run, stored):
    stored["global_step"] = MemoryBomb()
    assert_rejected(run, stored, "cannot read checkpoint")


def test_rejects_an_archive_with_inflated_sizes(run, stored):
    torch.save(stored, run / CHECKPOINT)
    data = bytearray((run / CHECKPOINT).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = (0x70000000).to_bytes(4, "little") * 2
    (run / CHECKPOINT).write_bytes(data)
    with pytest.raises(ConfigError, match="cannot read checkpoint"):
        read_steps(run)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; give this user read permission"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; check its disk"),
        (MemoryError(), "out of memory; stop other programs, or use a machine with more memory"),
    ],
)
def test_read_errors_do_not_advise_to_remove_the_run(run, stored, monkeypatch, error, message):
    torch.save(stored, run / CHECKPOINT)

    def fail(path):
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    for read in (read_checkpoint, read_steps, read_run):
        with pytest.raises(ConfigError) as refusal:
            read(run)
        assert str(refusal.value) == f"cannot read {run / CHECKPOINT}: {message}"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (ImportError("no module named x"), "no module named x; install or update that library"),
    ],
)
@pytest.mark.parametrize("where", ["torch.load", "training.modules.checkpoint.InputSpec.from_dict"])
def test_errors_of_the_machine_do_not_blame_the_checkpoint(run, stored, monkeypatch, error, message, where):
    torch.save(stored, run / CHECKPOINT)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(ConfigError, match=f"cannot read {run / CHECKPOINT}: {message}"):
        read_checkpoint(run)


def test_reports_disk_errors(run):
    """Reading the beginning of this process's memory is an input error."""
    (run / CHECKPOINT).symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match=r"last\.ckpt: Input/output error; check its disk"):
        read_steps(run)


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "no\0file"])
def test_reports_a_missing_run(run, name):
    (run / "folder" / CHECKPOINT).mkdir(parents=True)
    for place in (run / name, run / "folder"):
        with pytest.raises(ConfigError, match=r"holds no last\.ckpt: name a run, or train one"):
            read_steps(place)


def test_advice_for_a_damaged_checkpoint_depends_on_the_folder(run):
    (run / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=f"cannot read checkpoint {run / CHECKPOINT}; remove {run} and train again"):
        read_checkpoint(run)
    (run / "model.json").touch()
    with pytest.raises(ConfigError, match=f"cannot read checkpoint {run / CHECKPOINT}; fetch or export {run} again"):
        read_checkpoint(run)


@pytest.mark.parametrize("steps", ["x", -1, 1.5, float("inf"), 10**30, True, [1]])
def test_rejects_invalid_step_counts(run, stored, steps):
    stored["global_step"] = steps
    torch.save(stored, run / CHECKPOINT)
    for read in (read_steps, read_run):
        with pytest.raises(ConfigError, match="holds another network"):
            read(run)


def test_rejects_run_lengths_that_are_text(run, stored):
    stored["hyper_parameters"]["config"]["optimizer"] |= {"epochs": "x" * 1000, "steps": 10**10}
    torch.save(stored, run / CHECKPOINT)
    with pytest.raises(ConfigError, match="holds another network"):
        read_run(run).check_finished("start")


def test_reads_the_shipped_student(run, stored):
    torch.save(stored, run / CHECKPOINT)
    assert predictor_of(read_checkpoint(run)).inputs.projection.width == 1024
    assert read_steps(run) > 100 and read_run(run).origins[0].name and read_run(run).weights


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_reads_checkpoints_with_old_layer_names(name, run):
    folder = SHIPPED.parent / name
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    renamed = {"teacher.image_proj.": "teacher.look.", "teacher.fusion.": "teacher.join."}
    renamed |= {"teacher.image_head.": "teacher.by_sight.", "head.pixel_proj.": "head.table."}
    renamed |= {"head.offset_proj.": "head.difference."}
    old = {}
    for key, weight in content["state_dict"].items():
        old_key = key
        for new, before in renamed.items():
            old_key = old_key.replace(new, before)
        old[old_key] = weight
    assert old.keys() != content["state_dict"].keys()
    torch.save({**content, "state_dict": old}, run / CHECKPOINT)
    weights, expected = (predictor_of(read_checkpoint(path)).module.state_dict() for path in (run, folder))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_run_of_an_older_version_can_be_resumed(run):
    """Lightning restores the averaged and the current weights, both with the old layer names."""
    weights = {"teacher.by_sight.weight": torch.ones(2, 2), "distillation.translate.bias": torch.ones(2)}
    torch.save({"state_dict": weights, "current_model_state": weights}, run / CHECKPOINT)
    restored = _CheckpointFiles().load_checkpoint(run / CHECKPOINT)
    names = ["teacher.image_head.weight", "distillation.feature_proj.bias"]
    assert [*restored["state_dict"]] == [*restored["current_model_state"]] == names


def test_restore_errors_name_the_checkpoint(run):
    """A damaged optimizer state shows only in the first step."""
    restore_errors, checkpoint = RestoreErrors(), run / CHECKPOINT
    restore_errors.setup(None, None, "fit")
    with (
        pytest.raises(ConfigError, match=r"cannot resume from .*last\.ckpt: KeyError\('x'\); remove .* and train"),
        restore_errors.named(checkpoint),
    ):
        raise KeyError("x")
    for error in (MemoryError(), OSError(), ConfigError("a clear message")):
        with pytest.raises(type(error)), restore_errors.named(checkpoint):
            raise error
    restore_errors.on_train_batch_end()
    with pytest.raises(KeyError), restore_errors.named(checkpoint):
        raise KeyError("an error of a later step")
