"""People: an articulated, dressed figure in walking, standing and riding poses.

Figures face +x with their feet on z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.worldgen.assets.bodywork import draw
from training.worldgen.assets.skins import fan, limb, loft, oval
from training.worldgen.mesh import Mesh, box, cylinder, merge, pose

PHASES = 8
"""Number of shapes of one stride (two steps)."""
STRIDE = 0.8
"""Stride length as a fraction of body height."""

_Vector = NDArray[np.float64]
_LEG, _ANKLE, _UPPER_ARM, _FOREARM = 0.245, 0.045, 0.17, 0.155
"""Limb lengths as fractions of body height; ``_LEG`` is thigh and shank each."""


@dataclass(frozen=True)
class Person:
    """Pose-independent properties of a person.

    Attributes:
        height: metres.
        girth: width relative to a slim person.
        top: material of the upper body.
        sleeves: material of the forearms: skin for short sleeves.
        trousers: material of the legs.
        shanks: material below the knee: skin for shorts.
        shoes: material.
        hair: material.
        skirt: length of a coat or skirt as a fraction of height; 0.0 for none.
        skirt_material: its material.
        extras: names of accessories.
    """

    height: float
    girth: float
    top: str
    sleeves: str
    trousers: str
    shanks: str
    shoes: str
    hair: str
    skirt: float
    skirt_material: str
    extras: tuple[str, ...]

    @staticmethod
    def sample(rng: np.random.Generator) -> Person:
        """Draw a person."""
        child = rng.random() < 0.12
        height = draw(rng, (1.05, 1.5)) if child else float(np.clip(rng.normal(1.71, 0.09), 1.5, 1.98))
        girth = draw(rng, (0.95, 1.15)) if child else float(np.clip(rng.lognormal(0.12, 0.13), 0.92, 1.6))
        top = str(
            rng.choice(
                ("cloth", "cloth_bright", "cloth_striped", "cloth_checked", "leather"), p=(0.4, 0.25, 0.1, 0.1, 0.15)
            )
        )
        trousers = str(rng.choice(("denim", "cloth", "leather"), p=(0.6, 0.25, 0.15)))
        coat, skirt = rng.random() < 0.2, rng.random() < 0.15
        reach = draw(rng, (0.22, 0.4)) if coat or skirt else 0.0
        shanks = "skin" if (skirt and not coat) or rng.random() < 0.12 else trousers
        sleeves = "skin" if rng.random() < 0.35 and not coat else top
        hair = str(rng.choice(("hair", "cloth", "cloth_bright"), p=(0.8, 0.1, 0.1)))
        names = ("backpack", "bag", "hat", "umbrella")
        odds = (0.22, 0.2, 0.12, 0.04)
        extras = tuple(name for name, chance in zip(names, odds, strict=True) if rng.random() < chance)
        material = top if coat else str(rng.choice(("cloth_checked", "cloth", "denim")))
        shoes = str(rng.choice(("leather", "tyre", "frame")))
        return Person(height, girth, top, sleeves, trousers, shanks, shoes, hair, reach, material, extras)


@dataclass(frozen=True, eq=False)
class Pose:
    """Joint positions of a figure as fractions of its height.

    Attributes:
        hip: (3,) midpoint of the hip joints.
        lean: forward lean of the back, radians.
        hands: (2, 3) wrists, left and right.
        feet: (2, 3) soles, left and right.
    """

    hip: _Vector
    lean: float
    hands: _Vector
    feet: _Vector


def person(rng: np.random.Generator) -> tuple[Mesh, ...]:
    """The ``PHASES`` shapes of one walking person's stride."""
    who = Person.sample(rng)
    sway = draw(rng, (0.7, 1.2))
    shapes = [figure(who, _walking(who, phase / PHASES, sway)) for phase in range(PHASES)]
    return tuple(replace(shape, texture=shapes[0].texture) for shape in shapes)


def standing(rng: np.random.Generator) -> Mesh:
    """A standing person with hands hanging, in pockets, folded or holding a phone."""
    who = Person.sample(rng)
    hands = np.array(((0.02, 0.14, 0.5), (0.02, -0.14, 0.5)))
    kind = rng.random()
    if kind < 0.25:
        hands = np.array(((0.1, 0.06, 0.67), (0.1, -0.06, 0.65)))
    elif kind < 0.5:
        hands[int(rng.integers(2))] = (0.1, draw(rng, (-0.05, 0.05)), draw(rng, (0.7, 0.9)))
    wide = draw(rng, (0.05, 0.09))
    feet = np.array(((draw(rng, (-0.03, 0.05)), wide, 0.0), (0.0, -wide, 0.0)))
    return figure(who, Pose(np.array((0.0, 0.0, 0.515)), draw(rng, (-0.03, 0.06)), _holding(who, hands), feet))


