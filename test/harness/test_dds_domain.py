"""Two programs that talk over DDS never share a domain, however they were started and ended."""

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
    """A tool that has asked for its domain twice, and waits; its number is taken for what it is said to be."""

    def __init__(self, number):
        words = [sys.executable, "-c", TOOL, str(number)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first, second = self.process.stdout.readline().split()
        assert first == second, "all that it starts must find each other"
        self.domain = int(first)


@pytest.fixture
def tool():
    """Starts a Tool."""
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
    """Of a process, such that its domain is free and the three after it are, whoever else runs here."""
    free = [n for n in range(1, 97) if not any(map(is_taken, range(n + 1, n + 5)))]
    return free[os.getpid() % len(free)]


def is_taken(domain):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(f"\0xmodelkd_ros.domain.{domain}")
        except OSError:
            return True
        return False


def test_processes_whose_numbers_collide_have_domains_of_their_own(tool, number):
    assert [tool(n).domain for n in (number, number + 100, number + 200)] == [number + 1, number + 2, number + 3]


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_domain_is_free_again_when_its_program_has_ended(tool, number, end):
    first = tool(number)
    assert is_taken(first.domain)
    if end == "kill":
        first.process.kill()
    first.process.communicate()
    assert not is_taken(first.domain)
    assert tool(number).domain == first.domain


def test_a_domain_stays_taken_while_a_program_that_outlived_its_tool_is_in_it(monkeypatch, number, tmp_path):
    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(os, "getpid", lambda: number)
    env = dds_environment({**os.environ, "ROS_DOMAIN_ID": "0"})
    recorder = Program("harness.recorder", ["--topics", "/nobody"], env, tmp_path / "recorder.log")
    with recorder:
        dds_domain._held.popitem()[1].close()  # as if this process had been killed
        assert is_taken(number + 1)
    assert not is_taken(number + 1)


def test_a_fork_holds_nothing_of_its_parent(monkeypatch, number):
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


def test_the_users_domain_is_avoided_though_it_is_free(monkeypatch, number):
    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert dds_domain.reserve_domain(str(number + 1)) == str(number + 2)
    assert dds_domain.reserve_domain("0") == str(number + 2), "which this process has"
    assert dds_domain.reserve_domain(str(number + 2)) == str(number + 1)


def test_where_all_are_taken_a_tool_says_so_in_a_line(monkeypatch, height_model, drive, tmp_path, capsys):
    monkeypatch.setattr(dds_domain, "_hold", lambda domain: False)
    words = ["replay", str(drive.path), "--model", str(height_model), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert line.startswith("error: programs of this package hold all of the DDS domains 1 to 100; end some of them")


def test_where_names_are_forbidden_the_number_decides(monkeypatch, number):
    def forbidden(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(dds_domain, "_held", {})
    monkeypatch.setattr(dds_domain.socket.socket, "bind", forbidden)
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert dds_domain.reserve_domain("0") == str(number + 1)
    assert dds_domain.lock_descriptors(str(number + 1)) == ()
