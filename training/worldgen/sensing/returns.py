"""LiDAR receiver model: kernels over pulses.

The strength of a return is its apparent reflectance: that of a face-on diffuser with the same return.
"""

from __future__ import annotations

import numba
import numpy as np

from training.worldgen.sensing.noise import mix_bits, to_unit

RANGE_STEP_M = 0.004
"""Range resolution, as in PandaSet's sensor: 16 bits reach 262 m."""
_DETECTION_SLOPE = 2.5
"""Exponent of the odds of detection as a function of strength."""
_MISSED = 0.004
"""Share of pulses lost at random, as measured in PandaSet on beams that see only ground."""
_SPECKLE = 0.05
"""Relative standard deviation of intensity: 4 to 6 % between neighbours on PandaSet's walls and roads."""
_PULSE_M = 1.5
"""Length of a pulse; surfaces closer together have one return."""
_PANE_SHARE = 0.8
"""Share of the rays through a pane that share its outcome."""
_PANE_KEY = np.uint64(0x70616E65)


@numba.njit(cache=True, nogil=True)
def apparent_reflectance(diffuse, normals, directions, gloss, retro, missed):  # type: ignore[no-untyped-def]
    """Apparent reflectance of surfaces for light that returns along its incident direction.

    Rough surfaces hardly darken towards grazing incidence: Oren and Nayar (1994) with coaxial illumination and a
    roughness of 40 degrees gives cos + 0.54 sin^2, relative to face-on. Glossier surfaces approach a plain cosine
    and return less in total, except for a lobe of a few degrees around the normal.
    """
    count = len(diffuse)
    strength = np.zeros(count, np.float32)
    for i in range(count):
        if missed[i]:
            continue
        cosine = 0.0
        for k in range(3):
            cosine -= normals[i, k] * directions[i, k]
        cosine = min(max(cosine, 0.0), 1.0)
        rough = max(0.0, 1.0 - 4.0 * gloss[i])
        value = diffuse[i] * (1.0 - gloss[i]) ** 4 * (cosine + rough * 0.54 * (1.0 - cosine * cosine))
        if gloss[i] > 0.0:
            value += 4.0 * gloss[i] * np.exp(-2.0 * (1.0 - cosine) / 0.0076)
        if retro[i] > 0.0:  # glass beads and prisms work up to about 50 degrees, and not beyond 70
            value += retro[i] * min(max((cosine - 0.34) / 0.3, 0.0), 1.0)
        strength[i] = value
    return strength


@numba.njit(cache=True, nogil=True)
def correlate_by_pane(chance, pane):  # type: ignore[no-untyped-def]
    """(N,) uniform numbers in 0..1 that most rays through one pane have in common.

    Reflection, a curtain or a visible room are properties of a whole pane: in real sweeps entire windows are
    missing, not every third pulse.

    Args:
        chance: (N,) independent uniform numbers in 0..1.
        pane: (N,) id of the pane that each ray meets.
    """
    result = np.empty(len(chance), np.float32)
    for i in range(len(chance)):
        if chance[i] < _PANE_SHARE:
            result[i] = to_unit(mix_bits(pane[i], 0, _PANE_KEY))
        else:
            result[i] = (chance[i] - _PANE_SHARE) / (1.0 - _PANE_SHARE)
    return result


@numba.njit(cache=True, nogil=True)
def mark_edges(distance, normals, directions, shape, shifts):  # type: ignore[no-untyped-def]
    """(N,) whether a pulse and one of its neighbours hit different surfaces.

    Neighbours are the pulses of a beam in successive columns (the last one is followed by the first), and those of
    successive beams if there are ``shifts``: the number of columns between pulses of the same azimuth.
    """
    columns, beams = shape
    marks = np.zeros(columns * beams, np.bool_)
    for column in range(columns):
        for beam in range(beams):
            i = column * beams + beam
            right = ((column + 1) % columns) * beams + beam
            if _apart(distance, normals, directions, i, right):
                marks[i] = marks[right] = True
            if beam < len(shifts):
                below = ((column + shifts[beam]) % columns) * beams + beam + 1
                if _apart(distance, normals, directions, i, below):
                    marks[i] = marks[below] = True
    return marks


@numba.njit(cache=True, nogil=True)
def _apart(distance, normals, directions, i, j):  # type: ignore[no-untyped-def]
    """Whether two pulses hit different surfaces: each hit lies off the other's plane."""
    a, b = distance[i], distance[j]
    if np.isinf(a) or np.isinf(b):
        return np.isinf(a) != np.isinf(b)
    return _off_plane(a, b, normals, directions, i, j) and _off_plane(b, a, normals, directions, j, i)


