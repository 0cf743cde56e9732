"""Where built engines live, and when one may be used again.

An engine fits one network, one TensorRT, one GPU and one driver. All of these make its key, and the key its file name,
so that a changed network or an updated driver finds no engine rather than a stale one. Beside each engine lies what it
was built for, its SHA-256 and how it compared with the reference back end: an engine that is torn, foreign, or was
never compared is built again.
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
"""Raised when engines are built in another way."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine fits.

    Attributes:
        network: SHA-256 of the ONNX file.
        precision: of the network.
        library: name and version of TensorRT.
        gpu: name of the device.
        capability: its compute capability.
        driver: newest CUDA version that its driver knows.
        format: of this cache.
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
        """File name without an ending."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.precision}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


_NO_HOME = Path("/dev/null")
"""Stands for the home folder of those who have none: nobody can write below it."""


def default_folder() -> Path:
    """Where engines are kept unless the user says otherwise: below his cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else _home() / ".cache") / "xmodelkd_ros" / "engines"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container often runs as a user that it does not know
        return _NO_HOME


class EngineCache:
    """Engines in a folder.

    Args:
        folder: of the engines, made when the first one is kept; None for the user's cache folder.
        on_progress: takes a line on how far the building of an engine is.
    """

    def __init__(self, folder: Path | None = None, on_progress: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder or default_folder()
        self.on_progress = on_progress

    def find(self, key: EngineKey) -> bytes | None:
        """The engine of a key, if it is whole, and was accepted when it was compared."""
        try:
            note = parse_json(self._note(key).read_text(encoding="utf-8"))
            engine = self._file(key).read_bytes()
        except (OSError, ValueError):
            return None
        accepted = isinstance(note, dict) and note.get("key") == asdict(key) and "equal_labels" in note
        return engine if accepted and note.get("sha256") == hashlib.sha256(engine).hexdigest() else None

    def build(self, key: EngineKey, build: Callable[[Path], None]) -> bytes:
        """Build an engine; it is found only after :meth:`accept`.

        Args:
            key: of it.
            build: writes it to a file.

        Raises:
            BackendError: the folder cannot be written, or as ``build`` raises it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._note(key).unlink(missing_ok=True)
        except OSError as error:
            raise BackendError(
                f"cannot write engines to {self.folder}: {error.strerror}; set engine_cache_dir to another folder"
            ) from error
        build(self._file(key))
        return self._file(key).read_bytes()

    def accept(self, key: EngineKey, engine: bytes, equal_labels: float) -> None:
        """Keep an engine that was compared with the reference back end.

        Args:
            key: of it.
            engine: that was compared; another process may have built one of the same key meanwhile, or be here too.
            equal_labels: share of points that got the same label.

        Raises:
            BackendError: it cannot be written.
        """
        note = {"key": asdict(key), "sha256": hashlib.sha256(engine).hexdigest(), "equal_labels": equal_labels}
        try:
            with _locked(self.folder):
                if not _holds(self._file(key), engine):
                    with atomic_file(self._file(key)) as unfinished:
                        unfinished.write_bytes(engine)
                with atomic_file(self._note(key)) as unfinished:
                    unfinished.write_text(json.dumps(note, indent=2), encoding="utf-8")
        except OSError as error:
            raise BackendError(f"cannot write to {self.folder}: {error.strerror}") from error

    def reject(self, key: EngineKey) -> None:
        """Remove an engine that labels otherwise than the reference back end."""
        self._file(key).unlink(missing_ok=True)

    def _file(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def _note(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.json"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with a process that is killed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False
