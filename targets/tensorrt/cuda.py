"""The few calls of the CUDA driver that inference needs, by ctypes.

libcuda.so.1 comes with every GPU driver, so a device needs no CUDA package for Python beside its TensorRT.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.contracts.errors import DeviceError

# CUdevice_attribute
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76
# Where the kernel tells the driver's release; the library tells only the CUDA version that it speaks.
_DRIVER_RELEASE = Path("/sys/module/nvidia/version")


class Cuda:
    """The first GPU, its primary context current in this thread, and one stream.

    Attributes:
        gpu: the GPU's name.
        sm: its compute capability times ten.
        driver: the driver's CUDA version, and its release where the kernel tells it.
        stream: handle of the stream, as TensorRT takes it.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(128)
        self._call("cuDeviceGetName", name, len(name), device)
        self.gpu = name.value.decode(errors="replace")
        major, minor = (self._attribute(a, device) for a in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR))
        self.sm = 10 * major + minor
        self.driver = self._driver()
        # TensorRT uses the primary context, as everything built on the CUDA runtime does.
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        self.stream = int(stream.value or 0)

    def allocate(self, size_bytes: int) -> int:
        """Device memory; returns its address."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def to_device(self, address: int, array: Any) -> None:
        """Copy a C-contiguous array to the device, in stream order."""
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), *_host(array), ctypes.c_void_p(self.stream))

    def to_host(self, array: Any, address: int) -> None:
        """Fill a C-contiguous array from the device, in stream order."""
        pointer, size = _host(array)
        self._call("cuMemcpyDtoHAsync_v2", pointer, ctypes.c_uint64(address), size, ctypes.c_void_p(self.stream))

    def wait(self) -> None:
        """Until everything ordered on the stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def _driver(self) -> str:
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
        with suppress(OSError):
            return f"{cuda} ({_DRIVER_RELEASE.read_text().strip()})"
        return cuda

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise DeviceError(
                "cuda-failed",
                f"the CUDA driver could not do {name}",
                found=f"CUresult {status}",
                next_step="look at the kernel log for NVRM messages; status 2 means the GPU's memory is full",
            )


def open_cuda() -> Cuda:
    """The first GPU of this machine.

    Raises:
        DeviceError: `no-gpu` where there is no driver or no GPU.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_gpu(str(error)) from None
    count = ctypes.c_int()
    if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise _no_gpu("the CUDA driver shows no GPU")
    return Cuda(library)


def _no_gpu(found: str) -> DeviceError:
    return DeviceError(
        "no-gpu",
        "this artifact runs on a CUDA GPU, and none was found",
        expected="an NVIDIA GPU with its driver",
        found=found,
        next_step="run it on a machine with a GPU (in a container: give it the GPU), or simulate it on the CPU",
    )


def _host(array: Any) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    array = np.asarray(array)
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