@numba.njit(cache=True, nogil=True)
def _off_plane(own, other, normals, directions, i, j):  # type: ignore[no-untyped-def]
    """Whether the range of j differs from where its ray meets the plane through i's hit, by over 0.1 m + 1 %."""
    along_own, along_other = 0.0, 0.0
    for k in range(3):
        along_own += normals[i, k] * directions[i, k]
        along_other += normals[i, k] * directions[j, k]
    if along_other > -1e-4:
        return True
    return abs(other - own * along_own / along_other) > 0.1 + 0.01 * other


@numba.njit(cache=True, nogil=True)
def strongest_return(distance, strength, shares, blends):  # type: ignore[no-untyped-def]
    """(K,) range, apparent reflectance and strongest ray of K pulses with several rays each.

    Rays within 0.3 m of each other form one return. The strongest return wins; where ``blends``, another return less
    than the length of a pulse away shifts its range towards itself.
    """
    count, rays = distance.shape
    mean = np.full(count, np.inf, np.float32)
    power = np.zeros(count, np.float32)
    strongest_return = np.zeros(count, np.int64)
    for k in range(count):
        best = 0.0
        for j in range(rays):
            if np.isinf(distance[k, j]):
                continue
            signal, center, top = _cluster(distance[k], strength[k], shares, distance[k, j], -1.0, 0.3)
            if signal > best:
                best, mean[k], strongest_return[k] = signal, center, top
        if best == 0.0:
            continue
        if blends[k]:
            signal, center, _ = _cluster(distance[k], strength[k], shares, mean[k], 0.3, _PULSE_M)
            mean[k] = (best * mean[k] + signal * center) / (best + signal)
            best += signal
        power[k] = best * mean[k] * mean[k]
    return mean, power, strongest_return


@numba.njit(cache=True, nogil=True)
def other_return(distance, strength, shares, first):  # type: ignore[no-untyped-def]
    """As :func:`strongest_return`, among the rays farther than a pulse's length from the (K,) ranges ``first``."""
    count, rays = distance.shape
    mean = np.full(count, np.inf, np.float32)
    power = np.zeros(count, np.float32)
    strongest = np.zeros(count, np.int64)
    for k in range(count):
        best = 0.0
        for j in range(rays):
            if np.isinf(distance[k, j]) or abs(distance[k, j] - first[k]) <= _PULSE_M:
                continue
            signal, center, top = _cluster(distance[k], strength[k], shares, distance[k, j], -1.0, 0.3)
            if signal > best:
                best, mean[k], strongest[k] = signal, center, top
        power[k] = best * mean[k] * mean[k] if best > 0.0 else 0.0
    return mean, power, strongest


@numba.njit(cache=True, nogil=True)
def _cluster(distance, strength, shares, center, low, high):  # type: ignore[no-untyped-def]
    """Signal, mean range and strongest ray of the rays between ``low`` and ``high`` metres from ``center``."""
    total, moment, best, top = 0.0, 0.0, 0.0, 0
    for j in range(len(distance)):
        apart = abs(distance[j] - center)
        if apart <= low or not apart <= high:
            continue
        signal = shares[j] * strength[j] / (distance[j] * distance[j])
        total += signal
        moment += signal * distance[j]
        if signal > best:
            best, top = signal, j
    return total, (moment / total if total > 0.0 else 0.0), top


@numba.njit(cache=True, nogil=True)
def detect_returns(distance, strength, chance, noise, gains, limits, scale):  # type: ignore[no-untyped-def]
    """Range steps (0 without a return) and intensity of returns.

    The odds of detection are (signal / threshold) ^ slope, where signal is strength / range^2 and the threshold is
    the signal of 10 % reflectance at the sensor's reach.
    """
    nearest, farthest, reach, sigma = limits
    gamma, exponent, offset = scale
    threshold = 0.1 / (reach * reach)
    steps = np.zeros(len(distance), np.uint16)
    intensity = np.zeros(len(distance), np.uint8)
    for i in range(len(distance)):
        range_m = distance[i]
        if not nearest <= range_m <= farthest or strength[i] <= 0.0:
            continue
        weakness = threshold * range_m * range_m / strength[i]
        if chance[i] > (1.0 - _MISSED) / (1.0 + weakness**_DETECTION_SLOPE):
            continue
        measured = range_m + sigma * np.sqrt(1.0 + 4.0 * weakness) * noise[0, i]
        steps[i] = min(max(int(np.rint(measured / RANGE_STEP_M)), 1), 65535)
        value = gains[i % len(gains)] * strength[i] ** gamma * (range_m / 20.0) ** exponent
        intensity[i] = int(min(np.rint(offset + value * max(0.0, 1.0 + _SPECKLE * noise[1, i])), 255.0))
    return steps, intensity
