"""The LiDAR products that drives carry.

Elevations are those of the sensor files in ``config/sensors``; where a comment says so, of a measured unit.
"""

from __future__ import annotations

import numpy as np

from training.worldgen.sensing.lidar_model import LidarModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.resources import read_sensor


def _beams(name: str) -> tuple[float, ...]:
    """Nominal elevations of a product."""
    return read_sensor(name).beam_elevations_deg


def _rows(top: float, bottom: float, count: int) -> tuple[float, ...]:
    """Evenly spaced elevations."""
    return tuple(float(angle) for angle in np.round(np.linspace(top, bottom, count), 3))


# Elevations of PandaSet's Pandar64 were estimated from its sweeps and agree with Hesai's table within 0.1 degrees.
# Azimuth offsets are Hesai's; they agree with time and azimuth of PandaSet's points within 0.2 degrees.
# Noise is 0.011 m at any range, from second differences along PandaSet's rings.
#
# Intensity of the Pandar64: gain, gamma and the surfaces' returns (``returns.strengths``) were chosen for the medians
# (quartiles) of PandaSet's frames 0 to 39. There against a generated street:
#   car 1 (0, 4) against 1 (0, 3), road 7 (3, 10) against 6 (4, 7), sidewalk 11 (10, 14) against 11 (8, 13),
#   vegetation 20 (16, 24) against 23 (17, 31), building 22 (13, 30) against 18 (12, 28),
#   person 22 (8, 32) against 26 (18, 37), traffic sign 255 in both;
# intensity 0 on 41 % of the car's points against 36 %; and a road that does not darken from 8 to 50 m although the
# incidence falls from 77 to 86 degrees. The other sensors' scales are of the size that public recordings show.
PANDAR64 = LidarModel(
    name="Pandar64",
    elevations_deg=(
        *(14.873, 11.022, 8.048, 5.045, 3.028, 2.016, 1.848, 1.676, 1.510, 1.339, 1.172, 1.001, 0.834, 0.663, 0.496),
        *(0.325, 0.157, -0.012, -0.181, -0.349, -0.519, -0.687, -0.856, -1.024, -1.195, -1.363, -1.533, -1.700),
        *(-1.872, -2.040, -2.210, -2.377, -2.547, -2.712, -2.885, -3.052, -3.222, -3.387, -3.560, -3.724, -3.896),
        *(-4.062, -4.233, -4.397, -4.570, -4.732, -4.904, -5.069, -5.241, -5.403, -5.577, -5.738, -5.910, -6.072),
        *(-7.074, -8.070, -9.071, -9.895, -11.042, -12.016, -12.983, -13.939, -18.894, -24.895),
    ),
    columns=1800,
    column_modes=(900, 1800),
    returns=2,
    azimuth_offsets_deg=(1.042,) * 6 + (-1.042, -3.125, -5.208, 5.208, 3.125, 1.042) * 8 + (1.042,) * 10,
    reach_m=180.0,
    divergence_mrad=2.0,
    range_noise_m=0.011,
    gain=105.0,
    gamma=1.3,
    range_exponent=0.15,
)

PANDAR40P = LidarModel(
    name="Pandar40P",
    elevations_deg=_beams("Pandar40P"),
    columns=1800,
    column_modes=(900, 1800),
    returns=2,
    # Those of every second beam of the Pandar64 in the dense block, and of the same beams outside of it.
    azimuth_offsets_deg=(1.042,) * 6 + (-3.125, 5.208, 1.042) * 8 + (1.042,) * 10,
    reach_m=170.0,
    divergence_mrad=2.0,
    range_noise_m=0.012,
    gain=105.0,
    gamma=1.3,
    range_exponent=0.15,
)

# Spinning LiDARs of Velodyne: modes of 5 to 20 turns a second; all are given 10.
HDL64E = LidarModel(
    name="HDL-64E",
    elevations_deg=_beams("HDL-64E"),
    columns=2083,
    column_modes=(1042, 2083),
    table_spread=0.02,
    max_range_m=120.0,
    reach_m=75.0,
    divergence_mrad=2.8,
    range_noise_m=0.018,
    gain=300.0,
    beam_gain_spread=0.15,
)

HDL32E = LidarModel(
    name="HDL-32E",
    elevations_deg=_beams("HDL-32E"),
    columns=2170,
    column_modes=(1085, 2170),
    returns=2,
    max_range_m=100.0,
    reach_m=65.0,
    divergence_mrad=2.8,
    range_noise_m=0.018,
    gain=80.0,
)

VLP16 = LidarModel(
    name="VLP-16",
    elevations_deg=_beams("VLP-16"),
    columns=1800,
    column_modes=(900, 1800, 3600),
    returns=2,
    max_range_m=100.0,
    reach_m=60.0,
    divergence_mrad=3.0,
    range_noise_m=0.018,
    gain=90.0,
)

# Velodyne, VLP-32C user manual: azimuth offsets (clockwise there, so turned round here).
VLP32C = LidarModel(
    name="VLP-32C",
    elevations_deg=_beams("VLP-32C"),
    columns=1800,
    column_modes=(900, 1800),
    returns=2,
    azimuth_offsets_deg=(
        *(1.4, -1.4, 1.4, -1.4, 1.4, -1.4, 4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2),
        *(4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2, 1.4, -1.4, 1.4, -1.4, 1.4, -1.4),
    ),
    reach_m=100.0,
    divergence_mrad=3.0,
    range_noise_m=0.018,
    gain=100.0,
)


