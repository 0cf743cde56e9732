"""Tools never share a DDS domain, however they are started and stopped."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xmodelkd_ros.harness import dds_domain
from xmodelkd_ros.harness.processes import Program, dds_environment
from xmodelkd_ros.tools.cli import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has sockets with abstract names")

TOOL = """
import os, sys
os.getpid = lambda: int(sys.argv[1])
from xmodelkd_ros.harness.processes import dds_environment
print(*(dds_environment({"ROS_DOMAIN_ID": "0"})["ROS_DOMAIN_ID"] for _ in range(2)), flush=True)
sys.stdin.read()
"""


class Tool:
    """A process with a given process id that has reserved its domain twice, and waits."""

    def __init__(self, number):
        words = [sys.executable, "-c", TOOL, str(number)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first, second = self.process.stdout.readline().split()
        assert first == second, "all its children must share the domain"
        self.domain = int(first)


@pytest.fixture
def tool():
    """Starts a :class:`Tool`."""
    tools = []

    def start(number):
        tools.append(Tool(number))
        return tools[-1]

    yield start
    for started in tools:
        started.process.kill()
        started.process.communicate()


@pytest.fixture
def number():
    """Process id for which this and the next three domains are free, whatever else runs here."""
    free = [n for n in range(1, 97) if not any(map(is_taken, range(n + 1, n + 5)))]
    return free[os.getpid() % len(free)]


def is_taken(domain):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0xmodelkd_ros.domain.{domain}")
        except OSError:
            return True
        return False


def test_colliding_process_ids_get_different_domains(tool, number):
    assert [tool(n).domain for n in (number, number + 100, number + 200)] == [number + 1, number + 2, number + 3]


@pytest.mark.parametrize("end", ["close", "kill"])
def test_domain_is_released_when_the_process_ends(tool, number, end):
    first = tool(number)
    assert is_taken(first.domain)
    if end == "kill":
        first.process.kill()
    first.process.communicate()
    assert not is_taken(first.domain)
    assert tool(number).domain == first.domain


def test_domain_stays_reserved_while_a_child_outlives_its_tool(monkeypatch, number, tmp_path):
    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(os, "getpid", lambda: number)
    env = dds_environment({**os.environ, "ROS_DOMAIN_ID": "0"})
    recorder = Program("harness.recorder", ["--topics", "/nobody"], env, tmp_path / "recorder.log")
    with recorder:
        dds_domain._held.popitem()[1].close()  # as if this process had been killed
        assert is_taken(number + 1)
    assert not is_taken(number + 1)


def test_fork_does_not_inherit_the_reservation(monkeypatch, number):
    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert dds_domain.reserve_domain("0") == str(number + 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, dds_domain.reserve_domain("0").encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 9) == str(number + 2).encode()
    os.close(read)
    os.close(write)


def test_avoids_the_domain_of_the_user(monkeypatch, number):
    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert dds_domain.reserve_domain(str(number + 1)) == str(number + 2)
    assert dds_domain.reserve_domain("0") == str(number + 2), "already reserved by this process"
    assert dds_domain.reserve_domain(str(number + 2)) == str(number + 1)


def test_reports_that_all_domains_are_in_use(monkeypatch, height_model, drive, tmp_path, capsys):
    monkeypatch.setattr(dds_domain, "_lock", lambda domain: False)
    words = ["replay", str(drive.path), "--model", str(height_model), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert line.startswith(
        "error: all DDS domains from 1 to 100 are in use by tools of this package; stop some of them"
    )


def test_domain_follows_from_the_process_id_without_sockets(monkeypatch, number):
    def forbidden(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(dds_domain.socket.socket, "bind", forbidden)
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert dds_domain.reserve_domain("0") == str(number + 1)
    assert dds_domain.lock_descriptors(str(number + 1)) == ()
