"""Why a sweep has no image of a camera: clocks that differ, and how; or images that come too rarely or stopped."""

from __future__ import annotations

from xmodelkd_ros.segmentation.image_matching import ImageGap

NO_IMAGE = "no image"
CLOCKS_DIFFER = "the clocks of LiDAR and cameras differ"

_LATEST_S = 1.0
"""A camera whose last image arrived longer ago has stopped. Also the largest gap that rare images explain."""
_MAX_OFFSET_S = 10.0
"""Range of the parameter time_offset."""
_UNIX_S, _UPTIME_S = 1e9, 1e8
"""Stamps above the first are Unix time (it is 2001 then); those below the second count from some start (3 years)."""
_DAY_S = 86400.0
_GPS_EPOCH_S = 315964800
"""GPS time counts from 1980-01-06."""
_SCALES = {1000: "milliseconds", 1_000_000: "microseconds", 1_000_000_000: "nanoseconds"}


def why_no_image(camera: str, sweep_ns: int, gap: ImageGap, time_offset_s: float = 0.0) -> str:
    """One line on why none of a camera's images fits a sweep, with the remedy where there is one.

    Args:
        camera: name of the camera.
        sweep_ns: stamp of the sweep.
        gap: its images beside the sweep.
        time_offset_s: the camera's present time_offset, which the stamps of its images contain.
    """
    seconds, age_s, slop_s = (gap.nearest_ns - sweep_ns) * 1e-9, gap.age_ns * 1e-9, gap.slop_ns * 1e-9
    if age_s > _LATEST_S:
        return f"{NO_IMAGE}: the last one came {age_s:.1f} s before the sweep"
    side = "after" if seconds > 0 else "before"
    if abs(seconds) <= _LATEST_S:
        return f"{NO_IMAGE}: the nearest is {abs(seconds):.3f} s {side} the sweep, more than the slop ({slop_s:g} s)"
    seconds = (gap.last_ns - sweep_ns) * 1e-9
    if abs(seconds) <= _MAX_OFFSET_S:
        offset = f"cameras.{camera}.time_offset to {time_offset_s - seconds:.3f}"
        remedy = f"synchronise them, or set {offset}" if abs(time_offset_s - seconds) <= _MAX_OFFSET_S else _SYNCHRONISE
    else:
        remedy = _remedy(sweep_ns * 1e-9, gap.last_ns * 1e-9 - time_offset_s)
    return f"{NO_IMAGE}: {CLOCKS_DIFFER}: images are stamped {_duration(abs(seconds))} {side} the sweeps; {remedy}"


_SYNCHRONISE = "synchronise them (PTP, or let both drivers stamp with the host's time)"


def _remedy(sweep_s: float, image_s: float) -> str:
    """What the two stamps suggest, and the remedy, for a difference beyond the range of time_offset."""
    who, low, high = ("LiDAR", sweep_s, image_s) if sweep_s < image_s else ("camera", image_s, sweep_s)
    host = f"let the {who}'s driver stamp with the host's time, or synchronise the {who} (PTP, GPS)"
    difference = high - low
    if low <= 0:
        return f"the {who}'s stamps are zero: {host}"
    for factor, unit in _SCALES.items():
        if low < _UNIX_S < high and abs(low * factor - high) < _DAY_S:
            return f"the {who}'s stamps are too small by a factor of {factor:,}: its driver confuses seconds and {unit}"
    if abs(difference - _GPS_EPOCH_S) < 60:
        return f"the {who}'s stamps are GPS time since 1980 instead of Unix time: {host}"
    if low < _UPTIME_S and high > _UNIX_S:
        return f"the {who}'s stamps count from its start (or are simulated time, or time in the GPS week): {host}"
    ahead = "camera" if who == "LiDAR" else "LiDAR"
    if abs(difference - 37) < 1.5:
        return f"37 s: the {ahead} uses TAI (PTP without its UTC offset): set the offset in ptp4l or in the driver"
    if abs(difference - 18) < 1.5:
        return f"18 s: the {ahead} uses GPS time instead of UTC: set the leap seconds in its driver"
    if difference <= 14 * 3600 + 60 and abs((difference + 60) % 1800 - 60) < 60 and difference > 1700:
        return f"whole half hours: one of them stamps in local time: set its time zone to UTC; {_SYNCHRONISE}"
    return f"more than time_offset takes ({_MAX_OFFSET_S:g} s): {_SYNCHRONISE}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", _DAY_S), ("h", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds:.0f} s ({seconds / length:.1f} {unit})"
    return f"{seconds:.3f} s"
