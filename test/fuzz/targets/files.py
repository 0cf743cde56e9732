"""Mutated JSON files (model.json, sensor files, label sets and translations), and file names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from test.conftest import write_height_model, write_light_model
from test.fuzz.invariants import check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Limits, Target, ensure, run_all
from test.fuzz.targets.codec import check_label_map
from test.fuzz.targets.segmentation import check_certain_labels
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.resources import find_config, find_model, label_map
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_CLOUD = PointCloud(
    np.random.default_rng(0).uniform([-30, -30, -3], [30, 30, 3], (60, 3)).astype(np.float32),
    np.linspace(0, 255, 60, dtype=np.float32),
    np.arange(60) % 4,
)


def mutated_json(mutator: Mutator, start: Any) -> tuple[bytes, int]:
    """Text of a mutated JSON value, and its size."""
    value = mutator.json_value() if mutator.chance(0.05) else mutator.mutate_json(start)
    text = mutator.json_text(value)
    return text, len(text)


_SENSITIVE_PATHS = (
    *(("temperature",), ("intensity_range", 0), ("intensity_range", 1), ("projection", "min_range_m")),
    *(("channels", 0, "mean"), ("channels", 0, "std"), ("channels", 1, "mean"), ("channels", 1, "std")),
    *(("projection", "width"), ("projection", "beam_elevations_deg", 0), ("inputs", 1, "shape", 0)),
    *(("files", "fp32", "file"), ("files", "fp32", "sha256"), ("labels", "classes", 3, "color", 1), ("role",)),
)
"""Entries in which a wrong number or name would have the largest effect."""


def _change(mutator: Mutator, values: Any) -> None:
    """Replace one of the sensitive entries by another value of its kind."""
    *way, last = mutator.pick(_SENSITIVE_PATHS)
    for key in way:
        values = values[key]
    if isinstance(values[last], str):
        values[last] = mutator.text()
    else:
        values[last] = mutator.real() if mutator.chance(0.5) else mutator.integer(64, signed=True)


class Models(FolderTarget):
    """model.json of a student and of a teacher: read, checked against the files, loaded and run."""

    name = "models"
    limits = Limits(seconds=5.0)

    def __enter__(self) -> Target:
        super().__enter__()
        self._folders = [write_height_model(self.folder / "height"), write_light_model(self.folder / "light")]
        for folder in self._folders:
            shutil.copy(folder / "model.onnx", self.folder / "outside.onnx")
            (folder / "link").symlink_to(self.folder / "outside.onnx")
        self._texts = [(folder / "model.json").read_text() for folder in self._folders]
        return self

    def seed_input(self) -> Any:
        return self._folders[0], self._texts[0].encode()

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        at = mutator.below(2)
        values = json.loads(self._texts[at])
        if mutator.chance(0.6):
            _change(mutator, values)
            text = mutator.json_text(values)
        else:
            text, _ = mutated_json(mutator, values)
        return (self._folders[at], text), len(text)

    def execute(self, value: Any) -> None:
        folder, text = value
        (folder / "model.json").write_bytes(text)
        spec = ModelSpec.read(folder)
        run_all(*(lambda precision=precision: self._check_path(spec, folder, precision) for precision in spec.files))
        pipeline = SegmentationPipeline.load(folder, "onnxruntime")
        check_label_map(pipeline.labels)
        found = pipeline.segment(_CLOUD).segmentation
        check_segmentation(_CLOUD, found, np.arange(len(pipeline.labels)))

    def _check_path(self, spec: ModelSpec, folder: Path, precision: str) -> None:
        path = spec.network_path(folder, precision)
        ensure(path.parent == folder and path.name not in ("", ".", ".."), "a network outside of its folder")


class Sensors(FolderTarget):
    """Sensor files: read, and used with clouds that have ring numbers."""

    name = "sensors"
    _GOOD = {  # noqa: RUF012
        "name": "other",
        "beam_elevations_deg": [10.0, 5.0, 0.0, -5.0, -10.0],
        "ring_elevations_deg": [10.0, 5.0, None, -5.0, -10.0],
        "intensity_range": [0.0, 255.0],
        "ego_box": [-2.0, -1.0, -1.0, 3.0, 1.0, 0.5],
        "min_range_m": 0.8,
    }

    def __enter__(self) -> Target:
        super().__enter__()
        self._own = SegmentationPipeline.load(write_height_model(self.folder / "height"), "onnxruntime")
        return self

    def seed_input(self) -> Any:
        return json.dumps(self._GOOD).encode()

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return mutated_json(mutator, self._GOOD)

    def execute(self, value: Any) -> None:
        path = self.folder / "sensor.json"
        path.write_bytes(value)
        pipeline = SegmentationPipeline(self._own.spec, self._own.backend, SensorSpec.read(path))
        found = pipeline.segment(_CLOUD).segmentation
        check_segmentation(_CLOUD, found, np.arange(13))
        usable = pipeline.usable(_CLOUD.xyz)
        ensure((found.label[~usable] == 255).all(), "a point of the vehicle has a label")
        check_certain_labels(PointCloud(_CLOUD.xyz[usable]), found.label[usable])


class LabelFiles(FolderTarget):
    """Label sets and translations between them."""

    name = "label_files"

    def seed_input(self) -> Any:
        return find_config("labels/drive13.json").read_bytes(), False

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        table = mutator.chance(0.5)
        name = "drive13_to_autoware" if table else mutator.pick(("drive13", "autoware", "semantickitti19"))
        text, size = mutated_json(mutator, json.loads(find_config(f"labels/{name}.json").read_text()))
        return (text, table), size

    def execute(self, value: Any) -> None:
        text, table = value
        path = self.folder / "labels.json"
        path.write_bytes(text)
        if not table:
            check_label_map(LabelMap.read(path))
            return
        found = LabelTranslation.read(path, label_map("drive13"), label_map("autoware"))
        ensure(found.lookup.shape == (256,), "a table of another shape")
        sums = found.merge(np.full((13, 2), 1 / 13, np.float32)).sum(axis=0)
        ensure((sums < 1.001).all(), "probabilities grow")


class Names(FolderTarget):
    """Names and paths given by a user: models, label sets, configuration, sensors and bags."""

    name = "names"

    def seed_input(self) -> Any:
        path = self.folder / "sensor.json"
        path.write_text(json.dumps(Sensors._GOOD))
        return "drive13"

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        parts = [mutator.text() for _ in range(mutator.pick((1, 1, 2, 3)))]
        text = mutator.pick(("/", "", "/../")).join(parts) + mutator.pick(("", "", ".mcap", ".json", ".db3"))
        return text, len(text)

    def execute(self, value: Any) -> None:
        if value == "drive13":
            label_map(value)
            return
        run_all(
            lambda: find_model(value),
            lambda: label_map(value),
            lambda: find_config(value),
            lambda: SensorSpec.read(Path(value)),
            lambda: ModelSpec.read(Path(value)),
            lambda: _open(Path(value)),
        )


def _open(path: Path) -> None:
    with BagReader(path):
        pass
