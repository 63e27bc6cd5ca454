"""How a program of PyTorch is told of what cannot be, of programs that failed, and of devices that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
    return any(device.client is not client for device in array.sharding.device_set)


def check_devices(arrays: Sequence[Any], error: Exception) -> None:
    """Say it where arrays are on devices that JAX has no more, which was the cause of `error`.

    Raises:
        ClosedError: such an array is among them.
    """
    if any(is_closed(array) for array in arrays):
        raise closed(error)


def closed(cause: Exception) -> ClosedError:
    """What to say of a value on devices that JAX has no more."""
    error = ClosedError(
        "A tensor is on a cluster that was closed (or on the devices that JAX had before a cluster was started), "
        "and its values went with it; make it anew, or load it from a checkpoint."
    )
    error.__cause__ = cause
    return error


_FAILED: Final = (
    "The program that was to compute this value has failed; its error was raised then, and is the cause of this."
)


def failed(cause: Exception | None) -> TorchError:
    """What to say of a value whose program has failed with `cause`."""
    error = ClosedError(*cause.args) if isinstance(cause, ClosedError) else TorchError(_FAILED)
    error.__cause__ = cause
    return error


def lost_with(count: int) -> str:
    """What to say of a program that failed after it had been given tensors' memory."""
    return (
        f"polypath.torch: the program that failed had been given the memory of {count} tensors that it was to "
        "overwrite (as a step of training does with parameters), so these have no value any more: load them with "
        "load_state_dict() from a checkpoint."
    )
