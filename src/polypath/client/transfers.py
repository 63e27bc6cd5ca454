"""What goes over a session's links: that arrays are there, and their elements, down and up.

Arrays are known to the cluster by requests of jaxlib's client alone. So each request here is an execution of a program
that only the controller knows (`polypath.plugins.Attach`), with the arrays in question, and the number of the launch
is the request's. Whatever cannot be had like this, or goes wrong, is left to jaxlib's own way, which tells why.
"""

from __future__ import annotations

import base64
import functools
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax._src.interpreters import pxla

from polypath.client.hooks.partitioning import tiled
from polypath.client.memory import empty
from polypath.client.session import Session
from polypath.link.client import Links, Request
from polypath.link.protocol import MOST_HOSTS
from polypath.messages import MOST_ELEMENTS
from polypath.plugins import ATTACH_REQUEST
from polypath.types import HostId

_errors: Any = jax.errors
_pxla: Any = pxla

DOWN_BYTES: Final = 16 << 10
"""From this size on an array comes over links."""
UP_BYTES: Final = 64 << 10
"""From this size on it goes over them."""
_KINDS: Final = 512
"""Of arrays that are put; others are asked for anew."""
_SHARDINGS: Final = 1024
"""Whose hosts are known."""

_log = logging.getLogger(__name__)


class Where(NamedTuple):
    """Where arrays of a sharding are."""

    devices: int
    hosts: frozenset[HostId]


class Coming(NamedTuple):
    """An array on its way down."""

    request: Request
    elements: npt.NDArray[Any]
    """Where it lands."""


