"""Reasons for sweeps without images, as the collector and real clocks give them."""

import pytest

from xmodelkd_ros.segmentation.image_gaps import CLOCKS_DIFFER, why_no_image
from xmodelkd_ros.segmentation.image_matching import ImageGap, Now, SweepCollector

S = 1_000_000_000
UNIX = 1_795_986_782 * S


def reason(sweep_ns, image_ns, time_offset_s=0.0):
    """The reason for a sweep that arrives with an image, both at 10 Hz and in their own clocks."""
    collector = SweepCollector(["front"], 50_000_000, 0)
    for number in range(5):
        now = Now(number * S // 10, number * S // 10)
        collector.add_image("front", image_ns + number * S // 10, None, now)
        (matched,) = collector.add_sweep(sweep_ns + number * S // 10, None, now)
        assert not matched.images
    return why_no_image("front", matched.stamp_ns, matched.gaps["front"], time_offset_s)


@pytest.mark.parametrize(
    ("sweep_ns", "image_ns", "expected"),
    [
        (12 * S, UNIX, ["(20786.9 days) after", "the LiDAR's stamps count from its start", "host's time", "PTP"]),
        (UNIX, 4000 * S, ["before the sweeps", "the camera's stamps count from its start", "camera's driver"]),
        (UNIX + 37 * S, UNIX, ["37.", "before the sweeps", "the LiDAR uses TAI"]),
        (UNIX, UNIX + 37 * S, ["the camera uses TAI"]),
        (UNIX + 18 * S, UNIX, ["the LiDAR uses GPS time"]),
        (UNIX - 315964800 * S + 18 * S, UNIX, ["the LiDAR's stamps are GPS time since 1980"]),
        (UNIX - 7200 * S, UNIX, ["7200 s (2.0 h) after", "local time"]),
        (UNIX + 19800 * S + S // 3, UNIX, ["local time"]),
        (UNIX, UNIX + 2 * S, ["2.000 s after", "cameras.front.time_offset to -2.000"]),
        (UNIX + 3 * S, UNIX, ["3.000 s before", "cameras.front.time_offset to 3.000"]),
        (UNIX, UNIX + 4000 * S, ["4000.000 s after", "more than time_offset takes (10 s)", "PTP"]),
        (UNIX, UNIX + 300 * S, ["300.000 s after", "more than time_offset takes (10 s)"]),
    ],
)
def test_clocks_that_differ_are_named_with_the_remedy(sweep_ns, image_ns, expected):
    text = reason(sweep_ns, image_ns)
    assert text.startswith(f"no image: {CLOCKS_DIFFER}: images are stamped ")
    assert [part for part in expected if part not in text] == [], text


@pytest.mark.parametrize(
    ("sweep_ns", "image_ns", "expected"),
    [
        (
            UNIX // 1000,
            UNIX,
            "the LiDAR's stamps are too small by a factor of 1,000: its driver confuses seconds and milli",
        ),
        (UNIX // 1_000_000, UNIX, "the LiDAR's stamps are too small by a factor of 1,000,000"),
        (UNIX, UNIX // 1_000_000_000, "the camera's stamps are too small by a factor of 1,000,000,000"),
        (0, UNIX, "the LiDAR's stamps are zero"),
    ],
)
def test_stamps_of_zero_or_in_other_units(sweep_ns, image_ns, expected):
    assert expected in why_no_image("front", sweep_ns, ImageGap(image_ns, image_ns, 0, 50_000_000))


def test_proposed_offset_adds_to_the_present_one():
    assert "time_offset to 3.500" in reason(UNIX + 3 * S, UNIX, time_offset_s=0.5)
    assert "time_offset to" not in reason(UNIX + 3 * S, UNIX, time_offset_s=9.0), "beyond its range"


def test_images_that_come_rarely_or_stopped_are_no_difference_of_clocks():
    collector = SweepCollector(["front", "rear"], 50_000_000, 0)
    collector.add_image("front", UNIX, None, Now(0, 0))
    (matched,) = collector.add_sweep(UNIX + 3 * S // 10, None, Now(3 * S // 10, 3 * S // 10))
    text = why_no_image("front", matched.stamp_ns, matched.gaps["front"])
    assert text == "no image: the nearest is 0.300 s before the sweep, more than the slop (0.05 s)"
    assert set(matched.gaps) == {"front"}, "the other has never sent an image"
    (matched,) = collector.add_sweep(UNIX + 5 * S, None, Now(5 * S, 5 * S))
    text = why_no_image("front", matched.stamp_ns, matched.gaps["front"])
    assert text == "no image: the last one came 5.0 s before the sweep"
