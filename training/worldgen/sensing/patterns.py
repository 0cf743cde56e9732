"""Procedural patterns of a material's two colours.

All are functions of the point on the object (metres) and of the footprint of the pixel or beam there. Detail
finer than the footprint is replaced by its mean, which prevents aliasing on distant surfaces.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from training.worldgen.materials import Pattern
from training.worldgen.sensing.noise import clamp, fade, lattice, mix_bits, stains, to_unit, value_noise

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xC2B2AE3D27D4EB4F)
_C = np.uint64(0xD6E8FEB86659FD93)

_NOISE, _GRAIN, _BRICKS, _SLABS = (int(p) for p in (Pattern.NOISE, Pattern.GRAIN, Pattern.BRICKS, Pattern.SLABS))
_PLANKS, _STRIPES, _BANDS, _CHECKS = (int(p) for p in (Pattern.PLANKS, Pattern.STRIPES, Pattern.BANDS, Pattern.CHECKS))
_LEAVES, _GRASS, _WAVES = (int(p) for p in (Pattern.LEAVES, Pattern.GRASS, Pattern.WAVES))
_POSTER, _SIGN, _PRINT, _LAMPS = (int(p) for p in (Pattern.POSTER, Pattern.SIGN, Pattern.PRINT, Pattern.LAMPS))
_WORN = int(Pattern.WORN)

ANY_ROW = -1
"""Palette rows are selected by the instance id, not by the pattern."""

SECOND_ROW = 8
"""Rows from here on select the second colour (after subtracting this number); lower rows select the first."""


@numba.njit(cache=True, nogil=True)
def pulse(x, duty, f):  # type: ignore[no-untyped-def]
    """Share of [x - f/2, x + f/2] inside bars that fill ``duty`` of each unit: antialiased stripes."""
    width = max(f, 0.01)
    a, b = x - width / 2, x + width / 2
    first, last = math.floor(a), math.floor(b)
    return ((last - first) * duty + min(b - last, duty) - min(a - first, duty)) / width


@numba.njit(cache=True, nogil=True)
def _inside(distance, f):  # type: ignore[no-untyped-def]
    """Share of a pixel inside a shape; the signed ``distance`` to its edge is negative inside."""
    return clamp(0.5 - distance / max(f, 1e-3))


@numba.njit(cache=True, nogil=True)
def _grain(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Asphalt, concrete: grain, stains, repair patches, cracks."""
    p, q, f = x / scale, y / scale, footprint / scale
    mix = contrast * stains(p, q, f, key, 3)
    shade = 1.0 + 0.35 * fade(f / 7) * (value_noise(p / 7, q / 7, key + _B) - 0.5)
    fine = fade(footprint / 0.03)
    if fine > 0.0:
        shade += 0.3 * fine * (lattice(math.floor(x / 0.03), math.floor(y / 0.03), key) - 0.5)
    return mix, shade * _patch(p / 3.5, q / 2.5, f / 3, key) * _crack(p, q, scale, f, key), ANY_ROW


@numba.njit(cache=True, nogil=True)
def _patch(p, q, f, key):  # type: ignore[no-untyped-def]
    """Shade of rectangular repair patches in about one cell in six."""
    i, j = np.int64(math.floor(p)), np.int64(math.floor(q))
    bits = mix_bits(i, j, key + _C)
    if to_unit(bits) > 0.17:
        return 1.0
    long = 0.2 + 0.3 * to_unit(bits << np.uint64(24))
    wide = 0.1 + 0.35 * to_unit(bits << np.uint64(12))
    out = max(abs(p - i - 0.5) - long, abs(q - j - 0.5) - wide)
    darker = -0.32 if bits & np.uint64(1) else 0.14
    return 1.0 + darker * _inside(out, f) * fade(f)


@numba.njit(cache=True, nogil=True)
def _crack(p, q, scale, f, key):  # type: ignore[no-untyped-def]
    """Shade of cracks: thin dark lines along contours of noise, in some areas only."""
    left = fade(4 * f)
    if left <= 0.0 or value_noise(p / 5, q / 5, key + _A) < 0.6:
        return 1.0
    off = abs(value_noise(p * 0.6, q * 0.6, key + _C) + 0.2 * value_noise(p * 3, q * 3, key) - 0.6) / 0.8
    width = 0.012 / scale
    return 1.0 - 0.8 * left * clamp(1.0 - off / (width + f)) * width / (width + f)