class Transfers:
    """One session's."""

    def __init__(self, session: Session, links: Links) -> None:
        self._session = session
        self.links: Final = links
        self._lock = threading.Lock()
        self._programs: dict[tuple[int, str], Any] = {}
        """By how many shards their arguments have, and what they ask for."""
        self._under_way: dict[int, tuple[weakref.ref[Any], Coming]] = {}
        """What `start` began, by the address of its array."""
        self._where = functools.lru_cache(_SHARDINGS)(self._find)
        self._kind = functools.lru_cache(_KINDS)(self._compile_kind)

    def close(self) -> None:
        """Drop the programs while somebody is there to be told, and not whenever this is collected."""
        self._programs.clear()
        self._under_way.clear()
        self._kind.cache_clear()
        self._where.cache_clear()

    def abandon(self) -> None:
        """In a forked child: the programs are kept, as their ends would be told on the parent's connection."""

    # --- Requests

    def where(self, array: Any) -> Where | None:
        """Where an array is; None where it is not the cluster's, or on more hosts than answer together."""
        return self._where(array.sharding)

    def ask(self, what: str, arrays: Sequence[Any], place: npt.NDArray[Any] | None = None) -> Request | None:
        """Ask for `what` (`plugins.Attach`) of arrays that are on the same devices; None where nobody would answer."""
        where = self.where(arrays[0])
        if where is None or any(self.where(array) != where for array in arrays[1:]):
            return None
        request = self.links.ask(where.hosts, place)
        if request is None:
            return None
        try:
            self._program(where.devices, what).execute_sharded(arrays, launch_id=request.number)
        except BaseException as error:
            self.links.drop(request)
            if not isinstance(error, _errors.JaxRuntimeError | ValueError):
                raise
            _log.debug("Arrays are asked about another way: %s", error)  # One was deleted, say.
            return None
        return request

    def answer(self, what: str, arrays: Sequence[Any]) -> bytes | None:
        """Ask and wait."""
        request = self.ask(what, arrays)
        return None if request is None else self.links.wait(request)

    def elements(self, array: Any) -> npt.NDArray[Any] | None:
        """A small array's elements, read-only; None where they have to come another way."""
        dtype = array.dtype
        if dtype.kind in "OT" or array.size * dtype.itemsize > MOST_ELEMENTS or not array.is_fully_replicated:
            return None
        data = self.answer("elements", [array])
        return None if data is None else np.frombuffer(data, dtype).reshape(array.shape)

    def address(self, array: Any) -> int | None:
        """Where an array of one shard is in its worker's memory; None where nobody would tell."""
        found = self.answer("address", [array])
        return None if found is None else int.from_bytes(found, "little")

    # --- Down

    def brings(self, array: Any) -> bool:
        """Whether an array comes over links."""
        size = array.size * array.dtype.itemsize
        return (
            size >= DOWN_BYTES
            and array.dtype.kind not in "OT"
            and not array.is_deleted()
            and self.where(array) is not None
        )

    def start(self, array: Any) -> bool:
        """Have the workers begin to send an array; False where they do not."""
        key = id(array)
        if key not in self._under_way:
            coming = self._ask_for(array)
            if coming is None:
                return False
            self._under_way[key] = weakref.ref(array, lambda _: self._forget(key)), coming
        return True

    def read(self, array: Any) -> npt.NDArray[Any] | None:
        """An array's elements, which are the caller's; None where they have to come another way."""
        _, coming = self._under_way.pop(id(array), (None, None))
        coming = coming or self._ask_for(array)
        if coming is None or self.links.wait(coming.request) is None:
            return None
        return coming.elements

    def _ask_for(self, array: Any) -> Coming | None:
        elements = empty(array.shape, array.dtype)
        request = self.ask("arrays", [array], elements)
        return None if request is None else Coming(request, elements)

    def _forget(self, key: int) -> None:
        _, coming = self._under_way.pop(key, (None, None))
        if coming is not None:
            self.links.drop(coming.request)

    # --- Up

    def put(self, aval: Any, sharding: Any, shards: Mapping[Any, npt.NDArray[Any]], committed: bool) -> Any | None:
        """An array made of each device's shard, which is the caller's again; None where it has to go another way."""
        kind = self._kind(aval.shape, str(aval.dtype), sharding, tuple(shards))
        if kind is None or any(shard.shape != kind.shape for shard in shards.values()):
            return None
        # A host takes once what several of its devices get.
        first: dict[tuple[HostId | None, Any], tuple[int, npt.NDArray[Any]]] = {}
        for device, shard in shards.items():
            key = self.links.host_of(device.id), kind.parts[device.id]
            known = first.setdefault(key, (device.id, shard))[1]
            if known is not shard and (_address(known), known.strides) != (_address(shard), shard.strides):
                return None
        request = self.links.ask(kind.hosts)
        if request is None:
            return None
        try:
            results = kind.program.execute_sharded([], launch_id=request.number)
            (made,) = results.consume_with_handlers([_pxla.global_aval_to_result_handler(aval, sharding, committed)])
            self.links.push(request, dict(first.values()))
        except BaseException as error:
            self.links.take_back(request)
            if not isinstance(error, _errors.JaxRuntimeError | ValueError | OSError):
                raise
            _log.debug("An array goes through the head: %s", error)
            return None
        return made

    # --- Programs

    def _program(self, devices: int, what: str) -> Any:
        program = self._programs.get((devices, what))
        if program is not None:
            return program
        with self._lock:
            if (devices, what) not in self._programs:
                asked = {"devices": devices, "what": what}
                self._programs[devices, what] = self._session.compile_request(ATTACH_REQUEST, asked)
            return self._programs[devices, what]

    def _compile_kind(self, shape: tuple[int, ...], dtype: str, sharding: Any, devices: Sequence[Any]) -> _Kind | None:
        hosts = self.links.hosts_of(device.id for device in devices)
        if hosts is None or len(hosts) > MOST_HOSTS:
            return None
        try:
            cut = tiled(sharding._to_xla_hlo_sharding(len(shape))).to_proto().SerializeToString()
            gives = {
                "dtype": dtype,
                "shape": shape,
                "sharding": {
                    "devices": {"device_ids": [device.id for device in devices]},
                    "xla_hlo_sharding": base64.b64encode(cut).decode(),
                    "memory_kind": sharding.memory_kind or "",
                },
            }
            parts = {device.id: _key(index) for device, index in sharding.devices_indices_map(shape).items()}
            program = self._session.compile_request(ATTACH_REQUEST, {"devices": len(devices), "gives": gives})
            return _Kind(program, sharding.shard_shape(shape), parts, hosts)
        except (_errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
            _log.debug("Arrays of %s%s go through the head: %s", dtype, shape, error)
            return None

    def _find(self, sharding: Any) -> Where | None:
        devices = sharding.device_set
        if not self._session.is_cluster(next(iter(devices)).client):
            return None
        hosts = self.links.hosts_of(device.id for device in devices)
        return None if hosts is None or len(hosts) > MOST_HOSTS else Where(len(devices), hosts)


class _Kind(NamedTuple):
    """Arrays of one shape, type and sharding that are put."""

    program: Any
    """What makes them."""
    shape: tuple[int, ...]
    """Of each shard."""
    parts: Mapping[int, Any]
    """By device: which part of the array it has."""
    hosts: frozenset[HostId]


def _address(array: npt.NDArray[Any]) -> int:
    return array.__array_interface__["data"][0]


def _key(index: tuple[slice, ...]) -> tuple[Any, ...]:
    return tuple((each.start, each.stop) for each in index)
