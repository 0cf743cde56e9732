"""Restricted machines: mount and network namespaces held by a sleeping process.

Programs run there with full, read-only or missing folders, which tests inspect through ``/proc``. Each capability is
probed once with a separate command; only a failed probe skips a test. Later failures fail it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

NAMESPACES, DISKS, READ_ONLY, NETWORKS = "namespaces", "disks in memory", "read-only folders", "networks of their own"
TRIALS = {
    NAMESPACES: "true",
    DISKS: 'mount -t tmpfs -o size=200000 none "$1" && mount -o remount,size=100000 "$1"',
    READ_ONLY: 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"',
    NETWORKS: "ip link set lo up && ip link add wire type veth peer name far",
}
"""Capabilities and the scripts that probe them with a folder in new namespaces."""


@cache
def missing_reason(capability: str) -> str:
    """Reason why this machine lacks a capability; empty if it has it."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return "there is no unshare, or no nsenter"
    flags = _flags(network=capability != NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        words = ["unshare", *flags, "sh", "-euc", TRIALS[capability], "sh", folder]
        done = subprocess.run(words, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def require(*capabilities: str) -> None:
    """Skip the test if this machine lacks a capability."""
    for capability in capabilities:
        if why := missing_reason(capability):
            pytest.skip(f"this machine allows no {capability}: {why}")


def _flags(network: bool) -> list[str]:
    return ["--user", "--map-root-user", "--mount", *([] if network else ["--net"])]


class Machine:
    """Namespaces held by a sleeping process.

    Args:
        network: share the host's network; otherwise it has only a separate loopback.

    Attributes:
        prefix: command prefix to run a program in it.
    """

    def __init__(self, network: bool = True) -> None:
        require(NAMESPACES, *([] if network else [NETWORKS]))
        words = ["unshare", *_flags(network), "sh", "-c", "echo held; exec sleep infinity"]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "held\n":
            pytest.fail(f"namespaces are no longer available: {self._holder.communicate()[1].strip()}")
        target = ["--target", str(self._holder.pid), "--user", "--mount", *([] if network else ["--net"])]
        self.prefix = ["nsenter", *target, "--preserve-credentials"]

    def run(self, script: str, *words: object) -> None:
        """Run a shell script in it as root."""
        command = [*self.prefix, "sh", "-euc", script, "sh", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"'{script}' ended with {done.returncode}: {done.stderr.strip()}"

    def path(self, path: Path) -> Path:
        """Path through which the test reaches a path inside it."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def small_disk(self, folder: Path, size: int) -> None:
        """Mount an empty disk of ``size`` bytes on a folder."""
        require(DISKS)
        self.run('mount -t tmpfs -o size="$2" none "$1"', folder, size)

    def fill(self, folder: Path) -> None:
        """Fill the disk of a folder."""
        with suppress(OSError), self.path(folder / ".ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def read_only(self, folder: Path) -> None:
        """Remount a folder read-only, even for root."""
        require(READ_ONLY)
        self.run('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', folder)

    def hide_shared_memory(self, scratch: Path) -> None:
        """Replace /dev by one without /dev/shm."""
        require(DISKS, READ_ONLY)
        devices = "for d in null zero full random urandom tty; do touch $1/$d; mount --bind /dev/$d $1/$d; done"
        self.run(f'mount -t tmpfs none "$1"; {devices}; mount --rbind "$1" /dev; test ! -e /dev/shm', scratch)

    def close(self) -> None:
        """Release the namespaces."""
        self._holder.kill()
        self._holder.communicate()
