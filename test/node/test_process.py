import os
import platform
import subprocess
import sys

import pytest
import rclpy
from rclpy.node import Node
from rclpy.task import Future

from xmodelkd_ros.node.process import spin


def test_callback_errors_are_logged_once_and_do_not_end_the_executor(capfd):
    calls = []
    stop = Future()

    def callback():
        calls.append(None)
        if len(calls) == 5:
            stop.set_result(None)
        raise ValueError("no luck")

    rclpy.init()
    node = Node("unlucky")
    node.create_timer(0.01, callback)
    spin(node, stop)
    node.destroy_node()
    rclpy.shutdown()
    assert len(calls) == 5
    assert capfd.readouterr().err.count("a callback failed: ValueError('no luck')") == 1


_FAULTS = """
import ctypes, resource, threading
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # disable huge pages, where one fault maps many pages
from xmodelkd_ros.node.process import ros

def clouds():
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        four = [bytearray(3 << 20) for _ in range(4)]
        del four
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults = []
with ros([]):
    thread = threading.Thread(target=clouds)
    thread.start()
    thread.join()
print(sum(faults[1:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("own_setting", [False, True])
def test_freed_memory_is_reused_for_the_next_cloud(own_setting):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    env |= {"MALLOC_MMAP_THRESHOLD_": "1000000"} if own_setting else {}
    done = subprocess.run([sys.executable, "-c", _FAULTS], env=env, capture_output=True, text=True, check=True)
    pages = 4 * (3 << 20) // 4096
    # The setting of the environment, here a bad one, takes precedence.
    assert (int(done.stdout) > 4 * pages // 2) == own_setting
