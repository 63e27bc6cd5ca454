"""Memory that a program lends to a host callback: on CPU the host's own, on a GPU the device's.

`jax.experimental.buffer_callback` lets a function read and write a program's buffers in place. numpy
cannot read a GPU's memory, so such a buffer is copied to the host and back, by the driver and on the
program's own stream.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_CPU: Final = 1
_CUDA: Final = 2
"""As DLPack numbers devices."""


class LentBuffer:
    """A buffer that a callback got, for as long as it runs."""

    def __init__(self, context: Any, buffer: Any) -> None:
        """`context` is what the callback got beside its buffers.

        Raises:
            RuntimeError: the buffer is on a device whose memory this process cannot copy.
        """
        self.writeable: bool = buffer.writeable
        device, _ = buffer.__dlpack_device__()
        self._stream: int | None = None
        if device == _CPU:
            self.array: npt.NDArray[Any] = np.asarray(buffer)
            """The elements when the callback began."""
            self.address: int = self.array.ctypes.data
            """Of the memory: two buffers that share it have the same."""
            return
        if device != _CUDA:
            raise RuntimeError(
                f"buffer_callback works on CPUs and CUDA, and this buffer is on a device that DLPack numbers {device}: "
                "use jax.pure_callback, which works everywhere."
            )
        self._stream = context.stream
        self.address, _ = buffer.__cuda_array_interface__["data"]
        self.array = np.empty(buffer.shape, buffer.dtype)
        self._copy("cuMemcpyDtoHAsync_v2", self.array.ctypes.data, self.address)

    def write(self, elements: npt.NDArray[Any]) -> None:
        """Make these the buffer's elements."""
        self.array[...] = elements
        if self._stream is not None:
            self._copy("cuMemcpyHtoDAsync_v2", self.address, self.array.ctypes.data)

    def _copy(self, function: str, target: int, source: int) -> None:
        if not self.array.nbytes:
            return
        stream = ctypes.c_void_p(self._stream)
        size = ctypes.c_size_t(self.array.nbytes)
        driver = _driver()
        for status in (
            getattr(driver, function)(_pointer(target), _pointer(source), size, stream),
            driver.cuStreamSynchronize(stream),
        ):
            if status:
                raise RuntimeError(f"CUDA could not copy a buffer of buffer_callback: {function} ended with {status}.")


def _pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


@functools.cache
def _driver() -> Any:
    """CUDA's driver, which the plugin has loaded where there are CUDA's buffers."""
    return ctypes.CDLL("libcuda.so.1")
