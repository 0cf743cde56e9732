"""Fixtures of tests with running players and recorders."""

import signal

import pytest

from test.ros import sweep  # noqa: F401


@pytest.fixture
def restored_signals():
    """Restores the signal handlers of this process after a program has run in it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, descriptor = [signal.getsignal(number) for number in numbers], signal.set_wakeup_fd(-1)
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)
    signal.set_wakeup_fd(descriptor)
