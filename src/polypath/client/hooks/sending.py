"""Big arrays go to the cluster on streams of their own, where this process shares no memory with it.

jaxlib's proxy client then sends an array's bytes to the head over gRPC. Here the array is the result of a program
that only the controller knows, and each worker takes its shards from `client.landing`. A put returns when all have
them: the numpy array is the caller's again. What goes wrong is left to jaxlib's way; so are small arrays, which
come there no faster like this.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import jax
import numpy as np
from jax._src.interpreters import pxla

from polypath.client.environment import LARGE_TRANSFER_THRESHOLD, THRESHOLD_BYTES
from polypath.client.hooks.cluster import compile_request, host_arrays, is_cluster, next_number, replace
from polypath.client.hooks.partitioning import tiled
from polypath.client.landing import StreamLanding
from polypath.plugins import IMPORT_REQUEST

_errors: Any = jax.errors
_pxla: Any = pxla

_THRESHOLD: Final = 1 << 20
"""Bytes of an array from which on it goes like this, unless the user set the variable for more."""
_PROGRAMS: Final = 64
"""Of as many kinds of arrays; more are asked for anew."""

_log = logging.getLogger(__name__)

_importer: _Importer | None = None


def install(client: Any, landing: StreamLanding | None) -> None:
    """Put the hook in place; `landing` is the session's, None if it needs none."""
    global _importer
    _importer = None if landing is None else _Importer(client, landing)
    replace(_pxla, "batched_device_put", _put, shortcut=True)


def uninstall() -> None:
    """There is no cluster any more."""
    global _importer
    _importer = None


def _put(original: Any) -> Any:
    def put(aval: Any, sharding: Any, xs: Any, devices: Any, committed: bool = True, *rest: Any, **more: Any) -> Any:
        importer = _importer
        if importer is not None and importer.serves(aval, xs, devices):
            made = importer.put(aval, sharding, xs, devices, committed)
            if made is not None:
                return made
        return original(aval, sharding, xs, devices, committed, *rest, **more)

    return put


class _Kind(NamedTuple):
    """Arrays of one shape, type and sharding."""

    program: Any
    """What makes them."""
    shape: tuple[int, ...]
    """Of each shard."""
    parts: int
    """How many of the shards differ."""


class _Importer:
    """Puts arrays of one session."""

    def __init__(self, client: Any, landing: StreamLanding) -> None:
        self._client = client
        self._landing = landing
        chosen = int(os.environ.get(LARGE_TRANSFER_THRESHOLD, THRESHOLD_BYTES))
        self._threshold = max(chosen, _THRESHOLD)
        self._kind = functools.lru_cache(_PROGRAMS)(self._compile)

    def serves(self, aval: Any, xs: Sequence[Any], devices: Sequence[Any]) -> bool:
        """Whether an array goes this way."""
        if not 0 < len(devices) == len(xs) or not is_cluster(devices[0].client):
            return False
        if not all(isinstance(x, host_arrays) and x.dtype == aval.dtype and x.dtype.kind not in "OT" for x in xs):
            return False
        return sum(np.asarray(x).nbytes for x in xs) >= self._threshold

    def put(self, aval: Any, sharding: Any, xs: Sequence[Any], devices: Sequence[Any], committed: bool) -> Any:
        """The array on the devices; None where it has to go another way."""
        kind = self._kind(aval.shape, str(aval.dtype), sharding, tuple(devices))
        arrays = [np.asarray(x) for x in xs]
        if kind is None or any(array.shape != kind.shape for array in arrays):
            return None
        # Workers take once what several of their devices get. Some give each device memory of its own for it.
        if len({(_address(array), array.strides) for array in arrays}) > kind.parts:
            return None
        number = next_number()
        self._landing.offer(number, {device.id: array for device, array in zip(devices, arrays, strict=True)})
        try:
            results = kind.program.execute_sharded([], launch_id=number)
            (made,) = results.consume_with_handlers([_pxla.global_aval_to_result_handler(aval, sharding, committed)])
            made.block_until_ready()
        except (_errors.JaxRuntimeError, ValueError) as error:
            _log.debug("An array goes through the head: %s", error)
            return None
        finally:
            self._landing.withdraw(number)
        return made

    def _compile(self, shape: tuple[int, ...], dtype: str, sharding: Any, devices: tuple[Any, ...]) -> _Kind | None:
        """Arrays of that kind; None where they have to go another way."""
        try:
            cut = tiled(sharding._to_xla_hlo_sharding(len(shape))).to_proto().SerializeToString()
            asked = {
                "dtype": dtype,
                "shape": shape,
                "sharding": {
                    "devices": {"device_ids": [device.id for device in devices]},
                    "xla_hlo_sharding": base64.b64encode(cut).decode(),
                    "memory_kind": sharding.memory_kind or "",
                },
            }
            parts = {_key(index) for index in sharding.devices_indices_map(shape).values()}
            program = compile_request(self._client, IMPORT_REQUEST, asked)
            return _Kind(program, sharding.shard_shape(shape), len(parts))
        except (_errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
            _log.debug("Arrays of %s%s go through the head: %s", dtype, shape, error)
            return None


def _address(array: np.ndarray[Any, Any]) -> int:
    return array.__array_interface__["data"][0]


def _key(index: tuple[slice, ...]) -> tuple[Any, ...]:
    return tuple((each.start, each.stop) for each in index)
