"""Boxes around the road users of a bag's sweeps, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.core.atomic_write import atomic_file, disk_errors
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.messages.headers import Prediction
from xmodelkd_ros.messages.objects import box_json
from xmodelkd_ros.segmentation.objects import object_boxes


class SweepBoxes:
    """Collects the boxes of sweeps.

    Args:
        labels: the label set of the labels.
    """

    def __init__(self, labels: LabelMap) -> None:
        self._labels = labels
        self._sweeps: list[dict[str, Any]] = []

    def add(self, sweep: RecordedSweep, segmentation: Segmentation, sensor: SensorSpec | None) -> None:
        """Find and add the boxes of a sweep.

        Raises:
            ImageError: OpenCV is not installed.
        """
        boxes = object_boxes(sweep.cloud.xyz, segmentation, self._labels, sensor)
        header = {"stamp_ns": sweep.stamp_ns, "frame_id": sweep.message.header.frame_id}
        self._sweeps.append({**header, "boxes": [box_json(box) for box in boxes]})

    def write(self, path: Path, prediction: Prediction) -> None:
        """Write them, in the frames of their sweeps.

        Raises:
            DiskError: the disk is full or fails.
        """
        source = {"model": prediction.model, "sha256": prediction.sha256, "label_set": self._labels.name}
        with disk_errors(path), atomic_file(path) as unfinished:
            unfinished.write_text(json.dumps({**source, "sweeps": self._sweeps}) + "\n", encoding="utf-8")
