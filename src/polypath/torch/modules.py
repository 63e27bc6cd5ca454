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

import torch
from torch import Tensor, nn
from torch.__future__ import get_swap_module_params_on_conversion, set_swap_module_params_on_conversion

from polypath.torch.buffers import NAME

Convert = Callable[[Tensor], Tensor]


def register() -> None:
    """Have modules keep their parameters when they move; once."""
    original: Any = nn.Module._apply

    @functools.wraps(original)
    def _apply(module: nn.Module, fn: Convert, recurse: bool = True) -> nn.Module:
        if get_swap_module_params_on_conversion() or not _moves(module, fn):
            return original(module, fn, recurse)
        shared = _shared(module)
        set_swap_module_params_on_conversion(True)
        try:
            return original(module, fn, recurse)
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
        return module

    setattr(nn.Module, "_apply", _apply)  # noqa: B010


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
