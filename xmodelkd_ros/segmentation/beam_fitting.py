"""Fit of the beams in a process of its own, at the lowest priority, so that meanwhile a node labels sweeps in time.

    python -m xmodelkd_ros.segmentation.beam_fitting PARENT

reads sweeps from its standard input and prints the beams as JSON. It exits when the process PARENT does.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from xmodelkd_ros.core.child_process import exit_when_parent_dies
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import Beams, Mounting, SweepSample, even_steps, find_beams, sample_of
from xmodelkd_ros.resources import shipped_sensors

_PROGRAM = "xmodelkd_ros.segmentation.beam_fitting"
_LOWEST_PRIORITY = 19
_TIMEOUT_S = 60.0
"""Many times what a fit takes at the lowest priority on a busy computer."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class BeamFitting:
    """A fit under way.

    Args:
        samples: sweeps of one LiDAR.
        mounting: its attitude.
    """

    def __init__(self, samples: Sequence[SweepSample], mounting: Mounting) -> None:
        self._samples, self._mounting = list(samples), mounting
        self._beams = even_steps(self._samples, "their fit failed")
        self._thread = threading.Thread(target=self._run, name="beam fitting", daemon=True)
        self._thread.start()

    def result(self) -> Beams | None:
        """The beams, or None while they are looked for."""
        return None if self._thread.is_alive() else self._beams

    def _run(self) -> None:
        try:
            self._beams = _in_child(self._samples, self._mounting)
        except subprocess.TimeoutExpired:
            return
        except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):  # not started, or killed
            self._beams = find_beams(self._samples, known_beams(), self._mounting)


@cache
def known_beams() -> dict[str, tuple[float, ...]]:
    """Beams of the LiDARs that this package knows, degrees."""
    return {name: SensorSpec.read(path).beam_elevations_deg for name, path in shipped_sensors().items()}


def _in_child(samples: Sequence[SweepSample], mounting: Mounting) -> Beams:
    """The beams from a child process.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it was killed, or takes too long.
        ValueError: it prints something else.
    """
    done = subprocess.run(
        [sys.executable, "-m", _PROGRAM, str(os.getpid())],
        input=_packed(samples, mounting),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ONE_THREAD},
        start_new_session=True,  # Ctrl-C in the terminal is not for it
        timeout=_TIMEOUT_S,
        check=True,
    )
    data = json.loads(done.stdout)
    lists = {name: tuple(data[name]) for name in ("elevations_deg", "rings_deg")}
    return Beams(**{**data, **lists})


def _packed(samples: Sequence[SweepSample], mounting: Mounting) -> bytes:
    """What the fit needs, as an npz file."""
    arrays: dict[str, Any] = {"attitude": np.array([mounting.roll_deg, mounting.pitch_deg])}
    for k, sample in enumerate(samples):
        cloud = sample.cloud
        arrays |= {f"xyz{k}": cloud.xyz, f"size{k}": np.array([cloud.height, cloud.width])}
        arrays |= {} if cloud.ring is None else {f"ring{k}": cloud.ring}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(file: BinaryIO) -> tuple[list[SweepSample], Mounting]:
    arrays = np.load(io.BytesIO(file.read()), allow_pickle=False)
    samples = []
    for k in range(sum(name.startswith("xyz") for name in arrays.files)):
        height, width = (int(v) for v in arrays[f"size{k}"])
        ring = arrays[f"ring{k}"] if f"ring{k}" in arrays.files else None
        samples.append(sample_of(PointCloud(arrays[f"xyz{k}"], None, ring, height, width)))
    roll, pitch = (float(v) for v in arrays["attitude"])
    return samples, Mounting(roll_deg=roll, pitch_deg=pitch)


def main(arguments: list[str]) -> int:
    """Fit and print the beams; returns the exit code."""
    os.nice(_LOWEST_PRIORITY)
    for parent in arguments:
        exit_when_parent_dies(int(parent))
    samples, mounting = _unpacked(sys.stdin.buffer)
    print(json.dumps(asdict(find_beams(samples, known_beams(), mounting))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