@numba.njit(cache=True, nogil=True)
def _tiles(p, q, height, joint, f, key):  # type: ignore[no-untyped-def]
    """Share of joints, and shade of each tile; tiles are 1 wide, odd rows are offset if they are not square."""
    v = q / height
    row = np.int64(math.floor(v))
    u = p + (0.5 * (row & 1) if height < 1.0 else 0.0)
    across, along = pulse(u + joint / 2, joint, f), pulse(v + joint / height / 2, joint / height, f / height)
    own = lattice(math.floor(u), row, key) - 0.5
    return across + along - across * along, 1.0 + 0.36 * fade(f / height) * own


@numba.njit(cache=True, nogil=True)
def _bricks(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Running bond."""
    p, q, f = x / scale, y / scale, footprint / scale
    joint, shade = _tiles(p, q, 0.38, min(0.08, 0.012 / scale), f, key)
    shade += 0.2 * (stains(p / 6, q / 6, f / 6, key, 2) - 0.5)
    return math.sqrt(contrast) * joint, shade, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _slabs(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Square slabs."""
    p, q, f = x / scale, y / scale, footprint / scale
    joint, shade = _tiles(p, q, 1.0, min(0.006 + 0.05 * scale, 0.03) / scale, f, key)
    shade += 0.35 * (stains(x / 0.9, y / 0.9, footprint / 0.9, key, 3) - 0.5)
    return min(1.0, 1.6 * contrast) * joint, shade - 0.25 * joint, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _planks(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Stacked boards, each with its own shade and streaks."""
    v, f = y / scale, footprint / scale
    board = math.floor(v)
    own = lattice(board, 7, key) - 0.5
    streaks = stains(x / scale * 0.25 + 40 * own, v * 5, f * 5, key, 2)
    return contrast * streaks, (1.0 + 0.3 * own * fade(f)) * (1.0 - 0.5 * pulse(v, 0.07, f)), ANY_ROW


@numba.njit(cache=True, nogil=True)
def _checks(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Bands in two directions that add up where they cross."""
    f = footprint / scale
    return contrast * (pulse(x / scale, 0.5, f) + pulse(y / scale, 0.5, f)), 1.0, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _leaves(x, y, z, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Spots from oblique 3-D cells, so that leaf cards of every orientation are divided differently."""
    size, f = scale * 0.6, footprint / scale
    deep = np.uint64(np.int64(math.floor((z + 0.6 * x - 0.3 * y) / size))) * _C
    spot = lattice(math.floor((x + 0.5 * y) / size), math.floor((y - 0.7 * z) / size), key + deep) - 0.5
    bunch = value_noise(x / scale / 3 + z / scale / 4, y / scale / 3 - z / scale / 5, key) - 0.5
    left = fade(f)
    return contrast * (0.5 + 0.8 * spot * left), 0.95 + 1.2 * spot * left + 0.7 * bunch * fade(f / 3), ANY_ROW


@numba.njit(cache=True, nogil=True)
def _grass(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Patches of both colours, and short strokes for blades."""
    patches = stains(x / scale / 5, y / scale / 5, footprint / scale / 5, key, 4) - 0.5
    blade = scale * 0.12
    strokes = stains(x / blade, y / blade / 2.5, footprint / blade, key + _B, 1) - 0.5
    tufts = stains(x / scale, y / scale, footprint / scale, key + _C, 2) - 0.5
    return contrast * clamp(0.5 + 2.4 * patches + 0.5 * strokes), 0.95 + 0.9 * strokes + 0.5 * tufts, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _waves(x, y, scale, contrast, footprint, key, flat):  # type: ignore[no-untyped-def]
    """Vertical ribs on walls, rows of ribs on roofs."""
    f = footprint / scale
    p = x / scale + 0.25 * value_noise(x / scale, y / scale / 6, key)
    swing = 0.5 + 0.5 * math.cos(2 * math.pi * p) * fade(f)
    rows = pulse(y / scale / 1.3, 0.12, f / 1.3) if flat else 0.0
    own = fade(f / 3) * (value_noise(x / scale / 3, y / scale / 3, key) - 0.5)
    return contrast * clamp(swing + own), (1.0 - 0.45 * contrast * swing) * (1 - 0.4 * rows) + 0.2 * own, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _worn(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Paint, with the ground where it has worn off."""
    f = footprint / scale
    worn = clamp((stains(x / scale, y / scale, f, key, 4) - 0.72 + 0.5 * contrast) / 0.1)
    left = fade(f)
    return worn * left + 0.8 * contrast * (1 - left), 1.0, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _poster(y, z, scale, footprint, key):  # type: ignore[no-untyped-def]
    """A standing person: head in the second colour, clothes in other rows of the first."""
    bits = mix_bits(11, 13, key)
    tall = scale * (1.1 + 0.7 * to_unit(bits))
    p, q, f = y / tall + 0.16 * (to_unit(bits << np.uint64(20)) - 0.5), z / tall, footprint / tall
    head = _inside(math.sqrt(p * p + (q - 0.4) * (q - 0.4) * 0.8) - 0.075, f)
    if head > 0.5:
        return 1.0, 1.0, ANY_ROW
    body = max(abs(p) - 0.14 - 0.05 * (0.3 - q), max(q - 0.31, -0.05 - q))
    legs = max(abs(abs(p) - 0.075) - 0.05, max(q + 0.05, -0.48 - q))
    if body < 0.0:
        return 0.0, 0.8, np.int64(bits & np.uint64(7))
    if legs < 0.0:
        return 0.0, 0.35, np.int64((bits >> np.uint64(3)) & np.uint64(7))
    return 0.9 * head, 1.0, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _sign(y, z, scale, footprint, key):  # type: ignore[no-untyped-def]
    """A round or square border and a symbol (bars or a mirrored glyph); 30 % of signs have swapped colours."""
    bits = mix_bits(17, 19, key)
    p, q, f = y / scale, z / scale, footprint / scale
    out = math.sqrt(p * p + q * q) if bits & np.uint64(1) else max(abs(p), abs(q))
    ground = _inside(out - 0.24, f)
    i, j = np.int64(math.floor(abs(p) / 0.05)), np.int64(math.floor((q + 0.15) / 0.06))
    bars = bits & np.uint64(2)
    if bars:
        symbol = _inside(max(abs(q) - 0.05, abs(p) - 0.16), f)
    else:
        symbol = 1.0 if i < 3 and 0 <= j < 5 and lattice(i, j, key) < 0.5 else 0.0
        symbol = symbol * fade(f / 0.07) + 0.4 * (1 - fade(f / 0.07)) * _inside(out - 0.16, f)
    mix = ground * (1 - symbol)
    return (1 - mix if to_unit(bits) < 0.3 else mix), 1.0, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _print(x, y, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Lines of 3 x 5 bit letters, with some lines and letters missing."""
    q, f = y / scale / 1.5 + 0.27, footprint / scale
    line = np.int64(math.floor(q))
    p = x / scale / 0.75 + 5 * lattice(line, 3, key)
    letter = np.int64(math.floor(p))
    i, j = np.int64(math.floor((p - letter) * 4)), np.int64(math.floor((q - line) * 7.5))
    bits = mix_bits(letter, line, key)
    word = 1.0 if to_unit(bits) < 0.8 and (line == 0 or lattice(line, 5, key) > 0.35) else 0.0
    ink = word if i < 3 and j < 5 and (bits >> np.uint64(i * 5 + j)) & np.uint64(1) else 0.0
    left, lines_left = fade(f / 0.25), fade(f / 1.5)
    shown = ink * left + 0.25 * word * (1 - left)
    return min(1.0, 1.8 * contrast) * (shown * lines_left + 0.14 * (1 - lines_left)), 1.0, ANY_ROW


@numba.njit(cache=True, nogil=True)
def _lamps(y, z, scale, footprint, key):  # type: ignore[no-untyped-def]
    """Red, yellow and green from the top (rows 0, 1 and 3 of palette "bright"); one is lit."""
    lit = np.int64(mix_bits(23, 29, key) % np.uint64(3))
    lamp = np.int64(min(2.0, max(0.0, math.floor(1.5 - z / scale / 0.3))))
    q = z / scale - 0.3 * (1 - lamp)
    mix = _inside(math.sqrt(y * y / scale / scale + q * q) - 0.105, footprint / scale)
    row = SECOND_ROW + (3 if lamp == 2 else lamp)
    return mix, (1.0 + 1.8 * mix if lamp == lit else 1.0 - 0.85 * mix), row


@numba.njit(cache=True, nogil=True)
def pattern(kind, point, normal, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """A material's pattern at a point.

    Args:
        kind: a :class:`~training.worldgen.materials.Pattern`.
        point: (3,) texture coordinates, metres.
        normal: (3,) in texture coordinates, of any length; its largest component selects the plane of the pattern.
        scale: size of one element, metres.
        contrast: share of the second colour.
        footprint: metres.
        key: uint64, different for each object.

    Returns:
        Share of the second colour in 0..1, factor on the colour (about 1), and the row of a palette
        (see ``ANY_ROW``, ``SECOND_ROW``).
    """
    (x, y, z), (nx, ny, nz) = (point[0], point[1], point[2]), (normal[0], normal[1], normal[2])
    flat = abs(nz) >= abs(nx) and abs(nz) >= abs(ny)
    p = x if flat or abs(ny) > abs(nx) else y
    q = y if flat else z
    if kind == _GRAIN:
        return _grain(p, q, scale, contrast, footprint, key)
    if kind == _NOISE:
        return contrast * stains(p / scale, q / scale, footprint / scale, key, 4), 1.0, ANY_ROW
    if kind == _BRICKS:
        return _bricks(p, q, scale, contrast, footprint, key)
    if kind == _SLABS:
        return _slabs(p, q, scale, contrast, footprint, key)
    if kind == _LEAVES:
        return _leaves(x, y, z, scale, contrast, footprint, key)
    if kind == _GRASS:
        return _grass(p, q, scale, contrast, footprint, key)
    if kind == _WAVES:
        return _waves(p, q, scale, contrast, footprint, key, flat)
    return _crisp(kind, p, q, point, scale, contrast, footprint, key)


@numba.njit(cache=True, nogil=True)
def _crisp(kind, p, q, point, scale, contrast, footprint, key):  # type: ignore[no-untyped-def]
    """Patterns with sharp edges."""
    y, z = point[1], point[2]
    if kind == _PLANKS:
        return _planks(p, q, scale, contrast, footprint, key)
    if kind == _STRIPES:
        return pulse(p / scale, contrast, footprint / scale), 1.0, ANY_ROW
    if kind == _BANDS:
        return pulse(q / scale, contrast, footprint / scale), 1.0, ANY_ROW
    if kind == _CHECKS:
        return _checks(p, q, scale, contrast, footprint, key)
    if kind == _WORN:
        return _worn(p, q, scale, contrast, footprint, key)
    if kind == _POSTER:
        return _poster(y, z, scale, footprint, key)
    if kind == _SIGN:
        return _sign(y, z, scale, footprint, key)
    if kind == _PRINT:
        return _print(p, q, scale, contrast, footprint, key)
    if kind == _LAMPS:
        return _lamps(y, z, scale, footprint, key)
    return 0.0, 1.0, ANY_ROW


class PatternTable(NamedTuple):
    """Pattern parameters of M materials.

    Attributes:
        kind: (M,) int64, :class:`~training.worldgen.materials.Pattern`.
        scale: (M,) float64, metres.
        contrast: (M,) float64.
        seed: uint64, different for each scene.
    """

    kind: NDArray[np.int64]
    scale: NDArray[np.float64]
    contrast: NDArray[np.float64]
    seed: np.uint64


@numba.njit(cache=True, nogil=True)
def evaluate_patterns(layout, triangle, u, v, footprint, corners, material, instance):  # type: ignore[no-untyped-def]
    """Evaluate patterns at N hits.

    Args:
        layout: a :class:`PatternTable`.
        triangle: (N,) of :class:`~training.worldgen.tracing.Hits`.
        u: (N,) likewise.
        v: (N,) likewise.
        footprint: (N,) metres.
        corners: (T, 3, 3) texture coordinates of the triangles.
        material: (T,) material ids.
        instance: (T,) instance ids.

    Returns:
        (N,) float32 mix, (N,) float32 shade and (N,) int8 row as returned by :func:`pattern`, and (N,) uint64 hash
        of object and material. Without a hit: 0, 1, ``ANY_ROW``, 0.
    """
    count = len(triangle)
    mix, shade = np.zeros(count, np.float32), np.ones(count, np.float32)
    row, bits = np.full(count, ANY_ROW, np.int8), np.zeros(count, np.uint64)
    point, normal = np.empty(3), np.empty(3)
    for i in range(count):
        t = triangle[i]
        if t < 0:
            continue
        m = np.int64(material[t])
        bits[i] = mix_bits(np.int64(instance[t]), m, layout.seed)
        kind = layout.kind[m]
        if kind == 0:
            continue
        _locate(corners[t], u[i], v[i], point, normal)
        size, contrast, fine = layout.scale[m], layout.contrast[m], np.float64(footprint[i])
        mix[i], shade[i], row[i] = pattern(kind, point, normal, size, contrast, fine, bits[i])
    return mix, shade, row, bits


@numba.njit(cache=True, nogil=True)
def _locate(corners, u, v, point, normal):  # type: ignore[no-untyped-def]
    """Write the point at barycentric u, v of a triangle, and its normal (of any length)."""
    a, b = np.float64(u), np.float64(v)
    e0, e1, e2 = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    g0, g1, g2 = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
    point[0] = corners[0, 0] + a * e0 + b * g0
    point[1] = corners[0, 1] + a * e1 + b * g1
    point[2] = corners[0, 2] + a * e2 + b * g2
    normal[0], normal[1], normal[2] = e1 * g2 - e2 * g1, e2 * g0 - e0 * g2, e0 * g1 - e1 * g0
