"""``python -m test.resilience`` reports the outcome of each test and fails if one failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_killed_node():
    pass

@pytest.mark.parametrize("disk", ["empty", "full|odd"])
def test_a_disk(disk):
    if disk != "empty":
        pytest.skip("this machine allows no namespaces")
"""
FAILING = "def test_that_labels_come_back():\n    assert 1 == 2, 'no labels came'\n"
FAILING_TEARDOWN = """
import pytest

@pytest.fixture
def node():
    yield
    raise RuntimeError("it did not end")

def test_an_end(node):
    pass
"""
SKIPPED = "import pytest\npytest.importorskip('not_installed', reason='needs what is not installed')\n"


@pytest.fixture
def run_command(tmp_path):
    """Runs the command on test files in separate folders; returns the finished process and the output folder."""

    def run(addopts="", **files):
        out, folders = tmp_path / "out", [tmp_path / "tests" / name for name in files]
        for folder, (name, text) in zip(folders, files.items(), strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "conftest.py").touch()
            (folder / f"test_{name}.py").write_text(text)
        words = [sys.executable, "-m", "test.resilience", "--tests", *map(str, folders), "--out", str(out)]
        env = {**os.environ, "COLUMNS": "100", "PYTEST_ADDOPTS": addopts}
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=env)
        return done, out

    return run


def outcomes(out):
    rows = json.loads((out / "metrics.json").read_text())["tests"]
    return {row["what"] + row["case"]: (row["outcome"], row["why"]) for row in rows}


def test_reports_passed_and_skipped_tests(run_command):
    done, out = run_command(good=TESTS, absent=SKIPPED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"2 passed, 0 failed, 2 skipped | report {out}/resilience.md"
    assert outcomes(out) == {
        "all of it": ("skipped", "needs what is not installed"),
        "killed node": ("passed", ""),
        "a diskempty": ("passed", ""),
        "a diskfull|odd": ("skipped", "this machine allows no namespaces"),
    }
    page = (out / "resilience.md").read_text()
    assert "| killed node | test_good.py | 1 passed | 0.0 |  |" in page
    why = "full/odd: this machine allows no namespaces"
    assert f"| a disk | test_good.py | 1 skipped, 1 passed | 0.0 | {why} |" in page
    assert "2 passed, 0 failed, 2 skipped in " in page and (out / "resilience.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        (FAILING, "that labels come back", "AssertionError: no labels came"),
        (FAILING_TEARDOWN, "an end", "RuntimeError: it did not end"),
    ],
)
def test_failed_tests_fail_command(run_command, text, what, why):
    done, out = run_command(good=TESTS, bad=text)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: 2 passed, 1 failed, 1 skipped | report {out}/resilience.md"
    assert outcomes(out)[what] == ("failed", why)
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["passed"], metrics["failed"], metrics["skipped"]) == (2, 1, 1)


@pytest.mark.parametrize("text", ["import not_there\n", "nothing = 'no test'\n"])
def test_collection_errors_fail_and_keep_previous_report(run_command, text):
    assert run_command(good=TESTS)[0].returncode == 0
    done, out = run_command(good=text)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the tests could not be run (")
    assert "killed node" in outcomes(out)


@pytest.mark.parametrize(
    ("addopts", "summary"),
    [
        ("-x", "0 passed, 1 failed, 0 skipped, 3 not run"),
        ("--collect-only", "0 passed, 0 failed, 0 skipped, 4 not run"),
        ("--setup-only", "0 passed, 0 failed, 0 skipped, 4 not run"),
    ],
)
def test_tests_not_run_fail_command(run_command, addopts, summary):
    done, out = run_command(addopts, a_bad=FAILING, good=TESTS)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {summary} | report {out}/resilience.md"
    assert outcomes(out)["killed node"] == ("not run", "")
    assert "| a disk | test_good.py | 2 not run | 0.0 |  |" in (out / "resilience.md").read_text()
    assert json.loads((out / "metrics.json").read_text())["not_run"] == int(summary.split()[-3])


def test_only_skipped_tests_fail_command(run_command):
    done, out = run_command(bad="import pytest\n\n\ndef test_it():\n    pytest.skip('no disk')\n")
    assert done.returncode == 1
    summary = "all tests were skipped: 0 passed, 0 failed, 1 skipped"
    assert done.stderr.splitlines()[-1] == f"error: {summary} | report {out}/resilience.md"
    assert outcomes(out) == {"it": ("skipped", "no disk")}
