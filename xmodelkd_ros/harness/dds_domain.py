"""Reservation of DDS domain ids, so that no two tools of this package share a domain."""

from __future__ import annotations

import errno
import os
import socket
import sys

from xmodelkd_ros.core.errors import XModelKDError

_DOMAINS = 100
"""Above 101 the ports of a DDS domain overlap the ephemeral ports of Linux."""
_held: dict[int, socket.socket] = {}
"""Domains reserved by this process and their lock sockets, which the kernel closes when the process is killed."""


class DomainError(XModelKDError):
    """All DDS domains are in use."""


def reserve_domain(avoided: str) -> str:
    """Reserve a domain id other than ``avoided`` that no other tool uses here; later calls return it again.

    The lock is a socket with an abstract name, which exists on Linux only. Elsewhere, and where such sockets are
    forbidden, the domain is derived from the process id without a lock.

    Raises:
        DomainError: all domains are in use.
    """
    candidates = [1 + (os.getpid() + i) % _DOMAINS for i in range(_DOMAINS)]
    allowed = [domain for domain in candidates if str(domain) != avoided]
    for domain in [*(domain for domain in _held if domain in allowed), *allowed]:
        if _lock(domain):
            return str(domain)
    raise DomainError(
        f"all DDS domains from 1 to {_DOMAINS} are in use by tools of this package; "
        "stop some of them: replay, faults, load, endurance, transport, doctor"
    )


def lock_descriptors(domain: str) -> tuple[int, ...]:
    """File descriptors that a child process must inherit to keep the domain reserved after this process has ended."""
    lock = _held.get(int(domain)) if domain.isdecimal() else None
    return () if lock is None else (lock.fileno(),)


def _lock(domain: int) -> bool:
    if sys.platform != "linux" or domain in _held:
        return True
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0xmodelkd_ros.domain.{domain}")
    except OSError as error:
        lock.close()
        return error.errno != errno.EADDRINUSE
    _held[domain] = lock
    return True


def _release() -> None:
    """Close the inherited locks in a forked child, which would keep the parent's domain reserved."""
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)
