"""No telemetry: labelling in a network namespace in which every outgoing packet is captured."""

import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from test.resilience.machines import READ_ONLY, require

ROOT = Path(__file__).parents[2]
LIBRARIES = {"onnxruntime": "events.data.microsoft.com", "openvino": "google-analytics.com"}
"""Inference engines and the hosts of their telemetry."""
QUIET_S = 15
"""Telemetry is sent from background threads: by OpenVINO at once, by ONNX Runtime within 9 s."""

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
WITHOUT_OPT_OUT = f"""
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


class MonitoredNetwork:
    """Network with name server, gateway and default route but no remote end; all packets are captured.

    Addresses are those reserved for documentation (RFC 5737).
    """

    def __init__(self, machine, start, folder):
        self._machine, self._home = machine, folder / "home"
        self._home.mkdir()
        (folder / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        require(READ_ONLY)
        machine.run('mount --bind "$1" /etc/resolv.conf', folder / "resolv.conf")
        machine.run("ip link set lo up; ip link add wire type veth peer name far")
        for end in ("wire", "far"):  # without IPv6 addresses, for which the kernel itself would send packets
            machine.run('ip link set "$1" addrgenmode none; ip link set "$1" up', end)
        machine.run("ip address add 192.0.2.2/24 dev wire; ip route add default via 192.0.2.1")
        for neighbour in ("192.0.2.1", "192.0.2.53"):
            machine.run('ip neighbour add "$1" lladdr 02:00:00:00:00:01 dev wire', neighbour)
        (folder / "sniff.py").write_text(SNIFF)
        self._sniffer = start(folder / "sniff.py", machine=machine)
        self._sniffer.wait_for("listening")

    @property
    def packets(self):
        """Packets captured so far."""
        return [line for line in self._sniffer.lines if line.startswith("packet")]

    @contextmanager
    def running(self, code, *arguments):
        """Run a program there without telemetry opt-outs; it is killed at the end of the block."""
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
        """Run a program and check its exit code."""
        with self.running(code, *arguments) as program:
            assert program.wait(120) == 0, (self._home / "said.log").read_text()


@pytest.fixture
def network(make_machine, start, tmp_path):
    """A MonitoredNetwork."""
    return MonitoredNetwork(make_machine(network=False), start, tmp_path)


def test_labelling_sends_no_packets(network, wait_until, height_model):
    libraries = [name for name in LIBRARIES if find_spec(name)]
    network.run(LABEL, height_model, *libraries)
    network.run(SEND)
    wait_until(lambda: any("control-packet" in packet for packet in network.packets), "the packet that was sent")
    assert len(network.packets) == 1, network.packets


@pytest.mark.parametrize(("library", "asked"), LIBRARIES.items())
def test_telemetry_without_opt_out_is_captured(network, wait_until, height_model, library, asked):
    """Shows that the previous test would detect telemetry."""
    pytest.importorskip(library)
    with network.running(WITHOUT_OPT_OUT, height_model / "model.onnx", library):
        wait_until(lambda: any(asked in packet for packet in network.packets), f"a question for {asked}", 3 * QUIET_S)
