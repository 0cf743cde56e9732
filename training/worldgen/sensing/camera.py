"""Camera rendering: one ray per pixel, sun with shadows, sky, haze, and exposure, tone curve and noise.

Colour and label of a pixel come from the same hit, so that image edges and label edges coincide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from training.worldgen.sensing.light import Light, sky
from training.worldgen.sensing.noise import clamp, mix_bits, value_noise
from training.worldgen.sensing.surfaces import Appearance, albedo
from training.worldgen.tracing import Hits, Tracer
from xmodelkd_ros.core.camera import CameraModel

SKY = 255
"""Label of pixels without a hit."""

_MIN_COSINE = 0.08
"""Lower bound on the cosine of the incidence angle; it keeps footprints finite at grazing incidence."""

_WHITE = 4.0
"""Exposed radiance that maps to white; highlights below it are compressed."""

_TONES = 16384
_BRIGHTEST_GAIN = 30.0
"""Upper limit of auto-exposure, so that dusk stays dark."""


@dataclass(frozen=True, eq=False)
class CameraRender:
    """A rendered image with ground truth per pixel.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        label: (H, W) uint8 drive13 class ids, :data:`SKY` for the sky.
        distance: (H, W) float32 metres along the ray; infinite in the sky.
    """

    rgb: NDArray[np.uint8]
    label: NDArray[np.uint8]
    distance: NDArray[np.float32]


def render(
    tracer: Tracer,
    appearance: Appearance,
    light: Light,
    camera: CameraModel,
    world_from_camera: NDArray[np.float64],
    time: float,
    rng: np.random.Generator,
) -> CameraRender:
    """Render an image with a global shutter.

    Args:
        tracer: the scene.
        appearance: colours and reflectances of its materials.
        light: sun, sky and camera response.
        camera: image size and intrinsic; its extrinsic is ignored.
        world_from_camera: (4, 4) pose of the optical frame (x right, y down, z forward).
        time: seconds since the start of the drive.
        rng: seeds the sensor noise.
    """
    directions = pixel_rays(camera, world_from_camera)
    origin = world_from_camera[:3, 3]
    hits = tracer.trace(origin, directions, time)
    rays = _Rays(origin, directions, float(camera.intrinsic[0, 0]))
    radiance = _radiance(tracer, appearance, light, rays, hits, time)
    shape = camera.height, camera.width
    return CameraRender(
        _to_srgb(radiance.reshape(*shape, 3), light, np.uint64(rng.integers(2**63))),
        tracer.label(hits, SKY).reshape(shape),
        hits.distance.reshape(shape),
    )


def render_labels(
    tracer: Tracer, camera: CameraModel, world_from_camera: NDArray[np.float64], time: float
) -> NDArray[np.uint8]:
    """The labels of :func:`render` alone, in a third of its time; arguments as there."""
    hits = tracer.trace(world_from_camera[:3, 3], pixel_rays(camera, world_from_camera), time)
    return np.asarray(tracer.label(hits, SKY).reshape(camera.height, camera.width))


def pixel_rays(camera: CameraModel, world_from_camera: NDArray[np.float64]) -> NDArray[np.float32]:
    """(H * W, 3) unit directions in the world frame through the pixel centres, in row-major order."""
    matrix = world_from_camera[:3, :3] @ np.linalg.inv(camera.intrinsic)
    return np.asarray(_rays(matrix, camera.width, camera.height))


class _Rays(NamedTuple):
    """One ray per pixel.

    Attributes:
        origin: (3,) metres, world frame.
        directions: (N, 3) unit vectors, world frame.
        focal: focal length, pixels.
    """

    origin: NDArray[np.float64]
    directions: NDArray[np.float32]
    focal: float


class _Surfaces(NamedTuple):
    """Hits of N rays, and the properties of the materials that they may hit.

    Attributes:
        distance: (N,) as in :class:`~training.worldgen.tracing.Hits`.
        normal: (N, 3) likewise.
        triangle: (N,) likewise.
        material: (T,) material numbers of the triangles.
        gloss: (M,) of the materials.
        translucent: (M,) of the materials.
    """

    distance: NDArray[np.float32]
    normal: NDArray[np.float32]
    triangle: NDArray[np.int32]
    material: NDArray[np.int16]
    gloss: NDArray[np.float32]
    translucent: NDArray[np.float32]


def _radiance(
    tracer: Tracer, appearance: Appearance, light: Light, rays: _Rays, hits: Hits, time: float
) -> NDArray[np.float32]:
    """(N, 3) radiance along the rays."""
    tables = tracer.table.material, appearance.gloss, appearance.translucent
    surfaces = _Surfaces(hits.distance, hits.normal, hits.triangle, *tables)
    points, footprint, sunlit, sunward = _sun_candidates(rays, surfaces, light.sun)
    lit = np.zeros(len(rays.directions), np.bool_)
    lit[sunlit] = ~tracer.shaded(points, sunward, light.sun, time)
    colors = albedo(appearance, tracer, hits, footprint)
    return np.asarray(_shade(rays, surfaces, colors, lit, light.illumination(_veil(tracer, light, rays.origin, time))))


def _veil(tracer: Tracer, light: Light, origin: NDArray[np.float64], time: float) -> float:
    """Strength of veiling glare; reduced to a quarter where the camera itself is in shadow."""
    if light.glare == 0:
        return 0.0
    start = origin[None].astype(np.float32)
    hidden = tracer.shaded(start, np.zeros_like(start), light.sun, time)[0]
    return light.glare * (0.25 if hidden else 1.0)


def _to_srgb(radiance: NDArray[np.float32], light: Light, seed: np.uint64) -> NDArray[np.uint8]:
    """(H, W, 3) sRGB of radiance: exposure, lens, noise, tone curve."""
    curve = tone_curve(light.contrast)
    gain = exposure(radiance[::7, ::7].reshape(-1, 3) * light.balance, curve, light.brightness)
    settings = np.array([light.blur, light.vignette, light.noise, light.saturation])
    return np.asarray(
        _apply_camera_response(radiance, (gain * light.balance).astype(np.float32), settings, curve, seed)
    )


def exposure(radiance: NDArray[np.float32], curve: NDArray[np.uint8], mean: float) -> float:
    """Exposure gain that brings (N, 3) radiance to a mean of ``mean`` (sRGB, 0 to 255), by bisection.

    The gain is limited to ``_BRIGHTEST_GAIN``. Highlights saturate and so barely count: a sunlit patch does not
    darken the street.
    """
    luminance = radiance.mean(axis=1)
    low, high = np.log(1e-3), np.log(_BRIGHTEST_GAIN)
    for _ in range(14):
        middle = (low + high) / 2
        index = np.minimum(luminance * np.float32(np.exp(middle) * _TONES / _WHITE), _TONES - 1).astype(np.int32)
        if curve[index].mean() < mean:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def tone_curve(contrast: float) -> NDArray[np.uint8]:
    """(K,) sRGB values of exposed radiance 0 to ``_WHITE``: a blend of a flat and a filmic curve with darker shadows.

    Flat: Reinhard et al., Photographic Tone Reproduction for Digital Images, 2002, equation 4.
    Film: Narkowicz, ACES Filmic Tone Mapping Curve, 2016.
    """
    light = np.arange(_TONES, dtype=np.float32) * np.float32(_WHITE / _TONES)
    flat = light * (1 + light / np.float32(_WHITE**2)) / (1 + light)
    film = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    shown = np.clip(flat + np.float32(contrast) * (film - flat), 1e-6, 1)
    srgb = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** np.float32(1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
def _rays(matrix, width, height):  # type: ignore[no-untyped-def]
    """(H * W, 3) unit vectors along matrix @ (u, v, 1)."""
    rays = np.empty((height * width, 3), np.float32)
    for v in range(height):
        for u in range(width):
            x = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]
            y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]
            z = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]
            scale = 1.0 / math.sqrt(x * x + y * y + z * z)
            i = v * width + u
            rays[i, 0], rays[i, 1], rays[i, 2] = x * scale, y * scale, z * scale
    return rays


@numba.njit(cache=True, nogil=True)
def _sun_candidates(rays, surfaces, sun):  # type: ignore[no-untyped-def]
    """Points that the sun may reach, where a shadow ray decides, and the footprints of all pixels.

    Returns:
        (K, 3) points, (N,) footprints in metres, (K,) indices of the K rays, and (K, 3) normals on the sun's side.
    """
    directions, distance, normal, triangle = rays.directions, surfaces.distance, surfaces.normal, surfaces.triangle
    count = len(directions)
    points, normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    footprint, chosen = np.ones(count, np.float32), np.empty(count, np.int64)
    found = 0
    for i in range(count):
        if triangle[i] < 0:
            continue
        n, d = normal[i], directions[i]
        cosine = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2])
        footprint[i] = distance[i] / rays.focal / max(cosine, _MIN_COSINE)
        towards = n[0] * sun[0] + n[1] * sun[1] + n[2] * sun[2]
        if towards <= 0 and surfaces.translucent[surfaces.material[triangle[i]]] == 0:
            continue
        side = 1.0 if towards > 0 else -1.0
        for c in range(3):
            points[found, c] = rays.origin[c] + d[c] * distance[i]
            normals[found, c] = n[c] * side
        chosen[found] = i
        found += 1
    return points[:found], footprint, chosen[:found], normals[:found]


@numba.njit(cache=True, nogil=True)
def _shade(rays, surfaces, colors, lit, light):  # type: ignore[no-untyped-def]
    """(N, 3) radiance along the rays: the sky, or a surface under sun, sky and ground light, seen through haze."""
    directions, distance, sun = rays.directions, surfaces.distance, light.sun
    result = np.empty((len(directions), 3), np.float32)
    pixel = 1.0 / rays.focal
    value = np.empty(3)
    for i in range(len(directions)):
        d = directions[i]
        if surfaces.triangle[i] < 0:
            sky(d, pixel, light, value)
        else:
            _diffuse(surfaces, i, colors[i], lit[i], light, value)
            if surfaces.gloss[surfaces.material[surfaces.triangle[i]]] > 0:
                _reflect(rays, surfaces, i, lit[i], light, value)
            clear = math.exp(-light.haze * distance[i])
            for c in range(3):
                value[c] = value[c] * clear + light.horizon[c] * (1 - clear)
        near = max(0.0, d[0] * sun[0] + d[1] * sun[1] + d[2] * sun[2])
        stray = light.veil * (0.04 + 0.25 * near**6 + 0.5 * near**40) if light.veil > 0 else 0.0
        for c in range(3):
            result[i, c] = value[c] + stray * light.sun_color[c]
    return result


@numba.njit(cache=True, nogil=True)
def _diffuse(surfaces, i, color, lit, light, out):  # type: ignore[no-untyped-def]
    """Write the diffuse (Lambertian) radiance of surface ``i``: sun, sky from above, ground from below."""
    normal, sun = surfaces.normal[i], light.sun
    translucent = surfaces.translucent[surfaces.material[surfaces.triangle[i]]]
    cosine = normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2]
    through = translucent * (0.5 if cosine > 0 else 0.35)
    direct = (max(cosine, 0.0) * (1 - translucent) + through) if lit else 0.0
    up = 0.5 + 0.5 * normal[2]
    for c in range(3):
        ambient = light.ambient[c] * (0.3 + 0.7 * up) * up
        out[c] = color[c] * (light.sun_color[c] * direct + ambient + light.ground[c] * (1 - up))


@numba.njit(cache=True, nogil=True)
def _reflect(rays, surfaces, i, lit, light, out):  # type: ignore[no-untyped-def]
    """Mix in what glossy surface ``i`` mirrors: sky above, dark facades near the horizon, ground below.

    Noise of the position bends the line between them, since no pane is flat and no skyline straight.
    """
    origin, d, distance, n = rays.origin, rays.directions[i], surfaces.distance[i], surfaces.normal[i]
    sun, zenith, horizon, cloud = light.sun, light.zenith, light.horizon, light.cloud
    cosine = -(d[0] * n[0] + d[1] * n[1] + d[2] * n[2])
    x, y, z = d[0] + 2 * cosine * n[0], d[1] + 2 * cosine * n[1], d[2] + 2 * cosine * n[2]
    px, py, pz = origin[0] + distance * d[0], origin[1] + distance * d[1], origin[2] + distance * d[2]
    edge = 0.12 + 0.5 * (value_noise(px * 0.8 + pz * 0.3, py * 0.8 - pz * 0.9, light.seed) - 0.5)
    open_sky = clamp((z - edge) / 0.12)
    share = surfaces.gloss[surfaces.material[surfaces.triangle[i]]] * (0.3 + 0.7 * (1 - cosine) ** 4)
    shine = (x * sun[0] + y * sun[1] + z * sun[2]) if lit else 0.0
    spark = 4.0 * shine**100 if shine > 0.9 else 0.0
    low = (1.0 - max(z, 0.0)) ** 4
    for c in range(3):
        above = zenith[c] + (horizon[c] - zenith[c]) * low + 0.4 * light.cover * (cloud[c] - zenith[c])
        mirrored = light.ground[c] * 0.6 * (1 - open_sky) + above * open_sky
        out[c] += share * (mirrored - out[c] + spark * light.sun_color[c])


@numba.njit(cache=True, nogil=True)
def _apply_camera_response(light, gains, settings, curve, seed):  # type: ignore[no-untyped-def]
    """(H, W, 3) uint8 of (H, W, 3) radiance: lens blur, vignetting, saturation, noise, tone curve."""
    height, width, _ = light.shape
    blur, vignette, noise, saturation = settings
    image = np.empty((height, width, 3), np.uint8)
    value = np.empty(3)
    reach = 1.0 / (0.25 * (width * width + height * height))
    for v in range(height):
        above, below = max(v - 1, 0), min(v + 1, height - 1)
        for u in range(width):
            left, right = max(u - 1, 0), min(u + 1, width - 1)
            radius = ((u - width / 2) ** 2 + (v - height / 2) ** 2) * reach
            dim = 1.0 - vignette * radius * (0.4 + 0.6 * radius)
            for c in range(3):
                g, w = gains[c] * dim, blur / 4
                around = min(light[v, left, c] * g, _WHITE) + min(light[v, right, c] * g, _WHITE)
                around += min(light[above, u, c] * g, _WHITE) + min(light[below, u, c] * g, _WHITE)
                value[c] = min(light[v, u, c] * g, _WHITE) * (1 - blur) + around * w
            _write_pixel(value, noise, saturation, curve, mix_bits(u, v, seed), image[v, u])
    return image


@numba.njit(cache=True, nogil=True)
def _write_pixel(value, noise, saturation, curve, bits, out):  # type: ignore[no-untyped-def]
    """Write a pixel; noise grows with the square root of its radiance and is partly common to the channels."""
    grey = 0.25 * value[0] + 0.6 * value[1] + 0.15 * value[2]
    strength = noise * math.sqrt(0.2 * max(grey, 0.0) + 0.002) / 0.2
    common = _gauss(bits)
    for c in range(3):
        own = _gauss(bits >> np.uint64(16 * (c + 1)))
        exposed = grey + saturation * (value[c] - grey) + strength * (0.8 * common + 0.6 * own)
        out[c] = curve[min(_TONES - 1, max(0, np.int64(exposed * (_TONES / _WHITE))))]


@numba.njit(cache=True, nogil=True)
def _gauss(bits):  # type: ignore[no-untyped-def]
    """Approximately standard normal number from 16 bits: the sum of two bytes."""
    total = np.int64(bits & np.uint64(255)) + np.int64((bits >> np.uint64(8)) & np.uint64(255))
    return (total - 255) / 104.5
