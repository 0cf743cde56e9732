"""Waiting for a condition, with a deadline."""

import time


def wait_until(condition, what="the condition", deadline_s=120, step=lambda: time.sleep(0.01)):
    """Wait until a condition is true; returns its value."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {deadline_s} s"
        step()
    return value
