"""Runs a module as on a machine with a GPU: engines are built with TensorRT-RTX and executed by ONNX Runtime.

    python fake_gpu.py MODEL.onnx MODULE [ARGUMENTS ...]

Engines are built in the child process that the package starts.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

from xmodelkd_ros.inference import backend, tensorrt
from xmodelkd_ros.inference.gpu import Gpu

DOUBLES = Path(__file__).parents[1] / "inference" / "test_tensorrt.py"


def load_fakes():
    spec = importlib.util.spec_from_file_location("doubles", DOUBLES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(network, module, *arguments):
    fakes = load_fakes()
    library = fakes.FakeTensorRt()
    engine = fakes.FakeEngine(library, Path(network).read_bytes())
    library.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda built: engine if built else None)
    backend.find_gpu = lambda: Gpu("Orin", "8.7", "12.6")
    tensorrt.import_tensorrt = lambda: library
    tensorrt._Cuda._runtime = fakes.CUDA
    sys.argv = [module, *arguments]
    return importlib.import_module(module).main()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
