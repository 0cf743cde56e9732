"""Labelling of bags on a Ray cluster: one bag one task, lost workers are retried."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from xmodelkd_ros.core.errors import ConfigError, one_line

_Outcome = TypeVar("_Outcome")
_RETRIES = 3
"""Times that a task is repeated whose worker is lost."""


def on_ray(
    tasks: Sequence[Any],
    address: str,
    label: Callable[[Any], _Outcome],
    failed: Callable[[str, str], _Outcome],
) -> Iterator[_Outcome]:
    """Label bags on a cluster; yields their outcomes as they come.

    Args:
        tasks: the bags.
        address: of the cluster, as of ``ray.init``; ``auto`` for the one of this machine, ``local`` for one of its own.
        label: labels a bag in a worker.
        failed: the outcome of a bag, given its path, whose task Ray gives up, and why.

    Raises:
        ConfigError: ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # docs/trust.md: no program of ours reports its use
    try:
        import ray
    except ImportError as error:
        raise ConfigError("ray is not installed; run 'pip install xmodelkd_ros[cluster]'") from error
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ray raises errors of many kinds
        raise ConfigError(f"cannot reach the Ray cluster {address}: {one_line(error)}") from error
    try:
        remote = ray.remote(label).options(max_retries=_RETRIES, retry_exceptions=False)
        waiting = {remote.remote(task): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                yield ray.get(done)
            except Exception as error:
                yield failed(str(task.bag), f"its task failed on the cluster: {one_line(error)}")
    finally:
        ray.shutdown()
