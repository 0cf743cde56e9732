"""Files that are there only when all that belongs into them is written, and disks that take no more."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError, DiskError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def disk_errors(place: Path | None = None) -> Iterator[None]:
    """Turn errors that come from the disk into one line.

    Args:
        place: what is written, where that is known.

    Raises:
        DiskError: the disk is full, read-only, or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = f" {error.filename or place}" if error.filename or place else ""
        raise DiskError(f"cannot write{where}: {error.strerror}; make room, or choose another place") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write, in a hidden folder beside ``path``, whose place it takes when all went well.

    A process that is killed leaves the hidden folder behind.

    Raises:
        OSError: nothing can be written there; what was there before is left as it was.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)


@contextmanager
def atomic_files(out: Path, last: str) -> Iterator[Path]:
    """A hidden folder in ``out`` to write files to, which take their places there together when all went well.

    Args:
        out: the folder of a report.
        last: the file that names the others, which takes its place last.

    Raises:
        DiskError: the disk is full or fails; what was there before is left as it was.
    """
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".report-", dir=out) as unfinished:
        yield Path(unfinished)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == last):
            os.replace(file, out / file.name)


def make_folder(path: Path) -> None:
    """Make the folder of a report; before the work, so that nobody waits for nothing.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path}: {error.strerror}; choose another") from error


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """A folder to write to, hidden beside ``path``, whose place it takes when all went well.

    Raises:
        ConfigError: nothing can be written there.
        DiskError: the disk is full or fails.
    """
    make_folder(path.parent)
    try:
        temporary = tempfile.TemporaryDirectory(dir=path.parent, prefix=temporary_prefix(path))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error
    with disk_errors(path), temporary as name:
        folder = Path(name) / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            os.replace(path, folder.with_name("old"))  # goes with the temporary folder
        os.replace(folder, path)


def temporary_prefix(path: Path) -> str:
    """How the hidden folder's name begins; a process that is killed leaves it behind."""
    return f".{path.name}-"
