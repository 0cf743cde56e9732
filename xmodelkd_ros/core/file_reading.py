"""Files that cannot be used: whether they are missing or damaged, or the machine is at fault."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError, one_line

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def read_file(path: Path, missing: str) -> bytes:
    """What is in a file.

    Args:
        path: the file.
        missing: the error where it is not there.

    Raises:
        ConfigError: it is not there; or this user, its disk or the memory does not let it be read.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    except MemoryError as error:
        raise _no_memory(path) from error
    except OSError as error:
        if error.errno not in _MISSING:
            remedy = "let this user read it" if isinstance(error, PermissionError) else "look after its disk"
            raise ConfigError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except ValueError:  # no file can have such a name
        pass
    raise ConfigError(missing)


@contextmanager
def content_errors(path: Path, damaged: Callable[[Exception], ConfigError]) -> Iterator[None]:
    """Blame the content of a file for whatever goes wrong as it is used, but for what is the machine's fault.

    Args:
        path: the file.
        damaged: makes the error of a content that is not what it should be.

    Raises:
        ConfigError: something went wrong.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the latter as PyTorch says it
            raise _no_memory(path) from error
        if isinstance(error, ImportError):
            raise ConfigError(f"cannot read {path}: {one_line(error)}; install or update that library") from error
        raise damaged(error) from error


def _no_memory(path: Path) -> ConfigError:
    return ConfigError(f"cannot read {path}: no memory is left for it; end other programs, or take a larger machine")
