"""The other way to match images: message_filters, where a ROS installation has it."""

import importlib.util

import pytest

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.node.approximate_sync import ApproximateCollector
from xmodelkd_ros.segmentation.image_matching import Now

INSTALLED = importlib.util.find_spec("message_filters") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="message_filters comes with a ROS installation, not with pip")
MS = 1_000_000
NOW = Now(0, 0)


@pytest.fixture
def collector():
    dropped = []
    made = ApproximateCollector(["left", "right"], dropped.append)
    made.slop_ns, made.dropped = 50 * MS, dropped
    return made


def images(collector, stamp_ms, *names):
    return [gone for name in names for gone in collector.add_image(name, stamp_ms * MS, f"{name} {stamp_ms}", NOW)]


@pytest.mark.skipif(INSTALLED, reason="message_filters is installed")
def test_without_message_filters_the_error_names_the_other_way():
    with pytest.raises(ConfigError, match=r"approximate and message_filters is not installed .*; set it to collector"):
        ApproximateCollector(["front"], print)


@needs_it
def test_a_sweep_goes_with_the_images_of_all_cameras(collector):
    assert images(collector, 1000, "left") == []
    assert collector.add_sweep(1010 * MS, "sweep", NOW) == []
    (gone,) = images(collector, 1020, "right")
    assert (gone.sweep, gone.stamp_ns, gone.release_reason) == ("sweep", 1010 * MS, "complete")
    assert {name: (image.stamp_ns, image.image) for name, image in gone.images.items()} == {
        "left": (1000 * MS, "left 1000"),
        "right": (1020 * MS, "right 1020"),
    }
    assert not collector.dropped


@needs_it
def test_a_sweep_that_one_camera_missed_is_reported_when_a_newer_one_goes(collector):
    collector.add_sweep(1000 * MS, "a", NOW)
    images(collector, 1000, "left")
    collector.add_sweep(1100 * MS, "b", NOW)
    (gone,) = images(collector, 1100, "left", "right")
    assert gone.sweep == "b" and collector.dropped == ["a"]
    assert images(collector, 1001, "right") == [], "too late: a newer sweep has gone"


@needs_it
def test_without_a_camera_the_oldest_of_many_is_reported(collector):
    for number in range(12):
        collector.add_sweep(number * 100 * MS, number, NOW)
    assert collector.dropped == [0, 1]
    assert [gone.sweep for gone in collector.flush()] == list(range(2, 12))


@needs_it
def test_images_of_before_a_loop_do_not_push_out_those_after_it(collector):
    for number in range(30, 60):
        images(collector, number * 100 - 60, "left", "right")  # of a faster camera: no sweep wants them
        collector.add_sweep(number * 100 * MS, number, NOW)
        assert len(images(collector, number * 100, "left", "right")) == 1
    images(collector, 5940, "left", "right")
    for number in range(20):
        collector.add_sweep(number * 100 * MS, number, NOW)
        assert len(images(collector, number * 100, "left", "right")) == 1


@needs_it
def test_it_goes_on_after_a_bag_that_loops(collector):
    for number in range(30, 41):
        collector.add_sweep(number * 100 * MS, number, NOW)
        images(collector, number * 100, "left")
    collector.dropped.clear()
    collector.add_sweep(0, "first", NOW)
    assert len(collector.dropped) == 10
    (gone,) = images(collector, 0, "left", "right")
    assert gone.sweep == "first"


@needs_it
def test_sweeps_of_one_stamp_do_not_fill_the_memory(collector):
    """As drivers send that leave all stamps at zero."""
    for number in range(30):
        collector.add_sweep(0, number, NOW)
    assert collector.dropped == list(range(20))
