"""Colour and reflectance of surfaces at a point.

Every scene draws its own appearance of the materials, and every object its own colours from the palettes.
Reflectances of road, pavement and grass overlap between scenes: intensity alone must not reveal the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.worldgen.materials import GROUPS, MATERIAL_NAMES, MATERIALS, Pattern, material_id, palette_colors
from training.worldgen.sensing.patterns import ANY_ROW, SECOND_ROW, PatternTable, evaluate_patterns
from training.worldgen.tracing import Hits, Tracer

_GROUND = (
    *("asphalt", "asphalt_new", "concrete_road", "cobbles", "gravel", "kerbstone", "grass", "dry_grass", "soil"),
    *("paving_slabs", "paving_bricks", "paving_concrete", "paving_asphalt"),
)
"""Materials built in one go along a street: a scene has two colours of each, not eight."""

_THIN = (*GROUPS["foliage"][1], *GROUPS["grass"][1])
"""Translucent materials."""

_RETRO_SPREAD = 0.7
"""Standard deviation of the natural logarithm of retro-reflection between scenes: sheeting ages, receivers saturate."""
_DENSITY = (0.25, 1.4)
"""Range of the density of a scene's foliage relative to its materials': from bare twigs in winter to midsummer."""

_SCENE_SHARE, _OBJECT_SHARE = 0.8, 0.6
"""Shares of ``Material.spread``; their squares add up to one."""

_SECOND_IS_DARKER = 0.55
_SUM_OF_FOUR = math.sqrt(3)
"""Scales the sum of four uniform numbers of width one to a standard deviation of one."""

_BEAM_M, _BEAM_PER_M = 0.02, 0.002
"""Footprint of a LiDAR beam at the sensor, and its growth per metre."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """Appearance of the M materials in one scene.

    Attributes:
        colors: (M, 2, 8, 3) float32 first and second colours, 8 rows to select from; linear light, 0 to 1.
        reflectances: (M, 2) float32 diffuse reflectance of both colours at 905 nm, 0 to 1.
        spread: (M,) float32 standard deviation of the logarithm of reflectance between objects.
        gloss: (M,) float32 specular share of the reflected light.
        retro: (M,) float32 retro-reflection relative to a white diffuser.
        transparent: (M,) float32 probability that a pulse is not returned.
        permeable: (M,) float32 probability that a pulse passes through a piece of foliage.
        depth: (M,) float32 mean distance behind the surface from which foliage returns a pulse, metres.
        translucent: (M,) float32 share of transmitted light: leaves, grass.
        layout: parameters of the patterns.
    """

    colors: NDArray[np.float32]
    reflectances: NDArray[np.float32]
    spread: NDArray[np.float32]
    gloss: NDArray[np.float32]
    retro: NDArray[np.float32]
    transparent: NDArray[np.float32]
    permeable: NDArray[np.float32]
    depth: NDArray[np.float32]
    translucent: NDArray[np.float32]
    layout: PatternTable

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Appearance:
        """Draw the appearance of a scene."""
        rows = tuple(MATERIALS.values())
        permeable, depth = _foliage(rng)
        return cls(
            colors=_colors(rng),
            reflectances=_reflectances(rng),
            spread=np.array([row.spread * _OBJECT_SHARE for row in rows], np.float32),
            gloss=np.array([row.gloss for row in rows], np.float32),
            retro=(np.array([row.retro for row in rows]) * np.exp(rng.normal(0.0, _RETRO_SPREAD))).astype(np.float32),
            transparent=np.array([row.transparent for row in rows], np.float32),
            permeable=permeable,
            depth=depth,
            translucent=np.array([0.5 * (name in _THIN) for name in MATERIAL_NAMES], np.float32),
            layout=_pattern_table(rng),
        )


def albedo(appearance: Appearance, tracer: Tracer, hits: Hits, footprint: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) float32 colours of hits: linear light, 0 to 1; lit lamps up to 2. Zero without a hit.

    Args:
        appearance: of the materials.
        tracer: the scene.
        hits: N hits in it.
        footprint: (N,) width of a pixel on the surface, metres; finer detail is averaged.
    """
    pattern_values = _evaluate_patterns(appearance, tracer, hits, footprint)
    return np.asarray(_mix_colors(appearance.colors, hits.triangle, tracer.table.material, *pattern_values))


def reflectance(appearance: Appearance, tracer: Tracer, hits: Hits) -> NDArray[np.float32]:
    """(N,) float32 diffuse reflectance of hits at 905 nm, 0 to 1, averaged over the beam; 0 without a hit."""
    distance = np.where(hits.triangle < 0, np.float32(0), hits.distance)
    pattern_values = _evaluate_patterns(appearance, tracer, hits, (_BEAM_M + _BEAM_PER_M * distance).astype(np.float32))
    tables = appearance.reflectances, appearance.spread
    return np.asarray(_mix_reflectances(*tables, hits.triangle, tracer.table.material, *pattern_values))


def _evaluate_patterns(
    appearance: Appearance, tracer: Tracer, hits: Hits, footprint: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8], NDArray[np.uint64]]:
    table = tracer.table
    found: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8], NDArray[np.uint64]] = evaluate_patterns(
        appearance.layout, hits.triangle, hits.u, hits.v, footprint, tracer.corners, table.material, table.instance
    )
    return found


