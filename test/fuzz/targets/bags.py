"""Bags that are truncated, have flipped bits, or hold mutated messages: read completely and by the tools."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from test.conftest import write_light_model
from test.fuzz import seed_messages
from test.fuzz.invariants import check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import TYPES
from test.fuzz.target import FolderTarget, Limits, Target, ensure, run_all
from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.image_replay import CameraOptions
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import label_info_json
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

START_NS = 1_700_000_000_000_000_000
_PERIOD_NS = 100_000_000
_FORMS = (("mcap", "drive"), ("mcap", "drive.mcap"), ("sqlite3", "drive"), ("sqlite3", "drive.db3"))
_CAMERAS = CameraOptions(slop_ns=50_000_000, fixed_frame="odom")


class Bags(FolderTarget):
    """rosbag2 folders and single files of both storages, with sweeps, ground truth, a camera and transforms."""

    name = "bags"
    limits = Limits(seconds=5.0, memory=16 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        self._messages = list(short_drive())
        self._labels = label_map("drive13")
        self._pipeline = SegmentationPipeline.load(write_light_model(self.folder / "light"), "onnxruntime")
        self._bags = [self._files(storage, name, self._messages) for storage, name in _FORMS]
        return self

    def _files(self, storage: Any, name: str, messages: Any) -> tuple[str, dict[str, bytes]]:
        """Name of a bag, and its files by their paths."""
        path = self.folder / "written" / name
        shutil.rmtree(path.parent, ignore_errors=True)
        with BagWriter(path, storage) as bag:
            _write(bag, messages)
        files = [path] if path.is_file() else sorted(path.iterdir())
        return name, {str(file.relative_to(path.parent)): file.read_bytes() for file in files}

    def seed_input(self) -> Any:
        return self._bags[0]

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        if mutator.chance(0.3):
            name, files = self._with_mutated_messages(mutator)
        else:
            name, files = mutator.pick(self._bags)
            mutated = mutator.pick(list(files))
            files = {**files, mutated: mutator.mutate_bytes(files[mutated])}
        return (name, files), sum(map(len, files.values()))

    def _with_mutated_messages(self, mutator: Mutator) -> tuple[str, dict[str, bytes]]:
        messages = list(self._messages)
        for _ in range(1 + mutator.below(2)):
            mutate_message(mutator, messages)
        return self._files(*_FORMS[mutator.below(2)], messages)

    def execute(self, value: Any) -> None:
        name, files = value
        path = self.folder / "read" / name
        shutil.rmtree(path.parent, ignore_errors=True)
        for relative, data in files.items():
            file = path.parent / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        with BagReader(path) as reader:
            run_all(lambda: self._read_all(reader), lambda: self._evaluate(reader))

    def _read_all(self, reader: BagReader) -> None:
        ensure(sum(1 for _ in reader.messages()) < 1000, "more messages than were written")

    def _evaluate(self, reader: BagReader) -> None:
        """What ``xmodelkd evaluate`` does with each sweep."""
        drive = RecordedDrive(reader, "", self._labels)
        with np.errstate(all="ignore"):
            for sweep, camera_frames in drive.sweeps_with_frames(_CAMERAS, self._pipeline.spec.cameras):
                ensure(sweep.truth is None or sweep.truth.shape == (len(sweep.cloud),), "not one truth per point")
                found = self._pipeline.segment(sweep.cloud, images=camera_frames).segmentation
                check_segmentation(sweep.cloud, found, np.arange(13))
                drive.camera_views(sweep)


def mutate_message(mutator: Mutator, messages: list[tuple[str, str, int, bytes]]) -> None:
    """Mutate the bytes of one of the messages after the CDR header of four bytes."""
    at = mutator.below(len(messages))
    topic, msgtype, at_ns, data = messages[at]
    messages[at] = topic, msgtype, at_ns, data[:4] + mutator.mutate_bytes(data[4:])


def write_short_drive(path: Path) -> None:
    """A rosbag2 folder of :func:`short_drive`."""
    messages = list(short_drive())
    with BagWriter(path) as bag:
        _write(bag, messages)


def _write(bag: BagWriter, messages: Any) -> None:
    for topic, msgtype in dict.fromkeys((topic, msgtype) for topic, msgtype, _, _ in messages):
        bag.add_topic(topic, msgtype, latched="static" in topic or "json" in topic)
    for topic, _, at_ns, data in messages:
        bag.write_raw(topic, at_ns, data)


def short_drive() -> Any:
    """Topic, type, time and bytes of the messages of a short drive."""
    mutator = Mutator.of("drive", 0, 0)
    text = TYPES.types["std_msgs/msg/String"](data=label_info_json(label_map("drive13")))
    poses = [
        seed_messages.transform(mutator, "base_link", frame) for frame in (seed_messages.FRAME, seed_messages.OPTICAL)
    ]
    yield _raw("/label_info_json", START_NS, text)
    yield _raw("/tf_static", START_NS, seed_messages.make("tf2_msgs/msg/TFMessage", transforms=poses))
    yield _raw("/camera/front/camera_info", START_NS, seed_messages.calibration(Mutator.of("good", 0, 0)))
    for index in range(2):
        at_ns = START_NS + index * _PERIOD_NS
        moving = seed_messages.transform(mutator, "odom", "base_link", at_ns)
        yield _raw("/tf", at_ns, seed_messages.make("tf2_msgs/msg/TFMessage", transforms=[moving]))
        image = seed_messages.compressed_image(Mutator.of("good", 0, 1), at_ns)
        image.format, image.data = "jpeg", np.frombuffer(seed_messages.encoded(".jpg"), np.uint8)
        yield _raw("/camera/front/image_raw/compressed", at_ns, image)
        cloud = PointCloud(
            seed_messages.points(mutator, 60), np.linspace(0, 255, 60, dtype=np.float32), np.arange(60) % 16
        )
        label, times = np.arange(60).astype(np.uint8) % 13, np.linspace(0, 0.1, 60, dtype=np.float32)
        yield _raw("/points", at_ns, truth_to_msg(cloud, label, seed_messages.header(at_ns), ROSBAGS_TYPES, times))


def _raw(topic: str, at_ns: int, message: Any) -> tuple[str, str, int, bytes]:
    return topic, message.__msgtype__, at_ns, bytes(TYPES.serialize_cdr(message, message.__msgtype__))
