"""Image matching with message_filters, if it is installed."""

import importlib.util

import pytest

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.node.approximate_sync import ApproximateCollector
from xmodelkd_ros.segmentation.image_matching import Now

INSTALLED = importlib.util.find_spec("message_filters") is not None
needs_message_filters = pytest.mark.skipif(
    not INSTALLED, reason="message_filters comes with a ROS installation, not with pip"
)
MS = 1_000_000
NOW = Now(0, 0)


@pytest.fixture
def collector():
    dropped = []
    collector = ApproximateCollector(["left", "right"], dropped.append)
    collector.slop_ns, collector.dropped = 50 * MS, dropped
    return collector


def images(collector, stamp_ms, *names):
    return [
        released for name in names for released in collector.add_image(name, stamp_ms * MS, f"{name} {stamp_ms}", NOW)
    ]


@pytest.mark.skipif(INSTALLED, reason="message_filters is installed")
def test_error_without_message_filters_names_the_alternative():
    with pytest.raises(ConfigError, match=r"approximate and message_filters is not installed .*; set it to collector"):
        ApproximateCollector(["front"], print)


@needs_message_filters
def test_releases_sweep_with_images_of_all_cameras(collector):
    assert images(collector, 1000, "left") == []
    assert collector.add_sweep(1010 * MS, "sweep", NOW) == []
    (released,) = images(collector, 1020, "right")
    assert (released.sweep, released.stamp_ns, released.release_reason) == ("sweep", 1010 * MS, "complete")
    assert {name: (image.stamp_ns, image.image) for name, image in released.images.items()} == {
        "left": (1000 * MS, "left 1000"),
        "right": (1020 * MS, "right 1020"),
    }
    assert not collector.dropped


@needs_message_filters
def test_reports_incomplete_sweep_when_a_newer_one_is_released(collector):
    collector.add_sweep(1000 * MS, "a", NOW)
    images(collector, 1000, "left")
    collector.add_sweep(1100 * MS, "b", NOW)
    (released,) = images(collector, 1100, "left", "right")
    assert released.sweep == "b" and collector.dropped == ["a"]
    assert images(collector, 1001, "right") == [], "too late: a newer sweep was released"


@needs_message_filters
def test_reports_oldest_sweeps_when_the_queue_is_full(collector):
    for number in range(12):
        collector.add_sweep(number * 100 * MS, number, NOW)
    assert collector.dropped == [0, 1]
    assert [released.sweep for released in collector.flush()] == list(range(2, 12))


@needs_message_filters
def test_images_before_a_loop_do_not_displace_those_after_it(collector):
    for number in range(30, 60):
        images(collector, number * 100 - 60, "left", "right")  # of a faster camera: used by no sweep
        collector.add_sweep(number * 100 * MS, number, NOW)
        assert len(images(collector, number * 100, "left", "right")) == 1
    images(collector, 5940, "left", "right")
    for number in range(20):
        collector.add_sweep(number * 100 * MS, number, NOW)
        assert len(images(collector, number * 100, "left", "right")) == 1


@needs_message_filters
def test_continues_after_a_looping_bag(collector):
    for number in range(30, 41):
        collector.add_sweep(number * 100 * MS, number, NOW)
        images(collector, number * 100, "left")
    collector.dropped.clear()
    collector.add_sweep(0, "first", NOW)
    assert len(collector.dropped) == 10
    (released,) = images(collector, 0, "left", "right")
    assert released.sweep == "first"


@needs_message_filters
def test_equal_stamps_do_not_accumulate(collector):
    """Some drivers leave all stamps at zero."""
    for number in range(30):
        collector.add_sweep(0, number, NOW)
    assert collector.dropped == list(range(20))
