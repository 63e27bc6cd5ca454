"""`torch.UntypedStorage(size, device="polypath")`: torch's own constructor asks C++ for an allocator of the device.

There is none in C++, and torch does not look: the process would end.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from polypath.torch.buffers import NAME, check_index, storage_of
from polypath.torch.kernels.transfers import upload


def register() -> None:
    """Have storages of the device made of a value; once."""
    original: Any = torch.UntypedStorage.__new__

    @functools.wraps(original)
    def __new__(cls: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:  # noqa: N807
        where = None if device is None else torch.device(device)
        if where is None or where.type != NAME:
            return original(cls, *args, **kwargs) if device is None else original(cls, *args, device=device, **kwargs)
        check_index(where)
        data = args[0] if args else 0
        values = np.zeros(data, np.uint8) if isinstance(data, int) else np.array(data, np.uint8)
        return storage_of(upload(torch.from_numpy(values)), torch.uint8)

    torch.UntypedStorage.__new__ = __new__
