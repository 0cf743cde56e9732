"""Malicious pickles: objects that run code or exhaust the memory when unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Trap:
    """Ends the process when unpickled, or creates a folder, which a test can detect.

    Args:
        path: the folder to create; None to end the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os._exit, (3,)) if self.path is None else (os.mkdir, (str(self.path),))


class MemoryBomb:
    """Allocates a terabyte when unpickled.

    Args:
        kind: type to allocate: an array, or a bytearray, which PyTorch treats as data.
    """

    def __init__(self, kind: Callable[[int], Any] = bytearray) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return self.kind, (1 << 40,)
