"""Lifetime of a ROS process: initialise, spin, and exit cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from xmodelkd_ros.console import exit_code
from xmodelkd_ros.core.child_process import stop_with_parent
from xmodelkd_ros.core.errors import ConfigError, first_line
from xmodelkd_ros.node.diagnostics import Throttle, with_suppressed
from xmodelkd_ros.node.shared_memory import remove_stale_segments

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MALLOPT = ((-1, 256 << 20), (-3, 32 << 20))
"""Options of glibc's mallopt with values: M_TRIM_THRESHOLD, and M_MMAP_THRESHOLD at its maximum."""
_WITHOUT_LOG_FILES = ("--ros-args", "--disable-external-lib-logs")
"""ROS arguments that disable log files."""
_PAUSE_AFTER_ERROR_S = 0.01
"""Keeps a persistent error from using a whole core."""


def run_program(program: Callable[[Future], int]) -> int:
    """Run a program until it ends, a signal stops it, or the tool that started it dies.

    Errors as in :func:`~xmodelkd_ros.console.exit_code`.

    Args:
        program: called with a future that SIGINT or SIGTERM completes; returns the exit code.
    """
    stop: Future = Future()
    _complete_on_signal(stop)
    stop_with_parent()
    return exit_code(lambda: program(stop))


def _complete_on_signal(stop: Future) -> None:
    """Complete the future on SIGINT or SIGTERM, and never raise KeyboardInterrupt.

    The signal may arrive twice, from a terminal and from ros2 launch. Python runs handlers in the main thread, which
    blocks in the executor, so a thread waits for the byte that the signal writes to the wakeup file descriptor.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(readable, 1)
        stop.set_result(None)

    threading.Thread(target=wait, name="stop signal", daemon=True).start()


@contextmanager
def ros(args: Sequence[str]) -> Iterator[None]:
    """Initialise rclpy without its signal handlers, and tune malloc for large messages.

    If ROS cannot write log files, it runs without them and warns on stderr.

    Raises:
        ConfigError: the ROS arguments cannot be parsed.
    """
    _keep_freed_memory()
    remove_stale_segments()
    try:
        _init(args)
    except Exception as error:  # rclpy raises different errors for wrong arguments and parameter files
        rclpy.try_shutdown()
        try:
            _init([*args, *_WITHOUT_LOG_FILES])
        except Exception:
            raise ConfigError(f"ROS arguments: {first_line(error)}") from error
        print(f"warning: no log files: {first_line(error)}; set ROS_LOG_DIR to another folder", file=sys.stderr)
    try:
        yield
    finally:
        rclpy.try_shutdown()


def _init(args: Sequence[str]) -> None:
    rclpy.init(args=list(args), signal_handler_options=SignalHandlerOptions.NO)


def _keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB of freed memory for the next sweep.

    By default it returns blocks as large as a cloud to the kernel, which clears every page again for the next one;
    then a cloud of 3 MB takes twice as long to arrive. Settings in the environment take precedence.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        for option, value in _MALLOPT:
            mallopt(option, value)


def spin(node: Node, stop: Future, fatal: type[Exception] | tuple[()] = ()) -> None:
    """Run a node's callbacks until ``stop`` is done.

    Exceptions of callbacks and of the executor are logged and do not end the process, except ``fatal`` ones, which
    propagate.
    """
    throttle = Throttle()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.done():
        try:
            executor.spin_until_future_complete(stop)
        except ExternalShutdownException:
            break
        except fatal:
            raise
        except Exception as error:
            suppressed = throttle.due(type(error).__name__, time.monotonic())
            if suppressed is not None:
                node.get_logger().error(with_suppressed(f"a callback failed: {error!r}", suppressed))
            time.sleep(_PAUSE_AFTER_ERROR_S)
    executor.shutdown()
