"""`tensor.pin_memory()`, which `DataLoader(pin_memory=True)` calls for each batch: a copy, in ordinary memory.

Pinned memory is what a driver reads without copying; the cluster's workers are other processes, and read what the
client sends. So programs that pin their batches run, and `is_pinned()` says False. `torch.empty(...,
pin_memory=True)` asks C++ for an allocator, which a device written in Python cannot give: torch refuses it."""

from __future__ import annotations

from typing import Any, Final

import torch

from polypath.torch.buffers import NAME

_libraries: Final[list[torch.library.Library]] = []


def register() -> None:
    """Have tensors of the CPU pinned so, unless another device is named."""
    of_torch: Any = torch.library.get_kernel("aten::_pin_memory", "CPU")

    def pin_memory(keys: Any, tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
        if device is not None and device.type != NAME:
            return of_torch.call_boxed(keys, tensor, device)
        return tensor.clone()

    library = torch.library.Library("aten", "IMPL")
    library.impl("_pin_memory", pin_memory, "CPU", with_keyset=True, allow_override=True)
    _libraries.append(library)
