"""``python -m test.resilience`` says of each test what became of it, and fails where one failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_a_node_that_is_killed():
    pass

@pytest.mark.parametrize("disk", ["empty", "full|odd"])
def test_a_disk(disk):
    if disk != "empty":
        pytest.skip("this machine allows no namespaces")
"""
FAILING = "def test_that_labels_come_back():\n    assert 1 == 2, 'no labels came'\n"
BROKEN_AT_ITS_END = """
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
def life(tmp_path):
    """Runs the command on test files, each in a folder with a conftest of its own; gives its end and its folder."""

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


def test_what_passed_and_what_was_skipped_is_told(life):
    done, out = life(good=TESTS, absent=SKIPPED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"2 passed, 0 failed, 2 skipped | report {out}/life.md"
    assert outcomes(out) == {
        "all of it": ("skipped", "needs what is not installed"),
        "a node that is killed": ("passed", ""),
        "a diskempty": ("passed", ""),
        "a diskfull|odd": ("skipped", "this machine allows no namespaces"),
    }
    page = (out / "life.md").read_text()
    assert "| a node that is killed | test_good.py | 1 passed | 0.0 |  |" in page
    why = "full/odd: this machine allows no namespaces"
    assert f"| a disk | test_good.py | 1 skipped, 1 passed | 0.0 | {why} |" in page
    assert "2 passed, 0 failed, 2 skipped in " in page and (out / "life.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        (FAILING, "that labels come back", "AssertionError: no labels came"),
        (BROKEN_AT_ITS_END, "an end", "RuntimeError: it did not end"),
    ],
)
def test_what_failed_fails_the_command(life, text, what, why):
    done, out = life(good=TESTS, bad=text)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: 2 passed, 1 failed, 1 skipped | report {out}/life.md"
    assert outcomes(out)[what] == ("failed", why)
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["passed"], metrics["failed"], metrics["skipped"]) == (2, 1, 1)


@pytest.mark.parametrize("text", ["import not_there\n", "nothing = 'no test'\n"])
def test_tests_that_cannot_be_run_are_no_success_and_leave_the_last_report(life, text):
    assert life(good=TESTS)[0].returncode == 0
    done, out = life(good=text)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the tests could not be run (")
    assert "a node that is killed" in outcomes(out)


@pytest.mark.parametrize(
    ("addopts", "said"),
    [
        ("-x", "0 passed, 1 failed, 0 skipped, 3 not run"),
        ("--collect-only", "0 passed, 0 failed, 0 skipped, 4 not run"),
        ("--setup-only", "0 passed, 0 failed, 0 skipped, 4 not run"),
    ],
)
def test_tests_that_never_ran_have_not_passed(life, addopts, said):
    done, out = life(addopts, a_bad=FAILING, good=TESTS)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {said} | report {out}/life.md"
    assert outcomes(out)["a node that is killed"] == ("not run", "")
    assert "| a disk | test_good.py | 2 not run | 0.0 |  |" in (out / "life.md").read_text()
    assert json.loads((out / "metrics.json").read_text())["not_run"] == int(said.split()[-3])


def test_a_run_in_which_everything_is_skipped_says_nothing_and_fails(life):
    done, out = life(bad="import pytest\n\n\ndef test_it():\n    pytest.skip('no disk')\n")
    assert done.returncode == 1
    said = "every test was skipped, so nothing is known: 0 passed, 0 failed, 1 skipped"
    assert done.stderr.splitlines()[-1] == f"error: {said} | report {out}/life.md"
    assert outcomes(out) == {"it": ("skipped", "no disk")}
