from dataclasses import replace

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, BagReader, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.image_replay import CameraOptions, RecordedImage
from xmodelkd_ros.bags.mounted_cameras import find_transform
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.transform_tree import TransformTree
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError, CloudError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import inverse, transform
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import label_info_json
from xmodelkd_ros.resources import label_map

DRIVE13 = label_map("drive13")


def test_reads_stamp_cloud_and_truth_of_sweeps(drive):
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        sweeps = list(recorded.sweeps())
    assert recorded.points_topic == "/points"
    assert recorded.count == len(sweeps) == len(drive.clouds)
    assert recorded.truth_map == DRIVE13
    for sweep, cloud, truth in zip(sweeps, drive.clouds, drive.truths, strict=True):
        np.testing.assert_array_equal(sweep.cloud.xyz, cloud.xyz)
        np.testing.assert_array_equal(sweep.truth, truth)
    assert np.diff([s.stamp_ns for s in sweeps]).tolist() == [100_000_000] * (len(sweeps) - 1)


def test_translates_truth_into_models_labels(drive):
    with BagReader(drive.path) as reader:
        sweep = next(RecordedDrive(reader, labels=label_map("pandaset9")).sweeps())
    names = {name: label_map("pandaset9").id_of(name) for name in ("car", "road", "building")}
    assert set(np.unique(sweep.truth)) == {*names.values(), IGNORE}


def test_no_truth_without_label_field(make_drive):
    with BagReader(make_drive(with_truth=False)) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert next(recorded.sweeps()).truth is None
    assert recorded.notes == ["no score: the clouds have no ground-truth field 'label'"]


def test_no_truth_without_label_info(make_drive):
    with BagReader(make_drive(label_set="")) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert [sweep.truth for sweep in recorded.sweeps()] == [None, None]
    assert recorded.notes == [
        "field 'label' is not used as ground truth: no label_info_json defines its numbers; record or add that latched "
        "topic (docs/evaluation.md)"
    ]


MS = 1_000_000


def front_frame(path, camera_options, index=1, offset_s=0.0):
    """Brightness of the front camera's frame of a sweep, and the x translation of its motion in metres."""
    with BagReader(path) as reader:
        recorded = RecordedDrive(reader)
        cameras = recorded.mounted_cameras("lidar")
        cameras.update({topic: replace(camera, time_offset_s=offset_s) for topic, camera in cameras.items()})
        _, (camera_frame,) = list(recorded.sweeps_with_frames(camera_options, max_cameras=6))[index]
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
        # At 10 m/s, an image 20 ms before the sweep, and the image before that.
        (CameraOptions(50 * MS, "odom"), 0.0, (10, 0.2)),
        (CameraOptions(50 * MS, "odom", image_age_ns=100 * MS), 0.0, (10, 1.2)),
        # With the camera's time offset, the image belongs to 10 ms before the sweep's stamp.
        (CameraOptions(50 * MS, "odom"), 0.010, (10, 0.1)),
    ],
)
def test_camera_frame_of_sweep(make_drive, camera_options, offset_s, expected):
    index = 2 if camera_options.image_age_ns else 1
    assert front_frame(make_drive(speed=10.0, sweeps=3), camera_options, index, offset_s) == expected


def test_dropped_camera_has_no_frame(make_drive):
    with BagReader(make_drive(cameras=("front", "rear"))) as reader:
        _, camera_frames = next(RecordedDrive(reader).sweeps_with_frames(CameraOptions(dropped=("front",)), 6))
    assert [camera_frame.camera.name for camera_frame in camera_frames] == ["rear"]


def test_unusable_point_times_give_zero_time_offset(make_drive):
    with BagReader(make_drive(times=("time", 7, 20.0))) as reader:
        recorded = RecordedDrive(reader)
        (camera,) = recorded.mounted_cameras("lidar").values()
    assert camera.time_offset_s == 0.0
    (note,) = recorded.notes
    assert note.startswith("field 'time' (float32, ") and "cameras get a time_offset of 0 ms" in note


@pytest.mark.parametrize(
    ("topics", "name", "chosen"),
    [
        (("/image_raw",), "camera", "/image_raw"),
        (("/3d/cam-1/image_raw",), "cam_1", "/3d/cam-1/image_raw"),
        (("/360/image_raw",), "camera_360", "/360/image_raw"),
        (("/{}/image_rect", "/{}/image_raw"), "front", "/front/image_raw"),
    ],
)
def test_camera_has_one_topic_and_valid_parameter_name(make_drive, topics, name, chosen):
    with BagReader(make_drive(image_topics=topics)) as reader:
        (camera,) = RecordedDrive(reader).mounted_cameras("lidar").values()
    assert (camera.model.name, camera.image_topic) == (name, chosen)


def test_unknown_fixed_frame_is_an_error(make_drive):
    bag = make_drive(speed=10.0)
    with pytest.raises(
        BagError, match="no transform connects 'lidar' to fixed frame 'map'; above it is base_link, odom"
    ):
        front_frame(bag, CameraOptions(50 * MS, "map"))


