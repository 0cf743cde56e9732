"""Atomic file and folder writes, and one-line errors for full or failing disks."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError, DiskError

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def disk_errors(path: Path | None = None) -> Iterator[None]:
    """Turn operating-system errors of the disk into a :class:`DiskError`.

    Args:
        path: the file or folder that is written, if known.

    Raises:
        DiskError: the disk is full, read-only, or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRNOS:
            raise
        where = f" {error.filename or path}" if error.filename or path else ""
        raise DiskError(f"cannot write{where}: {error.strerror}; make room, or choose another place") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically: yields a temporary path, which replaces ``path`` if no exception is raised.

    The temporary file lies in a hidden folder beside ``path``, which a killed process leaves behind.

    Raises:
        OSError: the location cannot be written; an existing file is left unchanged.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)


@contextmanager
def atomic_files(out: Path, last: str) -> Iterator[Path]:
    """Write several files together: yields a temporary folder, whose files move to ``out`` if no exception is raised.

    Args:
        out: the folder of a report.
        last: the file that refers to the others and is therefore moved last.

    Raises:
        DiskError: the disk is full or fails; existing files are left unchanged.
    """
    with disk_errors(out), tempfile.TemporaryDirectory(prefix=".report-", dir=out) as unfinished:
        yield Path(unfinished)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == last):
            os.replace(file, out / file.name)


def make_folder(path: Path) -> None:
    """Create an output folder. Call it before a long computation, so that a bad path fails early.

    Raises:
        ConfigError: the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path}: {error.strerror}; choose another") from error


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Write a folder atomically: yields a hidden folder, which replaces ``path`` if no exception is raised.

    Raises:
        ConfigError: the location cannot be written.
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
            os.replace(path, folder.with_name("old"))  # deleted with the temporary folder
        os.replace(folder, path)


def temporary_prefix(path: Path) -> str:
    """Prefix of the hidden folder's name, to find those that killed processes left behind."""
    return f".{path.name}-"
