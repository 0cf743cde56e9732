"""DDS domains that no two programs of this package share."""

from __future__ import annotations

import errno
import os
import socket
import sys

from xmodelkd_ros.core.errors import XModelKDError

_DOMAINS = 100
"""Above 101 the ports of a DDS domain run into those that Linux gives to clients."""
_held: dict[int, socket.socket] = {}
"""Of this process. A socket is there as long as a process has it open, so a killed one leaves nothing behind."""


class DomainError(XModelKDError):
    """All DDS domains are taken."""


def reserve_domain(avoided: str) -> str:
    """A domain that no other program of this package on this machine has, the same at every call.

    Only Linux has sockets with abstract names; elsewhere, and where these are forbidden, the process's number decides.

    Args:
        avoided: a domain that it must not be.

    Raises:
        DomainError: all are taken.
    """
    candidates = [1 + (os.getpid() + i) % _DOMAINS for i in range(_DOMAINS)]
    wanted = [domain for domain in candidates if str(domain) != avoided]
    for domain in [*(domain for domain in _held if domain in wanted), *wanted]:
        if _hold(domain):
            return str(domain)
    raise DomainError(
        f"programs of this package hold all of the DDS domains 1 to {_DOMAINS}; "
        "end some of them: replay, faults, load, endurance, transport, doctor"
    )


def lock_descriptors(domain: str) -> tuple[int, ...]:
    """What a process has to inherit to hold a domain of this one beyond its end: descriptors."""
    held = _held.get(int(domain)) if domain.isdecimal() else None
    return () if held is None else (held.fileno(),)


def _hold(domain: int) -> bool:
    if sys.platform != "linux" or domain in _held:
        return True
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0xmodelkd_ros.domain.{domain}")
    except OSError as error:
        holder.close()
        return error.errno != errno.EADDRINUSE
    _held[domain] = holder
    return True


def _release() -> None:
    """In a fork, which is a process of its own: what it inherited would keep the domain from others."""
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)
