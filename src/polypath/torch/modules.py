"""Modules that move to the device or from it: a parameter stays the object that it was.

torch moves parameters in place only between the kinds of tensors that it knows to be alike, and makes new ones
otherwise: weights that two modules share would become two, and an optimizer would go on with the old ones. Its
way of swapping what a tensor is keeps them, but refuses a parameter that somebody refers to weakly, as a compiled
function does; what is new then is shared at least as the old was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import torch
from torch import Tensor, nn
from torch.__future__ import get_swap_module_params_on_conversion, set_swap_module_params_on_conversion

from polypath.torch.buffers import NAME, Buffer, buffer_of

Convert = Callable[[Tensor], Tensor]


def register() -> None:
    """Have modules keep their parameters when they move; once."""
    original: Any = nn.Module._apply

    @functools.wraps(original)
    def _apply(module: nn.Module, fn: Convert, recurse: bool = True) -> nn.Module:
        if get_swap_module_params_on_conversion() or not _moves(module, fn):
            return original(module, fn, recurse)
        moved = _Moved(fn)
        convert(module, moved, recurse)
        moved.wait(lambda back: convert(module, back, recurse))
        return module

    def convert(module: nn.Module, fn: Convert, recurse: bool) -> None:
        shared = _shared(module)
        set_swap_module_params_on_conversion(True)
        try:
            original(module, fn, recurse)
            return
        except RuntimeError as error:
            if "Couldn't swap" not in str(error):
                raise
        finally:
            set_swap_module_params_on_conversion(False)
        with _Apart(original):
            original(module, fn, recurse)
        for (owner, name), *others in shared:
            for other, its_name in others:
                other._parameters[its_name] = owner._parameters[name]

    setattr(nn.Module, "_apply", _apply)  # noqa: B010


class _Moved:
    """What a module's tensors were before they were moved, until they are known to be there."""

    def __init__(self, fn: Convert) -> None:
        self._fn = fn
        self._before: dict[int, tuple[Buffer, Tensor]] = {}
        """By the storage that each has now."""

    def __call__(self, tensor: Tensor) -> Tensor:
        moved = self._fn(tensor)
        if moved.device.type == NAME != tensor.device.type:
            buffer = buffer_of(moved)
            self._before[id(buffer)] = buffer, tensor.data
        return moved

    def wait(self, back: Callable[[Convert], Any]) -> None:
        """Wait for all of them. If there is no memory for one, `back` puts what they were into the module again."""
        try:
            arrays = [buffer.ref.array for buffer, _ in self._before.values()]
            jax.block_until_ready([array for array in arrays if array is not None])
        except jax.errors.JaxRuntimeError:
            back(self._old)
            raise

    def _old(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != NAME:
            return tensor
        return self._before.get(id(buffer_of(tensor)), (None, tensor))[1]


class _Apart:
    """A scope in which modules make new parameters where torch would."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __enter__(self) -> None:
        self._ours, nn.Module._apply = nn.Module._apply, self._original

    def __exit__(self, *_: object) -> None:
        nn.Module._apply = self._ours


def _moves(module: nn.Module, fn: Convert) -> bool:
    """Whether it goes to the device, or leaves it."""
    here = any(parameter.device.type == NAME for parameter in module.parameters())
    return here != (fn(torch.empty(0)).device.type == NAME)


def _shared(module: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """The parameters that are in several places, and those places."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((owner, name))
    return [where for where in places.values() if len(where) > 1]
