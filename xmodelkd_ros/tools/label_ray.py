"""Labelling of bags on a Ray cluster: one bag one task, the models sent once, lost workers retried."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xmodelkd_ros.core.errors import ConfigError, one_line
from xmodelkd_ros.resources import find_model

_Outcome = TypeVar("_Outcome")
Models = Mapping[str, Mapping[str, bytes]]
"""Content of the files of each model's folder, by the name or path that the options give it."""
_RETRIES = 3
"""Times that a task is repeated whose worker is lost."""
_ANSWER_S = 5.0
_SUFFIXES = (".json", ".onnx")


def on_ray(
    tasks: Sequence[Any],
    address: str,
    models: Sequence[str],
    needs_gpu: bool,
    label: Callable[[Any, Mapping[str, str]], _Outcome],
    failed: Callable[[Any, str], _Outcome],
) -> Iterator[_Outcome]:
    """Label bags on a cluster, on whose nodes their paths must be the same; yields their outcomes as they come.

    Args:
        tasks: the bags.
        address: of the cluster, as of ``ray.init``; ``auto`` for the one of this machine, ``local`` for one of its own.
        models: names or paths of the models, which the nodes need not have.
        needs_gpu: whether each task takes a GPU.
        label: labels a bag in a worker, given where the models lie there.
        failed: the outcome of a bag whose task Ray gives up, and why.

    Raises:
        ConfigError: ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # docs/trust.md: no program of ours reports its use
    try:
        import ray
    except ImportError as error:
        raise ConfigError("ray is not installed; run 'pip install xmodelkd_ros[cluster]'") from error
    _check_reachable(address)
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ray raises errors of many kinds
        raise ConfigError(f"cannot reach the Ray cluster {address}: {one_line(error)}") from error
    try:
        sent = ray.put(_packed(models))
        remote = ray.remote(lambda content, task: label(task, _unpacked(content))).options(
            max_retries=_RETRIES, num_gpus=int(needs_gpu)
        )
        waiting = {remote.remote(sent, task): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                yield ray.get(done)
            except Exception as error:
                yield failed(task, f"its task failed on the cluster: {one_line(error)}")
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise a ConfigError for an address at which nobody answers: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot reach the Ray cluster {address}: {one_line(error)}") from error


def _packed(models: Sequence[str]) -> Models:
    folders = {name: find_model(name) for name in models}
    return {
        name: {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in _SUFFIXES}
        for name, folder in folders.items()
    }


_folders: dict[str, str] = {}
"""Where the models lie in this worker."""


def _unpacked(models: Models) -> Mapping[str, str]:
    """Folders with the models, written by the first task of a worker."""
    if set(_folders) != set(models):
        root = Path(tempfile.mkdtemp(prefix="xmodelkd-models-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        for number, (name, files) in enumerate(models.items()):
            folder = root / str(number)
            folder.mkdir()
            for file, content in files.items():
                (folder / file).write_bytes(content)
            _folders[name] = str(folder)
    return _folders
