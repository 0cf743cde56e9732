"""Nothing is sent to anybody: a program labels where every packet that would leave the machine is seen."""

import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from test.resilience.machines import READ_ONLY, need

ROOT = Path(__file__).parents[2]
LIBRARIES = {"onnxruntime": "events.data.microsoft.com", "openvino": "google-analytics.com"}
"""That run networks, and whom they tell of it."""
QUIET_S = 15
"""Libraries report from threads of their own: here OpenVINO does at once, and ONNX Runtime within 9 s."""

SNIFF = """
import socket
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
seen.bind(("far", 0))
print("listening", flush=True)
while True:
    print("packet", "".join(chr(b) if 32 < b < 127 else "." for b in seen.recv(65536)), flush=True)
"""
LABEL = f"""
import sys, time
from pathlib import Path
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools.benchmark import synthetic_sweep
for library in sys.argv[2:]:
    pipeline = SegmentationPipeline.load(Path(sys.argv[1]), library)
    sweep = synthetic_sweep(pipeline.spec.projection, 1000)
    assert len(pipeline.segment(sweep).segmentation.label) == len(sweep)
    assert sys.modules[library]
time.sleep({QUIET_S})
"""
WITHOUT_US = f"""
import sys, time
from importlib import import_module
library = import_module(sys.argv[2])
run = {{"onnxruntime": lambda: library.InferenceSession(sys.argv[1]), "openvino": lambda: library.Core()}}
kept = run[sys.argv[2]]()
time.sleep({3 * QUIET_S})
"""
SEND = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"control-packet", ("198.51.100.1", 443))
"""


class Wire:
    """The network of a machine that has a name server, a gateway and a default route, and nobody at the other end.

    Addresses are those that are kept for documentation (RFC 5737).
    """

    def __init__(self, machine, start, folder):
        self._machine, self._home = machine, folder / "home"
        self._home.mkdir()
        (folder / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        need(READ_ONLY)
        machine.run('mount --bind "$1" /etc/resolv.conf', folder / "resolv.conf")
        machine.run("ip link set lo up; ip link add wire type veth peer name far")
        for end in ("wire", "far"):  # without an address of IPv6, for which the kernel itself would send packets
            machine.run('ip link set "$1" addrgenmode none; ip link set "$1" up', end)
        machine.run("ip address add 192.0.2.2/24 dev wire; ip route add default via 192.0.2.1")
        for neighbour in ("192.0.2.1", "192.0.2.53"):
            machine.run('ip neighbour add "$1" lladdr 02:00:00:00:00:01 dev wire', neighbour)
        (folder / "sniff.py").write_text(SNIFF)
        self._sniffer = start(folder / "sniff.py", machine=machine)
        self._sniffer.wait_for("listening")

    @property
    def packets(self):
        """All that has left so far."""
        return [line for line in self._sniffer.lines if line.startswith("packet")]

    @contextmanager
    def running(self, code, *arguments):
        """A program there, in an environment that tells nobody to be quiet, until it is no longer looked at."""
        env = {"HOME": str(self._home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        words = [*self._machine.prefix, sys.executable, "-c", code, *map(str, arguments)]
        log = self._home / "said.log"
        with log.open("wb") as output:
            program = subprocess.Popen(
                words, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield program
        finally:
            program.kill()
            program.wait()

    def run(self, code, *arguments):
        """Run a program to its end."""
        with self.running(code, *arguments) as program:
            assert program.wait(120) == 0, (self._home / "said.log").read_text()


@pytest.fixture
def wire(make_machine, start, tmp_path):
    """A Wire."""
    return Wire(make_machine(network=False), start, tmp_path)


def test_a_program_that_labels_sends_nothing_to_anybody(wire, wait_until, height_model):
    libraries = [name for name in LIBRARIES if find_spec(name)]
    wire.run(LABEL, height_model, *libraries)
    wire.run(SEND)
    wait_until(lambda: any("control-packet" in packet for packet in wire.packets), "the packet that was sent")
    assert len(wire.packets) == 1, wire.packets


@pytest.mark.parametrize(("library", "asked"), LIBRARIES.items())
def test_what_a_library_sends_where_nobody_tells_it_not_to_is_seen(wire, wait_until, height_model, library, asked):
    """Otherwise the silence above would mean little."""
    pytest.importorskip(library)
    with wire.running(WITHOUT_US, height_model / "model.onnx", library):
        wait_until(lambda: any(asked in packet for packet in wire.packets), f"a question for {asked}", 3 * QUIET_S)
