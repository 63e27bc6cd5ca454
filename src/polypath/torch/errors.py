"""What a program of PyTorch asks that cannot be, and how it is told of devices that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend

from polypath.errors import PolypathError


class TorchError(PolypathError):
    """What a PyTorch program asks cannot be done on the cluster."""


class ClosedError(TorchError):
    """A tensor's devices are no longer JAX's."""


def is_closed(array: Any) -> bool:
    """Whether an array is on devices that JAX has no more."""
    if not isinstance(array, jax.Array):
        return False
    client: Any = jax.extend.backend.get_backend()
    return any(device.client is not client for device in array.devices())


def check_devices(arrays: Sequence[Any], error: Exception) -> None:
    """Say it where arrays are on devices that JAX has no more, which was the cause of `error`.

    Raises:
        ClosedError: such an array is among them.
    """
    if any(is_closed(array) for array in arrays):
        raise ClosedError(
            "A tensor is on a cluster that was closed (or on the devices that JAX had before a cluster was started), "
            "and its values went with it; make it anew, or load it from a checkpoint."
        ) from error