def _ouster(name: str, reach_m: float, offsets_deg: tuple[float, ...]) -> LidarModel:
    """A LiDAR of Ouster, whose units differ in their fields of view by up to a tenth."""
    beams = _beams(name)
    return LidarModel(
        name=name,
        elevations_deg=beams,
        columns=1024,
        column_modes=(512, 1024, 2048),
        azimuth_offsets_deg=offsets_deg * (len(beams) // len(offsets_deg)),
        returns=2,
        table_spread=0.07,
        max_range_m=150.0,
        reach_m=reach_m,
        divergence_mrad=3.5,
        range_noise_m=0.02,
        gain=110.0,
        gamma=0.9,
    )


OS1_128 = _ouster("OS1-128", 60.0, (4.23, 1.41, -1.41, -4.23))
OS1_64 = _ouster("OS1-64", 60.0, (3.16, 1.05, -1.05, -3.16))
OS1_32 = _ouster("OS1-32", 60.0, (1.41, -1.41))
OS0_128 = _ouster("OS0-128", 35.0, (11.2, 3.8, -3.8, -11.2))

PANDARXT32 = LidarModel(
    name="PandarXT-32",
    elevations_deg=_beams("PandarXT-32"),
    columns=2000,
    column_modes=(1000, 2000),
    returns=2,
    max_range_m=120.0,
    reach_m=80.0,
    divergence_mrad=2.5,
    range_noise_m=0.01,
    gain=110.0,
    gamma=1.2,
)

# Hesai, AT128 user manual: 120 x 25.4 degrees in steps of 0.1 x 0.2 degrees.
AT128 = LidarModel(
    name="AT128",
    elevations_deg=_rows(12.9, -12.5, 128),
    columns=1200,
    column_modes=(600, 1200),
    azimuth_span_deg=120.0,
    returns=2,
    max_range_m=210.0,
    reach_m=200.0,
    divergence_mrad=2.2,
    range_noise_m=0.015,
    gain=110.0,
    gamma=1.2,
)

# RoboSense, RS-LiDAR-M1 user manual: five channels share 120 x 25 degrees, 75,000 pulses in steps of about 0.2 degrees.
M1 = LidarModel(
    name="RS-LiDAR-M1",
    elevations_deg=_rows(12.5, -12.5, 126),
    columns=15_750,
    azimuth_span_deg=120.0,
    pattern="raster",
    lines=5,
    returns=2,
    reach_m=150.0,
    divergence_mrad=2.5,
    range_noise_m=0.02,
    gain=100.0,
)


def _livox(name: str, field_deg: tuple[float, float], rate_hz: float, reach_m: float) -> LidarModel:
    """A LiDAR of Livox with prisms and six laser lines: field of view and pulses a second of its user manual."""
    across, up = field_deg
    return LidarModel(
        name=name,
        elevations_deg=_rows(up / 2, -up / 2, 64),
        columns=round(rate_hz * 0.1 / 6),
        azimuth_span_deg=across,
        pattern="prisms",
        lines=6,
        returns=2,
        max_range_m=250.0,
        reach_m=reach_m,
        divergence_mrad=3.0,
        range_noise_m=0.02,
        gain=100.0,
    )


AVIA = _livox("Avia", (70.4, 77.2), 240e3, 190.0)
HORIZON = _livox("Horizon", (81.7, 25.1), 240e3, 90.0)

# Livox, Mid-360 user manual: 360 x 59 degrees, 200,000 pulses a second.
MID360 = LidarModel(
    name="Mid-360",
    elevations_deg=_rows(52.0, -7.0, 64),
    columns=5000,
    pattern="nodding",
    lines=4,
    max_range_m=70.0,
    reach_m=40.0,
    divergence_mrad=4.0,
    range_noise_m=0.02,
    gain=100.0,
)

LIDARS = (
    *(PANDAR64, HDL64E, VLP32C, OS1_128, HDL32E, VLP16, OS1_32, OS1_64, PANDAR40P),
    *(AT128, M1, AVIA, HORIZON, MID360),
)
UNSEEN_LIDARS = (PANDARXT32, OS0_128)
"""Reserved for test drives."""
BEAM_TABLES = {lidar.name: lidar.elevations_deg for lidar in (*LIDARS, *UNSEEN_LIDARS) if lidar.has_rings}
"""Beam elevations of each LiDAR that has beams, in degrees, as the rows of a range image."""


def lidar_by_name(name: str, unseen: bool = False) -> LidarModel:
    """LiDAR model of a name.

    Args:
        name: of the product.
        unseen: whether those reserved for test drives are allowed.

    Raises:
        ConfigError: the name is unknown or reserved.
    """
    known = {lidar.name: lidar for lidar in (*LIDARS, *(UNSEEN_LIDARS if unseen else ()))}
    if name not in known:
        reserved = ", which is for test drives only (seeds that end in 9)" if name in BEAM_TABLES else ""
        raise ConfigError(f"lidar is '{name}'{reserved}, but must be one of {', '.join(known)}")
    return known[name]
