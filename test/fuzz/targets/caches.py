"""Cached files of the package: the parity sweep, built engines, and the selected back end."""

from __future__ import annotations

import io
import json
import os
from typing import Any
from unittest import mock

import numpy as np

from test.conftest import write_height_model
from test.fuzz import seed_messages
from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Target, ensure
from test.fuzz.targets.files import mutated_json
from xmodelkd_ros import resources
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey
from xmodelkd_ros.segmentation import backend_selection as select_backend
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep, write_parity_sweep

_INTRINSIC = np.array([[32.0, 0, 23.5], [0, 32.0, 15.5], [0, 0, 1]])


class CheckSweep(FolderTarget):
    """The stored parity sweep: a mutated file, or a valid one with other arrays."""

    name = "check_sweep"

    def __enter__(self) -> Target:
        super().__enter__()
        self._file = self.folder / "share" / "xmodelkd_ros" / "config" / "check_sweep.npz"
        self._file.parent.mkdir(parents=True)
        camera = CameraModel("front", seed_messages.WIDTH, seed_messages.HEIGHT, _INTRINSIC, np.eye(4))
        cloud = PointCloud(seed_messages.points(Mutator.of("sweep", 0, 0), 100), np.full(100, 7, np.float32))
        write_parity_sweep(self._file, cloud, [(camera, seed_messages.encoded(".jpg"))])
        self._whole = self._file.read_bytes()
        with np.load(io.BytesIO(self._whole)) as stored:
            self._arrays = dict(stored)
        self._environment = mock.patch.dict(os.environ, AMENT_PREFIX_PATH=str(self.folder))
        self._environment.start()
        self._order = mock.patch.object(resources, "_source_tree_first", False)  # as without training
        self._order.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._order.stop()
        self._environment.stop()
        super().__exit__(*error)

    def seed_input(self) -> Any:
        return self._whole

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        data = self._with_replaced_arrays(mutator) if mutator.chance(0.4) else mutator.mutate_bytes(self._whole)
        return data, len(data)

    def _with_replaced_arrays(self, mutator: Mutator) -> bytes:
        arrays = dict(self._arrays)
        name = mutator.pick(list(arrays))
        shape = mutator.pick(((), (0,), (3,), (100,), (100, 3), (3, 3), (4, 4), (2, 2, 2)))
        dtype = mutator.pick(("int8", "uint8", "int16", "float32", "float64", "bool", "complex64", "S3", "U3"))
        if mutator.chance(0.2):
            del arrays[name]
        elif arrays[name].dtype == dtype and mutator.chance(0.5):
            arrays[name] = np.frombuffer(mutator.mutate_bytes(arrays[name].tobytes()), np.uint8)
        else:
            arrays[name] = np.full(shape, mutator.pick((0, 1, -1, 300)), np.float64).astype(dtype)
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    def execute(self, value: Any) -> None:
        self._file.write_bytes(value)
        cloud, camera_frames = read_parity_sweep(2)
        ensure(cloud.intensity is not None and cloud.xyz.dtype == np.float32, "not a sweep")
        ensure(
            len(camera_frames) <= 2 and all(camera_frame.pixels.dtype == np.uint8 for camera_frame in camera_frames),
            "not pictures",
        )


class Engines(FolderTarget):
    """Built engines and their notes: only an engine that passed the parity check is returned."""

    name = "engines"
    _KEY = EngineKey("ab" * 32, "fp16", "tensorrt 10.3.0", "Orin", "8.7", "12.6")
    _ENGINE = b"a built engine" * 20

    def __enter__(self) -> Target:
        super().__enter__()
        self._cache = EngineCache(self.folder)
        self._cache.build(self._KEY, lambda path: path.write_bytes(self._ENGINE))
        self._cache.accept(self._KEY, self._ENGINE, 0.999)
        self._note = (self.folder / f"{self._KEY.name}.json").read_bytes()
        return self

    def seed_input(self) -> Any:
        return self._ENGINE, self._note

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        if mutator.chance(0.3):
            return (mutator.mutate_bytes(self._ENGINE), self._note), len(self._ENGINE)
        note, _ = mutated_json(mutator, json.loads(self._note))
        return (self._ENGINE, note), len(note)

    def execute(self, value: Any) -> None:
        engine, note = value
        (self.folder / f"{self._KEY.name}.engine").write_bytes(engine)
        (self.folder / f"{self._KEY.name}.json").write_bytes(note)
        found = self._cache.find(self._KEY)
        if found is None:
            raise BackendError("it is rebuilt")
        ensure(found == self._ENGINE, "an unverified engine is returned")


class _RemeasureError(Exception):
    """Replaces a measurement that would take seconds."""


class Fastest(FolderTarget):
    """The cached back-end selection: names an installed back end, or is measured again."""

    name = "fastest"

    def __enter__(self) -> Target:
        super().__enter__()
        self._model = write_height_model(self.folder / "height")
        self._kept = self.folder / "kept"
        found = select_backend.BackendChoice("openvino", "it is quick")
        measured, select_backend._measure_in_child = select_backend._measure_in_child, lambda *_: found
        try:
            select_backend.select_backend(self._model, "auto", "fp32", EngineCache(self._kept))
        finally:
            select_backend._measure_in_child = measured
        (self._note,) = self._kept.iterdir()
        self._text = self._note.read_bytes()
        return self

    def seed_input(self) -> Any:
        return self._text

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return mutated_json(mutator, json.loads(self._text))

    def execute(self, value: Any) -> None:
        self._note.write_bytes(value)

        def measure_again(line: str) -> None:
            raise _RemeasureError

        try:
            found = select_backend.select_backend(self._model, "auto", "fp32", EngineCache(self._kept, measure_again))
        except _RemeasureError:
            raise BackendError("it is measured again") from None
        ensure(found.backend in select_backend.LIBRARIES, "an unknown back end is selected")
