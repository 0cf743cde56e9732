"""Integer hashes and value noise, identical on every machine.

numba's disk cache does not track changes in other files that a function calls. Kernels in several files call
these functions: after a change here, delete the ``__pycache__`` folder beside this file.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xC2B2AE3D27D4EB4F)
_C = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_TOP24 = np.uint64(40)


@numba.njit(cache=True, nogil=True)
def mix_bits(i, j, key):  # type: ignore[no-untyped-def]
    """64-bit hash of two integers and a uint64 key."""
    h = np.uint64(i) * _A + np.uint64(j) * _B + key
    h = (h ^ (h >> _HALF)) * _C
    h = (h ^ (h >> _HALF)) * _C
    return h ^ (h >> _HALF)


@numba.njit(cache=True, nogil=True)
def to_unit(bits):  # type: ignore[no-untyped-def]
    """Number in [0, 1) from the upper 24 of 64 bits."""
    return np.float64(np.int64(bits >> _TOP24)) * (1.0 / 16777216.0)


@numba.njit(cache=True, nogil=True)
def lattice(i, j, key):  # type: ignore[no-untyped-def]
    """Number in [0, 1) for a lattice point; a weaker and faster hash than :func:`mix_bits`."""
    h = np.uint64(i) * _A + np.uint64(j) * _B + key
    return to_unit((h ^ (h >> _HALF)) * _C)


@numba.njit(cache=True, nogil=True)
def value_noise(x, y, key):  # type: ignore[no-untyped-def]
    """Value noise in 0..1 with a period of one unit."""
    i, j = np.int64(math.floor(x)), np.int64(math.floor(y))
    s, t = x - i, y - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = lattice(i, j, key) * (1 - s) + lattice(i + 1, j, key) * s
    high = lattice(i, j + 1, key) * (1 - s) + lattice(i + 1, j + 1, key) * s
    return low * (1 - t) + high * t


@numba.njit(cache=True, nogil=True)
def clamp(x):  # type: ignore[no-untyped-def]
    """Clamp to 0..1."""
    return min(1.0, max(0.0, x))


@numba.njit(cache=True, nogil=True)
def fade(f):  # type: ignore[no-untyped-def]
    """Remaining contrast of a pattern when a pixel covers ``f`` of its elements: 1 up to a third, 0 from one on."""
    return clamp(1.5 - 1.5 * f)


@numba.njit(cache=True, nogil=True)
def stains(x, y, f, key, octaves):  # type: ignore[no-untyped-def]
    """Fractal noise in 0..1 around 0.5; octaves finer than the footprint ``f`` are omitted."""
    total, weight, frequency = 0.0, 0.5, 1.0
    for _ in range(octaves):
        left = fade(f * frequency)
        if left <= 0.0:
            break
        total += weight * left * (value_noise(x * frequency, y * frequency, key) - 0.5)
        weight *= 0.6
        frequency *= 2.7
        key += _A
    return 0.5 + total
