"""GPU detection through the CUDA driver, since some builds of TensorRT crash without a GPU."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

_DRIVER = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name: name of the device.
        capability: compute capability, such as ``8.7``.
        driver: newest CUDA version supported by the driver, such as ``13.0``.
    """

    name: str
    capability: str
    driver: str


def find_gpu() -> Gpu | None:
    """The first GPU; None without a GPU or its driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    return query_driver(driver)


def query_driver(driver: Any) -> Gpu | None:
    """The first GPU, from a loaded CUDA driver library; None without a GPU."""
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetName(name, len(name), device):
        return None
    for value, attribute in ((major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", cuda)
