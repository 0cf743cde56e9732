"""Times of points in the spellings and units of LiDAR drivers."""

from __future__ import annotations

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, message_class
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.messages.point_times import point_times

STAMP_NS = 1_700_000_003_250_000_000  # 53.25 s past 13 minutes past 22 o'clock
SWEEP_S = np.linspace(0, 0.1, 500)
DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8, "i8": 9, "u8": 10}
HOUR_NS, DAY_NS = 3_600 * 10**9, 86_400 * 10**9


def cloud(fields: dict[str, tuple[str, np.ndarray]], stamp_ns: int = STAMP_NS):
    """A cloud of points 5 m away, and missing returns with a time of 0; its positions and stamp."""
    count = len(next(iter(fields.values()))[1]) if fields else 500
    columns = {name: ("f4", np.full(count, 5.0)) for name in "xyz"} | fields
    dtype = np.dtype([(name, f"<{code}") for name, (code, _) in columns.items()])
    points = np.zeros(count + 3, dtype)
    for name, (code, values) in columns.items():
        points[name][:count] = np.asarray(values).astype(code)
    points["x"][-1] = np.nan
    header = message_class("std_msgs/msg/Header")(
        stamp_from_ns(stamp_ns, message_class("builtin_interfaces/msg/Time")), "lidar"
    )
    described = [
        ROSBAGS_TYPES.PointField(name, dtype.fields[name][1], DATATYPES[code], 1) for name, (code, _) in columns.items()
    ]
    data = points.view(np.uint8)
    size = dtype.itemsize
    message = ROSBAGS_TYPES.PointCloud2(header, 1, count + 3, described, False, size, size * (count + 3), data, False)
    return message, np.stack([points[name] for name in "xyz"], axis=1), stamp_ns


def absolute(seconds: np.ndarray, per_second: float, period_ns: int = 0) -> np.ndarray:
    """Times in a unit, since 1970 or the last full period."""
    nanoseconds = STAMP_NS + np.round(seconds * 1e9).astype(np.int64)
    nanoseconds = nanoseconds % period_ns if period_ns else nanoseconds
    return nanoseconds // round(1e9 / per_second) if per_second > 1 else nanoseconds * 1e-9


