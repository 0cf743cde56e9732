"""A test is skipped where this machine does not allow what it needs, and for nothing that goes wrong later."""

import subprocess

import pytest

from test.resilience import machines

ENDS = (AssertionError, pytest.skip.Exception)
"""A skip would otherwise be this test's own."""


@pytest.fixture
def trials(monkeypatch):
    """What is tried, which may be changed; each is tried anew."""
    machines.why_not.cache_clear()
    yield lambda capability, script: monkeypatch.setitem(machines.TRIALS, capability, script)
    machines.why_not.cache_clear()


def test_a_command_that_fails_fails_the_test():
    here = object.__new__(machines.Machine)
    here.prefix = []
    here.run('test "$1" = given', "given")
    with pytest.raises(ENDS) as end:
        here.run("echo no such command >&2; exit 3")
    assert end.type is AssertionError and "ended with 3: no such command" in str(end.value)


@pytest.mark.parametrize("capability", machines.TRIALS)
def test_what_is_not_allowed_is_named(trials, monkeypatch, capability):
    done = subprocess.CompletedProcess([], 1, "", "mount: permission denied\n")
    tried = []
    monkeypatch.setattr(machines.shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: tried.append(words) or done)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match=f"allows no {capability}: mount: permission denied$"):
            machines.need(capability)
    assert len(tried) == 1 and machines.TRIALS[capability] in tried[0], "it is tried once"


def test_what_is_allowed_is_tried_for_real(trials):
    machines.need(machines.NAMESPACES)
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
