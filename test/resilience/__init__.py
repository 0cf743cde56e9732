"""Resilience tests: killed processes, full disks, restricted machines, no telemetry; ``python -m test.resilience``."""
