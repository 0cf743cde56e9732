"""Fixtures of tests with running players and recorders."""

from test.ros import sweep  # noqa: F401
