# ruff: noqa: N802, N815 (names of CUDA and TensorRT)
"""Engines are built by TensorRT-RTX, which needs no GPU; ONNX Runtime simulates running them."""

import ctypes
import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference import backend, tensorrt
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.inference.gpu import Gpu, find_gpu, query_driver
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
from xmodelkd_ros.tools.cli import main

onnx = pytest.importorskip("onnx")
HAS_GPU = find_gpu() is not None


# --- building ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def builder():
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.mark.parametrize("network", ["student/model.onnx", "teacher/model.onnx", "teacher/image_branch.onnx"])
def test_builds_shipped_networks_deterministically(builder, network):
    path = find_model(Path(network).parts[0]) / Path(network).name
    engine = tensorrt.build(path)
    assert len(engine) > 100_000 and engine == tensorrt.build(path)


def test_names_unsupported_operators(builder, tmp_path):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Unique", ["x"], ["y"], name="find_classes")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    with pytest.raises(BackendError, match=r"TensorRT does not support odd\.onnx: .*Unique") as error:
        tensorrt.build(path)
    assert "\n" not in str(error.value)
    with pytest.raises(BackendError) as apart:
        tensorrt.build_in_subprocess(path, tmp_path / "odd.engine")
    assert str(apart.value) == str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["odd.onnx"]


def test_rejects_files_that_are_not_networks(builder, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(BackendError, match=r"TensorRT does not support no\.onnx: "):
        tensorrt.build_in_subprocess(tmp_path / "no.onnx", tmp_path / "no.engine")


def test_builds_in_a_separate_process(builder, height_model, tmp_path):
    tensorrt.build_in_subprocess(height_model / "model.onnx", tmp_path / "height.engine")
    assert (tmp_path / "height.engine").read_bytes() == tensorrt.build(height_model / "model.onnx")
    progress = []
    tensorrt.build_in_subprocess(find_model("student") / "model.onnx", tmp_path / "student.engine", progress.append)
    assert len(progress) > 1 and all(line.startswith("building an engine of ") for line in progress)
    with pytest.raises(
        BackendError, match=r"cannot write engine /nowhere/x[.]engine: No such file or directory; choose"
    ):
        tensorrt.build_in_subprocess(height_model / "model.onnx", Path("/nowhere/x.engine"))


def test_reports_a_crash_of_the_build_process(monkeypatch, tmp_path):
    crashing_python = tmp_path / "python"
    crashing_python.write_text("#!/bin/sh\nkill -9 $$\n")
    crashing_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing_python))
    with pytest.raises(BackendError, match=r"building an engine of x\.onnx ended with exit code -9: no output"):
        tensorrt.build_in_subprocess(Path("x.onnx"), tmp_path / "x.engine")


# --- GPU detection ----------------------------------------------------------------------------------------------------


class Driver:
    """libcuda with one device."""

    def __init__(self, count=1, fails=""):
        self._count, self._fails = count, fails

    def __getattr__(self, name):
        return lambda *arguments: 999 if name == self._fails else getattr(self, f"_{name}")(*arguments)

    def _cuInit(self, flags):
        return 0

    def _cuDeviceGetCount(self, count):
        count._obj.value = self._count
        return 0

    def _cuDeviceGet(self, device, ordinal):
        return 0

    def _cuDriverGetVersion(self, version):
        version._obj.value = 12060
        return 0

    def _cuDeviceGetName(self, name, size, device):
        name.value = b"Orin"
        return 0

    def _cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


def test_reads_name_capability_and_driver_version_of_the_gpu():
    assert query_driver(Driver()) == Gpu("Orin", "8.7", "12.6")
    assert query_driver(Driver(count=0)) is None
    calls = ("Init", "DeviceGetCount", "DeviceGet", "DriverGetVersion", "DeviceGetName", "DeviceGetAttribute")
    assert [query_driver(Driver(fails=f"cu{call}")) for call in calls] == [None] * len(calls)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_tensorrt_is_not_imported(height_model, monkeypatch):
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda: pytest.fail("imported the library"))
    with pytest.raises(BackendError, match="backend tensorrt needs an NVIDIA GPU and its driver, but found none"):
        SegmentationPipeline.load(height_model, "tensorrt")


def test_missing_tensorrt_is_reported_with_a_remedy(monkeypatch):
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match="TensorRT is not installed; on a Jetson it comes with JetPack"):
        tensorrt.import_tensorrt()


