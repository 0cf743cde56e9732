"""Fog, from an analytical model.

After Hahner et al. 2021, "Fog Simulation on Real LiDAR Point Clouds for 3D Object Detection in Adverse Weather", who
follow Rasshofer et al. 2011. For a surface at range R0 with intensity i in clear air, fog with the attenuation α (1/m)
gives the echoes::

    i_hard = i · exp(−2 α R0)                                        Beer-Lambert, there and back
    i_soft = i · R0² · (β / β0) · max over R of I(R)                 backscatter of the droplets
    I(R)   = ∫ sin²(π t / 2τ) · exp(−2 α s) / s² · ξ(s) dt,          0 ≤ t ≤ 2τ,  s = R − c t / 2

with the pulse's half-power width τ, the crossover function ξ (share of the beam in the receiver's view at range s), the
backscatter coefficient of fog β = 0.046 / MOR, the meteorological optical range (visibility) MOR = ln 20 / α, and β0 of
the surface. The sensor reports the stronger echo. If that is the droplets', the point is at the R that maximises I.

Both echoes are proportional to i, so range alone decides: with the paper's constants, droplets are stronger from 151,
87 and 63 m on at visibilities of 300, 150 and 100 m. Echoes too weak for a real sensor are kept: real fog removes more.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from training.data.sweeps import Sweep
from training.experiments.corruption.points import scaled_intensity
from xmodelkd_ros.core.labels import IGNORE

_LIGHT_M_S = 299_792_458.0
_PULSE_S = 20e-9
_OVERLAP_START_M, _OVERLAP_FULL_M = 0.9, 1.0
"""ξ rises from 0 to 1 between these ranges."""
_BACKSCATTER = 0.046
_SURFACE = 1e-6 / np.pi
"""β0 of the paper's sensor, including the receiver's constants."""
_MAX_RANGE_M, _STEP_M = 15.0, 0.01


def in_fog(sweep: Sweep, attenuation: float, rng: np.random.Generator) -> Sweep:
    """Attenuate echoes, and replace far ones by echoes of droplets at 0.5 to 2 times the range of maximum backscatter.

    Args:
        sweep: the sweep.
        attenuation: α, 1/m.
        rng: for the ranges of the droplets.
    """
    fog_m, response = backscatter(attenuation)
    xyz, labels = sweep.cloud.xyz.copy(), sweep.labels.copy()
    distance = np.linalg.norm(xyz, axis=1)
    hard, soft = np.exp(-2 * attenuation * distance), response * distance**2
    droplets = soft > hard
    droplet_m = fog_m * 2 ** rng.uniform(-1, 1, len(xyz))
    xyz[droplets] *= (droplet_m / distance)[droplets, None]
    labels[droplets] = IGNORE
    share = np.where(droplets, soft, hard).astype(np.float32)
    return sweep.with_cloud(xyz, scaled_intensity(sweep, share)).with_labels(labels)


def visibility_m(attenuation: float) -> float:
    """Meteorological optical range: the distance at which 5 % of the light remains."""
    return float(np.log(20) / attenuation)


@lru_cache(maxsize=8)
def backscatter(attenuation: float) -> tuple[float, float]:
    """The range of maximum backscatter, m, and (β / β0) · I there, 1/m²."""
    pulse_m = _LIGHT_M_S * _PULSE_S
    s = np.arange(_OVERLAP_START_M, _MAX_RANGE_M, _STEP_M)
    overlap = np.clip((s - _OVERLAP_START_M) / (_OVERLAP_FULL_M - _OVERLAP_START_M), 0, 1)
    arriving = np.exp(-2 * attenuation * s) / s**2 * overlap
    delay_m = s[:, None] - s  # R − s = c t / 2
    pulse = np.where((delay_m >= 0) & (delay_m <= pulse_m), np.sin(np.pi * delay_m / pulse_m) ** 2, 0)
    response = pulse @ arriving * _STEP_M * 2 / _LIGHT_M_S
    best = int(response.argmax())
    ratio = _BACKSCATTER / visibility_m(attenuation) / _SURFACE
    return float(s[best]), float(ratio * response[best])
