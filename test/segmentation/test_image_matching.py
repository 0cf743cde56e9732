"""Image matching: hand-made cases, and properties that hold for any order of arrival."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodelkd_ros.segmentation.image_matching import JUMP_NS, STEADY_FACTOR, Now, SweepCollector

MS = 1_000_000
SLOP, DEADLINE = 50 * MS, 50 * MS


def now(ms, steady_ms=None):
    return Now(ms * MS, (ms if steady_ms is None else steady_ms) * MS)


def collector(*cameras):
    return SweepCollector(cameras, SLOP, DEADLINE)


def stamps(matched):
    return {name: image.stamp_ns // MS for name, image in matched.images.items()}


def test_sweep_is_released_at_once_without_cameras():
    (released,) = collector().add_sweep(0, "sweep", now(0))
    assert (released.sweep, released.images, released.release_reason) == ("sweep", {}, "complete")


def test_sweep_is_released_when_complete():
    c = collector("left", "right")
    assert c.add_image("left", 1000 * MS, "l", now(1001)) == []
    assert c.add_sweep(1000 * MS, "sweep", now(1100)) == []
    (released,) = c.add_image("right", 1010 * MS, "r", now(1120))
    assert released.release_reason == "complete" and released.stamp_ns == 1000 * MS
    assert {name: image.image for name, image in released.images.items()} == {"left": "l", "right": "r"}
    assert len(c) == 0


def test_uses_nearest_image_within_slop():
    c = collector("front")
    for stamp in (900, 960, 1030, 1060):
        assert c.add_image("front", stamp * MS, stamp, now(stamp)) == []
    (released,) = c.add_sweep(1000 * MS, "sweep", now(1100))
    assert stamps(released) == {"front": 1030}
    assert c.add_sweep(1111 * MS, "next", now(1211)) == []  # 1060 is 51 ms away


def test_sweep_is_released_at_deadline_with_available_images():
    c = collector("left", "right")
    c.add_image("left", 1000 * MS, "l", now(1001))
    c.add_sweep(1000 * MS, "sweep", now(1100))
    assert c.poll(now(1149)) == []
    (released,) = c.poll(now(1150))
    assert released.release_reason == "deadline" and stamps(released) == {"left": 1000}


def test_changed_deadline_applies_to_waiting_sweep():
    c = collector("front")
    c.add_sweep(0, "sweep", now(100))
    c.deadline_ns = 10 * MS
    assert [released.release_reason for released in c.poll(now(110))] == ["deadline"]


def test_stopped_clock_delays_sweep_by_four_deadlines_of_steady_time():
    c = collector("front")
    c.add_sweep(0, "sweep", now(100, 0))
    assert c.poll(now(100, STEADY_FACTOR * 50 - 1)) == []
    assert [released.release_reason for released in c.poll(now(100, STEADY_FACTOR * 50))] == ["deadline"]


def test_slow_clock_extends_deadline_in_steady_time():
    c = collector("front")
    c.add_sweep(0, "sweep", now(100, 0))
    assert c.poll(now(125, 150)) == []
    assert [released.release_reason for released in c.add_image("front", 0, "late by the wall", now(130, 180))] == [
        "complete"
    ]


def test_release_of_newer_sweep_releases_older_ones():
    c = SweepCollector(["front"], 20 * MS, 500 * MS)
    c.add_sweep(1000 * MS, "old", now(1100))
    c.add_sweep(1100 * MS, "new", now(1200))
    released = c.add_image("front", 1100 * MS, "image", now(1210))
    assert [(one.sweep, one.release_reason, len(one.images)) for one in released] == [
        ("old", "overtaken", 0),
        ("new", "complete", 1),
    ]


def test_image_may_match_two_sweeps():
    c = collector("front")
    c.add_image("front", 1000 * MS, "image", now(1001))
    assert c.add_sweep(1020 * MS, "a", now(1030))[0].images["front"].image == "image"
    assert c.add_sweep(1040 * MS, "b", now(1080))[0].images["front"].image == "image"
    assert not c.unused["front"]


def test_counts_unused_images_by_reason():
    c = collector("front")
    c.add_image("front", 1000 * MS, "image", now(1001))
    c.add_image("front", 1000 * MS, "again", now(1002))
    c.add_sweep(1000 * MS, "a", now(1100))
    c.add_sweep(1100 * MS, "b", now(1200))
    c.poll(now(1250))
    c.add_image("front", 1110 * MS, "late", now(1260))
    c.add_image("front", 1200 * MS, "between", now(1300))
    c.add_image("front", 1300 * MS, "c's", now(1310))
    c.add_sweep(1310 * MS, "c", now(1410))
    assert dict(c.unused["front"]) == {"duplicate": 1, "late": 1, "surplus": 1}


def test_memory_is_bounded_without_sweeps():
    c = collector("front")
    for number in range(1000):
        c.add_image("front", number * 33 * MS, number, now(number * 33))
    assert c.unused["front"]["surplus"] == 1000 - 16  # half a second of 30 Hz
    for number in range(1000, 2000):
        c.add_image("front", number * 33 * MS, number, now(33_000, number * 33))  # /clock stands still
    assert c.unused["front"]["surplus"] == 2000 - 61  # two seconds


def test_looping_bag_releases_waiting_sweeps_and_restarts():
    c = collector("front")
    c.add_image("front", 9_990 * MS, "end", now(9_990))
    c.add_sweep(9_900 * MS, "last", now(10_000))
    c.add_image("front", 0, "first", now(10_010))
    released = c.add_sweep(0, "first", now(10_020))
    assert [(one.sweep, one.release_reason, stamps(one)) for one in released] == [
        ("last", "clock_jump", {}),
        ("first", "complete", {"front": 0}),
    ]
    assert c.unused["front"]["clock_jump"] == 1


def test_clock_jump_back_releases_sweeps():
    c = collector("front")
    c.add_sweep(10_000 * MS, "sweep", now(10_000, 0))
    (released,) = c.poll(now(5_000, 1))
    assert released.release_reason == "clock_jump"
    assert c.poll(now(5_001, 2)) == []


def test_flush_releases_waiting_sweeps():
    c = collector("left", "right")
    c.add_image("left", 0, "l", now(0))
    c.add_sweep(0, "sweep", now(1))
    (released,) = c.flush()
    assert released.release_reason == "flushed" and list(released.images) == ["left"]


# --- promises ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drive:
    """Arrivals and the behaviour of the clocks."""

    cameras: dict[str, tuple[float, float]]  # rate (Hz), phase (s)
    lidar_hz: float
    jitter_ms: float
    loss: float
    twice: float
    delay_ms: float  # of images, up to; of sweeps, a tenth of it beyond their turn
    clock_rate: float
    stop_s: tuple[float, float]
    jump_back_at_s: float | None
    seed: int


drives = st.builds(
    Drive,
    cameras=st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.tuples(st.sampled_from([12.0, 15.0, 30.0]), st.floats(0, 0.1)), max_size=3
    ),
    lidar_hz=st.sampled_from([10.0, 20.0]),
    jitter_ms=st.floats(0, 20),
    loss=st.floats(0, 0.5),
    twice=st.floats(0, 0.3),
    delay_ms=st.floats(0, 150),
    clock_rate=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    stop_s=st.tuples(st.floats(0, 2), st.floats(0, 1)),
    jump_back_at_s=st.none() | st.floats(0.2, 2),
    seed=st.integers(0, 2**32 - 1),
)


def arrivals(drive):
    """(steady ns, camera or None for a sweep, stamp ns), in the order of arrival."""
    rng = random.Random(drive.seed)
    found = []
    for name, (rate, phase) in drive.cameras.items():
        for number in range(int(2 * rate)):
            taken = phase + number / rate + rng.gauss(0, drive.jitter_ms / 1e3)
            for _ in range(rng.random() >= drive.loss and 1 + (rng.random() < drive.twice)):
                found.append((taken + rng.uniform(0, drive.delay_ms / 1e3), name, taken))
    for number in range(int(2 * drive.lidar_hz)):
        stamp = number / drive.lidar_hz
        found.append((stamp + (1 + rng.uniform(0, 0.1)) / drive.lidar_hz, None, stamp))
    if drive.jump_back_at_s is not None:  # as a bag that is played again from the beginning
        at = drive.jump_back_at_s
        again = [(steady + at, name, stamp) for steady, name, stamp in found if steady > 0.2]
        found = [one for one in found if one[0] < at] + again
    start = 100.0  # stamps are those of a recording, which began then
    ordered = sorted(((steady, name or "", stamp + start) for steady, name, stamp in found))
    return [(round(steady * 1e9), name, round(stamp * 1e9)) for steady, name, stamp in ordered]


def ros_ns(drive, steady_ns):
    """ROS time at a steady time: it runs at a rate, pauses, and may jump back by ten seconds."""
    stop, length = (round(part * 1e9) for part in drive.stop_s)
    moved = min(steady_ns, stop) + max(0, steady_ns - stop - length)
    jumped = drive.jump_back_at_s is not None and steady_ns > drive.jump_back_at_s * 1e9
    return round(1e12 + moved * drive.clock_rate) - 10 * JUMP_NS * jumped


@settings(max_examples=300, deadline=None)
@given(drives)
def test_every_sweep_is_released_once_in_order_and_in_time(drive):
    c = SweepCollector(list(drive.cameras), SLOP, DEADLINE)
    added, released = [], []

    def clock(steady_ns):
        return Now(ros_ns(drive, steady_ns), steady_ns)

    def note(matched, at):
        released.extend((one, at) for one in matched)

    steady = 0
    for arrival, camera, stamp in arrivals(drive):
        while len(c) and steady < arrival:  # a timer that is due every five milliseconds
            steady = min(steady + 5 * MS, arrival)
            note(c.poll(clock(steady)), steady)
        steady = arrival
        if camera:
            note(c.add_image(camera, stamp, (camera, stamp), clock(steady)), steady)
        else:
            number = len(added)
            added.append((stamp, steady))
            note(c.add_sweep(stamp, number, clock(steady)), steady)
    while len(c):
        steady += 5 * MS
        note(c.poll(clock(steady)), steady)

    assert [one.sweep for one, _ in released] == list(range(len(added)))  # each once, in order
    for one, at in released:
        stamp, arrived = added[one.sweep]
        assert one.stamp_ns == stamp
        late = at - arrived
        assert late <= STEADY_FACTOR * DEADLINE + 5 * MS
        if drive.jump_back_at_s is None:
            assert clock(at).ros_ns - clock(arrived).ros_ns <= DEADLINE + 5 * MS * max(drive.clock_rate, 1)
        for name, image in one.images.items():
            assert image.image[0] == name and abs(image.stamp_ns - stamp) <= SLOP
        if one.release_reason == "complete":
            assert set(one.images) == set(drive.cameras)
        if one.release_reason == "clock_jump":
            assert not one.images


@dataclass(frozen=True)
class Late:
    """A regular drive with late arrivals."""

    camera_hz: float
    sweep_latency_s: float
    deadline_s: float
    silent: bool  # another camera, for which every sweep waits to its deadline
    stray: float  # share of images that come more than a second late, or are stamped wrongly
    seed: int


late_drives = st.builds(
    Late,
    camera_hz=st.sampled_from([10.0, 30.0, 60.0, 120.0]),
    sweep_latency_s=st.floats(0.05, 1.5),
    deadline_s=st.sampled_from([0.05, 0.3, 1.0]),
    silent=st.booleans(),
    stray=st.sampled_from([0.0, 0.01, 0.05]),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=60, deadline=None)
@given(late_drives)
def test_late_sweeps_get_nearest_arrived_image(drive):
    """From the 20th sweep on, since retention adapts to the lag of the first ones."""
    rng, start = random.Random(drive.seed), 100.0
    events = []
    for number in range(int(4 * drive.camera_hz)):
        taken = start + number / drive.camera_hz
        odd = rng.random() < drive.stray
        stamp = taken + rng.choice([-7.0, 20.0]) if odd and rng.random() < 0.5 else taken
        events.append((taken + 0.02 + (1.5 if odd and stamp == taken else 0.0), "front", stamp, odd))
    events += [(start + n / 10 + drive.sweep_latency_s, "", start + n / 10, False) for n in range(40)]
    c = SweepCollector(["front", "silent"] if drive.silent else ["front"], SLOP, round(drive.deadline_s * 1e9))
    seen, released, at = [], [], 0
    for arrival, camera, stamp_s, odd in sorted(events):
        while len(c) and at < round(arrival * 1e9):
            at = min(at + 5 * MS, round(arrival * 1e9))
            released += [(one, len(seen)) for one in c.poll(Now(at, at))]
        at, stamp = round(arrival * 1e9), round(stamp_s * 1e9)
        if camera:
            seen += [] if odd else [stamp]
            out = c.add_image(camera, stamp, None, Now(at, at))
        else:
            out = c.add_sweep(stamp, None, Now(at, at))
        released += [(one, len(seen)) for one in out]
    assert len(released) > 25
    for one, known in released[20:]:
        nearest = min((abs(stamp - one.stamp_ns) for stamp in seen[:known]), default=SLOP + 1)
        image = one.images.get("front")
        assert (abs(image.stamp_ns - one.stamp_ns) if image else SLOP + 1) <= min(nearest, SLOP + 1)


def test_image_with_wrong_stamp_does_not_expire_others():
    c = collector("front")
    c.add_image("front", 10_000 * MS, "a", now(10_000))
    c.add_image("front", 30_000 * MS, "a wrong stamp", now(10_033))
    c.add_image("front", 8_500 * MS, "very late", now(10_070))
    assert stamps(c.add_sweep(10_000 * MS, "sweep", now(10_080))[0]) == {"front": 10_000}
    c.add_image("front", 10_100 * MS, "b", now(10_100))
    assert stamps(c.add_sweep(10_100 * MS, "sweep", now(10_180))[0]) == {"front": 10_100}
    c.add_image("front", 2_000 * MS, "again from the beginning", now(10_200))
    assert c.add_sweep(10_200 * MS, "last", now(10_210)) == []
    released = c.add_sweep(2_000 * MS, "first", now(10_220))
    assert [(one.release_reason, stamps(one)) for one in released] == [
        ("clock_jump", {}),
        ("complete", {"front": 2_000}),
    ]
    assert c.unused["front"] == {"clock_jump": 2}


def test_memory_is_bounded_for_any_images():
    c = collector("front")
    for number in range(1000):
        c.add_image("front", number * MS, number, now(0))
    assert c.unused["front"]["surplus"] == 1000 - 256
    (released,) = c.add_sweep(999 * MS, "sweep", now(10))
    assert stamps(released) == {"front": 999}


@settings(max_examples=100, deadline=None)
@given(drives.filter(lambda drive: drive.jump_back_at_s is None))
def test_no_nearer_image_had_arrived(drive):
    c = SweepCollector(list(drive.cameras), SLOP, DEADLINE)
    seen = {name: set() for name in drive.cameras}
    for arrival, camera, stamp in arrivals(drive):
        if camera:
            seen[camera].add(stamp)
            released = c.add_image(camera, stamp, None, Now(arrival, arrival))
        else:
            released = c.add_sweep(stamp, None, Now(arrival, arrival))
        for one in released:
            for name, stamps_seen in seen.items():
                nearest = min((abs(stamp - one.stamp_ns) for stamp in stamps_seen), default=SLOP + 1)
                image = one.images.get(name)
                assert (image is None) == (nearest > SLOP)
                assert image is None or abs(image.stamp_ns - one.stamp_ns) == nearest


@pytest.mark.parametrize("rate", [12, 15, 30])
def test_periodic_camera_has_image_for_every_sweep(rate):
    """Half its period is within the slop, so each sweep is complete before its deadline."""
    c = collector("front")
    events = [(n / rate + 0.02, "front", n / rate) for n in range(5 * rate)]
    events += [(n / 10 + 0.11, "", n / 10) for n in range(45)]
    decisions = []
    for arrival, camera, stamp in sorted(events):
        at = Now(round(arrival * 1e9), round(arrival * 1e9))
        add = c.add_image(camera, round(stamp * 1e9), "", at) if camera else c.add_sweep(round(stamp * 1e9), "", at)
        decisions += [one.release_reason for one in add]
    assert decisions == ["complete"] * 45
