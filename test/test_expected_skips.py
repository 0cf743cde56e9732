"""A skip that nobody expects fails a run in CI, whoever runs the tests, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from test.expected_skips import expected
from test.resilience.machines import TRIALS

ROOT = Path(__file__).parents[1]
EXPECTED = """
import pytest

def test_it():
    pass

@pytest.mark.skip(reason="no GPU")
def test_marked():
    pass

def test_machine():
    pytest.skip("this machine allows no namespaces: unshare failed")

@pytest.mark.xfail(reason="known to fail")
def test_xfail():
    assert False
"""
IN_A_TEST = "import pytest\ndef test_them():\n    pytest.importorskip('not_there')\n"
A_WHOLE_FILE = "import pytest\npytest.importorskip('not_there', reason='not_there is gone')\ndef test_it(): pass\n"


@pytest.fixture
def run(tmp_path):
    """Runs a file of tests and one of good ones; gives the exit code and the lines that tell of an error."""

    def run(text, *options, **env):
        (tmp_path / "test_good.py").write_text(EXPECTED)
        (tmp_path / "test_more.py").write_text(text)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XMODELKD_CI"))}
        words = [sys.executable, "-m", "pytest", "-p", "test.expected_skips", "-p", "no:cacheprovider", *options]
        done = subprocess.run([*words, str(tmp_path)], cwd=ROOT, env=plain | env, capture_output=True, text=True)
        return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("error")]

    return run


SHARED = ["--numprocesses", "2", "--dist", "loadfile"]
SAID = "error: skipped for a reason that is not in test/expected_skips.py: "


@pytest.mark.parametrize("options", [[], SHARED], ids=["alone", "shared"])
def test_in_ci_an_unexpected_skip_fails_the_run_with_a_line(run, options):
    code, (line,) = run(IN_A_TEST, *options, XMODELKD_CI="1")
    assert code == 1
    assert line == f"{SAID}could not import 'not_there': No module named 'not_there' (1)"
    assert run(A_WHOLE_FILE, *options, XMODELKD_CI="1") == (1, [f"{SAID}not_there is gone (1)"])


@pytest.mark.parametrize("options", [[], SHARED], ids=["alone", "shared"])
def test_expected_skips_do_not(run, options):
    assert run("", *options, XMODELKD_CI="1") == (0, [])


@pytest.mark.parametrize("capability", TRIALS)
def test_a_machine_that_is_known_to_have_namespaces_has_to_have_them(run, capability):
    reason = f"this machine allows no {capability}: forbidden"
    text = f"import pytest\ndef test_it():\n    pytest.skip('{reason}')\n"
    alone = ["-k", "test_it and test_more"]
    assert run(text, *alone, XMODELKD_CI="1") == (0, [])
    assert run(text, *alone, XMODELKD_CI="1", XMODELKD_CI_HAS="namespaces") == (1, [f"{SAID}{reason} (1)"])


def test_a_name_of_nothing_is_an_error(run):
    code, _ = run("", XMODELKD_CI="1", XMODELKD_CI_HAS="namespace")
    assert code == pytest.ExitCode.USAGE_ERROR


def test_a_command_that_fails_in_a_machine_is_no_skip_that_is_expected():
    assert not "this machine does not allow 'mount': no such file".startswith(expected())


def test_elsewhere_any_skip_is_let_be(run):
    assert run(IN_A_TEST) == (0, [])
