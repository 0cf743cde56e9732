"""Numbers from integers: hashes and smooth noise, the same on every machine.

numba's cache on disk does not see changes in the files a function calls into. The loops that call
these functions stand in several files, so who changes something here removes the ``__pycache__`` beside it.
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
    """64 scattered bits of two integers and a uint64 key."""
    h = np.uint64(i) * _A + np.uint64(j) * _B + key
    h = (h ^ (h >> _HALF)) * _C
    h = (h ^ (h >> _HALF)) * _C
    return h ^ (h >> _HALF)


@numba.njit(cache=True, nogil=True)
def to_unit(bits):  # type: ignore[no-untyped-def]
    """A number in [0, 1) of the upper 24 of 64 bits."""
    return np.float64(np.int64(bits >> _TOP24)) * (1.0 / 16777216.0)


@numba.njit(cache=True, nogil=True)
def lattice(i, j, key):  # type: ignore[no-untyped-def]
    """A number in [0, 1) for a lattice point; less scattered than mix_bits and faster."""
    h = np.uint64(i) * _A + np.uint64(j) * _B + key
    return to_unit((h ^ (h >> _HALF)) * _C)


@numba.njit(cache=True, nogil=True)
def value_noise(x, y, key):  # type: ignore[no-untyped-def]
    """Smooth noise in 0..1 with one value per unit square."""
    i, j = np.int64(math.floor(x)), np.int64(math.floor(y))
    s, t = x - i, y - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = lattice(i, j, key) * (1 - s) + lattice(i + 1, j, key) * s
    high = lattice(i, j + 1, key) * (1 - s) + lattice(i + 1, j + 1, key) * s
    return low * (1 - t) + high * t


@numba.njit(cache=True, nogil=True)
def clamp(x):  # type: ignore[no-untyped-def]
    """Into 0..1."""
    return min(1.0, max(0.0, x))


@numba.njit(cache=True, nogil=True)
def fade(f):  # type: ignore[no-untyped-def]
    """How much of a pattern is left when a pixel covers ``f`` of its elements: all up to a third, none at one."""
    return clamp(1.5 - 1.5 * f)


@numba.njit(cache=True, nogil=True)
def stains(x, y, f, key, octaves):  # type: ignore[no-untyped-def]
    """Noise at several sizes, 0..1 about 0.5; sizes below the footprint ``f`` are left out."""
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