SECONDS, MILLI, MICRO, NANO = 1, 1e3, 1e6, 1e9
DRIVERS = {
    "Velodyne": {"time": ("f4", SWEEP_S)},
    "Velodyne, older": {"time": ("f4", SWEEP_S - 0.1)},
    "Leishen": {"time": ("f8", SWEEP_S)},
    "Ouster": {"t": ("u4", SWEEP_S * NANO)},
    "Hesai, RoboSense, Seyond": {"timestamp": ("f8", absolute(SWEEP_S, SECONDS))},
    "RoboSense, stamped at the end": {"timestamp": ("f8", absolute(SWEEP_S - 0.1, SECONDS))},
    "PandaSet": {"t": ("f8", absolute(SWEEP_S - 0.1, SECONDS))},
    "Livox": {"offset_time": ("u4", SWEEP_S * NANO)},
    "Livox, point cloud": {"timestamp": ("f8", absolute(SWEEP_S, NANO))},
    "Autoware": {"time_stamp": ("u4", SWEEP_S * NANO)},
    "Autoware, older": {"time_stamp": ("f8", absolute(SWEEP_S, SECONDS))},
    "Aeva": {"time_offset_ns": ("i4", (SWEEP_S - 0.05) * NANO)},
    "Luminar": {"timestamp_ns": ("u8", absolute(SWEEP_S, NANO))},
    "raw Velodyne packets": {"timestamp": ("u4", absolute(SWEEP_S, MICRO, HOUR_NS))},
    "seconds of the hour": {"timestamp": ("f8", absolute(SWEEP_S, SECONDS, HOUR_NS))},
    "seconds of the day": {"gps_time": ("f8", absolute(SWEEP_S, SECONDS, DAY_NS))},
    "since 1970, ms": {"timestamp": ("f8", absolute(SWEEP_S, MICRO) / 1e3)},
    "since 1970, us": {"timestamp": ("u8", absolute(SWEEP_S, MICRO))},
    "since 1970, us, i8": {"time": ("i8", absolute(SWEEP_S, MICRO))},
    "relative, in a field called timestamp": {"timestamp": ("f4", SWEEP_S)},
    "relative double, in a field called timestamp": {"timestamp": ("f8", SWEEP_S)},
    "Argoverse": {"offset_ns": ("i4", SWEEP_S * NANO)},
    "Cepton": {"relative_timestamp": ("f4", SWEEP_S)},
    "SICK": {
        "lidar_sec": ("u4", absolute(SWEEP_S, NANO) // 10**9),
        "lidar_nsec": ("u4", absolute(SWEEP_S, NANO) % 10**9),
    },
    "LIO-SAM": {"time": ("f4", SWEEP_S), "ring": ("u2", np.zeros(500))},
    "xyw": {"time_offset": ("f4", SWEEP_S)},
    **{
        name: {name: ("f4", SWEEP_S)}
        for name in ("t", "dt", "toffset", "point_time", "relative_time", "Time", "time_s")
    },
    **{name: {name: ("u4", SWEEP_S * MICRO)} for name in ("t_us", "time_us", "timeUsec", "time_offset_us")},
    **{name: {name: ("f4", SWEEP_S * MILLI)} for name in ("t_ms", "time_ms", "timeMsec")},
    **{name: {name: ("f4", SWEEP_S * NANO)} for name in ("t_ns", "time_ns", "timeNanosec")},
    **{
        f"{high}, {low}": {high: ("u4", absolute(SWEEP_S, NANO) // 10**9), low: ("u4", absolute(SWEEP_S, NANO) % 10**9)}
        for high, low in (("sec", "nsec"), ("timestamp_sec", "timestamp_nsec"), ("timeSecond", "timeNanosecond"))
    },
    "MulRan": {"t_sec": ("u4", absolute(SWEEP_S, MICRO) // 10**6), "t_usec": ("u4", absolute(SWEEP_S, MICRO) % 10**6)},
    **{
        f"{stem}, 64 bits": {
            f"{stem}_high": ("u4", absolute(SWEEP_S, NANO) >> 32),
            f"{stem}_low": ("u4", absolute(SWEEP_S, NANO) & 0xFFFFFFFF),
        }
        for stem in ("stamp", "timestamp")
    },
}
START_S = {"Velodyne, older": -0.1, "RoboSense, stamped at the end": -0.1, "PandaSet": -0.1, "Aeva": -0.05}


@pytest.mark.parametrize("driver", DRIVERS)
def test_times_of_drivers_are_read_without_a_note(driver):
    swept = cloud(DRIVERS[driver])
    times = point_times(*swept)
    assert times.note == ""
    assert times.seconds.dtype == np.float32
    np.testing.assert_allclose(times.seconds[:500], SWEEP_S + START_S.get(driver, 0.0), atol=2e-6)
    np.testing.assert_array_equal(times.seconds[500:], 0, "missing returns")


@pytest.mark.parametrize(
    ("name", "code", "per_second", "unit"),
    [
        ("time", "f4", MICRO, "microseconds, unlike drivers' float32: 100000 seconds are no sweep"),
        ("time", "f4", MILLI, "milliseconds, unlike drivers' float32: 100 seconds are no sweep"),
        ("time", "f8", NANO, "nanoseconds, unlike drivers' float64: 100000000 seconds are no sweep"),
        ("t", "u4", MICRO, "microseconds, unlike drivers' uint32: 100000 nanoseconds are no sweep"),
        ("offset_time", "i4", MILLI, "milliseconds, unlike drivers' int32: 100 nanoseconds are no sweep"),
        ("time_ms", "f4", MICRO, "microseconds, unlike its name: 100000 milliseconds are no sweep"),
    ],
)
def test_unit_is_recognised_from_the_span_of_a_sweep_and_said(name, code, per_second, unit):
    swept = cloud({name: (code, SWEEP_S * per_second)})
    times = point_times(*swept)
    assert times.note == f"field '{name}' is read in {unit}"
    np.testing.assert_allclose(times.seconds[:500], SWEEP_S, atol=1e-3 if per_second == MILLI else 1e-5)


@pytest.mark.parametrize("period_s", [0.025, 0.05, 0.1, 0.2])
def test_every_rate_of_turning_is_read(period_s):
    for name, code, scale in (("time", "f4", SECONDS), ("t", "u4", NANO), ("t", "u4", MICRO), ("time", "f4", MILLI)):
        swept = cloud({name: (code, SWEEP_S * 10 * period_s * scale)})
        np.testing.assert_allclose(point_times(*swept).seconds[:500], SWEEP_S * 10 * period_s, atol=1e-5)


def test_times_across_the_full_hour_are_continuous():
    stamp_ns = STAMP_NS - STAMP_NS % HOUR_NS - 50_000_000
    past = (stamp_ns + (SWEEP_S * 1e9).astype(np.int64)) % HOUR_NS // 1000
    swept = cloud({"timestamp": ("u4", past)}, stamp_ns)
    np.testing.assert_allclose(point_times(*swept).seconds[:500], SWEEP_S, atol=2e-6)


def test_times_of_a_simulation_are_told_from_offsets_by_name():
    """Shortly after the start, times since the start are as small as those since the stamp."""
    for name, start_s in (("timestamp", 0.3), ("time", 0.0)):
        swept = cloud({name: ("f8", SWEEP_S + start_s)}, 300_000_000)
        np.testing.assert_allclose(point_times(*swept).seconds[:500], SWEEP_S, atol=1e-6)


@pytest.mark.parametrize("code", ["f4", "u4", "f8"])
def test_one_time_for_all_points_is_said(code):
    """A flash LiDAR, or a driver that leaves the field at zero."""
    swept = cloud({"time": (code, np.zeros(500))})
    times = point_times(*swept)
    assert not times.seconds.any()
    assert times.note == (
        "field 'time' has one time for all points, as of a flash LiDAR: all cameras get the same time_offset"
    )


AT_STAMP = "all points count as taken at the stamp, so cameras get a time_offset of 0 ms"


@pytest.mark.parametrize(
    "fields", [{}, {"ring": ("u2", np.zeros(500))}, {"time_of_flight": ("f4", SWEEP_S)}, {"tag": ("u1", np.zeros(500))}]
)
def test_missing_times_are_said(fields):
    swept = cloud(fields)
    times = point_times(*swept)
    assert not times.seconds.any()
    assert times.note == f"the clouds have no field with the times of their points: {AT_STAMP}"


@pytest.mark.parametrize(
    ("name", "code", "values", "shown"),
    [
        ("timestamp", "f8", SWEEP_S + 1234.0, "'timestamp' (float64, 1234 to 1234.1)"),  # since power-on
        ("timestamp", "f4", np.full(500, 1.7e9), "'timestamp' (float32, 1700000000 to 1700000000)"),
        ("t", "u4", (SWEEP_S + 4.0) * NANO, "'t' (uint32, 4000000000 to 4099999999)"),
        ("time", "f8", np.full(500, 1e308), "'time' (float64, 1e+308 to 1e+308)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_times_that_cannot_be_read_are_said(name, code, values, shown):
    swept = cloud({name: (code, values)})
    times = point_times(*swept)
    assert not times.seconds.any()
    assert times.note.startswith(
        f"field {shown} is not used: in no unit are these times within a second of the sweep's"
    )
    assert AT_STAMP in times.note and times.note.endswith("Give stamp and points one clock")


def test_an_unreadable_field_does_not_hide_another():
    swept = cloud({"time": ("f4", np.full(500, np.nan)), "offset_time": ("u4", SWEEP_S * NANO)})
    np.testing.assert_allclose(point_times(*swept).seconds[:500], SWEEP_S, atol=1e-6)


def test_a_field_with_one_time_does_not_hide_another():
    swept = cloud({"timestamp": ("f8", np.zeros(500)), "time": ("f4", np.zeros(500)), "t": ("u4", SWEEP_S * NANO)})
    times = point_times(*swept)
    np.testing.assert_allclose(times.seconds[:500], SWEEP_S, atol=1e-6)
    assert times.note == ""


def test_points_without_a_time_count_as_taken_at_the_stamp():
    times = point_times(*cloud({"time": ("f4", np.where(np.arange(500) % 100 == 7, np.nan, SWEEP_S))}))
    assert times.seconds[7] == 0 and times.seconds[499] == pytest.approx(0.1)
    assert times.note == "field 'time' is NaN for 1.0% of the points, which count as taken at the stamp"
    assert point_times(*cloud({"time": ("f4", np.full(500, np.nan))})).note.startswith("field 'time' is NaN for all")


def test_times_longer_than_a_sweep_are_said():
    times = point_times(*cloud({"t": ("f4", SWEEP_S * 10)}))
    assert times.note == "field 't' spans 1 s, longer than usual sweeps: is it a fraction of the sweep?"
