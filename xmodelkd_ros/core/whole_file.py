"""Files that are there only when all that belongs into them is written, and disks that take no more."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import DiskError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def writing(place: Path | None = None) -> Iterator[None]:
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


@contextmanager
def whole_files(out: Path, last: str) -> Iterator[Path]:
    """A hidden folder in ``out`` to write files to, which take their places there together when all went well.

    Args:
        out: the folder of a report.
        last: the file that names the others, which takes its place last.

    Raises:
        DiskError: the disk is full or fails; what was there before is left as it was.
    """
    with writing(out), tempfile.TemporaryDirectory(prefix=".report-", dir=out) as unfinished:
        yield Path(unfinished)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == last):
            os.replace(file, out / file.name)
