"""Files that are there only when all that belongs into them is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, in a hidden folder beside ``path``, whose place it takes when all went well.

    A process that is killed leaves the hidden folder behind.

    Raises:
        OSError: nothing can be written there; what was there before is left as it was.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)
