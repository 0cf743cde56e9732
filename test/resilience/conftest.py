"""Fixtures for resilience tests with real processes, files and DDS."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from test.resilience.machines import Machine
from test.waiting import wait_until
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.harness.processes import dds_environment
from xmodelkd_ros.messages.clouds import MessageTypes, read_field, to_cloud, truth_to_msg
from xmodelkd_ros.messages.headers import label_info_json, stamp_from_ns, stamp_ns
from xmodelkd_ros.node.qos import reliable
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.tools.benchmark import synthetic_sweep

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
SWEEPS, POINTS, FEW, PERIOD_NS = 10, 3000, 300, 100_000_000
START_NS = 1_700_000_000_000_000_000
ROAD, BUILDING = 4, 9
BEAMS = ProjectionSpec(tuple(np.linspace(14, -24, 32).tolist()), 512)


@pytest.fixture(scope="session", name="wait_until")
def wait_until_function():
    """:func:`wait_until`"""
    return wait_until


# --- programs ---------------------------------------------------------------------------------------------------------


class Program:
    """A process in its own session with its output in a file.

    Args:
        words: command line.
        env: environment.
        log: output file.
    """

    def __init__(self, words, env, log):
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def output_text(self):
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def lines(self):
        """Output lines except the info lines of nodes and messages of Fast DDS."""
        return [line for line in self.output_text.splitlines() if "[INFO]" not in line and "RTPS" not in line]

    def wait_for(self, text, deadline_s=DEADLINE_S):
        """Wait for a text in the output; fails if the process ends first."""

        def has_text():
            assert text in self.output_text or self.process.poll() is None, (
                f"ended before printing '{text}': {self.output_text}"
            )
            return text in self.output_text

        wait_until(has_text, f"'{text}'", deadline_s)

    def kill(self):
        """Kill the process group with SIGKILL, as a power failure would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, number=None, deadline_s=DEADLINE_S):
        """Exit code, after sending a signal if given."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(deadline_s)

    def children(self, module):
        """Ids of the processes of its session that run a module."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
                if int(session) == self.process.pid and module in (folder / "cmdline").read_text().split("\0"):
                    found.append(int(folder.name))
        return found


