"""Sun, sky and camera response of one drive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from training.worldgen.sensing.noise import clamp, stains

_KINDS = ("clear", "overcast", "low_sun", "dusk")
_SHARES = (0.42, 0.3, 0.18, 0.1)

# Unit of light: irradiance of a surface that faces the noon sun. Ranges are (lowest, highest).
_ELEVATION = {"clear": (28, 68), "overcast": (60, 85), "low_sun": (5, 17), "dusk": (50, 80)}
_SUN = {
    "clear": (1.0, 0.95, 0.86),
    "overcast": (0.26, 0.26, 0.26),
    "low_sun": (0.75, 0.52, 0.3),
    "dusk": (0.012, 0.013, 0.018),
}
_AMBIENT = {
    "clear": (0.2, 0.25, 0.32),
    "overcast": (0.42, 0.44, 0.47),
    "low_sun": (0.17, 0.18, 0.22),
    "dusk": (0.035, 0.04, 0.055),
}
_ZENITH = {
    "clear": (0.13, 0.24, 0.46),
    "overcast": (0.44, 0.46, 0.5),
    "low_sun": (0.13, 0.2, 0.36),
    "dusk": (0.02, 0.028, 0.055),
}
_HORIZON = {
    "clear": (0.5, 0.6, 0.72),
    "overcast": (0.6, 0.61, 0.63),
    "low_sun": (0.62, 0.5, 0.4),
    "dusk": (0.11, 0.085, 0.085),
}
_CLOUD = {
    "clear": (0.85, 0.86, 0.88),
    "overcast": (0.3, 0.31, 0.33),
    "low_sun": (0.62, 0.5, 0.44),
    "dusk": (0.045, 0.045, 0.06),
}
_COVER = {"clear": (0.0, 0.6), "overcast": (0.45, 1.0), "low_sun": (0.1, 0.75), "dusk": (0.1, 0.9)}
_VISIBILITY_M = {"clear": (1500, 8000), "overcast": (400, 4000), "low_sun": (500, 4000), "dusk": (600, 4000)}
_GLARE = {"clear": (0.0, 0.15), "overcast": (0.0, 0.0), "low_sun": (0.2, 0.9), "dusk": (0.0, 0.0)}
_BRIGHTNESS = {"clear": (82, 122), "overcast": (80, 120), "low_sun": (68, 112), "dusk": (42, 80)}
_NOISE = {"clear": (0.001, 0.005), "overcast": (0.001, 0.006), "low_sun": (0.002, 0.007), "dusk": (0.002, 0.007)}


@dataclass(frozen=True, eq=False)
class Light:
    """Lighting and camera response of a drive. Colours are (3,) float32, linear light.

    Attributes:
        kind: clear, overcast, low_sun or dusk.
        sun: (3,) float32 unit direction towards the sun, world frame; under clouds, towards the brightest sky.
        sun_color: irradiance of a surface that faces the sun.
        ambient: irradiance of the sky on an upward-facing surface.
        zenith: sky radiance at the zenith.
        horizon: sky radiance at the horizon, and colour of haze.
        cloud: colour of clouds.
        cover: cloud cover, 0 to 1.
        haze: extinction coefficient, 1/m.
        glare: strength of veiling glare around a low sun.
        brightness: target mean of auto-exposure, sRGB 0 to 255.
        noise: standard deviation of a mid-grey pixel as a share of white.
        balance: white balance, a gain per channel.
        saturation: 1 leaves colours unchanged.
        contrast: of the tone curve, 0 (flat) to 1 (filmic).
        blur: share of a pixel's light that spreads to its four neighbours.
        vignette: loss of light in the corners.
        clouds: seed of the cloud shapes.
    """

    kind: str
    sun: NDArray[np.float32]
    sun_color: NDArray[np.float32]
    ambient: NDArray[np.float32]
    zenith: NDArray[np.float32]
    horizon: NDArray[np.float32]
    cloud: NDArray[np.float32]
    cover: float
    haze: float
    glare: float
    brightness: float
    noise: float
    balance: NDArray[np.float32]
    saturation: float
    contrast: float
    blur: float
    vignette: float
    clouds: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Light:
        """Draw the lighting of a drive."""
        return cls.of_kind(str(rng.choice(_KINDS, p=_SHARES)), rng)

    @classmethod
    def of_kind(cls, kind: str, rng: np.random.Generator) -> Light:
        """Draw lighting of a kind: clear, overcast, low_sun or dusk."""
        sun_color, ambient = _vary(_SUN[kind], rng), _vary(_AMBIENT[kind], rng)
        return cls(
            kind=kind,
            sun=_direction(rng.uniform(-180, 180), rng.uniform(*_ELEVATION[kind])),
            sun_color=sun_color,
            ambient=ambient,
            zenith=_vary(_ZENITH[kind], rng),
            horizon=_vary(_HORIZON[kind], rng),
            cloud=_vary(_CLOUD[kind], rng),
            cover=rng.uniform(*_COVER[kind]),
            haze=2.0 / rng.uniform(*_VISIBILITY_M[kind]),
            glare=rng.uniform(*_GLARE[kind]),
            brightness=rng.uniform(*_BRIGHTNESS[kind]),
            noise=rng.uniform(*_NOISE[kind]),
            balance=_balance(0.5 * sun_color + ambient, rng),
            saturation=rng.uniform(0.6, 1.0),
            contrast=rng.uniform(0.2, 1.0),
            blur=rng.uniform(0.15, 0.5),
            vignette=rng.uniform(0.0, 0.3),
            clouds=int(rng.integers(2**62)),
        )

    def illumination(self, veil: float) -> Illumination:
        """Arguments of the shading kernels; ``veil``: strength of veiling glare in this image."""
        return Illumination(
            self.sun,
            self.sun_color,
            self.ambient,
            self.ground,
            self.zenith,
            self.horizon,
            self.cloud,
            self.cover,
            self.haze,
            veil,
            np.uint64(self.clouds),
        )

    @property
    def ground(self) -> NDArray[np.float32]:
        """(3,) radiance reflected from the ground, with an albedo of 0.16."""
        return (self.sun_color * self.sun[2] + self.ambient) * np.float32(0.16)


class Illumination(NamedTuple):
    """Arguments of the shading kernels; fields as in :class:`Light` except ``veil`` and ``seed``.

    Attributes:
        veil: strength of veiling glare in an image.
        seed: of the cloud shapes, uint64.
    """

    sun: NDArray[np.float32]
    sun_color: NDArray[np.float32]
    ambient: NDArray[np.float32]
    ground: NDArray[np.float32]
    zenith: NDArray[np.float32]
    horizon: NDArray[np.float32]
    cloud: NDArray[np.float32]
    cover: float
    haze: float
    veil: float
    seed: np.uint64


def _direction(azimuth_deg: float, elevation_deg: float) -> NDArray[np.float32]:
    azimuth, elevation = np.radians([azimuth_deg, elevation_deg])
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)


def _vary(color: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.float32]:
    """Vary brightness by about a fifth and tint by about 3 %."""
    factor = np.exp(rng.normal(scale=0.2) + rng.normal(scale=0.03, size=3))
    return (np.array(color) * factor).astype(np.float32)


def _balance(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """White balance that removes most, but not all, of the light's tint."""
    tint = light / light.mean()
    return (tint ** -rng.uniform(0.4, 1.0) * np.exp(rng.normal(scale=0.025, size=3))).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def sky(direction, pixel, light, out):  # type: ignore[no-untyped-def]
    """Write the radiance of the sky in a (3,) unit direction into (3,) ``out``.

    Args:
        direction: (3,) world frame.
        pixel: angle that a pixel covers, radians.
        light: an :class:`Illumination`.
        out: (3,) result.
    """
    x, y, z = direction[0], direction[1], direction[2]
    sun, sun_color, zenith, horizon, cloud = light.sun, light.sun_color, light.zenith, light.horizon, light.cloud
    up = max(z, 0.0)
    low = (1.0 - up) ** 4
    near = max(0.0, x * sun[0] + y * sun[1] + z * sun[2])
    near8 = near**8
    near64 = near8**8
    glow = 0.12 * near8 + 0.45 * near64 + 6.0 * near64**16
    covered, brightness = clouds(x, y, up, pixel, light.cover, light.seed)
    for c in range(3):
        clear = zenith[c] + (horizon[c] - zenith[c]) * low + glow * sun_color[c]
        cloudy = (cloud[c] + 0.5 * near8 * sun_color[c]) * brightness + 0.3 * glow * sun_color[c]
        out[c] = clear + (cloudy - clear) * covered


@numba.njit(cache=True, nogil=True)
def clouds(x, y, up, pixel, cover, seed):  # type: ignore[no-untyped-def]
    """Cloud opacity in a direction, 0..1, and cloud brightness, about 1: noise on a horizontal plane."""
    if cover <= 0.01:
        return 0.0, 1.0
    reach = 1.6 / (up + 0.12)
    shape = stains(x * reach, y * reach, pixel * reach * 3, seed, 5)
    covered = clamp((shape - 0.78 + 0.5 * cover) / 0.2)
    return covered * clamp(up * 8) * 0.9, 0.75 + 0.7 * (shape - 0.3)