def sitting(rng: np.random.Generator, seat: float = 0.47) -> Mesh:
    """A person on a seat of a height (metres), above the origin, with the feet before it."""
    who = Person.sample(rng)
    height = max(who.height, 1.5)
    lap, apart = draw(rng, (0.1, 0.3)), draw(rng, (0.07, 0.14))
    hands = np.array(((lap, 0.12, seat + 0.2), (lap, -0.12, seat + draw(rng, (0.18, 0.45)))))
    feet = np.array(((draw(rng, (0.3, 0.45)), apart, 0.0), (draw(rng, (0.3, 0.5)), -apart, 0.0)))
    at = Pose(np.array((-0.03, 0.0, seat + 0.08)) / height, draw(rng, (-0.1, 0.3)), hands / height, feet / height)
    return figure(replace(who, height=height, skirt=0.0, extras=()), at)


def rider(rng: np.random.Generator, pose_m: Pose, label: str) -> Mesh:
    """A person on a two-wheeler; ``pose_m`` is in metres, and leg length is fitted to it."""
    who = Person.sample(rng)
    height = float(np.clip(who.height, 1.55, 1.9))
    hat = ("helmet",) if rng.random() < 0.7 else ()
    extras = hat + tuple(e for e in who.extras if e == "backpack")
    on_it = Pose(pose_m.hip / height, pose_m.lean, pose_m.hands / height, pose_m.feet / height)
    return figure(replace(who, height=height, skirt=0.0, extras=extras), on_it, label)


def _walking(who: Person, share: float, sway: float) -> Pose:
    """A pose of a stride; the supporting foot moves back at walking speed, so that it does not slide."""
    foot_x, foot_z, arms = np.empty(2), np.empty(2), np.empty(2)
    for k in range(2):
        turn = (share + k / 2) % 1.0
        stance = turn < 0.5
        swing = 2 * turn - 1.0
        foot_x[k] = STRIDE * (0.25 - turn if stance else -0.25 * np.cos(np.pi * swing))
        foot_z[k] = 0.0 if stance else 0.07 * np.sin(np.pi * swing)
        arms[k] = -foot_x[k] * 0.7 * sway
    hip = np.array((0.0, 0.0, 0.505 - 0.01 * np.cos(4 * np.pi * share)))
    feet = np.column_stack([foot_x, (0.045, -0.045), foot_z])
    width = 0.11 + 0.03 * who.girth
    hands = np.column_stack([arms, (width, -width), 0.5 + 0.25 * np.abs(arms)])
    return Pose(hip, 0.05, _holding(who, hands), feet)


def _holding(who: Person, hands: _Vector) -> _Vector:
    """The hands, with the right one raised if it holds an umbrella."""
    return np.array((hands[0], (0.12, -0.08, 0.68))) if "umbrella" in who.extras else hands


def figure(who: Person, at: Pose, label: str = "person") -> Mesh:
    """A person's body in a pose."""
    lean = pose(0, 0, 0, 0, at.lean)[:3, :3]
    parts = [_torso(who, at, lean, label), _head(who, at, lean, label)]
    for k, side in enumerate((1.0, -1.0)):
        hip = at.hip + np.array((0.0, side * 0.048 * who.girth**0.5, 0.0))
        shoulder = at.hip + lean @ np.array((0.0, side * 0.1 * who.girth**0.7, 0.28))
        parts += [_leg(who, hip, at.feet[k], label), _arm(who, shoulder, at.hands[k], side, label)]
    parts += [_SHAPES[name](who, at, lean, label) for name in who.extras]
    if who.skirt:
        parts.append(_skirt(who, at, label))
    whole = merge(parts)
    grown = (whole.vertices * who.height).astype(np.float32)
    return replace(whole, vertices=grown, texture=grown)


