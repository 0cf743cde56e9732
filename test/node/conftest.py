"""Fixtures of tests with a running segmenter."""

from test.ros import bench, make_bench, shared_bench, sweep  # noqa: F401
