"""Reading files with errors that tell a missing or damaged file from a failure of the machine."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError, one_line

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def read_file(path: Path, missing: str) -> bytes:
    """Content of a regular file; ``missing`` is the error message if there is none.

    Raises:
        ConfigError: the file is missing, or cannot be read because of permissions, its disk or the memory.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    except MemoryError as error:
        raise _no_memory(path) from error
    except OSError as error:
        if error.errno not in _MISSING:
            remedy = "give this user read permission" if isinstance(error, PermissionError) else "check its disk"
            raise ConfigError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except ValueError:  # not a valid file name
        pass
    raise ConfigError(missing)


@contextmanager
def content_errors(path: Path, damaged: Callable[[Exception], ConfigError]) -> Iterator[None]:
    """Report exceptions while a file is parsed as damaged content, except missing memory or libraries.

    Args:
        path: the file.
        damaged: makes the error for damaged content from the exception.

    Raises:
        ConfigError: the block raised an exception.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # PyTorch raises RuntimeError
            raise _no_memory(path) from error
        if isinstance(error, ImportError):
            raise ConfigError(f"cannot read {path}: {one_line(error)}; install or update that library") from error
        raise damaged(error) from error


def _no_memory(path: Path) -> ConfigError:
    return ConfigError(f"cannot read {path}: out of memory; stop other programs, or use a machine with more memory")
