"""`torch.accelerator`: its functions end in a few of `torch._C`'s, which ask C++ for a device's allocator and guard.

A device written in Python has neither there (one of these functions ends the process). torch has one accelerator,
which is this device once it is registered, so those functions are replaced by the device module's."""

from __future__ import annotations

from typing import Any

import torch


def register(module: Any) -> None:
    """Have `torch.accelerator` ask `module`."""
    functions = {
        "synchronizeDevice": lambda index: module.synchronize(_at_least_0(index)),
        "setDeviceIndex": lambda index: module.set_device(_at_least_0(index)),
        "exchangeDevice": module.exchange_device,
        "maybeExchangeDevice": module.exchange_device,
        "getStream": lambda index: module.current_stream(_at_least_0(index)),
        "setStream": module.set_stream,
        "isAllocatorInitialized": lambda: True,
        "emptyCache": module.empty_cache,
        "emptyHostCache": module.empty_cache,
        "getDeviceStats": lambda index: module.memory_stats_as_nested_dict(),
        "resetAccumulatedStats": module.reset_accumulated_memory_stats,
        "resetPeakStats": module.reset_peak_memory_stats,
        "getMemoryInfo": module.mem_get_info,
        "getDeviceCapability": lambda index: {"supported_dtypes": module.supported_dtypes()},
    }
    for name, function in functions.items():
        if not hasattr(torch._C, f"_accelerator_{name}"):
            raise AssertionError(
                f"torch._C has no _accelerator_{name}: this is not the torch that Polypath was built for"
            )
        # Dynamo asks for the current stream wherever it compiles, which must not be compiled in its turn.
        setattr(torch._C, f"_accelerator_{name}", torch.compiler.disable(function))


def _at_least_0(index: int) -> int:
    """torch says -1 for the current one."""
    return max(index, 0)
