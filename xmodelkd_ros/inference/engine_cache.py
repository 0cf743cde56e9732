"""Cache of built TensorRT engines.

An engine is valid for one network, TensorRT version, GPU and driver. These form its key, and the key its file name, so
that a changed network or an updated driver never finds a stale engine. A metadata file beside each engine has its key,
its SHA-256 and the result of the parity check: an engine that is damaged, foreign or unchecked is rebuilt.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.strict_json import parse_json

_FORMAT = 1
"""Incremented when the way of building engines changes."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        network: SHA-256 of the ONNX file.
        precision: precision of the network.
        library: name and version of TensorRT.
        gpu: name of the device.
        capability: compute capability.
        driver: newest CUDA version supported by the driver.
        format: format of this cache.
    """

    network: str
    precision: str
    library: str
    gpu: str
    capability: str
    driver: str
    format: int = _FORMAT

    @property
    def name(self) -> str:
        """File name without suffix."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.precision}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


_NO_HOME = Path("/dev/null")
"""In place of a missing home folder; not writable."""


def user_cache(name: str) -> Path:
    """A folder of this package in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else _home() / ".cache") / "xmodelkd_ros" / name


def default_folder() -> Path:
    """Default folder of the engines."""
    return user_cache("engines")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # containers often run as a user without an entry in /etc/passwd
        return _NO_HOME


class EngineCache:
    """Engines in a folder.

    Args:
        folder: the cache folder, created when needed; None for the user's cache folder.
        on_progress: receives one line per progress update while an engine is built.
    """

    def __init__(self, folder: Path | None = None, on_progress: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder or default_folder()
        self.on_progress = on_progress

    def find(self, key: EngineKey) -> bytes | None:
        """The engine of a key, if it is intact and was accepted; else None."""
        try:
            metadata = parse_json(self._metadata_path(key).read_text(encoding="utf-8"))
            engine = self._engine_path(key).read_bytes()
        except (OSError, ValueError):
            return None
        accepted = isinstance(metadata, dict) and metadata.get("key") == asdict(key) and "equal_labels" in metadata
        return engine if accepted and metadata.get("sha256") == hashlib.sha256(engine).hexdigest() else None

    def build(self, key: EngineKey, build: Callable[[Path], None]) -> bytes:
        """Build an engine; :meth:`find` returns it only after :meth:`accept`.

        Raises:
            BackendError: the folder cannot be written, or ``build`` failed.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._metadata_path(key).unlink(missing_ok=True)
        except OSError as error:
            raise BackendError(
                f"cannot write engines to {self.folder}: {error.strerror}; set engine_cache_dir to another folder"
            ) from error
        build(self._engine_path(key))
        return self._engine_path(key).read_bytes()

    def accept(self, key: EngineKey, engine: bytes, equal_labels: float) -> None:
        """Keep an engine that passed the parity check.

        Args:
            key: key of the engine.
            engine: the checked engine; another process may meanwhile have built or accepted one with the same key.
            equal_labels: share of points with the label of the reference back end.

        Raises:
            BackendError: the folder cannot be written.
        """
        metadata = {"key": asdict(key), "sha256": hashlib.sha256(engine).hexdigest(), "equal_labels": equal_labels}
        try:
            with _locked(self.folder):
                if not _has_content(self._engine_path(key), engine):
                    with atomic_file(self._engine_path(key)) as unfinished:
                        unfinished.write_bytes(engine)
                with atomic_file(self._metadata_path(key)) as unfinished:
                    unfinished.write_text(json.dumps(metadata, indent=2), encoding="utf-8")
        except OSError as error:
            raise BackendError(f"cannot write to {self.folder}: {error.strerror}") from error

    def reject(self, key: EngineKey) -> None:
        """Delete an engine that failed the parity check."""
        self._engine_path(key).unlink(missing_ok=True)

    def _engine_path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def _metadata_path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.json"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Exclusive lock between processes, released when a process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _has_content(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False
