"""The library that runs a network fastest on this machine: measured at the first start, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import TensorSpec, sha256
from xmodelkd_ros.inference.machine import cores, cpu_name

_WARM_UP, _RUNS = 2, 5


class _Network(Protocol):
    inputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...


Network = TypeVar("Network", bound=_Network)


class FastestLoader(Generic[Network]):
    """Loads each network with the library that runs it fastest.

    Where only one is installed nothing is measured.

    Args:
        loaders: by library, how a network file is loaded in a precision; the first one is the reference.
        folder: where it is kept what was measured. What cannot be kept is measured again at the next start.

    Attributes:
        reasons: for each network that was loaded, why the library was taken.
    """

    def __init__(self, loaders: Mapping[str, Callable[[Path, str], Network]], folder: Path) -> None:
        self._loaders = {name: load for name, load in loaders.items() if find_spec(name)} or dict(loaders)
        self._folder = folder
        self.reasons: list[str] = []

    def __call__(self, path: Path, precision: str) -> Network:
        """Load a network; errors as the reference library's loader raises them."""
        reference, *others = self._loaders
        if not others:
            self.reasons.append(f"{path.name}: {reference}, the only one installed")
            return self._loaders[reference](path, precision)
        note = self._note(path, precision)
        if kept := _read(note):
            try:
                best = self._loaders[_fastest(kept)](path, precision)
            except (BackendError, KeyError):
                pass  # it is no longer as it was measured
            else:
                self._explain(path, kept, "measured before")
                return best
        networks = self._loaded(path, precision)
        if len(networks) == 1:
            self.reasons.append(f"{path.name}: {reference}, the only one that takes it in {precision}")
            return networks[reference]
        times = _race(networks)
        _write(note, times)
        self._explain(path, times, "measured now")
        return networks[_fastest(times)]

    def _loaded(self, path: Path, precision: str) -> dict[str, Network]:
        """What can be loaded, the reference first."""
        reference, *others = self._loaders
        networks = {reference: self._loaders[reference](path, precision)}
        for name in others:
            try:
                networks[name] = self._loaders[name](path, precision)
            except BackendError:
                continue  # the reference serves
        return networks

    def _explain(self, path: Path, times: Mapping[str, float], when: str) -> None:
        ranked = sorted(times.items(), key=lambda entry: entry[1])
        self.reasons.append(f"{path.name}: {', '.join(f'{name} {ms:.1f} ms' for name, ms in ranked)}, {when}")

    def _note(self, path: Path, precision: str) -> Path:
        """The file for what was measured with this network, these libraries and this processor."""
        versions = {name: version(name) for name in self._loaders}
        key = json.dumps([sha256(path), precision, versions, cpu_name(), cores()], sort_keys=True)
        return self._folder / f"times-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _fastest(times: Mapping[str, float]) -> str:
    return min(times, key=lambda name: times[name])


def _race(networks: Mapping[str, Network]) -> dict[str, float]:
    """The shortest time of a run, in milliseconds; in turns, so that other work on the machine meets all alike."""
    tensors = next(iter(networks.values())).inputs
    # A dimension that is not fixed is -1: no network of ours, which whoever loads it will find out.
    inputs = {tensor.name: np.zeros([max(n, 1) for n in tensor.shape], tensor.dtype) for tensor in tensors}
    times = dict.fromkeys(networks, float("inf"))
    for turn in range(_WARM_UP + _RUNS):
        for name, network in networks.items():
            start = perf_counter()
            network.infer(inputs)
            if turn >= _WARM_UP:
                times[name] = min(times[name], round((perf_counter() - start) * 1e3, 2))
    return times


def _read(note: Path) -> dict[str, float]:
    try:
        return {str(name): float(ms) for name, ms in json.loads(note.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(note: Path, times: Mapping[str, float]) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=note.parent, prefix=".times.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(times, file)
        os.replace(unfinished, note)
    except OSError:
        return
