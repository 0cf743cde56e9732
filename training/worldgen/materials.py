"""Material table shared by all objects.

The instance id of an object selects its colours from palettes, so that one car is red and the next blue.
Palettes are shared between classes on purpose: colour alone must not reveal the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Pattern(IntEnum):
    """Spatial pattern of a material's two colours; ``scale`` (metres) is the size of one element."""

    PLAIN = 0  # first colour only
    NOISE = 1  # smooth stains at several sizes
    GRAIN = 2  # fine grain and a few cracks and patches: asphalt, concrete
    BRICKS = 3  # running bond with mortar joints of the second colour
    SLABS = 4  # square slabs, each of its own shade, joints of the second colour
    PLANKS = 5  # boards along the first horizontal axis
    STRIPES = 6  # vertical bands of both colours
    BANDS = 7  # horizontal bands of both colours
    CHECKS = 8  # both colours crossing
    LEAVES = 9  # small light and dark spots
    GRASS = 10  # finer than LEAVES, stretched upwards
    WAVES = 11  # corrugation, roof tiles
    POSTER = 12  # a standing person on a coloured background, fills its plate
    SIGN = 13  # border and symbol, fills its plate
    PRINT = 14  # lines of lettering
    LAMPS = 15  # three lamps above each other, one lit
    WORN = 16  # worn paint; the second colour shows through


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        palette: name of the palette of the first colour; the instance id selects the colour.
        pattern: spatial distribution of the second colour over the first.
        second: palette of the second colour; empty: a darker shade of the first.
        scale: size of one element of the pattern, metres.
        contrast: strength of the second colour, 0 to 1.
        reflectance: mean diffuse reflectance at 905 nm, 0 to 1; independent of colour.
        spread: standard deviation of the natural logarithm of reflectance between objects and scenes.
        second_reflectance: reflectance of the second colour; negative: equal to the first.
        gloss: specular share of the reflected light, 0 to 1.
        retro: strength of retro-reflection relative to a white diffuser; 0 for none.
        transparent: probability that a LiDAR pulse passes through or is reflected away without a return.
        permeable: probability that a LiDAR pulse passes through a piece of foliage to whatever is behind it.
        depth: mean distance behind the surface from which foliage returns a pulse, metres.
    """

    palette: str
    pattern: Pattern = Pattern.PLAIN
    second: str = ""
    scale: float = 1.0
    contrast: float = 0.5
    reflectance: float = 0.3
    spread: float = 0.3
    second_reflectance: float = -1.0
    gloss: float = 0.0
    retro: float = 0.0
    transparent: float = 0.0
    permeable: float = 0.0
    depth: float = 0.0


PALETTES: dict[str, tuple[tuple[int, int, int], ...]] = {
    # sRGB, eight colours each
    "paint": (
        (228, 228, 226),
        (32, 33, 36),
        (128, 131, 135),
        (176, 178, 180),
        (140, 28, 30),
        (32, 60, 118),
        (60, 84, 62),
        (150, 120, 84),
    ),
    "bright": (
        (206, 44, 38),
        (236, 178, 34),
        (34, 92, 164),
        (38, 126, 74),
        (240, 240, 236),
        (222, 108, 36),
        (108, 60, 128),
        (24, 24, 26),
    ),
    "earth": (
        (150, 84, 62),
        (172, 116, 82),
        (198, 172, 136),
        (122, 96, 76),
        (208, 196, 172),
        (166, 142, 116),
        (104, 78, 62),
        (186, 152, 110),
    ),
    "grey": (
        (70, 70, 72),
        (92, 91, 90),
        (112, 110, 107),
        (132, 130, 127),
        (152, 150, 146),
        (170, 168, 164),
        (104, 98, 90),
        (84, 88, 94),
    ),
    "dark": (
        (28, 28, 30),
        (40, 40, 42),
        (36, 34, 32),
        (50, 49, 48),
        (24, 26, 30),
        (60, 58, 56),
        (44, 46, 50),
        (34, 38, 36),
    ),
    "light": (
        (236, 232, 222),
        (224, 216, 200),
        (214, 210, 204),
        (240, 238, 234),
        (228, 206, 170),
        (204, 212, 216),
        (232, 222, 184),
        (216, 190, 172),
    ),
    "green": (
        (62, 92, 40),
        (82, 108, 48),
        (48, 78, 40),
        (104, 118, 56),
        (74, 84, 46),
        (40, 66, 36),
        (96, 104, 66),
        (124, 126, 64),
    ),
    "autumn": (
        (150, 96, 38),
        (176, 124, 44),
        (128, 66, 40),
        (116, 104, 48),
        (158, 134, 72),
        (98, 88, 50),
        (138, 84, 52),
        (110, 116, 60),
    ),
    "straw": (
        (152, 138, 92),
        (132, 122, 82),
        (116, 116, 70),
        (166, 148, 104),
        (124, 104, 74),
        (108, 96, 70),
        (142, 130, 98),
        (98, 104, 60),
    ),
    "skin": (
        (224, 178, 148),
        (198, 148, 114),
        (160, 110, 80),
        (120, 80, 58),
        (84, 56, 42),
        (236, 196, 170),
        (180, 128, 96),
        (104, 70, 52),
    ),
    "white": ((236, 236, 232),) * 8,
    "yellow": ((226, 176, 44),) * 8,
    "red": ((186, 32, 30),) * 8,
    "orange": ((232, 92, 24),) * 8,
    "black": ((18, 18, 19),) * 8,
    "sky": ((96, 116, 138),) * 8,
    "lane": (
        (156, 62, 50),
        (70, 122, 74),
        (60, 96, 138),
        (176, 74, 52),
        (92, 138, 84),
        (128, 56, 52),
        (84, 112, 142),
        (150, 120, 62),
    ),
}

_P = Pattern
MATERIALS: dict[str, Material] = {
    # ground: reflectances of road, pavement and grass overlap, and each scene draws its own values
    "asphalt": Material("grey", _P.GRAIN, "", 0.9, 0.35, 0.15, 0.35),
    "asphalt_new": Material("dark", _P.GRAIN, "", 0.9, 0.25, 0.11, 0.35),
    "lane_paint": Material("lane", _P.WORN, "grey", 0.7, 0.35, 0.2, 0.45),
    "concrete_road": Material("grey", _P.SLABS, "dark", 4.5, 0.3, 0.24, 0.45),
    "cobbles": Material("grey", _P.SLABS, "dark", 0.14, 0.5, 0.2, 0.45),
    "paving_slabs": Material("grey", _P.SLABS, "", 0.6, 0.4, 0.32, 0.35),
    "paving_bricks": Material("earth", _P.BRICKS, "grey", 0.2, 0.4, 0.32, 0.35),
    "paving_concrete": Material("grey", _P.GRAIN, "", 1.6, 0.3, 0.32, 0.35),
    "paving_asphalt": Material("grey", _P.GRAIN, "", 0.8, 0.3, 0.21, 0.35),
    "gravel": Material("grey", _P.NOISE, "earth", 0.08, 0.6, 0.22, 0.4),
    "kerbstone": Material("grey", _P.SLABS, "", 0.9, 0.4, 0.26, 0.35),
    "grass": Material("green", _P.GRASS, "straw", 0.3, 0.5, 0.38, 0.45),
    "dry_grass": Material("straw", _P.GRASS, "green", 0.35, 0.5, 0.38, 0.45),
    "soil": Material("earth", _P.NOISE, "green", 0.7, 0.5, 0.2, 0.4),
    "marking_white": Material("white", _P.WORN, "grey", 0.4, 0.35, 0.28, 0.5, 0.18, 0.0, 0.08),
    "marking_yellow": Material("yellow", _P.WORN, "grey", 0.4, 0.35, 0.26, 0.5, 0.18, 0.0, 0.06),
    # buildings
    "brick": Material("earth", _P.BRICKS, "light", 0.24, 0.5, 0.32, 0.45),
    "plaster": Material("light", _P.NOISE, "", 2.2, 0.2, 0.45, 0.45),
    "plaster_painted": Material("paint", _P.NOISE, "", 2.0, 0.2, 0.35, 0.6),
    "concrete": Material("grey", _P.GRAIN, "", 1.2, 0.3, 0.28, 0.45),
    "stone": Material("earth", _P.SLABS, "grey", 0.5, 0.4, 0.3, 0.45),
    "planks": Material("earth", _P.PLANKS, "", 0.16, 0.4, 0.35, 0.5),
    "planks_painted": Material("paint", _P.PLANKS, "", 0.18, 0.35, 0.35, 0.7),
    "cladding": Material("paint", _P.WAVES, "", 0.25, 0.35, 0.35, 0.8, -1.0, 0.1),
    "roof_tiles": Material("earth", _P.WAVES, "dark", 0.3, 0.5, 0.25, 0.5),
    "roof_flat": Material("grey", _P.NOISE, "", 0.5, 0.3, 0.2),
    "window": Material("sky", _P.PLAIN, "", 1.0, 0.0, 0.1, 0.3, -1.0, 0.5, 0.0, 0.55),
    "frame": Material("light", _P.PLAIN, "", 1.0, 0.0, 0.4),
    "door": Material("paint", _P.PLANKS, "", 0.3, 0.3, 0.3, 0.6),
    "roller_door": Material("paint", _P.BANDS, "", 0.28, 0.4, 0.35, 0.7, -1.0, 0.1),
    "awning": Material("bright", _P.STRIPES, "light", 0.4, 0.5, 0.35, 0.6),
    "shop_sign": Material("bright", _P.PRINT, "light", 0.3, 0.5, 0.35, 0.6),
    "mural": Material("bright", _P.LEAVES, "paint", 0.5, 0.6, 0.35),
    # plants
    "leaves": Material("green", _P.LEAVES, "", 0.12, 0.6, 0.6, 0.35, permeable=0.5, depth=0.22),
    "leaves_autumn": Material("autumn", _P.LEAVES, "", 0.12, 0.6, 0.55, 0.35, permeable=0.5, depth=0.22),
    "hedge_leaves": Material("green", _P.LEAVES, "", 0.1, 0.6, 0.6, 0.35, permeable=0.25, depth=0.1),
    "needles": Material("green", _P.LEAVES, "", 0.09, 0.6, 0.45, 0.35, permeable=0.45, depth=0.25),
    "twigs": Material("earth", _P.LEAVES, "grey", 0.07, 0.6, 0.4, 0.35, permeable=0.75, depth=0.3),
    "flowers": Material("bright", _P.LEAVES, "green", 0.1, 0.5, 0.55, 0.25, permeable=0.4, depth=0.05),
    "ivy": Material("green", _P.LEAVES, "", 0.1, 0.6, 0.6, 0.35, permeable=0.15, depth=0.06),
    "lawn": Material("green", _P.GRASS, "straw", 0.25, 0.45, 0.38, 0.4, depth=0.03),
    "meadow": Material("green", _P.GRASS, "straw", 0.3, 0.5, 0.42, 0.4, permeable=0.15, depth=0.16),
    "dry_meadow": Material("straw", _P.GRASS, "green", 0.35, 0.5, 0.38, 0.4, permeable=0.15, depth=0.16),
    "weeds": Material("green", _P.GRASS, "straw", 0.15, 0.5, 0.5, 0.4, permeable=0.5, depth=0.12),
    "bark": Material("earth", _P.WAVES, "dark", 0.08, 0.5, 0.32, 0.25),
    "bark_grey": Material("grey", _P.WAVES, "dark", 0.08, 0.5, 0.3, 0.25),
    # street furniture
    "metal": Material("grey", _P.NOISE, "", 0.8, 0.2, 0.3, 0.7, -1.0, 0.2),
    "metal_painted": Material("paint", _P.NOISE, "", 0.8, 0.15, 0.28, 0.8, -1.0, 0.1),
    "metal_bright": Material("bright", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.6, -1.0, 0.1),
    "iron": Material("dark", _P.NOISE, "", 0.8, 0.15, 0.06, 0.6, -1.0, 0.05),
    "wood": Material("earth", _P.PLANKS, "", 0.12, 0.4, 0.35, 0.5),
    "plastic": Material("bright", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.7),
    "cardboard": Material("earth", _P.NOISE, "", 0.5, 0.15, 0.4),
    "sign_face": Material("bright", _P.SIGN, "light", 1.0, 0.6, 0.5, 0.2, 0.5, 0.0, 12.0),
    "sign_print": Material("bright", _P.PRINT, "light", 0.16, 0.5, 0.5, 0.2, 0.5, 0.0, 8.0),
    "sign_back": Material("grey", _P.PLAIN, "", 1.0, 0.0, 0.35, 0.3, -1.0, 0.2),
    "cone": Material("orange", _P.BANDS, "white", 0.36, 0.5, 0.3, 0.4, 0.5, 0.0, 0.1),
    "barrier_stripes": Material("red", _P.STRIPES, "white", 0.5, 0.5, 0.3, 0.4, 0.5, 0.0, 0.3),
    "poster": Material("bright", _P.POSTER, "skin", 1.0, 0.6, 0.35),
    "print": Material("light", _P.PRINT, "bright", 0.25, 0.5, 0.35, 0.7),
    "lamps": Material("dark", _P.LAMPS, "bright", 1.0, 0.5, 0.2),
    "lamp_glass": Material("light", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.2, -1.0, 0.3, 0.0, 0.3),
    # vehicles
    "car_paint": Material("paint", _P.PLAIN, "", 1.0, 0.0, 0.22, 0.6, -1.0, 0.25),
    "car_glass": Material("dark", _P.PLAIN, "", 1.0, 0.0, 0.06, 0.3, -1.0, 0.5, 0.0, 0.8),
    "tyre": Material("black", _P.NOISE, "", 0.2, 0.2, 0.06, 0.3),
    "rim": Material("grey", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.3, -1.0, 0.2),
    "trim": Material("dark", _P.PLAIN, "", 1.0, 0.0, 0.1),
    "headlight": Material("light", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.3, -1.0, 0.4, 2.0, 0.3),
    "taillight": Material("red", _P.PLAIN, "", 1.0, 0.0, 0.3, 0.3, -1.0, 0.3, 4.0),
    "licence_plate": Material("white", _P.PRINT, "black", 0.08, 0.5, 0.5, 0.2, -1.0, 0.0, 10.0),
    "truck_box": Material("paint", _P.PRINT, "bright", 0.8, 0.4, 0.4, 0.7),
    "truck_steel": Material("paint", _P.WAVES, "", 0.3, 0.3, 0.3, 0.7),
    "tarpaulin": Material("bright", _P.NOISE, "", 1.5, 0.2, 0.35, 0.8),
    "bus_paint": Material("bright", _P.BANDS, "light", 1.4, 0.5, 0.3, 0.6, -1.0, 0.2),
    # people
    "skin": Material("skin", _P.PLAIN, "", 1.0, 0.0, 0.45, 0.2),
    "hair": Material("dark", _P.NOISE, "earth", 0.05, 0.4, 0.2, 0.4),
    "cloth": Material("paint", _P.NOISE, "", 0.4, 0.25, 0.4, 0.6),
    "cloth_bright": Material("bright", _P.PLAIN, "", 1.0, 0.0, 0.4, 0.6),
    "cloth_striped": Material("light", _P.BANDS, "bright", 0.14, 0.5, 0.4, 0.4),
    "cloth_checked": Material("paint", _P.CHECKS, "light", 0.1, 0.5, 0.4, 0.4),
    "denim": Material("paint", _P.NOISE, "dark", 0.3, 0.3, 0.35, 0.3),
    "leather": Material("dark", _P.PLAIN, "", 1.0, 0.0, 0.2, 0.3, -1.0, 0.05),
}

GROUPS: dict[str, tuple[float, tuple[str, ...]]] = {
    # standard deviation of the natural logarithm of a factor that all members share in a scene
    "road": (0.15, ("asphalt", "asphalt_new", "lane_paint", "concrete_road", "cobbles")),
    "pavement": (0.2, ("paving_slabs", "paving_bricks", "paving_concrete", "paving_asphalt", "kerbstone")),
    "grass": (0.4, ("grass", "dry_grass", "lawn", "meadow", "dry_meadow", "weeds")),
    "foliage": (0.5, ("leaves", "leaves_autumn", "hedge_leaves", "needles", "twigs", "flowers", "ivy")),
    "wall": (0.3, ("brick", "plaster", "plaster_painted", "concrete", "stone", "planks", "planks_painted", "cladding")),
}
"""Materials whose reflectance differs between places together: the kind of plants, stone and asphalt, and moisture."""

_NUMBERS = {name: number for number, name in enumerate(MATERIALS)}
MATERIAL_NAMES = tuple(MATERIALS)


def material_id(name: str) -> int:
    """Id of a material: its index in :data:`MATERIALS`."""
    return _NUMBERS[name]


def palette_colors() -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of the palettes and their (P, 8, 3) colours in linear light, 0 to 1."""
    srgb = np.array(list(PALETTES.values()), np.float32) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return tuple(PALETTES), linear.astype(np.float32)
