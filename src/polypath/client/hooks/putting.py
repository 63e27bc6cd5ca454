"""A numpy array belongs to its owner again when the call that takes it has returned.

jaxlib's proxy client reads the elements of a numpy array on a thread of its own, after `device_put` or the jitted
function has returned. A loop that reuses the buffer of its batch would have the elements of the next batch sent. Here
the client gets a copy of a small array, and a put of a large one returns when the workers have it. That holds for
every way by which elements go up:

- `xla_client.batched_device_put` puts for `device_put`, `jnp.array`, `make_array_from_callback` and the like, and for
  arguments of programs over several devices.
- A jitted function over one device takes its arguments in C++, past Python, when it is called again. It asks Python
  about an argument that is to have a layout of its own, so numpy's arguments are given one: `_IN_PYTHON`. JAX keeps
  an entry for each combination of arguments on the host and on devices, so arrays on devices stay in C++.
- A compiled function (`jit(f).lower().compile()`) over one device does the same, and does not say which of its
  arguments are numpy's. It is called with copies of them.

Numpy arrays with a negative or a zero stride, which the client refuses, are copied first.

Seen on JAX 0.9.0, 0.10.2 and 0.12.0.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any, Final

import jax
import numpy as np
from jax._src import config, core, dtypes, lib, pjit
from jax._src.interpreters import pxla

from polypath.client import memory
from polypath.client.environment import THRESHOLD_BYTES
from polypath.client.hooks.cluster import host_arrays, is_cluster, replace, typed_array

WAIT_BYTES: Final = 16 << 20
"""From this size on, a put waits until the workers have the array, which costs less than to copy it first."""

_SMALL_BYTES: Final = THRESHOLD_BYTES
"""An array below this size is put with as little Python as can be."""

_IN_PYTHON: Final = object()
"""The layout of an argument that is to be put by Python."""

_jax: Any = jax
_lib: Any = lib
_config: Any = config
_core: Any = core
_dtypes: Any = dtypes
_pjit: Any = pjit
_tree: Any = jax.tree
_pxla: Any = pxla
_client: Any = _lib.xla_client

_NOTHING: Final = _dtypes.float0
"""The type of gradients of integers, which JAX makes arrays of another type of."""


def install() -> None:
    """Put the hooks in place."""
    replace(_client, "batched_device_put", _put)
    replace(_pjit, "_get_fastpath_data", _fastpath_data)
    replace(_pxla.MeshExecutable, "create_cpp_call", _create_cpp_call)
    handlers = _pxla.shard_arg_handlers
    for kind, handler in list(handlers.items()):
        if handler is _pxla._shard_np_array:
            handlers[kind] = _shard


def _put(original: Any) -> Any:
    def put(aval: Any, sharding: Any, xs: Any, devices: Any, *rest: Any, **more: Any) -> Any:
        if not devices or not is_cluster(devices[0].client):
            return original(aval, sharding, xs, devices, *rest, **more)
        if len(xs) == 1 and _is_small(xs[0]):
            return original(aval, sharding, [xs[0].copy()], devices, *rest, **more)
        waits = sum(np.asarray(x).nbytes for x in xs if isinstance(x, host_arrays)) >= WAIT_BYTES
        made = original(aval, sharding, xs if waits else _copied(xs), devices, *rest, **more)
        if waits:
            with contextlib.suppress(_jax.errors.JaxRuntimeError):  # `made` tells of it where it is looked at.
                _client.batched_block_until_ready([made])
        return made

    return put


def _is_small(x: Any) -> bool:
    return type(x) is np.ndarray and x.nbytes < _SMALL_BYTES


def _copied(xs: Sequence[Any]) -> Sequence[Any]:
    """The same with copies of numpy's arrays; of those that are one, as shards of a replicated array are, one copy."""
    copies: dict[Any, Any] = {}
    found: list[Any] = []
    for x in xs:
        if isinstance(x, host_arrays):
            array: Any = np.asarray(x)
            key = (array.__array_interface__["data"], array.shape, array.strides)
            if key not in copies:
                copies[key] = _copied_leaf(x)
            found.append(copies[key])
        else:
            found.append(x)
    return found


def _copy(array: Any) -> Any:
    if array.dtype.kind in "OT":  # Python's own memory
        return array.copy()
    made = memory.empty(array.shape, array.dtype)
    made[...] = array
    return made


def _shard(xs: Sequence[Any], shardings: Any, layouts: Sequence[Any], *rest: Any) -> Any:
    """`pxla._shard_np_array`, for layouts that may be `_IN_PYTHON`."""
    if len(xs) == 1 and layouts[0] is _IN_PYTHON and _is_small(xs[0]) and xs[0].dtype != _NOTHING:
        devices = list(shardings[0]._addressable_device_assignment)
        return [_client.batched_device_put(_core.shaped_abstractify(xs[0]), shardings[0], xs, devices)]
    layouts = [None if layout is _IN_PYTHON else layout for layout in layouts]
    with _puts_in_python():
        return _pxla._shard_np_array([_contiguous(x) for x in xs], shardings, layouts, *rest)


def _puts_in_python() -> contextlib.AbstractContextManager[None]:
    """JAX 0.12 can put arguments in C++, past `batched_device_put`, where the user sets an option."""
    option = getattr(_config, "use_cpp_shard_args", None)
    return option(False) if option is not None and option.value else contextlib.nullcontext()


def _fastpath_data(original: Any) -> Any:
    signature = inspect.signature(original)

    def fastpath_data(*args: Any, **more: Any) -> Any:
        found = original(*args, **more)
        if found is None or not _on_one_device(found.xla_executable):
            return found
        given = signature.bind(*args, **more).arguments
        leaves = [*given.get("const_args", ()), *given["args_flat"]]
        kept = [leaf for leaf, keep in zip(leaves, found.kept_var_bitvec, strict=True) if keep]
        layouts = [
            _IN_PYTHON if layout is None and isinstance(leaf, (*host_arrays, np.generic)) else layout
            for leaf, layout in zip(kept, found.in_device_local_layouts, strict=True)
        ]
        return found._replace(in_device_local_layouts=layouts)

    return fastpath_data


def _create_cpp_call(original: Any) -> Any:
    def create_cpp_call(self: Any, *args: Any) -> Any:
        call = original(self, *args)
        if call is None or not _on_one_device(self.xla_executable):
            return call

        def call_with_copies(*args: Any, **more: Any) -> Any:
            if any(isinstance(leaf, host_arrays) for leaf in _tree.leaves((args, more))):
                args, more = _tree.map(_copied_leaf, (args, more))
            return call(*args, **more)

        return call_with_copies

    return create_cpp_call


def _copied_leaf(leaf: Any) -> Any:
    return _like(leaf, _copy(np.asarray(leaf))) if isinstance(leaf, host_arrays) else leaf


def _on_one_device(executable: Any) -> bool:
    """Whether it runs on one device, which is the cluster's."""
    devices = executable.local_devices()
    return len(devices) == 1 and is_cluster(devices[0].client)


def _contiguous(x: Any) -> Any:
    array: Any = np.asarray(x)
    # Not ascontiguousarray, which leaves the strides of an array of one element as they are.
    return x if min(array.strides, default=1) > 0 else _like(x, array.copy(order="C"))


def _like(x: Any, array: Any) -> Any:
    """`array` as what `x` is: JAX's own kind of host array keeps its type whatever JAX makes of 64 bits."""
    if not isinstance(x, typed_array):
        return array
    return typed_array(array, x.aval if issubclass(typed_array, np.ndarray) else x.weak_type)