def _torso(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    """Pelvis, waist, chest, shoulders and neck."""
    # height above the hip, half depth, half width
    rows = (
        (-0.045, 0.055, 0.075),
        (0.05, 0.065, 0.085),
        (0.2, 0.07, 0.1),
        (0.29, 0.06, 0.115),
        (0.325, 0.03, 0.035),
        (0.38, 0.03, 0.03),
    )
    thick, wide = who.girth, who.girth**0.7
    rings = [oval((0, 0, z), d * thick, w * wide, 7) @ lean.T + at.hip for z, d, w in rows]
    names = np.array([who.trousers, who.top, who.top, who.top, "skin"])[:, None]
    return merge([loft(rings, names, label, closed=True), fan(rings[0][::-1], who.trousers, label)])


def _head(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    """Head with hair on its top and back; upright even if the back leans."""
    neck = at.hip + lean @ np.array((0.0, 0.0, 0.36))
    upright = pose(0, 0, 0, 0, 0.3 * at.lean)[:3, :3]
    rows = ((0.0, 0.028, 0.026), (0.03, 0.05, 0.042), (0.085, 0.056, 0.045), (0.118, 0.036, 0.03))
    rings = [oval((0.008, 0, z), d, w, 6) @ upright.T + neck for z, d, w in rows]
    around = np.array([0, 1, 1, 1, 1, 0])  # faces between the six corners, from the front left round the back
    names = np.where(np.array([[0] * 6, around * (np.arange(6) % 5 > 0), [1] * 6]) > 0, who.hair, "skin")
    return merge([loft(rings, names, label, closed=True), fan(rings[-1], who.hair, label)])


def _leg(who: Person, hip: _Vector, sole: _Vector, label: str) -> Mesh:
    """Thigh, shank and shoe."""
    ankle = sole + np.array((-0.02, 0.0, _ANKLE))
    knee, ankle = _bent(hip, ankle, _LEG, _LEG, np.array((1.0, 0.0, 0.2)))
    thick = who.girth**0.7
    radii = (0.052 * thick, 0.034 * thick, 0.024)
    leg = limb([hip, knee, ankle], radii, [who.trousers, who.shanks], label)
    heel = ankle + np.array((-0.025, 0.0, -0.026))
    shoe = limb([heel, heel + np.array((0.13, 0.0, -0.005))], (0.027, 0.02), who.shoes, label, sides=4)
    return merge([leg, shoe])


def _arm(who: Person, shoulder: _Vector, wrist: _Vector, side: float, label: str) -> Mesh:
    """Upper arm, forearm and hand."""
    elbow, wrist = _bent(shoulder, wrist, _UPPER_ARM, _FOREARM, np.array((-1.0, 0.35 * side, -0.2)))
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    path = [shoulder, elbow, wrist, wrist + 0.055 * along]
    thick = who.girth**0.6
    return limb(path, (0.03 * thick, 0.029 * thick, 0.021, 0.019), [who.top, who.sleeves, "skin"], label, sides=4)


def _bent(root: _Vector, end: _Vector, first: float, second: float, towards: _Vector) -> tuple[_Vector, _Vector]:
    """Two-bone inverse kinematics: the joint, bent ``towards`` a direction, and the end within reach."""
    way = end - root
    distance = float(np.linalg.norm(way))
    along = way / distance
    reach = min(distance, 0.998 * (first + second))
    share = (first**2 - second**2 + reach**2) / (2 * reach)
    off = np.sqrt(max(first**2 - share**2, 0.0))
    across = towards - along * (along @ towards)
    return root + share * along + off * across / np.linalg.norm(across), root + reach * along


def _skirt(who: Person, at: Pose, label: str) -> Mesh:
    """Lower part of a coat, or a skirt; it follows the legs."""
    spread = max(float(np.ptp(at.feet[:, 0])) * 0.35, 0.0)
    drop = at.hip[2] - who.skirt
    middle = (at.hip[0], 0.0, at.hip[2])
    rings = [
        oval((middle[0], 0, who.skirt), 0.085 * who.girth + spread * drop, 0.1 * who.girth**0.7, 7),
        oval((middle[0], 0, at.hip[2] + 0.06), 0.072 * who.girth, 0.092 * who.girth**0.7, 7),
    ]
    return loft(rings, who.skirt_material, label, closed=True)


def _backpack(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    sack = box((0.09, 0.16, 0.24), "cloth_bright", label, (-0.05 - 0.065 * who.girth, 0, 0.05))
    return _with_back(sack, at, lean)


def _with_back(part: Mesh, at: Pose, lean: _Vector) -> Mesh:
    """A part rotated and moved with the back."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = lean, at.hip
    return part.transformed(matrix)


def _bag(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    """A bag in the left hand."""
    x, y, z = at.hands[0]
    return box((0.2, 0.07, 0.18), "leather", label, (x, y + 0.02, max(z - 0.28, 0.06)))


def _crown(at: Pose, lean: _Vector) -> _Vector:
    """Top of the head."""
    return np.asarray(at.hip + lean @ np.array((0.0, 0.0, 0.36)) + np.array((0.008, 0.0, 0.085)))


def _hat(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    top = _crown(at, lean)
    return cylinder(0.075, 0.055, "cloth_bright", label, top_radius=0.04, sides=6, base=tuple(top))


def _helmet(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    top = _crown(at, lean)
    rings = [
        oval(top + np.array((0, 0, z)), d, w, 6)
        for z, d, w in ((-0.02, 0.072, 0.06), (0.03, 0.062, 0.052), (0.058, 0.025, 0.02))
    ]
    return merge([loft(rings, "plastic", label, closed=True), fan(rings[-1], "plastic", label)])


def _umbrella(who: Person, at: Pose, lean: _Vector, label: str) -> Mesh:
    """An umbrella over the head, in the right hand."""
    x, y, z = at.hands[1]
    stick = limb([(x, y, z), (x, y * 0.6, 1.22)], (0.007, 0.006), "metal", label, sides=3)
    rim = oval((x, y * 0.6, 1.1), 0.29, 0.29, 8)
    tip = np.array((x, y * 0.6, 1.23))
    corners = np.stack([rim, np.roll(rim, -1, axis=0), np.broadcast_to(tip, rim.shape)], axis=1)
    return merge([stick, *[fan(c, "cloth_bright", label) for c in corners]])


_SHAPES = {"backpack": _backpack, "bag": _bag, "hat": _hat, "helmet": _helmet, "umbrella": _umbrella}
