"""What a dataset's folder holds: files of frames, and notes about what is left out."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError


def files_in(folder: Path) -> frozenset[str]:
    """Names of the files in a folder; none if it does not exist.

    Raises:
        ConfigError: the folder cannot be read.
    """
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}; check its permissions and its disk") from error


class FolderContent:
    """Which files a folder holds; each of its folders is listed once.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, frozenset[str]] = {}

    def has(self, relative: str) -> bool:
        """Whether it holds a file, given relative to it."""
        path = self._root / relative
        if path.parent not in self._listed:
            self._listed[path.parent] = files_in(path.parent)
        return path.name in self._listed[path.parent]


def missing_note(what: str, missing: Collection[str], total: int, consequence: str) -> list[str]:
    """A note that files are missing, or none if all are there.

    Args:
        what: the kind of file, such as ``images of CAM_FRONT``.
        missing: names of the missing files.
        total: number of files that should be there.
        consequence: what is done without them.
    """
    if not missing:
        return []
    if len(missing) == total:
        return [f"no {what} ({min(missing)}); {consequence}"]
    return [f"{len(missing)} of {total} {what} are missing ({min(missing)}); {consequence}"]
