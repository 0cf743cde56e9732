"""What data can hold to do harm to those who unpickle it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Trap:
    """Unpickled, it ends the process; or makes a folder, so that a test can tell.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os._exit, (3,)) if self.path is None else (os.mkdir, (str(self.path),))


class Room:
    """Unpickled, it takes a terabyte.

    Args:
        kind: what is that large: an array; or a bytearray, which PyTorch takes for data.
    """

    def __init__(self, kind: Callable[[int], Any] = bytearray) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return self.kind, (1 << 40,)
