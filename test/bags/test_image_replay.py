"""Offline matching of images to sweeps; it must select the images that the node selects."""

from __future__ import annotations

import random
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from test.example_drive import make_header
from xmodelkd_ros.bags.bag import Message
from xmodelkd_ros.bags.image_replay import CameraOptions, match_images, nearest_images
from xmodelkd_ros.bags.mounted_cameras import MountedCamera
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import BagError

MS = 1_000_000
POINTS = "/points"


def mounted(name, offset_ms=0):
    model = CameraModel(name, 4, 4, np.eye(3), np.eye(4))
    return MountedCamera(model, f"/{name}", f"/{name}/info", False, False, np.eye(4), offset_ms / 1000)


def message(topic, stamp_ms, arrival_ms):
    data = np.frombuffer(f"{topic} {stamp_ms}".encode(), np.uint8)  # no two images are equal
    return Message(topic, arrival_ms * MS, SimpleNamespace(header=make_header(stamp_ms * MS), data=data))


def image_stamps(matched):
    """Stamp in ms of each sweep and of its images by camera."""
    return [
        (one.stamp_ns // MS, {name: image.image.stamp_ns // MS for name, image in one.images.items()})
        for one in matched
    ]


def match(messages, cameras, **options):
    messages = sorted(messages, key=lambda one: one.log_time_ns)
    by_topic = {camera.image_topic: camera for camera in cameras}
    names = [camera.model.name for camera in cameras]
    return list(match_images(messages, POINTS, by_topic, names, CameraOptions(**options)))


def test_image_after_deadline_is_not_used():
    sweep = message(POINTS, 1000, 1000)
    for arrival, expected in ((1049, {"front": 1010}), (1051, {})):
        (matched,) = image_stamps(match([sweep, message("/front", 1010, arrival)], [mounted("front")]))
        assert matched == (1000, expected)
    late = match([sweep, message("/front", 1010, 1299)], [mounted("front")], deadline_ns=300 * MS)
    assert image_stamps(late) == [(1000, {"front": 1010})]


def test_time_offset_shifts_stamps_before_comparison():
    messages = [message("/front", 900, 901), message("/front", 1000, 1001), message(POINTS, 1000, 1002)]
    assert image_stamps(match(messages, [mounted("front", 100)])) == [(1000, {"front": 900})]


def test_image_age_delays_arrival_and_stamp():
    messages = [m for t in range(1000, 1500, 100) for m in (message("/front", t, t), message(POINTS, t, t + 1))]
    matched = image_stamps(match(messages, [mounted("front")], image_age_ns=200 * MS))
    assert matched == [
        (1000, {}),
        (1100, {}),
        (1200, {"front": 1000}),
        (1300, {"front": 1100}),
        (1400, {"front": 1200}),
    ]


def test_sweeps_wait_for_dropped_camera():
    """The node, too, is configured with dropped cameras, and waits for them until the deadline."""
    messages = [message(POINTS, 1000, 1000), message("/front", 960, 1001), message("/front", 1010, 1011)]
    messages.append(message(POINTS, 1100, 1100))
    cameras = {"/front": mounted("front")}
    for expected, stamp in ((["front"], 960), (["front", "rear"], 1010)):
        first = next(match_images(messages, POINTS, cameras, expected, CameraOptions(dropped=("rear",))))
        assert image_stamps([first]) == [(1000, {"front": stamp})]


def test_selects_used_cameras_and_dropped_ones_while_there_is_room():
    names = ["a", "b", "c", "d"]
    assert CameraOptions(dropped=("b", "c")).select(names, 3) == ["a", "b", "d"]
    with pytest.raises(BagError, match=r"has 4 cameras \(a, b, c, d\), but the model takes 3 at most"):
        CameraOptions().select(names, 3)
    with pytest.raises(BagError, match="no camera e to drop; the bag has a, b, c, d"):
        CameraOptions(dropped=("e",)).select(names, 6)


def test_nearest_image_in_hindsight_may_arrive_after_sweep():
    messages = [message("/front", 940, 941), message("/front", 1010, 1300), message("/front", 1200, 1301)]
    matched = nearest_images(messages, {"/front": mounted("front")}, 1000 * MS, 100 * MS)
    assert matched.images["front"].stamp_ns == 1010 * MS
    matched = nearest_images(messages, {"/front": mounted("front")}, 1600 * MS, 100 * MS)
    assert not matched.images and matched.gaps["front"].nearest_ns == 1200 * MS


# --- comparison with the node -----------------------------------------------------------------------------------------


def traffic(seed, cameras):
    """Five seconds of sweeps and images, with jitter, missing images and images that arrive late."""
    rng = random.Random(seed)
    messages = [message(POINTS, t, t + 60 + rng.randrange(40)) for t in range(1000, 6000, 100)]
    for camera, period in zip(cameras, (100, 67, 33), strict=True):
        offset = round(camera.time_offset_s * 1000)
        for t in range(900, 6100, period):
            if rng.random() < 0.8:
                delay = rng.choice((5, 30, 30, 60, 180, 400))
                messages.append(message(camera.image_topic, t - offset + rng.randrange(-9, 10), t - offset + delay))
    rng.shuffle(messages)
    return sorted(messages, key=lambda one: one.log_time_ns)


def matched_by_node(messages, cameras, options, monkeypatch):
    """The node's ImageInput, fed with messages at their times of recording, its timers every millisecond."""
    pytest.importorskip("rclpy")
    from xmodelkd_ros.node import image_input

    node, now_ns, matched = MagicMock(), messages[0].log_time_ns, []
    node.get_clock().now = lambda: SimpleNamespace(nanoseconds=now_ns)
    monkeypatch.setattr(image_input.time, "monotonic_ns", lambda: now_ns)
    parameters = SimpleNamespace(
        mode="teacher", policy="collector", slop=options.slop_ns * 1e-9, deadline=options.deadline_ns * 1e-9,
        frozen_after=0.0, cameras=tuple(
            SimpleNamespace(
                name=camera.model.name, image_topic=camera.image_topic, info_topic=camera.info_topic,
                compressed=False, time_offset=camera.time_offset_s,
            ) for camera in cameras
        ),
    )  # fmt: skip
    sync = image_input.ImageInput(node, parameters, matched.extend, None)
    callbacks = {call.args[1]: call.args[2] for call in node.create_subscription.call_args_list}
    timers = [call.args[1] for call in node.create_timer.call_args_list]
    for one in messages:
        while now_ns < one.log_time_ns:
            now_ns = min(now_ns + MS, one.log_time_ns)
            for on_timer in timers:
                on_timer()
        if one.topic == POINTS:
            header = one.message.header
            sync.add_sweep(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec, one)
        else:
            callbacks[one.topic](one.message, {})
    sync.destroy()
    return matched


@pytest.mark.parametrize("seed", range(4))
def test_offline_matching_selects_the_images_of_the_node(seed, monkeypatch):
    cameras = [mounted("front", 20), mounted("left", -40), mounted("rear")]
    options = CameraOptions(deadline_ns=80 * MS if seed % 2 else 50 * MS)
    messages = traffic(seed, cameras)
    offline = match(messages, cameras, deadline_ns=options.deadline_ns)
    node = matched_by_node(messages, cameras, options, monkeypatch)
    assert len(offline) == len(node) == 50
    for one, other in zip(offline, node, strict=True):
        assert (one.stamp_ns, one.release_reason) == (other.stamp_ns, other.release_reason)
        assert {name: image.stamp_ns for name, image in one.images.items()} == {
            name: image.stamp_ns for name, image in other.images.items()
        }
        assert all(one.images[name].image.message is other.images[name].image for name in one.images)
    assert {"complete", "deadline"} <= {one.release_reason for one in offline}
    assert len({len(one.images) for one in offline}) > 2, "the traffic leaves out images"
