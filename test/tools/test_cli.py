"""User errors of ``xmodelkd``: one line, exit code other than 0, no traceback."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmodelkd_ros.console import print_notes, run_command
from xmodelkd_ros.tools.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broken_model(height_model, tmp_path):
    """Makes a copy of the model with a changed model.json."""

    def make(change):
        folder = tmp_path / "model"
        shutil.copytree(height_model, folder)
        data = json.loads((folder / "model.json").read_text())
        change(data)
        (folder / "model.json").write_text(json.dumps(data))
        return folder

    return make


def fails(capsys, command, *arguments):
    """Run a command that must fail and return its error line."""
    assert main([command, *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    (line,) = (line for line in captured.err.splitlines() if not line.startswith("note: "))
    assert line.startswith("error: ")
    return line


@pytest.fixture(params=["evaluate", "replay"])
def on_bag(request, capsys, tmp_path):
    """Runs each of both commands on a bag and a model, and returns the error."""

    def run(bag, model, *options):
        return fails(capsys, request.param, bag, "--model", model, "--out", tmp_path / "out", *options)

    return run


def test_rejects_paths_that_are_no_bags(on_bag, height_model, tmp_path):
    assert "does not exist" in on_bag(tmp_path / "nowhere.mcap", height_model)
    (tmp_path / "text.mcap").write_text("not a bag")
    assert "cannot read bag" in on_bag(tmp_path / "text.mcap", height_model)
    (tmp_path / "folder").mkdir()
    assert "metadata.yaml" in on_bag(tmp_path / "folder", height_model)


def test_rejects_unknown_model(on_bag, drive, tmp_path):
    assert "training.export" in on_bag(drive.path, "no_such_model")
    assert "training.export" in on_bag(drive.path, tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["files"]["fp32"].update(sha256="0" * 64), "sha256"),
        (lambda d: d["projection"].update(width=64), "inputs"),
        (lambda d: d.update(schema=99), "schema"),
        (lambda d: d.pop("temperature"), "temperature"),
        (lambda d: d["labels"]["classes"].pop(), "outputs"),
    ],
)
def test_rejects_inconsistent_model_json(on_bag, drive, broken_model, change, named):
    assert named in on_bag(drive.path, broken_model(change))


def test_rejects_truncated_bag(on_bag, drive, height_model, tmp_path):
    file = next(drive.path.glob("*.mcap"))
    (tmp_path / "cut.mcap").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "cut.mcap" in on_bag(tmp_path / "cut.mcap", height_model)


def test_rejects_bag_without_clouds(on_bag, make_drive, height_model):
    assert "has no PointCloud2 topic" in on_bag(make_drive(topics=()), height_model)


def test_two_cloud_topics_need_a_choice(on_bag, make_drive, height_model):
    bag = make_drive(topics=("/front", "/rear"))
    assert "/front (2 sweeps), /rear (2 sweeps)" in on_bag(bag, height_model)
    assert "'/top'" in on_bag(bag, height_model, "--points-topic", "/top")


def test_rejects_unknown_label_set(on_bag, drive, height_model):
    assert "no label set 'pandas'" in on_bag(drive.path, height_model, "--label-set", "pandas")


def test_rejects_unknown_backend(on_bag, drive, height_model):
    assert "backend 'cuda' is unknown" in on_bag(drive.path, height_model, "--backend", "cuda")


def test_rejects_cloud_without_required_fields(on_bag, make_drive, height_model):
    assert "has no field 'x'; it has a, y, z" in on_bag(make_drive(rename={"x": "a"}), height_model)


def test_clouds_without_intensity_are_labelled_on_request(on_bag, make_drive, height_model, tmp_path):
    dark = make_drive("dark", rename={"intensity": "brightness"})
    line = on_bag(dark, height_model)
    assert "no field intensity" in line and "give --missing-intensity fill" in line
    for command in ("evaluate", "replay"):
        out = tmp_path / command
        words = [command, str(dark), "--model", str(height_model), "--out", str(out), "--missing-intensity", "fill"]
        assert main(words) == 0
        assert json.loads((out / "metrics.json").read_text())["sweeps"] == {"input": 2, "output": 2}


def test_rejects_out_that_is_a_file(drive, height_model, tmp_path, capsys):
    (tmp_path / "file").touch()
    for command in ("evaluate", "replay"):
        line = fails(capsys, command, drive.path, "--model", height_model, "--out", tmp_path / "file")
        assert str(tmp_path / "file") in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "bag", "--model", "m", "--out", "o", "--rate", "0"], "0 is not a positive number"),
        (["replay", "bag", "--model", "m", "--out", "o", "--rate", "fast"], "--rate: fast is not a positive number"),
        (["benchmark", "--model", "m", "--out", "o", "--points", "-1"], "-1 is not a positive integer"),
        (["evaluate", "bag", "--out", "o"], "--model"),
        ([], "COMMAND"),
    ],
)
def test_rejects_invalid_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from xmodelkd_ros.tools import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print(sorted({'numpy', 'matplotlib', 'rosbags', 'onnxruntime'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for path in (ROOT / "xmodelkd_ros/tools/commands").glob("*.py"):
        assert path.stem in ("__init__", "arguments") or f"    {path.stem.replace('_', '-')}" in output
    assert output.splitlines()[-1] == "[]", "help must be fast"


def test_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "xmodelkd_ros.tools.cli", "fit-sensor", str(tmp_path / "nowhere")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: bag ")
    assert "Traceback" not in result.stderr


def test_fit_sensor_rejects_empty_clouds(make_drive, capsys, tmp_path):
    bag = make_drive(empty=True)
    assert "has no point to fit" in fails(capsys, "fit-sensor", bag, "--out", tmp_path / "s.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evaluate", "bag", "--modle", "x"],
            "xmodelkd evaluate: error: unrecognized option --modle; did you mean --model?",
        ),
        (["evaluate", "bag", "--modle=x", "--out", "y"], "option --modle; did you mean --model?"),
        (["replay", "bag", "--model", "x", "--point-topic", "y"], "did you mean --points-topic?"),
        (["doctor", "--models", "x"], "did you mean --model?"),
        (["doctor", "--gpu"], "unrecognized arguments: --gpu"),
    ],
)
def test_misspelt_options_are_reported_with_the_nearest(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_mode_is_no_abbreviation_of_model(drive, height_model, tmp_path, capsys):
    out = ["--model", str(height_model), "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(drive.path), *out, "--mode", "student"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["model"]["name"] == "height"
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(drive.path), *out, "--mode", "both"])
    assert end.value.code == 2
    assert "--mode" in capsys.readouterr().err
    assert "names a student, which takes no images; give --model teacher" in fails(
        capsys, "evaluate", drive.path, *out, "--mode", "teacher"
    )


def test_each_command_prints_a_note_once(capsys):
    def work():
        print_notes(["the bag is short", "it has no images"])
        print_notes(["it has no images", "it has no truth"])
        return "done"

    for _ in range(2):
        assert run_command(work) == 0
        assert capsys.readouterr().err == "note: the bag is short\nnote: it has no images\nnote: it has no truth\n"
