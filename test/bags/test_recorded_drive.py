from dataclasses import replace

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, BagReader, BagWriter, message_class
from xmodelkd_ros.bags.mounted_cameras import lookup
from xmodelkd_ros.bags.recorded_drive import CameraOptions, RecordedDrive
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError, CloudError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import inverse, transform
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import label_info_json
from xmodelkd_ros.resources import label_map

DRIVE13 = label_map("drive13")


def test_sweeps_come_with_stamp_cloud_and_truth(drive):
    with BagReader(drive.path) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        sweeps = list(recording.sweeps())
    assert recording.points_topic == "/points"
    assert recording.count == len(sweeps) == len(drive.clouds)
    assert recording.truth_map == DRIVE13
    for sweep, cloud, truth in zip(sweeps, drive.clouds, drive.truths, strict=True):
        np.testing.assert_array_equal(sweep.cloud.xyz, cloud.xyz)
        np.testing.assert_array_equal(sweep.truth, truth)
    assert np.diff([s.stamp_ns for s in sweeps]).tolist() == [100_000_000] * (len(sweeps) - 1)


def test_truth_is_translated_into_the_models_labels(drive):
    with BagReader(drive.path) as reader:
        sweep = next(RecordedDrive(reader, labels=label_map("pandaset9")).sweeps())
    names = {name: label_map("pandaset9").id_of(name) for name in ("car", "road", "building")}
    assert set(np.unique(sweep.truth)) == {*names.values(), IGNORE}


def test_no_truth_without_its_field(make_drive):
    with BagReader(make_drive(with_truth=False)) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        assert next(recording.sweeps()).truth is None
    assert recording.notes == ["no score: the clouds have no field 'label' with the truth"]


def test_no_truth_without_the_meaning_of_its_numbers(make_drive):
    with BagReader(make_drive(label_set="")) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        assert [sweep.truth for sweep in recording.sweeps()] == [None, None]
    assert recording.notes == ["field 'label' is not taken for truth: no label_info_json says what its numbers mean"]


MS = 1_000_000


def seen_of(path, camera_options, index=1, offset_s=0.0):
    """What the front camera took of a sweep: its shade, and how far ahead the sweep's points were for it, in metres."""
    with BagReader(path) as reader:
        recording = RecordedDrive(reader)
        sweep = list(recording.sweeps())[index]
        rig = recording.mounted("lidar")
        rig.update({topic: replace(camera, time_offset_s=offset_s) for topic, camera in rig.items()})
        (camera_frame,) = recording.camera_frames(sweep, camera_options)
    if camera_frame is None:
        return None
    return int(camera_frame.pixels[0, 0, 0]), None if camera_frame.motion is None else round(
        float(camera_frame.motion[0, 3]), 6
    )


@pytest.mark.parametrize(
    ("camera_options", "offset_s", "expected"),
    [
        (CameraOptions(50 * MS), 0.0, (10, None)),
        (CameraOptions(10 * MS), 0.0, None),
        # Ten metres a second, an image 20 ms before the sweep; and the one before that.
        (CameraOptions(50 * MS, "odom"), 0.0, (10, 0.2)),
        (CameraOptions(50 * MS, "odom", age_ns=100 * MS), 0.0, (10, 1.2)),
        # The image is of the time when the LiDAR passes over what it shows, 10 ms before the sweep's stamp.
        (CameraOptions(50 * MS, "odom"), 0.010, (10, 0.1)),
    ],
)
def test_what_a_camera_took_of_a_sweep(make_drive, camera_options, offset_s, expected):
    assert (
        seen_of(make_drive(speed=10.0, sweeps=3), camera_options, 2 if camera_options.age_ns else 1, offset_s)
        == expected
    )


def test_a_camera_that_is_dropped_takes_no_place(make_drive):
    with BagReader(make_drive(cameras=("front", "rear"))) as reader:
        recording = RecordedDrive(reader)
        camera_frames = recording.camera_frames(next(recording.sweeps()), CameraOptions(50 * MS, without=("front",)))
    assert [camera_frame.camera.name for camera_frame in camera_frames] == ["rear"]


def test_times_that_are_none_cost_the_offset_only(make_drive):
    with BagReader(make_drive(rename={"intensity": "time"})) as reader:
        recording = RecordedDrive(reader, missing_intensity="fill")
        (camera,) = recording.mounted("lidar").values()
    assert camera.time_offset_s == 0.0
    assert recording.notes[0].startswith("times of the points are not used: sweep at ")


