"""Machines of their own: mount namespaces, with or without a network, that a sleeping process holds.

What runs there sees full, read-only or missing folders, which the test looks at through ``/proc``. Whether this machine
allows such things is tried once, with commands that do nothing else: only that skips a test. What fails later fails it.
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
"""What a test may need, and a script that does it, to a folder, in namespaces of its own."""


@cache
def why_not(capability: str) -> str:
    """Why this machine does not allow something; empty if it does."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return "there is no unshare, or no nsenter"
    flags = _flags(network=capability != NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        words = ["unshare", *flags, "sh", "-euc", TRIALS[capability], "sh", folder]
        done = subprocess.run(words, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def need(*capabilities: str) -> None:
    """Skip the test if this machine does not allow what it needs."""
    for capability in capabilities:
        if why := why_not(capability):
            pytest.skip(f"this machine allows no {capability}: {why}")


def _flags(network: bool) -> list[str]:
    return ["--user", "--map-root-user", "--mount", *([] if network else ["--net"])]


class Machine:
    """Namespaces that a sleeping process holds.

    Args:
        network: whether it has this machine's network; otherwise it has a loopback of its own.

    Attributes:
        prefix: goes before a command that is to run in it.
    """

    def __init__(self, network: bool = True) -> None:
        need(NAMESPACES, *([] if network else [NETWORKS]))
        words = ["unshare", *_flags(network), "sh", "-c", "echo held; exec sleep infinity"]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "held\n":
            pytest.fail(f"no namespaces, which were there before: {self._holder.communicate()[1].strip()}")
        target = ["--target", str(self._holder.pid), "--user", "--mount", *([] if network else ["--net"])]
        self.prefix = ["nsenter", *target, "--preserve-credentials"]

    def run(self, script: str, *words: object) -> None:
        """Run a shell script in it as its root."""
        command = [*self.prefix, "sh", "-euc", script, "sh", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"'{script}' ended with {done.returncode}: {done.stderr.strip()}"

    def path(self, path: Path) -> Path:
        """A path of this machine as the test reaches it."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def small_disk(self, folder: Path, size: int) -> None:
        """Put an empty disk of some bytes where a folder is."""
        need(DISKS)
        self.run('mount -t tmpfs -o size="$2" none "$1"', folder, size)

    def fill(self, folder: Path) -> None:
        """Take all room that is left on a folder's disk."""
        with suppress(OSError), self.path(folder / ".ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def read_only(self, folder: Path) -> None:
        """Let nobody write to a folder, not even root."""
        need(READ_ONLY)
        self.run('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', folder)

    def without_shared_memory(self, scratch: Path) -> None:
        """Have a /dev that has nothing but the usual devices: no /dev/shm."""
        need(DISKS, READ_ONLY)
        devices = "for d in null zero full random urandom tty; do touch $1/$d; mount --bind /dev/$d $1/$d; done"
        self.run(f'mount -t tmpfs none "$1"; {devices}; mount --rbind "$1" /dev; test ! -e /dev/shm', scratch)

    def close(self) -> None:
        """Let go of it."""
        self._holder.kill()
        self._holder.communicate()