# --- running: missing hardware is simulated by ONNX Runtime on host memory --------------------------------------------


class FakeEngine:
    """An ONNX file as engine; its context runs it on simulated device addresses in stream order."""

    def __init__(self, trt, network):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(network)
        self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self._inputs, self._trt = {t.name for t in self.session.get_inputs()}, trt
        self.num_io_tensors = len(self.tensors)
        self.address = {}

    def get_tensor_name(self, index):
        return self.tensors[index].name

    def get_tensor_mode(self, name):
        return self._trt.TensorIOMode.INPUT if name in self._inputs else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return next(t.type for t in self.tensors if t.name == name)

    def get_tensor_shape(self, name):
        return next(t.shape for t in self.tensors if t.name == name)

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, address):
        self.address[name] = address

    def execute_async_v3(self, stream):
        CUDA.enqueue(self._run)
        return True

    def _run(self):
        values = self.session.run(None, {name: self._memory(name) for name in self._inputs})
        for tensor, value in zip(self.session.get_outputs(), values, strict=True):
            self._memory(tensor.name)[...] = value + self._trt.error

    def _memory(self, name):
        dtype = np.dtype(self._trt.nptype(self.get_tensor_dtype(name)))
        shape = self.get_tensor_shape(name)
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_byte * size).from_address(self.address[name]), dtype).reshape(shape)


class FakeTensorRt:
    __name__, __version__ = "tensorrt", "10.0"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    error = 0.0

    def Logger(self, level):
        return None

    Logger.WARNING = 2

    def nptype(self, dtype):
        return {"tensor(float)": np.float32, "tensor(int32)": np.int32}[dtype]

    def Runtime(self, logger):
        return SimpleNamespace(deserialize_cuda_engine=lambda data: FakeEngine(self, data) if data else None)


