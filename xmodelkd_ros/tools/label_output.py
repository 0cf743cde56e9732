"""What labelled sweeps are written to: a bag like the input, or a folder in the KITTI layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, STANDARD_TYPES, BagReader, RawMessage, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import BagError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.messages.clouds import with_labels
from xmodelkd_ros.messages.headers import Prediction, label_info_json
from xmodelkd_ros.messages.topics import LABEL_INFO_JSON, STATIC_TF, TF
from xmodelkd_ros.tools.label_kitti import KittiFolder

_CLOUD, _STRING = "sensor_msgs/msg/PointCloud2", "std_msgs/msg/String"


class LabelledOutput(Protocol):
    """Takes the labelled sweeps of a bag; complete when the context ends without an exception.

    Attributes:
        notes: what could not be written, one line each.
    """

    notes: list[str]

    def begin(self, reader: BagReader, copy_all: bool) -> Sequence[str]:
        """Prepare for a bag; returns the topics whose messages :meth:`copy` takes."""

    def copy(self, message: RawMessage) -> None:
        """Write another message of the bag."""

    def sweep(self, sweep: RecordedSweep, segmentation: Segmentation) -> None:
        """Write a sweep with its labels."""

    def __enter__(self) -> LabelledOutput: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_output(form: str, out: Path, drive: RecordedDrive, labels: LabelMap, prediction: Prediction) -> LabelledOutput:
    """The output of a format, ``mcap`` or ``semantickitti``, for the sweeps of a drive."""
    if form == "mcap":
        return LabelledBag(out, drive.points_topic, labels, prediction)
    return KittiFolder(out, drive, labels, prediction)


class LabelledBag:
    """A bag in which each cloud has its fields and its labels, in compressed chunks.

    Args:
        out: the file.
        points_topic: topic of the sweeps.
        labels: the label set of the labels.
        prediction: what they are from, and the name of their field.

    Attributes:
        notes: see :class:`LabelledOutput`.
    """

    def __init__(self, out: Path, points_topic: str, labels: LabelMap, prediction: Prediction) -> None:
        self._writer = BagWriter(out, compressed=True)
        self._topic, self._labels, self._prediction = points_topic, labels, prediction
        self.notes: list[str] = []

    def begin(self, reader: BagReader, copy_all: bool) -> Sequence[str]:
        """Add the topics, and write the label set."""
        copied = []
        for topic in reader.topics.values():
            if topic.name == self._topic or not (copy_all or topic.name in (TF, STATIC_TF)):
                continue
            types = reader.types(topic.name)
            try:
                self._writer.add_topic(
                    topic.name, topic.type, topic.latched, STANDARD_TYPES if types is None else types
                )
                copied.append(topic.name)
            except BagError as error:
                self.notes.append(str(error))
        self._writer.add_topic(self._topic, _CLOUD)
        info = f"{self._topic.rstrip('/')}/{LABEL_INFO_JSON}"
        if info in reader.topics:
            info = f"{self._topic.rstrip('/')}/predicted/{LABEL_INFO_JSON}"
        self._writer.add_topic(info, _STRING, latched=True)
        text = label_info_json(self._labels, self._prediction)
        self._writer.write(info, reader.start_ns, message_class(_STRING)(data=text))
        return copied

    def copy(self, message: RawMessage) -> None:
        """Write a message as it is."""
        self._writer.write_raw(message.topic, message.log_time_ns, message.data)

    def sweep(self, sweep: RecordedSweep, segmentation: Segmentation) -> None:
        """Write a cloud with its labels."""
        labelled = with_labels(sweep.message, segmentation, ROSBAGS_TYPES, self._prediction.field)
        self._writer.write(self._topic, sweep.log_time_ns, labelled)

    def __enter__(self) -> LabelledBag:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)
