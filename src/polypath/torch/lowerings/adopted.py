"""Lowerings taken from torchax as they are.

Its registry also holds much that differs from torch in values or types, so only what is named here is
taken: that which the operator tests show to agree. Importing torchax the usual way claims PrivateUse1 for a
device of its own and changes settings of torch and jax, so its modules are loaded here without its package's own code.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Generator
from typing import Any, Final

import jax
import torch

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import inexact, wide

_NAMES: Final = (
    "special_bessel_j0",
    "special_bessel_j1",
    "special_bessel_y0",
    "special_bessel_y1",
)


@functools.cache
def _torchax() -> dict[Any, Callable[..., Any]]:
    with _without_its_package(), _missing_overloads():
        importlib.import_module("torchax.ops.jaten")
        registry: Any = importlib.import_module("torchax.ops.ops_registry")
    return {operator: entry.func for operator, entry in registry.all_aten_ops.items() if entry.is_jax_function}


@contextlib.contextmanager
def _without_its_package() -> Generator[None]:
    """`import torchax.x` finds the module without running `torchax/__init__.py`; nothing of it stays behind."""
    spec = importlib.util.find_spec("torchax")
    if spec is None:
        raise ModuleNotFoundError("polypath.torch needs torchax, which is not installed: pip install polypath[torch].")
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchax"}
    package, tensor = types.ModuleType("torchax"), types.ModuleType("torchax.tensor")
    package.__path__ = list(spec.submodule_search_locations or ())
    tensor.__dict__["Tensor"] = torch.Tensor  # Theirs is for eager use, of which nothing is needed.
    sys.modules |= {"torchax": package, "torchax.tensor": tensor}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchax"]:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def _missing_overloads() -> Generator[None]:
    """torchax 0.0.13 names an overload that torch 2.13 does not have."""
    packet: Any = torch.ops.aten.prod
    missing = not hasattr(packet, "dim_Dimname")
    if missing:
        packet.dim_Dimname = packet.dim_int
    try:
        yield
    finally:
        if missing:
            del packet.dim_Dimname


def _adopted(name: str) -> Callable[[jax.Array], jax.Array]:
    packet = getattr(aten, name)

    def lowering(x: jax.Array) -> jax.Array:
        return _torchax()[packet](wide(inexact(x))).astype(inexact(x).dtype)

    return lowering


for _name in _NAMES:
    lowers(getattr(aten, _name))(_adopted(_name))
