"""CPU properties: available cores, name and measured peak."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

_GEMM_SIZE = 2048
_MOUNT = re.compile(r"\S+ \S+ \S+ (?P<root>\S+) (?P<point>\S+) .*- (?P<kind>cgroup2?) \S+ (?P<options>\S+)$")
"""Line of ``/proc/self/mountinfo`` for a tree of control groups; see proc(5)."""
_OCTAL = re.compile(r"\\([0-7]{3})")
"""Blank or other special character in a path there."""


def cores(root: Path = Path("/")) -> int:
    """Number of CPU cores that this process may use: the number of threads to start.

    Considers CPU affinity (taskset, cpusets) and the CPU quota of the process's control groups (``docker run --cpus``,
    Kubernetes limits, systemd's CPUQuota). A process with more threads than its quota allows uses the quota up early in
    each period of 100 ms and then stands still until the next one, so a fraction of a core is not counted.

    Args:
        root: folder with ``proc/self`` and the mounted control groups.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, cpu_quota(root))))


def cpu_quota(root: Path = Path("/")) -> float:
    """Cores that the CPU quotas of this process's control groups allow, infinite without one; versions 1 and 2.

    The groups form a tree and each may have a quota, so the lowest one counts. Files that cannot be read are no quota.
    """
    return min((_group_quota(group) for group in _control_groups(root)), default=math.inf)


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that limit the CPU time of this process."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    # Each line is hierarchy:controllers:path; version 2 has no controllers.
    rows = [row for row in (line.split(":", 2) for line in memberships) if len(row) == 3]
    paths = {controller: path for _, controllers, path in rows for controller in controllers.split(",")}
    for mount in filter(None, map(_MOUNT.match, mounts)):
        version_2 = mount["kind"] == "cgroup2"
        path = paths.get("" if version_2 else "cpu")
        if path is None or not (version_2 or "cpu" in mount["options"].split(",")):
            continue
        top = root / _OCTAL.sub(lambda match: chr(int(match[1], 8)), mount["point"]).lstrip("/")
        # In a container the path may be that on the host, of which only a subtree is mounted, or the reverse.
        below = os.path.relpath(path, mount["root"])
        leaf = top if below.startswith("..") else top / below
        yield from (group for group in (leaf, *leaf.parents) if group.is_relative_to(top))


def _group_quota(group: Path) -> float:
    """Cores that one control group allows: ``cpu.max`` holds quota and period, in version 1 a file each."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()[:2]
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((group / name).read_text(encoding="utf-8") for name in names)
        cores_allowed = float(quota) / float(period)  # "max", the unlimited quota of version 2, is no number
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return cores_allowed if cores_allowed > 0 else math.inf  # version 1 uses -1 for unlimited


def cpu_name() -> str:
    """Model name of the CPU, or its architecture if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def gemm_peak_gflops(size: int = _GEMM_SIZE, repeats: int = 5) -> float:
    """Peak float32 GFLOP/s of numpy's matrix product, best of several runs."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    seconds = []
    for _ in range(repeats + 1):
        start = perf_counter()
        a @ b
        seconds.append(perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9
