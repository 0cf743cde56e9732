"""A complete scene: streets, static objects, traffic and the ego trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.worldgen.mesh import merge
from training.worldgen.motion.traffic import EgoMotion, generate_traffic
from training.worldgen.placement import Placement
from training.worldgen.populate import populate
from training.worldgen.street.ground import ground_meshes
from training.worldgen.street.streets import Streets
from training.worldgen.sward import sward_meshes
from training.worldgen.tracing import Tracer

_REACH_M = 95.0
"""Objects farther than this from the ego path are left out; at 0.2 degrees resolution a car there covers six
columns."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Streets, static and moving objects, and the ego vehicle's trajectory."""

    streets: Streets
    tracer: Tracer
    ego: EgoMotion

    @classmethod
    def generate(cls, rng: np.random.Generator, duration_s: float, unseen: bool, kind: str = "") -> Scene:
        """Draw a scene.

        Args:
            rng: randomness.
            duration_s: longest duration of a drive; objects far from its path are left out.
            unseen: include layouts and buildings reserved for test drives.
            kind: of district; empty: drawn.
        """
        streets = Streets.generate(rng, unseen and bool(rng.random() < 0.5), kind)
        ego = EgoMotion.sample(rng, streets.ego_lane.path, streets.height, streets.style.district.ego_speed)
        path = ego.world_from_base(np.linspace(0.0, duration_s, 20))[:, :2, 3]
        placement = Placement(streets, path, _REACH_M)
        populate(placement, rng, unseen)
        motorway = streets.style.kind == "motorway"
        actors = generate_traffic(rng, streets, ego, placement.numbers, placement.discs, motorway)
        static = merge([*ground_meshes(streets, rng), *sward_meshes(streets, rng, path), *placement.meshes])
        return cls(streets, Tracer(static, actors), ego)
