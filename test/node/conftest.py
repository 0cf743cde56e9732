"""Fixtures of tests with a running segmenter."""

from test.ros import bench, make_bench, module_bench, sweep  # noqa: F401