@pytest.fixture
def env(tmp_path):
    """Environment with a separate DDS domain and cache folder."""
    return {**dds_environment(), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(env, tmp_path):
    """Starts a module or script with arguments; processes still running after the test are killed.

    ``machine``: run in it; ``before``: command prefix; other keywords: environment variables (None removes one).
    """
    programs = []

    def start(module, *words, machine=None, before=(), **more):
        before = [*(machine.prefix if machine else ()), *before]
        command = [sys.executable, *(["-m"] if isinstance(module, str) else []), module, *words]
        log = tmp_path / f"{len(programs)}.log"
        changed = {name: value for name, value in (env | more).items() if value is not None}
        programs.append(Program([*before, *command], changed, log))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


class ForkedProgram:
    """A training module in a fork of ``fork_server.py``; see :class:`Program`."""

    lines, output_text = Program.lines, Program.output_text

    def __init__(self, fork_server, module, words, log):
        self._warm, self._log = fork_server, log
        self._pid = fork_server.begin(log, module, [str(word) for word in words])

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        self.end()

    def end(self, deadline_s=DEADLINE_S):
        return self._warm.code_of(self._pid, deadline_s)


class ForkServer:
    """``fork_server.py`` running in a machine."""

    def __init__(self, machine, env):
        self.machine, self._codes, self._begun = machine, {}, queue.Queue()
        words = [*machine.prefix, sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._begun.get(timeout=DEADLINE_S)

    def _listen(self):
        for line in map(json.loads, self._process.stdout):
            if "ended" in line:
                self._codes[line["ended"]] = line["code"]
            else:
                self._begun.put(line.get("started"))

    def begin(self, *command):
        self._process.stdin.write(json.dumps(command, default=str) + "\n")
        self._process.stdin.flush()
        return self._begun.get(timeout=DEADLINE_S)

    def code_of(self, pid, deadline_s):
        wait_until(lambda: pid in self._codes, f"the end of process {pid}", deadline_s)
        return self._codes[pid]

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def fork_server(make_machine, tmp_path_factory):
    """A fork server in a separate machine, in which training modules start without import time."""
    cache = str(tmp_path_factory.mktemp("cache"))
    fork_server = ForkServer(make_machine(), {**dds_environment(), "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"})
    yield fork_server
    fork_server.close()


@pytest.fixture
def fork(fork_server, tmp_path):
    """Starts a training module with arguments; processes still running after the test are killed."""
    forks = []

    def fork(module, *words):
        forks.append(ForkedProgram(fork_server, module, words, tmp_path / f"fork{len(forks)}.log"))
        return forks[-1]

    yield fork
    for program in forks:
        program.kill()


# --- machines ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def make_machine():
    """Creates a Machine that lasts for the session."""
    machines = []

    def make(**options):
        machines.append(Machine(**options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture
def machine(make_machine):
    """A Machine that shares the host's network."""
    return make_machine()


# --- drives -----------------------------------------------------------------------------------------------------------


def make_sweep(number, types, header, time_type, points=POINTS):
    """A sweep with messages of a given library; points above the sensor are building, others road."""
    cloud = synthetic_sweep(BEAMS, points + number % 7)
    truth = np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD).astype(np.uint8)
    stamp = stamp_from_ns(START_NS + number * PERIOD_NS, time_type)
    return truth_to_msg(cloud, truth, header(stamp=stamp, frame_id="lidar"), types)


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    """A bag of :data:`SWEEPS` sweeps at 10 Hz with ground truth."""
    path = tmp_path_factory.mktemp("bags") / "drive.mcap"
    kinds = (ROSBAGS_TYPES, message_class("std_msgs/msg/Header"), message_class("builtin_interfaces/msg/Time"))
    with BagWriter(path) as bag:
        bag.add_topic("/points", POINT_CLOUD_TYPE)
        bag.add_topic("/label_info_json", "std_msgs/msg/String", latched=True)
        text = label_info_json(label_map("drive13"))
        bag.write("/label_info_json", START_NS, message_class("std_msgs/msg/String")(text))
        for number in range(SWEEPS):
            bag.write("/points", START_NS + number * PERIOD_NS, make_sweep(number, *kinds))
    return path


class Driver:
    """A LiDAR driver and a label subscriber in the test's process.

    Sweeps are small: a subscriber that is killed while reading one blocks its share of the publisher's shared memory,
    which is small without the shipped profile (docs/trust.md).

    Args:
        domain: DDS domain.
    """

    def __init__(self, domain):
        self._context, self.sent, self.diagnostics = rclpy.Context(), [], {}
        rclpy.init(context=self._context, domain_id=int(domain))
        self._node = Node("driver", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._points = self._node.create_publisher(PointCloud2, "points", reliable(10))
        self.labelled = self.listen("segmenter/labels")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable(10))

    def listen(self, topic):
        """Subscribe to labelled clouds; returns a list that receives their stamps."""
        stamps = []

        def take(msg):
            label = read_field(msg, "label")
            assert np.array_equal(label, np.where(to_cloud(msg, "fill").xyz[:, 2] > 0, BUILDING, ROAD))
            stamps.append(stamp_ns(msg.header.stamp))

        self._node.create_subscription(PointCloud2, topic, take, reliable(10))
        return stamps

    def _on_diagnostics(self, msg):
        self.diagnostics = {pair.key: pair.value for pair in msg.status[0].values}

    def drive(self, sweeps, deadline_s=DEADLINE_S):
        """Publish a sweep every 50 ms until ``sweeps`` are labelled; returns the duration in seconds."""
        begin, before = time.monotonic(), len(self.labelled)
        self.wait(lambda: len(self.labelled) >= before + sweeps, f"{sweeps} labelled sweeps", deadline_s)
        return time.monotonic() - begin

    def wait(self, condition, what, deadline_s=DEADLINE_S):
        """Publish a sweep every 50 ms until a condition is true."""

        def drive_on():
            self._points.publish(make_sweep(len(self.sent), MessageTypes(PointCloud2, PointField), Header, Time, FEW))
            self.sent.append(START_NS + len(self.sent) * PERIOD_NS)
            self.spin(0.05)
            return condition()

        wait_until(drive_on, what, deadline_s)

    def spin(self, seconds):
        """Process callbacks."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self):
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def driver(env):
    """A Driver in the DDS domain of the test."""
    driver = Driver(env["ROS_DOMAIN_ID"])
    yield driver
    driver.close()


@pytest.fixture
def node_arguments(height_model):
    """Command line arguments of the node: the small model in ONNX Runtime and further parameters."""

    def words(**parameters):
        given = {"model": height_model, "backend": "onnxruntime", **parameters}
        return ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))]

    return words
