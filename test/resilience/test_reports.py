"""Reports on a full disk: one line, exit code 1, and the previous report is unchanged."""

import json

import pytest

COMMAND, FUZZ, ROBUSTNESS = "xmodelkd_ros.tools.cli", "test.fuzz", "training.robustness"


@pytest.fixture
def older_report(machine, tmp_path):
    """Creates a previous report on a nearly full disk; returns its folder and a function that reads its files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    machine.small_disk(disk, 1_000_000)
    out = disk / "report"
    machine.path(out).mkdir()

    def contents():
        files = machine.path(out).rglob("*")
        return {str(path.relative_to(machine.path(out))): path.read_text() for path in files if path.is_file()}

    def write(names, room):
        for name in names:
            path = machine.path(out / name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"an older {name}")
        machine.fill(disk)
        ballast = machine.path(disk / ".ballast")
        with ballast.open("r+b") as file:
            file.truncate(ballast.stat().st_size - room)
        return out, contents

    return write


def assert_one_line_error(program, out):
    assert program.end() == 1, program.output_text
    assert "Traceback" not in program.output_text, program.output_text
    last = program.lines[-1]
    assert last.startswith("error: cannot write ") and str(out) in last and "No space left on device" in last, last


def test_fuzz_report_on_full_disk_keeps_previous(start, machine, older_report):
    out, contents = older_report(("fuzz.md", "metrics.json", "broken/clouds-0-7.txt"), 0)
    before = contents()
    assert_one_line_error(start(FUZZ, "--targets", "engines", "--inputs", "20", "--out", out, machine=machine), out)
    assert contents() == before


def test_robustness_plots_on_full_disk_keep_previous_and_measurements(
    start, machine, older_report, drive, height_model, tmp_path
):
    """Measurements take an hour: they are kept, and a second run draws the plots."""
    pytest.importorskip("embreex")
    pytest.importorskip("torch")
    out, contents = older_report(("robustness.md", "relative_short.png", "reliability_short.png"), 16_384)
    before = contents()
    words = [f"sources=[{{name: short, label_set: drive13, source: {{dataset: bag, path: {drive}}}}}]"]
    words += ["--models", height_model, "--corruptions", "crosstalk", "--every", "5", "--out", out]
    assert_one_line_error(start(ROBUSTNESS, *words, machine=machine), out)
    after = contents()
    measured = json.loads(after.pop("metrics.json"))
    assert after == before
    assert measured["sources"]["short"]["models"]["height"]["sweeps"] == 2
    machine.run('rm "$1"', out.parent / ".ballast")
    again = start(ROBUSTNESS, *words, machine=machine)
    assert again.end() == 0, again.output_text
    assert json.loads(machine.path(out / "metrics.json").read_text()) == measured
    assert all((machine.path(out / name)).read_bytes() != text.encode() for name, text in before.items())


@pytest.mark.parametrize("room", [0, 65_536], ids=["none", "little"])
@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("load --points 3000 --seconds 1 --scenarios rate_10", ("load.md", "metrics.json")),
        ("endurance --points 3000 --sweeps 100", ("endurance.md", "endurance.png", "metrics.json")),
    ],
    ids=["load", "endurance"],
)
def test_load_and_endurance_on_full_disk_keep_previous_report(
    start, machine, older_report, height_model, command, names, room
):
    out, contents = older_report(names, room)
    before = contents()
    name, *words = command.split()
    program = start(COMMAND, name, "--model", height_model, *words, "--out", out, machine=machine)
    assert_one_line_error(program, out)
    after = {path: text for path, text in contents().items() if not path.startswith("logs/")}
    assert after == before
