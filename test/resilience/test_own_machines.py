"""Missing capabilities skip a test; later errors fail it."""

import subprocess

import pytest

from test.resilience import machines

ENDS = (AssertionError, pytest.skip.Exception)
"""Catches skips too, which would otherwise skip this test."""


@pytest.fixture
def trials(monkeypatch):
    """Replaces probe scripts, with an empty cache of results."""
    machines.missing_reason.cache_clear()
    yield lambda capability, script: monkeypatch.setitem(machines.TRIALS, capability, script)
    machines.missing_reason.cache_clear()


def test_failing_command_fails_test():
    here = object.__new__(machines.Machine)
    here.prefix = []
    here.run('test "$1" = given', "given")
    with pytest.raises(ENDS) as end:
        here.run("echo no such command >&2; exit 3")
    assert end.type is AssertionError and "ended with 3: no such command" in str(end.value)


@pytest.mark.parametrize("capability", machines.TRIALS)
def test_skip_names_missing_capability(trials, monkeypatch, capability):
    done = subprocess.CompletedProcess([], 1, "", "mount: permission denied\n")
    tried = []
    monkeypatch.setattr(machines.shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: tried.append(words) or done)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match=f"allows no {capability}: mount: permission denied$"):
            machines.require(capability)
    assert len(tried) == 1 and machines.TRIALS[capability] in tried[0], "probed once"


def test_probes_run_real_commands(trials):
    machines.require(machines.NAMESPACES)
    trials(machines.DISKS, "echo 'none here' >&2; exit 1")
    machine = machines.Machine()
    try:
        with pytest.raises(pytest.skip.Exception, match="allows no disks in memory: none here"):
            machine.small_disk("/", 1)
        with pytest.raises(ENDS) as end:
            machine.run("mount -t no_such_type none /")
        assert end.type is AssertionError
    finally:
        machine.close()
