"""Unexpected skips fail a run in CI, with and without pytest-xdist, and nowhere else."""

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
SKIPPED_TEST = "import pytest\ndef test_it():\n    pytest.importorskip('not_there')\n"
SKIPPED_FILE = "import pytest\npytest.importorskip('not_there', reason='needs not_there')\ndef test_it(): pass\n"


@pytest.fixture
def run(tmp_path):
    """Function that runs given tests beside expected ones; returns the exit code and the error lines."""

    def run(text, *options, **env):
        (tmp_path / "test_expected.py").write_text(EXPECTED)
        (tmp_path / "test_given.py").write_text(text)
        clean_env = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XMODELKD_CI"))
        }
        command = [sys.executable, "-m", "pytest", "-p", "test.expected_skips", "-p", "no:cacheprovider", *options]
        done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=clean_env | env, capture_output=True, text=True)
        return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("error")]

    return run


XDIST = ["--numprocesses", "2", "--dist", "loadfile"]
ERROR = "error: skipped for a reason that is not in test/expected_skips.py: "


@pytest.mark.parametrize("options", [[], XDIST], ids=["single", "xdist"])
def test_unexpected_skip_fails_the_run_in_ci(run, options):
    code, (line,) = run(SKIPPED_TEST, *options, XMODELKD_CI="1")
    assert code == 1
    assert line == f"{ERROR}could not import 'not_there': No module named 'not_there' (1)"
    assert run(SKIPPED_FILE, *options, XMODELKD_CI="1") == (1, [f"{ERROR}needs not_there (1)"])


@pytest.mark.parametrize("options", [[], XDIST], ids=["single", "xdist"])
def test_expected_skips_do_not_fail_the_run(run, options):
    assert run("", *options, XMODELKD_CI="1") == (0, [])


@pytest.mark.parametrize("capability", TRIALS)
def test_skip_for_lack_of_a_known_capability_fails_the_run(run, capability):
    reason = f"this machine allows no {capability}: forbidden"
    text = f"import pytest\ndef test_it():\n    pytest.skip('{reason}')\n"
    selected = ["-k", "test_it and test_given"]
    assert run(text, *selected, XMODELKD_CI="1") == (0, [])
    assert run(text, *selected, XMODELKD_CI="1", XMODELKD_CI_HAS="namespaces") == (1, [f"{ERROR}{reason} (1)"])


def test_rejects_unknown_capability(run):
    code, _ = run("", XMODELKD_CI="1", XMODELKD_CI_HAS="namespace")
    assert code == pytest.ExitCode.USAGE_ERROR


def test_failed_command_is_not_an_expected_reason():
    assert not "this machine does not allow 'mount': no such file".startswith(expected())


def test_unexpected_skip_is_accepted_outside_ci(run):
    assert run(SKIPPED_TEST) == (0, [])