@pytest.mark.parametrize("frame", ["lidar", "/lidar", "//lidar", "lidar "])
@pytest.mark.parametrize("tf_prefix", ["", "/"])
@pytest.mark.parametrize("camera_prefix", ["", "/"])
def test_leading_slashes_of_frames_do_not_count(make_drive, frame, tf_prefix, camera_prefix):
    bag = make_drive(speed=10.0, frame=frame, tf_prefix=tf_prefix, camera_prefix=camera_prefix)
    with BagReader(bag) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        (view,) = recorded.camera_views(recorded.first_sweep())
        frames = list(recorded.sweeps_with_frames(CameraOptions(50 * MS, "/odom"), 6))
        chain = TransformTree(reader, 0).chain_above(frame, "/odom")
    assert view.camera.name == "front" and not any("frame" in note for note in recorded.notes)
    assert round(float(frames[1][1][0].motion[0, 3]), 6) == 0.2
    assert [name for name, _ in chain] == ["base_link", "odom"]


def test_frames_with_another_prefix_are_named(make_drive):
    bag = make_drive(speed=10.0, tf_prefix="car1/")
    with BagReader(bag) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert not recorded.mounted_cameras("lidar")
        assert "".join(recorded.notes) == (
            "/camera/front/image_raw not used: /tf_static does not connect its frame 'front_optical' to the LiDAR's "
            "'lidar'; no transform has the frame 'front_optical', but 'car1/front_optical'; no transform has the frame "
            "'lidar', but 'car1/lidar'"
        )
    bag = make_drive("prefixed", speed=10.0, tf_prefix="car1/", frame="/car1/lidar", camera_prefix="car1/")
    with BagReader(bag) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert len(recorded.mounted_cameras("car1/lidar")) == 1
        with pytest.raises(BagError, match=r"above it is .*; no transform has the frame 'odom', but 'car1/odom'"):
            list(recorded.sweeps_with_frames(CameraOptions(50 * MS, "odom"), 6))
        assert [name for name, _ in TransformTree(reader, 0).chain_above("car1/lidar")] == [
            "car1/base_link",
            "car1/odom",
        ]


def test_another_intensity_field_is_noted(make_drive):
    with BagReader(make_drive(rename={"intensity": "Reflectivity"})) as reader:
        recorded = RecordedDrive(reader)
        assert recorded.first_sweep().cloud.intensity.any()
    assert recorded.notes == ["intensity is read from field 'Reflectivity'"]


def test_frame_that_changes_during_the_drive_is_noted(tmp_path, header):
    cloud = PointCloud(np.ones((3, 3), np.float32), np.ones(3, np.float32))
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/points", "sensor_msgs/msg/PointCloud2")
        for index, frame in enumerate(("/lidar", "lidar", "lidar_left")):
            bag.write("/points", index, truth_to_msg(cloud, np.zeros(3, np.uint8), header(index, frame), ROSBAGS_TYPES))
    with BagReader(tmp_path / "bag") as reader:
        recorded = RecordedDrive(reader)
        assert len(list(recorded.sweeps())) == 3
    assert recorded.notes == [
        "the frame of the sweeps changes from 'lidar' to 'lidar_left'; record one LiDAR per topic"
    ]


@pytest.mark.parametrize("encoding", ["nv12", "8UC3"])
def test_camera_with_unknown_encoding_is_skipped_with_note(make_drive, encoding):
    with BagReader(make_drive(encoding=encoding)) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert not recorded.camera_views(recorded.first_sweep())
    (note,) = recorded.notes
    assert note.startswith(f"/camera/front/image_raw not used: image '{encoding} 320x160': encoding '{encoding}' ")


def test_ignores_label_info_of_recorded_segmenter(tmp_path, header):
    cloud = PointCloud(np.ones((3, 3), np.float32), np.ones(3, np.float32))
    with BagWriter(tmp_path / "bag") as bag:
        for name, label_set in (("/segmenter/label_info_json", "autoware"), ("/lidar/label_info_json", "pandaset42")):
            bag.add_topic(name, "std_msgs/msg/String")
            bag.write(name, 0, message_class("std_msgs/msg/String")(label_info_json(label_map(label_set))))
        bag.add_topic("/lidar/points", "sensor_msgs/msg/PointCloud2")
        truth = np.array([13, 13, 7], np.uint8)
        bag.write("/lidar/points", 1, truth_to_msg(cloud, truth, header(1), ROSBAGS_TYPES))
    with BagReader(tmp_path / "bag") as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert recorded.truth_map == label_map("pandaset42")
        np.testing.assert_array_equal(next(recorded.sweeps()).truth, [0, 0, 4])


def test_ambiguous_points_topic_is_an_error(make_drive):
    with BagReader(make_drive(topics=("/front", "/rear"))) as reader:
        with pytest.raises(BagError, match=r"/front .*/rear"):
            RecordedDrive(reader)
        assert RecordedDrive(reader, "/rear").count == 2


