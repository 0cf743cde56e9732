"""Parts of plants: trunks with boughs, points within crowns, bunches of leaves. Label vegetation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.assets.parts import limbs
from training.worldgen.mesh import Mesh, merge, surface

LABEL = "vegetation"
_Points = NDArray[np.float64]


def stem_and_boughs(rng: np.random.Generator, clear: float, radius: float, crowns: _Points) -> Mesh:
    """A stem up to height ``clear``, and boughs from its top to the (K, 3) centres of the crown."""
    lean = rng.normal(scale=0.03 * clear, size=2)
    knee, top = np.array((*(lean * 0.3), clear * 0.5)), np.array((*lean, clear))
    bark = bark_material(rng)
    stem = limbs(
        np.stack([knee * 0, knee]),
        np.stack([knee, top]),
        (radius * 1.25, radius),
        (radius, radius * 0.8),
        bark,
        LABEL,
        sides=7,
    )
    starts = np.broadcast_to(top - (0, 0, 0.1), crowns.shape)
    return merge([stem, limbs(starts, crowns, radius * 0.6, radius * 0.2, bark, LABEL)])


def crown_points(
    rng: np.random.Generator, middles: _Points, radii: _Points, count: int, loose: float
) -> tuple[_Points, _Points]:
    """Points in ellipsoids and outward directions; the smaller ``loose``, the more points lie near the surface."""
    area = (radii[:, 0] * radii[:, 2]) + 1e-6
    which = np.sort(rng.choice(len(middles), count, p=area / area.sum()))
    away = rng.normal(size=(count, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    depth = 1 - loose * rng.random(count) ** 1.5
    return middles[which] + away * radii[which] * depth[:, None], away


def leaf_sprays(
    rng: np.random.Generator, points: ArrayLike, away: ArrayLike, size: ArrayLike, material: str, spread: float = 0.9
) -> Mesh:
    """Irregular triangles (bunches of leaves about ``size`` wide) at (N, 3) points, roughly facing ``away``.

    Facing outwards gives a crown a lit and a shaded side, which random orientations would not.
    """
    middle = np.asarray(points, np.float64)
    normal = np.asarray(away, np.float64) + rng.normal(scale=spread, size=middle.shape)
    side = np.cross(normal, rng.normal(size=middle.shape))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(normal, side)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    reach = np.broadcast_to(np.asarray(size, np.float64), len(middle))[:, None] * rng.uniform(
        0.3, 0.85, (len(middle), 3)
    )
    turn = np.arange(3) * (2 * np.pi / 3) + rng.uniform(-0.4, 0.4, (len(middle), 3))
    across, along = (reach * np.cos(turn))[..., None], (reach * np.sin(turn))[..., None]
    corner = middle[:, None] + across * side[:, None] + along * up[:, None]
    return surface(corner, np.arange(3 * len(middle)), material, LABEL)


def bark_material(rng: np.random.Generator) -> str:
    """Material of a trunk."""
    return "bark" if rng.random() < 0.3 else "bark_grey"


def leaf_material(rng: np.random.Generator) -> str:
    """Material of the leaves of a plant."""
    return "leaves" if rng.random() < 0.82 else "leaves_autumn"


def hedge_material(rng: np.random.Generator) -> str:
    """Material of the leaves of a clipped hedge: dense, as a rule."""
    return "hedge_leaves" if rng.random() < 0.75 else leaf_material(rng)
