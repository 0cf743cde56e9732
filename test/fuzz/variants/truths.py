"""Ground truth whose classes have names that other label sets do not know."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import TYPES
from test.fuzz.target import FolderTarget, Limits, Target, ensure
from test.fuzz.targets.bags import short_drive
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

_UNKNOWN = ("gallows", "hot air balloon", "Zebra_42", "class 9", "other.thing")


class TruthNames(FolderTarget):
    """Points of classes with known names keep their truth; each class that is lost is named."""

    name = "truth_names"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        self._messages, self._labels = list(short_drive()), label_map("drive13")
        self._truths = self._read({})[0]
        return self

    def seed_input(self) -> Any:
        return {}

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        names = list(_UNKNOWN)
        mutator.random.shuffle(names)
        return {mutator.below(13): name for name in names[: mutator.below(4)]}, 10_000

    def execute(self, value: Any) -> None:
        """Args: value: other names by class id."""
        found, notes = self._read(value)
        for truth, whole in zip(found, self._truths, strict=True):
            renamed = np.isin(whole, list(value))
            ensure(np.array_equal(truth[~renamed], whole[~renamed]), "another truth of a known class")
            ensure((truth[renamed] == IGNORE).all(), "a truth for an unknown class")
        for name in value.values():
            ensure(name in notes, "points of an unknown class are lost without a note")
        ensure(value or not notes, "a note on truth that is whole")

    def _read(self, renamed: dict[int, str]) -> tuple[list[NDArray[np.uint8]], str]:
        """Truth of each sweep in drive13's classes, and the notes on it, if these classes have other names."""
        path = self.folder / "truth.mcap"
        path.unlink(missing_ok=True)
        with BagWriter(path) as bag:
            for topic, kind in dict.fromkeys((topic, kind) for topic, kind, _, _ in self._messages):
                bag.add_topic(topic, kind, latched="json" in topic)
            for topic, kind, at_ns, data in self._messages:
                message = TYPES.deserialize_cdr(data, kind)
                if topic == "/label_info_json":
                    message = TYPES.types[kind](data=_with_names(message.data, renamed))
                bag.write(topic, at_ns, message)
        with BagReader(path) as reader:
            drive = RecordedDrive(reader, "", self._labels)
            truths = [sweep.truth for sweep in drive.sweeps() if sweep.truth is not None]
            return truths, "\n".join(drive.truth_notes())


def _with_names(text: str, renamed: dict[int, str]) -> str:
    labels = json.loads(text)
    labels["name"] = "drive13" if not renamed else "of_a_user"
    for row in labels["classes"]:
        if row["id"] in renamed:
            row["name"], row["aliases"] = renamed[row["id"]], []
    return json.dumps(labels)