@pytest.mark.parametrize(
    ("topics", "name", "chosen"),
    [
        (("/image_raw",), "camera", "/image_raw"),
        (("/3d/cam-1/image_raw",), "cam_1", "/3d/cam-1/image_raw"),
        (("/360/image_raw",), "camera_360", "/360/image_raw"),
        (("/{}/image_rect", "/{}/image_raw"), "front", "/front/image_raw"),
    ],
)
def test_a_camera_has_one_topic_and_a_name_that_a_parameter_can_have(make_drive, topics, name, chosen):
    with BagReader(make_drive(image_topics=topics)) as reader:
        (camera,) = RecordedDrive(reader).mounted("lidar").values()
    assert (camera.model.name, camera.image_topic) == (name, chosen)


def test_a_fixed_frame_that_is_none_is_said(make_drive):
    bag = make_drive(speed=10.0)
    with pytest.raises(BagError, match="no transform joins 'lidar' to fixed frame 'map'; above it is base_link, odom"):
        seen_of(bag, CameraOptions(50 * MS, "map"))


def test_the_label_set_of_a_recorded_segmenter_is_not_the_truths(tmp_path, header):
    cloud = PointCloud(np.ones((3, 3), np.float32), np.ones(3, np.float32))
    with BagWriter(tmp_path / "bag") as bag:
        for name, label_set in (("/segmenter/label_info_json", "autoware"), ("/lidar/label_info_json", "pandaset42")):
            bag.add_topic(name, "std_msgs/msg/String")
            bag.write(name, 0, message_class("std_msgs/msg/String")(label_info_json(label_map(label_set))))
        bag.add_topic("/lidar/points", "sensor_msgs/msg/PointCloud2")
        truth = np.array([13, 13, 7], np.uint8)
        bag.write("/lidar/points", 1, truth_to_msg(cloud, truth, header(1), ROSBAGS_TYPES))
    with BagReader(tmp_path / "bag") as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        assert recording.truth_map == label_map("pandaset42")
        np.testing.assert_array_equal(next(recording.sweeps()).truth, [0, 0, 4])


def test_two_clouds_ask_for_a_choice(make_drive):
    with BagReader(make_drive(topics=("/front", "/rear"))) as reader:
        with pytest.raises(BagError, match=r"/front .*/rear"):
            RecordedDrive(reader)
        assert RecordedDrive(reader, "/rear").count == 2


def test_the_image_nearest_to_the_sweep_with_its_camera(drive):
    with BagReader(drive.path) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        sweep = list(recording.sweeps())[2]
        (view,) = recording.camera_views(sweep)
    assert view.camera.name == "front"
    assert (view.image == 20).all(), "the image taken for sweep 2"
    pixels, inside = view.camera.project(np.array([[10.5, 0, 0], [-10, 0, 0]], np.float32))
    np.testing.assert_allclose(pixels[0], [160, 80], atol=1e-9)
    assert inside.tolist() == [True, False]


def test_a_camera_without_extrinsic_is_left_out_with_a_note(drive):
    with BagReader(drive.path) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        sweep = next(recording.sweeps())
        sweep.message.header.frame_id = "roof"
        assert recording.camera_views(sweep) == ()
    assert "/camera/front/image_raw not used: /tf_static does not join" in recording.notes[0]


def test_distances_are_no_pictures(make_drive):
    with BagReader(make_drive(depth=True)) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        (view,) = recording.camera_views(next(recording.sweeps()))
    assert (view.image == 0).all(), "the picture"
    assert [note.split(":")[0] for note in recording.notes] == [
        "/camera/front/depth/image_raw not used",
        "/camera/front/image_raw/compressedDepth not used",
    ]


def test_a_bag_without_cameras_has_none(make_drive):
    with BagReader(make_drive(cameras=())) as reader:
        recording = RecordedDrive(reader, labels=DRIVE13)
        assert recording.camera_views(next(recording.sweeps())) == ()
        assert recording.notes == []


def test_frames_are_joined_along_the_tree():
    base_lidar = transform((0, 0, 2), (0, 0, 0.6, 0.8))
    base_mount = transform((1, 0, 1), (0.1, 0, 0, 1))
    mount_camera = transform((0, 0.2, 0), (0.5, -0.5, 0.5, -0.5))
    tree = {("base", "lidar"): base_lidar, ("base", "mount"): base_mount, ("mount", "camera"): mount_camera}
    expected = inverse(base_mount @ mount_camera) @ base_lidar
    np.testing.assert_allclose(lookup(tree, "camera", "/lidar"), expected, atol=1e-12)
    np.testing.assert_array_equal(lookup(tree, "lidar", "lidar"), np.eye(4))
    assert lookup(tree, "camera", "roof") is None


def test_truth_of_another_type_is_said(make_drive, monkeypatch):
    monkeypatch.setattr("xmodelkd_ros.bags.recorded_drive.LABEL_FIELD", "intensity")
    with (
        BagReader(make_drive()) as reader,
        pytest.raises(CloudError, match=r"sweep at 17\d+ ns: .* is float32; .*UINT8"),
    ):
        next(RecordedDrive(reader, labels=DRIVE13).sweeps())
