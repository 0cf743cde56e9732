"""Folders that are there only when all that belongs into them is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.whole_file import writing
from xmodelkd_ros.tools.session import make_folder


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, hidden beside ``path``, whose place it takes when all went well.

    Raises:
        ConfigError: nothing can be written there.
        DiskError: the disk is full or fails.
    """
    make_folder(path.parent)
    try:
        temporary = tempfile.TemporaryDirectory(dir=path.parent, prefix=hidden_name(path))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error
    with writing(path), temporary as name:
        folder = Path(name) / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            os.replace(path, folder.with_name("old"))  # goes with the temporary folder
        os.replace(folder, path)


def hidden_name(path: Path) -> str:
    """How the hidden folder's name begins; a process that is killed leaves it behind."""
    return f".{path.name}-"