def _pattern_table(rng: np.random.Generator) -> PatternTable:
    """Patterns of a scene; their strength, above all the wear of paint, varies between scenes."""
    rows = tuple(MATERIALS.values())
    strength = np.array([row.contrast for row in rows])
    swing = np.array([0.4 if row.pattern == Pattern.WORN else 0.2 for row in rows])
    return PatternTable(
        np.array([int(row.pattern) for row in rows], np.int64),
        np.array([row.scale for row in rows]),
        np.clip(strength * np.exp(rng.normal(size=len(rows)) * swing), 0, 0.7),
        np.uint64(rng.integers(2**63)),
    )


def _colors(rng: np.random.Generator) -> NDArray[np.float32]:
    """(M, 2, 8, 3) colours of a scene: palettes with a small random shift per material."""
    names, palettes = palette_colors()
    first = np.stack([palettes[names.index(row.palette)] for row in MATERIALS.values()])
    second = np.stack([_second(palettes, names, row.palette, row.second) for row in MATERIALS.values()])
    colors = np.stack([first, second], axis=1)
    for number, name in enumerate(MATERIAL_NAMES):
        chosen = rng.integers(8, size=2)
        if name in _GROUND:
            colors[number, 0] = colors[number, 0, chosen[np.arange(8) % 2]]
    brightness = np.exp(rng.normal(scale=0.15, size=(len(MATERIALS), 1, 1, 1)))
    tint = np.exp(rng.normal(scale=0.03, size=(len(MATERIALS), 1, 1, 3)))
    return np.clip(colors * brightness * tint, 0.003, 0.95).astype(np.float32)


def _second(palettes: NDArray[np.float32], names: tuple[str, ...], palette: str, second: str) -> NDArray[np.float32]:
    if second:
        return palettes[names.index(second)]
    return palettes[names.index(palette)] * np.float32(_SECOND_IS_DARKER)


def _reflectances(rng: np.random.Generator) -> NDArray[np.float32]:
    """(M, 2) reflectances of a scene."""
    rows = tuple(MATERIALS.values())
    first = np.array([row.reflectance for row in rows])
    second = np.array([row.second_reflectance if row.second_reflectance >= 0 else row.reflectance for row in rows])
    factor = np.exp(rng.normal(size=len(rows)) * [row.spread * _SCENE_SHARE for row in rows])
    for spread, names in GROUPS.values():
        factor[[material_id(name) for name in names]] *= np.exp(rng.normal(0.0, spread))
    return np.clip(np.stack([first, second], axis=1) * factor[:, None], 0.01, 0.95).astype(np.float32)


def _foliage(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(M,) permeability and depth of a scene's foliage: the denser, the fewer pulses pass."""
    rows = tuple(MATERIALS.values())
    density = rng.uniform(*_DENSITY) * np.exp(rng.normal(0.0, 0.2, len(rows)))
    permeable = np.array([row.permeable for row in rows])
    permeable = np.where(permeable > 0, np.clip(1.0 - (1.0 - permeable) * density, 0.05, 0.9), 0.0)
    depth = np.array([row.depth for row in rows]) / np.clip(density, 0.5, 2.0)
    return permeable.astype(np.float32), depth.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _mix_colors(colors, triangle, material, mix, shade, row, bits):  # type: ignore[no-untyped-def]
    """(N, 3) colours; palette rows, brightness and tint of an object come from its hash."""
    result = np.zeros((len(triangle), 3), np.float32)
    for i in range(len(triangle)):
        if triangle[i] < 0:
            continue
        m, b = np.int64(material[triangle[i]]), bits[i]
        first, second = np.int64(b & np.uint64(7)), np.int64((b >> np.uint64(3)) & np.uint64(7))
        if row[i] >= SECOND_ROW:
            second = np.int64(row[i] - SECOND_ROW)
        elif row[i] != ANY_ROW:
            first = np.int64(row[i])
        gain = shade[i] * (0.85 + 0.3 * np.int64((b >> np.uint64(8)) & np.uint64(255)) / 255)
        for channel in range(3):
            own = np.int64((b >> np.uint64(16 + 8 * channel)) & np.uint64(255)) / 255
            color = colors[m, 0, first, channel] * (1 - mix[i]) + colors[m, 1, second, channel] * mix[i]
            result[i, channel] = min(2.0, max(0.0, color * gain * (0.97 + 0.06 * own)))
    return result


@numba.njit(cache=True, nogil=True)
def _mix_reflectances(reflectances, spread, triangle, material, mix, shade, row, bits):  # type: ignore[no-untyped-def]
    """(N,) reflectances with a log-normal factor per object (the sum of four 10-bit numbers is close to normal)."""
    result = np.zeros(len(triangle), np.float32)
    for i in range(len(triangle)):
        if triangle[i] < 0:
            continue
        m, b = np.int64(material[triangle[i]]), bits[i]
        total = 0.0
        for part in range(4):
            total += np.int64((b >> np.uint64(24 + 10 * part)) & np.uint64(1023)) / 1023 - 0.5
        factor = math.exp(spread[m] * total * _SUM_OF_FOUR) * (0.5 + 0.5 * shade[i])
        mean = reflectances[m, 0] * (1 - mix[i]) + reflectances[m, 1] * mix[i]
        result[i] = min(0.98, max(0.005, mean * factor))
    return result
