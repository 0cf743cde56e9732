"""Fog by formula.

After Hahner et al. 2021, "Fog Simulation on Real LiDAR Point Clouds for 3D Object Detection in Adverse Weather", who
follow Rasshofer et al. 2011. Of a pulse that meets a surface at range R0, and is reported with intensity i in clear
air, fog with the attenuation α (1/m) leaves::

    i_hard = i · exp(−2 α R0)                                        Beer-Lambert, there and back
    i_soft = i · R0² · (β / β0) · max over R of I(R)                 what the droplets send back
    I(R)   = ∫ sin²(π t / 2τ) · exp(−2 α s) / s² · ξ(s) dt,          0 ≤ t ≤ 2τ,  s = R − c t / 2

with the pulse's half-power width τ, the share ξ of the beam that the receiver sees at range s, the backscatter of fog
β = 0.046 / MOR, and the meteorological optical range (visibility) MOR = ln 20 / α; β0 stands for the surface. The
sensor reports the stronger echo: where the droplets win, a point lies in the fog, at the R where I is greatest.

Both grow with i, so that the range alone decides: with the constants of the paper the droplets win from 151, 87 and
63 m on in visibilities of 300, 150 and 100 m. Echoes too weak for a real sensor are kept: real fog takes more points.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from training.data.sweeps import Sweep
from training.experiments.corruption.points import scaled_intensity
from xmodelkd_ros.core.labels import IGNORE

_LIGHT_M_S = 299_792_458.0
_PULSE_S = 20e-9
_SEEN_FROM_M, _SEEN_WHOLE_M = 0.9, 1.0
"""ξ rises from 0 to 1 between these ranges."""
_BACKSCATTER = 0.046
_SURFACE = 1e-6 / np.pi
"""β0 of the paper's sensor, in which the receiver's constants are contained."""
_FARTHEST_M, _STEP_M = 15.0, 0.01


def in_fog(sweep: Sweep, attenuation: float, rng: np.random.Generator) -> Sweep:
    """Echoes grow weak; far ones are lost to those of droplets, which lie half to twice as far as the mean one.

    Args:
        sweep: the sweep.
        attenuation: α, 1/m.
        rng: where the droplets are.
    """
    fog_m, response = backscatter(attenuation)
    xyz, labels = sweep.cloud.xyz.copy(), sweep.labels.copy()
    distance = np.linalg.norm(xyz, axis=1)
    hard, soft = np.exp(-2 * attenuation * distance), response * distance**2
    droplets = soft > hard
    where_m = fog_m * 2 ** rng.uniform(-1, 1, len(xyz))
    xyz[droplets] *= (where_m / distance)[droplets, None]
    labels[droplets] = IGNORE
    share = np.where(droplets, soft, hard).astype(np.float32)
    return sweep.with_cloud(xyz, scaled_intensity(sweep, share)).with_labels(labels)


def visibility_m(attenuation: float) -> float:
    """Meteorological optical range: where 5 % of the light is left."""
    return float(np.log(20) / attenuation)


@lru_cache(maxsize=8)
def backscatter(attenuation: float) -> tuple[float, float]:
    """The range at which droplets send most back, m, and (β / β0) · I there, 1/m²."""
    pulse_m = _LIGHT_M_S * _PULSE_S
    s = np.arange(_SEEN_FROM_M, _FARTHEST_M, _STEP_M)
    seen = np.clip((s - _SEEN_FROM_M) / (_SEEN_WHOLE_M - _SEEN_FROM_M), 0, 1)
    arriving = np.exp(-2 * attenuation * s) / s**2 * seen
    behind = s[:, None] - s  # R − s = c t / 2
    pulse = np.where((behind >= 0) & (behind <= pulse_m), np.sin(np.pi * behind / pulse_m) ** 2, 0)
    response = pulse @ arriving * _STEP_M * 2 / _LIGHT_M_S
    best = int(response.argmax())
    ratio = _BACKSCATTER / visibility_m(attenuation) / _SURFACE
    return float(s[best]), float(ratio * response[best])
