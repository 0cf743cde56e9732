"""Programs that are killed, and machines that are odd: real processes, real files, real DDS."""

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


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Wait for a condition; returns what it gave."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come within {deadline_s} s"
        time.sleep(0.005)
    return found


@pytest.fixture(scope="session", name="wait_until")
def wait_until_function():
    """:func:`wait_until`"""
    return wait_until


# --- programs ---------------------------------------------------------------------------------------------------------


class Running:
    """A program in a session of its own, its output in a file.

    Args:
        words: its command line.
        env: its environment.
        log: takes what it says.
    """

    def __init__(self, words, env, log):
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self):
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def lines(self):
        """What it said, but for what nodes say at every start and what the libraries below tell of themselves."""
        return [line for line in self.said.splitlines() if "[INFO]" not in line and "RTPS" not in line]

    def wait_for(self, text, deadline_s=DEADLINE_S):
        """Wait until it says something; it must not end before."""

        def said():
            assert text in self.said or self.process.poll() is None, f"ended before it said '{text}': {self.said}"
            return text in self.said

        wait_until(said, f"'{text}'", deadline_s)

    def kill(self):
        """End it and all that it started as a power switch does: nothing of it gets a word in."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, number=None, deadline_s=DEADLINE_S):
        """Its exit code, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(deadline_s)

    def children(self, module):
        """Numbers of the processes of its session that run a module."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
                if int(session) == self.process.pid and module in (folder / "cmdline").read_text().split("\0"):
                    found.append(int(folder.name))
        return found


@pytest.fixture
def env(tmp_path):
    """The environment of programs that talk to each other only: a DDS domain and a cache folder of their own."""
    return {**dds_environment(), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(env, tmp_path):
    """Starts a module, or a script, with its arguments; what still runs after the test is killed.

    Given ``machine`` it runs there, ``before`` goes before its command line, what else is named into its environment,
    or out of it.
    """
    programs = []

    def start(module, *words, machine=None, before=(), **more):
        before = [*(machine.prefix if machine else ()), *before]
        command = [sys.executable, *(["-m"] if isinstance(module, str) else []), module, *words]
        log = tmp_path / f"{len(programs)}.log"
        changed = {name: value for name, value in (env | more).items() if value is not None}
        programs.append(Running([*before, *command], changed, log))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


class Fork:
    """A program of training, running in a fork of ``warm.py``; see :class:`Running`."""

    lines, said = Running.lines, Running.said

    def __init__(self, warm, module, words, log):
        self._warm, self._log = warm, log
        self._pid = warm.begin(log, module, [str(word) for word in words])

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        self.end()

    def end(self, deadline_s=DEADLINE_S):
        return self._warm.code_of(self._pid, deadline_s)


class Warm:
    """``warm.py`` in a machine."""

    def __init__(self, machine, env):
        self.machine, self._codes, self._begun = machine, {}, queue.Queue()
        words = [*machine.prefix, sys.executable, str(Path(__file__).with_name("warm.py"))]
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
                self._begun.put(line.get("begun"))

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
def warm(make_machine, tmp_path_factory):
    """A machine of its own in which programs of training start at once."""
    cache = str(tmp_path_factory.mktemp("cache"))
    warm = Warm(make_machine(), {**dds_environment(), "XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": "1"})
    yield warm
    warm.close()


@pytest.fixture
def fork(warm, tmp_path):
    """Starts a program of training with its arguments; what still runs after the test is killed."""
    forks = []

    def fork(module, *words):
        forks.append(Fork(warm, module, words, tmp_path / f"fork{len(forks)}.log"))
        return forks[-1]

    yield fork
    for program in forks:
        program.kill()


# --- machines ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def make_machine():
    """Makes a Machine, which lasts until the tests are over."""
    machines = []

    def make(**options):
        machines.append(Machine(**options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture
def machine(make_machine):
    """A Machine with the network of this one."""
    return make_machine()


# --- drives -----------------------------------------------------------------------------------------------------------


def make_sweep(number, types, header, time_type, points=POINTS):
    """A sweep in messages of one kind or the other; points above the sensor are building, the others road."""
    cloud = synthetic_sweep(BEAMS, points + number % 7)
    truth = np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD).astype(np.uint8)
    stamp = stamp_from_ns(START_NS + number * PERIOD_NS, time_type)
    return truth_to_msg(cloud, truth, header(stamp=stamp, frame_id="lidar"), types)


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    """A bag of :data:`SWEEPS` sweeps at 10 Hz, with truth."""
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
    """Stands for a LiDAR's driver and for those who want its labels, within the test's process.

    Its sweeps are small: a subscriber that is killed while it reads one takes the room of that one in the publisher's
    shared memory with it, of which there is little without the shipped profile (docs/trust.md).

    Args:
        domain: DDS domain of the programs it talks to.
    """

    def __init__(self, domain):
        self._context, self.sent, self.said = rclpy.Context(), [], {}
        rclpy.init(context=self._context, domain_id=int(domain))
        self._node = Node("driver", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._points = self._node.create_publisher(PointCloud2, "points", reliable(10))
        self.labelled = self.listen("segmenter/labels")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable(10))

    def listen(self, topic):
        """The stamps of the labelled clouds on a topic, as they will come in."""
        stamps = []

        def take(msg):
            label = read_field(msg, "label")
            assert np.array_equal(label, np.where(to_cloud(msg, "fill").xyz[:, 2] > 0, BUILDING, ROAD))
            stamps.append(stamp_ns(msg.header.stamp))

        self._node.create_subscription(PointCloud2, topic, take, reliable(10))
        return stamps

    def _on_diagnostics(self, msg):
        self.said = {pair.key: pair.value for pair in msg.status[0].values}

    def drive(self, sweeps, deadline_s=DEADLINE_S):
        """Publish a sweep every 50 ms until so many have got their labels; returns how many seconds that took."""
        begin, before = time.monotonic(), len(self.labelled)
        self.wait(lambda: len(self.labelled) >= before + sweeps, f"{sweeps} labelled sweeps", deadline_s)
        return time.monotonic() - begin

    def wait(self, condition, what, deadline_s=DEADLINE_S):
        """Publish a sweep every 50 ms until a condition holds."""

        def drive_on():
            self._points.publish(make_sweep(len(self.sent), MessageTypes(PointCloud2, PointField), Header, Time, FEW))
            self.sent.append(START_NS + len(self.sent) * PERIOD_NS)
            self.spin(0.05)
            return condition()

        wait_until(drive_on, what, deadline_s)

    def spin(self, seconds):
        """Take what comes in."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self):
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def driver(env):
    """A Driver in the domain of the test's programs."""
    driver = Driver(env["ROS_DOMAIN_ID"])
    yield driver
    driver.close()


@pytest.fixture
def node_words(height_model):
    """The node's command line: the small model in ONNX Runtime, and more parameters."""

    def words(**parameters):
        given = {"model": height_model, "backend": "onnxruntime", **parameters}
        return ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))]

    return words
