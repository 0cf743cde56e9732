"""Mutated ONNX files through the model folder's checks and through the inference engines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from test.conftest import write_height_model
from test.fuzz.invariants import check_segmentation
from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, InvariantError, Limits, Target
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_CLOUD = PointCloud(
    np.random.default_rng(0).uniform([-30, -30, -3], [30, 30, 3], (60, 3)).astype(np.float32),
    np.linspace(0, 255, 60, dtype=np.float32),
)


class OnnxRuntime(FolderTarget):
    """A mutated network is rejected by its SHA-256 or, if model.json has the matching SHA-256, by the inference engine.

    If the engine accepts it, its labels satisfy the invariants.
    """

    name, backend = "networks", "onnxruntime"
    limits = Limits(seconds=5.0)

    def __enter__(self) -> Target:
        super().__enter__()
        self._model = write_height_model(self.folder / "height")
        self._network = (self._model / "model.onnx").read_bytes()
        self._spec = json.loads((self._model / "model.json").read_text())
        return self

    def seed_input(self) -> Any:
        return self._network

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        data = self._with_mutated_weights(mutator) if mutator.chance(0.3) else mutator.mutate_bytes(self._network)
        return data, len(data)

    def _with_mutated_weights(self, mutator: Mutator) -> bytes:
        """A valid network with an extreme weight."""
        model = onnx.load_from_string(self._network)
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
        values = numpy_helper.to_array(weights).copy()
        values.flat[mutator.below(values.size)] = mutator.array("float32", 1)[0]
        weights.CopyFrom(numpy_helper.from_array(values, "weights"))
        return bytes(model.SerializeToString())

    def execute(self, value: Any) -> None:
        path = self._model / "model.onnx"
        path.write_bytes(value)
        if value != self._network:
            self._write_digest(self._seed_digest)
            self._must_refuse()
        self._write_digest(sha256(path))
        pipeline = SegmentationPipeline.load(self._model, self.backend)
        with np.errstate(all="ignore"):
            found = pipeline.segment(_CLOUD).segmentation
        check_segmentation(_CLOUD, found, np.arange(13))

    @property
    def _seed_digest(self) -> str:
        return str(self._spec["files"]["fp32"]["sha256"])

    def _write_digest(self, digest: str) -> None:
        files = {"fp32": {"file": "model.onnx", "sha256": digest}}
        (self._model / "model.json").write_text(json.dumps({**self._spec, "files": files}))

    def _must_refuse(self) -> None:
        try:
            SegmentationPipeline.load(self._model, self.backend)
        except ModelError:
            return
        raise InvariantError("a network that is not the one of model.json is loaded")


class OpenVino(OnnxRuntime):
    """The same with OpenVINO."""

    name, backend = "networks_openvino", "openvino"
    limits = Limits(seconds=10.0, memory=64 << 20)