def test_camera_view_has_nearest_image(drive):
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        sweep = list(recorded.sweeps())[2]
        (view,) = recorded.camera_views(sweep)
    assert view.camera.name == "front"
    assert (view.image == 20).all(), "the image of sweep 2"
    pixels, inside = view.camera.project(np.array([[10.5, 0, 0], [-10, 0, 0]], np.float32))
    np.testing.assert_allclose(pixels[0], [160, 80], atol=1e-9)
    assert inside.tolist() == [True, False]


def test_camera_without_extrinsic_is_skipped_with_note(drive):
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        sweep = next(recorded.sweeps())
        sweep.message.header.frame_id = "roof"
        assert recorded.camera_views(sweep) == ()
    assert "/camera/front/image_raw not used: /tf_static does not connect" in recorded.notes[0]


def test_depth_images_are_skipped_with_note(make_drive):
    with BagReader(make_drive(depth=True)) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        (view,) = recorded.camera_views(next(recorded.sweeps()))
    assert (view.image == 0).all(), "the colour image"
    assert [note.split(":")[0] for note in recorded.notes] == [
        "/camera/front/depth/image_raw not used",
        "/camera/front/image_raw/compressedDepth not used",
        "the clouds have no field with the times of their points",
    ]


def test_bag_without_cameras_has_no_views(make_drive):
    with BagReader(make_drive(cameras=())) as reader:
        recorded = RecordedDrive(reader, labels=DRIVE13)
        assert recorded.camera_views(next(recorded.sweeps())) == ()
        assert recorded.notes == []


def test_composes_transforms_along_tree():
    base_lidar = transform((0, 0, 2), (0, 0, 0.6, 0.8))
    base_mount = transform((1, 0, 1), (0.1, 0, 0, 1))
    mount_camera = transform((0, 0.2, 0), (0.5, -0.5, 0.5, -0.5))
    tree = {("base", "lidar"): base_lidar, ("base", "mount"): base_mount, ("mount", "camera"): mount_camera}
    expected = inverse(base_mount @ mount_camera) @ base_lidar
    np.testing.assert_allclose(find_transform(tree, "camera", "/lidar"), expected, atol=1e-12)
    np.testing.assert_array_equal(find_transform(tree, "lidar", "lidar"), np.eye(4))
    assert find_transform(tree, "camera", "roof") is None


def test_truth_must_be_uint8(make_drive, monkeypatch):
    monkeypatch.setattr("xmodelkd_ros.bags.recorded_drive.LABEL_FIELD", "intensity")
    with (
        BagReader(make_drive()) as reader,
        pytest.raises(CloudError, match=r"sweep at 17\d+ ns: .* is float32; .*UINT8"),
    ):
        next(RecordedDrive(reader, labels=DRIVE13).sweeps())


@pytest.mark.parametrize(
    ("shift_s", "expected"),
    [
        (3.0, ["the clocks of LiDAR and cameras differ", "cameras.front.time_offset to -2.980"]),
        (37.0, ["the clocks of LiDAR and cameras differ", "the camera uses TAI"]),
        (-1e5, ["the clocks of LiDAR and cameras differ", "100000 s (27.8 h) before", "more than time_offset takes"]),
    ],
)
def test_images_on_another_clock_are_noted(drive, monkeypatch, shift_s, expected):
    of = RecordedImage.of

    def shifted(camera, message):
        image = of(camera, message)
        return replace(image, matched_ns=image.matched_ns + round(shift_s * 1e9))

    monkeypatch.setattr(RecordedImage, "of", shifted)
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader)
        frames = [camera_frames for _, camera_frames in recorded.sweeps_with_frames(CameraOptions(), 6)]
        late = [note for note in recorded.notes if "camera front" in note]
    assert not any(frame for of_sweep in frames for frame in of_sweep)
    (note,) = late
    assert [text for text in expected if text not in note] == [], note
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader)
        recorded.images(recorded.first_sweep())
        (note,) = [note for note in recorded.notes if note.startswith("camera front: no image: ")]
        assert [text for text in expected if text not in note] == [], note


def test_smallest_gap_is_noted_if_no_image_is_within_the_slop(drive, monkeypatch):
    of = RecordedImage.of

    def shifted(camera, message):
        image = of(camera, message)
        return replace(image, matched_ns=image.matched_ns + 60 * MS)

    monkeypatch.setattr(RecordedImage, "of", shifted)
    with BagReader(drive.path) as reader:
        recorded = RecordedDrive(reader)
        assert not any(any(frames) for _, frames in recorded.sweeps_with_frames(CameraOptions(20 * MS), 6))
    (note,) = [note for note in recorded.notes if "camera front" in note]
    assert note.startswith("camera front matches no sweep; of the nearest one: no image: the nearest is 0.0")
    assert note.endswith("more than the slop (0.02 s); see --slop")
