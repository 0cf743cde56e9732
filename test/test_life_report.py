"""``python -m test.life`` says of each test what became of it, and fails where one failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = '''
import pytest

def test_a_node_that_is_killed():
    """The next one labels | again."""

@pytest.mark.parametrize("disk", ["full"])
def test_an_odd_disk(disk):
    pytest.skip("this machine allows no namespaces")
'''
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

    def run(**files):
        out, folders = tmp_path / "out", [tmp_path / "tests" / name for name in files]
        for folder, (name, text) in zip(folders, files.items(), strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "conftest.py").touch()
            (folder / f"test_{name}.py").write_text(text)
        words = [sys.executable, "-m", "test.life", "--tests", *map(str, folders), "--out", str(out)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
        return done, out

    return run


def outcomes(out):
    return {
        row["what"]: (row["outcome"], row["why"]) for row in json.loads((out / "metrics.json").read_text())["tests"]
    }


def test_what_passed_and_what_was_skipped_is_told(life):
    done, out = life(good=TESTS, absent=SKIPPED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"1 passed, 0 failed, 2 skipped | report {out}/life.md"
    assert outcomes(out) == {
        "all of it": ("skipped", "needs what is not installed"),
        "The next one labels | again.": ("passed", ""),
        "an odd disk [full]": ("skipped", "this machine allows no namespaces"),
    }
    page = (out / "life.md").read_text()
    assert "| The next one labels / again. | test_good.py | passed | 0.0 |  |" in page
    assert "1 passed, 0 failed, 2 skipped in " in page and (out / "life.png").read_bytes().startswith(b"\x89PNG")


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
    assert done.stderr.splitlines()[-1] == f"error: 1 passed, 1 failed, 1 skipped | report {out}/life.md"
    assert outcomes(out)[what] == ("failed", why)
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["passed"], metrics["failed"], metrics["skipped"]) == (1, 1, 1)


@pytest.mark.parametrize("text", ["import not_there\n", "nothing = 'no test'\n"])
def test_tests_that_cannot_be_run_are_no_success_and_leave_the_last_report(life, text):
    assert life(good=TESTS)[0].returncode == 0
    done, out = life(good=text)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the tests could not be run (")
    assert "The next one labels | again." in outcomes(out)
