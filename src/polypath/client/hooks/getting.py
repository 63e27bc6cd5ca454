"""Big arrays come from the cluster past the head.

jaxlib's proxy client takes an array's bytes from the head over gRPC, shard by shard. Here the workers hand all
shards to `client.landing`, each of them to its place. What goes wrong is left to jaxlib's way, which then tells
of it. A small array comes no faster like this, but several may come together (`hooks.together`).

`numpy.array(x)` is a copy that is the caller's to write to. JAX makes it of the elements that it keeps for those who
only read; here it is what landed, unless such are there.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import jax
import numpy as np
from jax._src import array as jax_array
from jax._src.interpreters import pxla

from polypath.client.environment import LARGE_TRANSFER_THRESHOLD, THRESHOLD_BYTES
from polypath.client.hooks import waiting
from polypath.client.hooks.cluster import compile_request, is_cluster, next_number, replace
from polypath.client.hooks.interrupts import may_wait_for_functions
from polypath.client.hooks.together import Together
from polypath.client.landing import Landing
from polypath.client.memory import empty
from polypath.plugins import EXPORT_REQUEST

_Array: Any = jax_array.ArrayImpl
_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009
_errors: Any = jax.errors

_THRESHOLD: Final = 16 << 10
"""Bytes of an array from which on it comes like this, unless the user set the variable for more."""

_COPY: Final = 8 << 20
"""Bytes of an array from which on each copy of it comes from the cluster: those who copy it again wait no longer."""

_log = logging.getLogger(__name__)

_exporter: _Exporter | None = None


def install(client: Any, landing: Landing | None) -> None:
    """Put the hooks in place; `landing` is the session's, None if it has none."""
    global _exporter
    _exporter = None if landing is None else _Exporter(client, landing)
    replace(_Array, "__array__", _array, shortcut=True)
    replace(_Array, "copy_to_host_async", _copy_to_host_async, shortcut=True)
    if hasattr(_jaxlib, "batched_copy_to_host_async"):  # From jax 0.11 on.
        replace(_jaxlib, "batched_copy_to_host_async", _batched_copy_to_host_async, shortcut=True)
    if not isinstance(_Array._value, _Value):
        _Array._value = _Value(_Array._value.fget)


def uninstall() -> None:
    """There is no cluster any more."""
    global _exporter
    _exporter = None


class _Value(property):
    """JAX's property by which an array becomes numpy's."""

    def __init__(self, original: Any) -> None:
        def value(array: Any) -> Any:
            if array._npy_value is None and (found := _read(array)) is not None:
                found.flags.writeable = False
                array._npy_value = found
            elif array._npy_value is None and may_wait_for_functions() and not array.is_deleted():
                with contextlib.suppress(_errors.JaxRuntimeError):  # Which is told of below.
                    array.block_until_ready()  # Hears of Ctrl-C, as what follows does not.
            return original(array)

        super().__init__(value)


def _array(original: Any) -> Any:
    def array(self: Any, dtype: Any = None, context: Any = None, copy: bool | None = None) -> Any:
        exporter = _exporter
        big = copy and dtype in (None, self.dtype) and self._npy_value is None and self.nbytes >= _COPY
        found = exporter.read(self) if big and exporter is not None and exporter.serves(self) else None
        return original(self, dtype, context, copy) if found is None else found

    return array


def _copy_to_host_async(original: Any) -> Any:
    def copy_to_host_async(self: Any) -> None:
        exporter = _exporter
        if exporter is None or not exporter.copies(self):
            original(self)

    return copy_to_host_async


def _batched_copy_to_host_async(original: Any) -> Any:
    def batched_copy_to_host_async(arrays: Sequence[Any]) -> None:
        exporter = _exporter
        left = arrays if exporter is None else [array for array in arrays if not exporter.copies(array)]
        if left:
            original(left)

    return batched_copy_to_host_async


def _read(array: Any) -> np.ndarray[Any, Any] | None:
    exporter = _exporter
    if exporter is not None:
        if (found := exporter.small.read(array)) is not None:
            return found
        if exporter.serves(array):
            return exporter.read(array)
    return waiting.read(array)


class _Export:
    """An array on its way."""

    def __init__(self, number: int, elements: np.ndarray[Any, Any], came: Callable[[], bool]) -> None:
        self.number = number
        self.elements = elements
        self.came = came
        """Waits for it, and tells whether it came."""


def _ended_well(token: Any) -> bool:
    try:
        token.block_until_ready()
    except _errors.JaxRuntimeError:
        return False
    return True


class _Exporter:
    """Reads arrays of one session."""

    def __init__(self, client: Any, landing: Landing) -> None:
        self._client = client
        self._landing = landing
        chosen = int(os.environ.get(LARGE_TRANSFER_THRESHOLD, THRESHOLD_BYTES))
        self._threshold = chosen if chosen > THRESHOLD_BYTES else _THRESHOLD
        self._lock = threading.Lock()
        self._programs: dict[int, Any] = {}
        """By how many shards their argument has: jaxlib's client counts them."""
        self._under_way: dict[int, tuple[weakref.ref[Any], _Export]] = {}
        """What `copy_to_host_async` began, by the address of its array."""
        self.small = Together(landing, self._program)

    def copies(self, array: Any) -> bool:
        """Have the workers begin to send an array, or say that this is jaxlib's to do."""
        dtype = array.dtype
        if array.is_deleted() or dtype.kind in "OT" or not is_cluster(next(iter(array.sharding.device_set)).client):
            return False
        size = math.prod(array.shape) * dtype.itemsize
        if size >= self._threshold:
            return self.start(array)
        if size > _THRESHOLD:
            return False
        if size:
            self.small.want(array)
        return True

    def serves(self, array: Any) -> bool:
        """Whether an array comes this way."""
        if array.dtype.kind in "OT" or array.size * array.dtype.itemsize < self._threshold or array.is_deleted():
            return False
        return is_cluster(next(iter(array.sharding.device_set)).client)

    def start(self, array: Any) -> bool:
        """Have the workers begin to send it."""
        number = id(array)
        if array._npy_value is not None or number in self._under_way:
            return True
        export = self._export(array)
        if export is None:
            return False
        self._under_way[number] = weakref.ref(array, lambda _: self._drop(number)), export
        return True

    def read(self, array: Any) -> np.ndarray[Any, Any] | None:
        """Its elements, which are the caller's; None where they have to come another way."""
        _, export = self._under_way.pop(id(array), (None, None))
        export = export or self._export(array)
        if export is None:
            return None
        try:
            return export.elements if export.came() else None
        finally:
            self._landing.forget(export.number)

    def _export(self, array: Any) -> _Export | None:
        number = next_number()
        elements = empty(array.shape, array.dtype)
        self._landing.expect(number, elements)
        try:
            program = self._program(len(array.sharding.device_set))
            came = waiting.start(program, [array], number)
            if came is None:
                results = program.execute_sharded([array], with_tokens=True, launch_id=number)
                came = partial(_ended_well, results.consume_token())
            return _Export(number, elements, came)
        except (_errors.JaxRuntimeError, ValueError) as error:
            _log.debug("An array comes through the head: %s", error)
            self._landing.forget(number)
            return None

    def _program(self, shards: int) -> Any:
        with self._lock:
            if shards not in self._programs:
                self._programs[shards] = compile_request(self._client, EXPORT_REQUEST, {"devices": shards})
            return self._programs[shards]

    def _drop(self, number: int) -> None:
        _, export = self._under_way.pop(number, (None, None))
        if export is not None:
            self._landing.forget(export.number)