class FakeCuda:
    """Simulated CUDA runtime on host memory. Work is queued in the stream, or captured, until synchronisation."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self):
        self.memory, self.stream, self.graph, self.launched = {}, [], None, 0

    def enqueue(self, work):
        (self.stream if self.graph is None else self.graph).append(work)

    def _allocate(self, size):
        memory = (ctypes.c_byte * size)()
        self.memory[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def _free(self, address):
        del self.memory[address]
        return (0,)

    cudaMallocHost = cudaMalloc = _allocate
    cudaFreeHost = cudaFree = _free

    def cudaStreamCreate(self):
        return 0, 7

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        self.enqueue(lambda: ctypes.memmove(to, source, size))
        return (0,)

    def cudaStreamSynchronize(self, stream):
        while self.stream:
            self.stream.pop(0)()
        return (0,)

    def cudaStreamBeginCapture(self, stream, mode):
        self.graph = []
        return (0,)

    def cudaStreamEndCapture(self, stream):
        captured, self.graph = self.graph, None
        return 0, captured

    def cudaGraphInstantiate(self, graph, flags):
        return 0, graph

    def cudaGraphLaunch(self, graph, stream):
        self.launched += 1
        self.stream.extend(graph)
        return (0,)


CUDA = FakeCuda()


@pytest.fixture
def gpu(monkeypatch):
    """Simulated GPU, TensorRT and CUDA bindings; returns TensorRT and the list of built networks."""
    trt, built = FakeTensorRt(), []

    def build(network, engine, on_progress):
        built.append(network)
        on_progress("half")
        engine.write_bytes(network.read_bytes())

    monkeypatch.setattr(backend, "find_gpu", lambda: Gpu("Orin", "8.7", "12.6"))
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda: trt)
    monkeypatch.setattr(tensorrt, "build_in_subprocess", build)
    monkeypatch.setattr(tensorrt._Cuda, "_runtime", CUDA)
    return SimpleNamespace(trt=trt, built=built)


def test_memory_is_freed_with_the_back_end_and_its_outputs(gpu, height_model):
    gc.collect()
    before = set(CUDA.memory)
    engine = (height_model / "model.onnx").read_bytes()
    loaded = tensorrt.TensorRtBackend(engine, "fp32", "key")
    inputs = {tensor.name: np.ones(tensor.shape, tensor.dtype) for tensor in loaded.inputs}
    logits = loaded.infer(inputs)["logits"]
    expected, tensors = logits.copy(), len(loaded.inputs) + len(loaded.outputs)
    assert len(set(CUDA.memory) - before) == 2 * tensors, "on the host and on the device"
    del loaded
    gc.collect()
    assert len(set(CUDA.memory) - before) == 1, "the output that is still in use"
    np.testing.assert_array_equal(logits, expected)
    del logits
    gc.collect()
    assert set(CUDA.memory) == before


def random_cloud(points):
    rng = np.random.default_rng(points)
    return PointCloud(
        rng.uniform(-20, 20, (points, 3)).astype(np.float32), rng.uniform(0, 100, points).astype(np.float32)
    )


@pytest.mark.parametrize("model", ["height", "student"])
def test_engine_labels_equal_onnx_runtime(gpu, height_model, tmp_path, model):
    folder = height_model if model == "height" else find_model(model)
    pipeline, reference = (
        SegmentationPipeline.load(folder, "tensorrt", engines=EngineCache(tmp_path)),
        SegmentationPipeline.load(folder),
    )
    assert (pipeline.backend.name, pipeline.backend.precision) == ("tensorrt", "fp32")
    assert (tmp_path / f"{pipeline.backend.key}.engine").is_file()
    launched = CUDA.launched
    for points in (3, 5000, 4500, 0):  # the second takes several runs of the height model's network
        cloud = random_cloud(points)
        np.testing.assert_array_equal(
            pipeline.segment(cloud).segmentation.label, reference.segment(cloud).segmentation.label
        )
    assert CUDA.launched > launched, "after the first run the graph is launched"


def test_teacher_runs_on_engines(gpu, tmp_path):
    teacher = find_model("teacher")
    pipeline = SegmentationPipeline.load(teacher, "tensorrt", engines=EngineCache(tmp_path))
    assert [path.name for path in gpu.built] == ["model.onnx", "image_branch.onnx"]
    cloud, camera_frames = read_parity_sweep(cameras=6)
    expected = SegmentationPipeline.load(teacher).segment(cloud, images=camera_frames).segmentation.label
    np.testing.assert_array_equal(pipeline.segment(cloud, images=camera_frames).segmentation.label, expected)


def test_build_engine_command_fills_the_cache(gpu, height_model, tmp_path, capsys):
    command = ["build-engine", "--model", str(height_model), "--engine-cache-dir", str(tmp_path / "engines")]
    assert main(command) == main(command) == 0
    assert len(gpu.built) == 1
    assert capsys.readouterr().out.count(f"{height_model}, fp32: ready after ") == 2
    assert main([*command, "--precision", "fp16"]) == 1
    assert "error: " in capsys.readouterr().err


def test_engines_are_cached(gpu, height_model, tmp_path):
    for _ in range(2):
        SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    assert len(gpu.built) == 1
    (engine,) = tmp_path.glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-1])
    SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    assert len(gpu.built) == 2
    gpu.trt.__version__ = "10.1"
    SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    assert len(gpu.built) == 3


def test_engines_that_no_longer_load_are_rebuilt(gpu, height_model, tmp_path, monkeypatch):
    SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    runtime, refused = gpu.trt.Runtime, []

    def once(logger):
        refused.append(1)
        return SimpleNamespace(deserialize_cuda_engine=lambda data: None) if len(refused) == 1 else runtime(logger)

    monkeypatch.setattr(gpu.trt, "Runtime", once, raising=False)
    SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    assert len(gpu.built) == 2


def test_engines_that_fail_the_parity_check_are_deleted(gpu, tmp_path):
    gpu.trt.error = np.linspace(0, 100, 13, dtype=np.float32)[:, None]  # lowers every class but the last
    message = r"TensorRT and ONNX Runtime agree on only .*% of the labels of a stored sweep \(99\.5% required"
    with pytest.raises(BackendError, match=message):
        SegmentationPipeline.load(find_model("student"), "tensorrt", engines=EngineCache(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_cuda_errors_raise_backend_error(gpu, height_model, tmp_path, monkeypatch):
    pipeline = SegmentationPipeline.load(height_model, "tensorrt", engines=EngineCache(tmp_path))
    monkeypatch.setattr(CUDA, "cudaStreamSynchronize", lambda stream: (700,), raising=False)
    with pytest.raises(BackendError, match="CUDA failed in cudaStreamSynchronize: 700"):
        pipeline.segment(random_cloud(10))


def test_stored_sweep_is_real_with_six_images():
    cloud, camera_frames = read_parity_sweep(cameras=6)
    assert len(cloud) > 100_000 and np.abs(cloud.xyz).max() > 150 and len({s.camera.name for s in camera_frames}) == 6
    assert read_parity_sweep(cameras=0)[1] == ()
