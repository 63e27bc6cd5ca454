"""Indices that are out of range: found by the program that uses them, told to whoever reads a value next.

A program on the devices cannot stop half way, as torch's CPU does. So a program with such operators has one more
result, an integer for each operator: the index that is out of range, if one is. The result stays on the devices until a
value is read, and is looked at then. A value that was computed with such an index is of no use (it is NaN, or the
element was left out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch._ops import OpOverload

from polypath.errors import PolypathError

MOST_PENDING: Final = 64
"""Programs whose results are not looked at yet: somebody who never reads must not pile them up."""
_NONE: Final = int(np.iinfo(np.int64).min)
"""What stands for an index that is not there."""
aten: Any = torch.ops.aten


class IndexRangeError(PolypathError, IndexError):
    """An operator on the cluster was given an index that is out of range."""


class Check(NamedTuple):
    """What is to be told of one operator in a program."""

    operator: str
    size: int
    """Of the dimension that the index is for."""
    line: str
    """Where a compiled function calls it; empty where that is not known."""


class _Use(NamedTuple):
    """How an operator uses an array of indices."""

    indices: Any
    size: int
    negative: bool
    """Whether -1 is the last one."""


_Rule = Callable[..., Iterator[_Use]]
_rules: Final[dict[OpOverload, _Rule]] = {}


def _rule(*packets: Any) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        for packet in packets:
            _rules.update({getattr(packet, name): rule for name in packet.overloads()})
        return rule

    return register


def _size(x: jax.Array, dim: int) -> int:
    return x.shape[dim] if x.ndim else 1


@_rule(aten.index, aten.index_put, aten._unsafe_index_put)
def _by_lists(x: jax.Array, indices: Sequence[Any], *_: Any, **__: Any) -> Iterator[_Use]:
    dim = 0
    for one in indices:
        if one is not None and one.dtype in (jnp.bool_, jnp.uint8):
            dim += one.ndim
            continue
        if one is not None:
            yield _Use(one, _size(x, dim), negative=True)
        dim += 1


@_rule(aten.index_select, aten.index_add, aten.index_copy, aten.index_reduce, aten.gather)
@_rule(aten.scatter, aten.scatter_add, aten.scatter_reduce)
def _along(x: jax.Array, dim: int, at: Any, *_: Any, **__: Any) -> Iterator[_Use]:
    yield _Use(at, _size(x, dim), negative=False)


@_rule(aten.index_fill)
def _along_from_the_end(x: jax.Array, dim: int, at: Any, *_: Any, **__: Any) -> Iterator[_Use]:
    yield _Use(at, _size(x, dim), negative=True)


@_rule(aten.take, aten.put)
def _flat(x: jax.Array, at: Any, *_: Any, **__: Any) -> Iterator[_Use]:
    yield _Use(at, x.size, negative=True)


@_rule(aten.embedding, aten._embedding_bag, aten._embedding_bag_forward_only)
def _rows(weight: jax.Array, at: Any, *_: Any, **__: Any) -> Iterator[_Use]:
    yield _Use(at, weight.shape[0], negative=False)


class Found:
    """Collects, while a program is traced, what it finds of its operators' indices."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self._worst: list[jax.Array] = []

    def result(self) -> list[jax.Array]:
        """The program's one more result, if it has operators with indices: for each an index that is out of range."""
        return [jnp.stack(self._worst)] if self._worst else []

    def look(self, op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], line: str) -> None:
        rule = _rules.get(op)
        for use in rule(*args, **kwargs) if rule is not None else ():
            if use.indices.size and jnp.issubdtype(use.indices.dtype, jnp.integer):
                at = use.indices.astype(jnp.int64)
                outside = (at >= use.size) | (at < (-use.size if use.negative else 0))
                self._worst.append(jnp.max(jnp.where(outside, at, _NONE)))
                self.checks.append(Check(op.name().removeprefix("aten::"), use.size, line))


_tracing: Found | None = None


def collect(run: Callable[[], Any]) -> tuple[Any, Found]:
    """Trace a program: its results, and what is found of its indices."""
    global _tracing
    before, _tracing = _tracing, Found()
    try:
        return run(), _tracing
    finally:
        _tracing = before


def look(op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], line: str = "") -> None:
    """Have the program that is being traced look at the indices of an operator with these arguments."""
    if _tracing is not None and op in _rules:
        _tracing.look(op, args, kwargs, line)


class Pending:
    """What programs have found and nobody has looked at."""

    def __init__(self) -> None:
        self._found: list[tuple[jax.Array, list[Check]]] = []

    def add(self, result: Sequence[jax.Array], checks: list[Check]) -> None:
        """Of a program that has started."""
        self._found.extend((array, checks) for array in result)

    def tell(self, at_least: int = 1) -> None:
        """If as many programs are pending, wait for them, and tell of an index that was out of range in one.

        Raises:
            IndexRangeError: there was one; nothing is pending then.
        """
        if len(self._found) < at_least:
            return
        found, self._found = self._found, []
        try:
            read = jax.device_get([array for array, _ in found])
        except jax.errors.JaxRuntimeError:
            return  # Whoever reads a value of the program that failed hears of that.
        for worst, (_, checks) in zip(read, found, strict=True):
            for index, check in zip(worst.tolist(), checks, strict=True):
                if index != _NONE:
                    raise IndexRangeError(
                        f"{check.operator}{check.line} was given the index {index}, which is out of range for size "
                        f"{check.size}; values computed since then are of no use, and tensors that were changed by "
                        "such are to be loaded again (on torch's CPU the operator itself raises)."
                    )
