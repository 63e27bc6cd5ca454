"""A numpy array belongs to its owner again when the call that takes it has returned.

jaxlib's proxy client reads the elements of a numpy array on a thread of its own, after `device_put` or the jitted
function has returned. A loop that reuses the buffer of its batch would have the elements of the next batch sent. Here
a large array is sent to the workers over the session's links before the call returns, and the client gets a copy of any
other. That holds for every way by which elements go up:

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
from jax._src import config, core, dtypes, lib, literals
from jax._src.interpreters import pxla

from polypath.client import memory
from polypath.client.hooks.patches import Patch
from polypath.client.session import Session
from polypath.client.transfers import UP_BYTES

typed_array: Final[Any] = literals.TypedNdArray
"""JAX's own host array, whose type is not canonicalized; a subclass of numpy's since JAX 0.10."""
host_arrays: Final[tuple[Any, ...]] = (np.ndarray, typed_array)
"""What JAX hands on of numpy's."""

WAIT_BYTES: Final = 16 << 20
"""From this size on, a put that does not go over links waits until the workers have it: a copy would cost more."""

_IN_PYTHON: Final = object()
"""The layout of an argument that is to be put by Python."""

_jax: Any = jax
_lib: Any = lib
_config: Any = config
_core: Any = core
_dtypes: Any = dtypes
_tree: Any = jax.tree
_pxla: Any = pxla
_client: Any = _lib.xla_client

_NOTHING: Final = _dtypes.float0
"""The type of gradients of integers, which JAX makes arrays of another type of."""

_TYPES: Final = [kind for kind, handler in _pxla.shard_arg_handlers.items() if handler is _pxla._shard_np_array]
"""Of arguments that JAX handles as numpy's arrays."""


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def put(
        original: Any, aval: Any, sharding: Any, xs: Any, devices: Any, committed: bool = True, *more: Any, **by: Any
    ) -> Any:
        if not devices or not session.is_cluster(devices[0].client):
            return original(aval, sharding, xs, devices, committed, *more, **by)
        if len(xs) == 1 and _is_small(xs[0]):
            return original(aval, sharding, [xs[0].copy()], devices, committed, *more, **by)
        size = sum([np.asarray(x).nbytes for x in xs if isinstance(x, host_arrays)])
        if size >= UP_BYTES and (made := over_links(aval, sharding, xs, devices, committed)) is not None:
            return made
        waits = size >= WAIT_BYTES
        made = original(aval, sharding, xs if waits else _copied(xs), devices, committed, *more, **by)
        if waits:
            with contextlib.suppress(_jax.errors.JaxRuntimeError):  # `made` tells of it where it is looked at.
                _client.batched_block_until_ready([made])
        return made

    def over_links(aval: Any, sharding: Any, xs: Any, devices: Any, committed: bool) -> Any:
        if session.transfers is None or len(xs) != len(devices):
            return None
        if not all(isinstance(x, host_arrays) and x.dtype == aval.dtype and x.dtype.kind not in "OT" for x in xs):
            return None
        shards = dict(zip(devices, map(np.asarray, xs), strict=True))
        return session.transfers.put(aval, sharding, shards, committed)

    def on_one_device(executable: Any) -> bool:
        """Whether it runs on one device, which is the cluster's."""
        devices = executable.local_devices()
        return len(devices) == 1 and session.is_cluster(devices[0].client)

    def fastpath_data(original: Any, *args: Any, **more: Any) -> Any:
        found = original(*args, **more)
        if found is None or not on_one_device(found.xla_executable):
            return found
        given = inspect.signature(original).bind(*args, **more).arguments
        leaves = [*given.get("const_args", ()), *given["args_flat"]]
        kept = [leaf for leaf, keep in zip(leaves, found.kept_var_bitvec, strict=True) if keep]
        layouts = [
            _IN_PYTHON if layout is None and isinstance(leaf, (*host_arrays, np.generic)) else layout
            for leaf, layout in zip(kept, found.in_device_local_layouts, strict=True)
        ]
        return found._replace(in_device_local_layouts=layouts)

    def create_cpp_call(original: Any, self: Any, *args: Any) -> Any:
        call = original(self, *args)
        if call is None or not on_one_device(self.xla_executable):
            return call

        def call_with_copies(*args: Any, **more: Any) -> Any:
            if any(isinstance(leaf, host_arrays) for leaf in _tree.leaves((args, more))):
                args, more = _tree.map(_copied_leaf, (args, more))
            return call(*args, **more)

        return call_with_copies

    return [
        Patch("jax._src.lib:xla_client", "batched_device_put", put, why="What is put is the caller's again."),
        Patch("jax._src.pjit", "_get_fastpath_data", fastpath_data, why="jit over one device has Python put these."),
        Patch(
            "jax._src.interpreters.pxla:MeshExecutable",
            "create_cpp_call",
            create_cpp_call,
            why="A compiled function over one device is called with copies.",
        ),
        *(
            Patch(
                "jax._src.interpreters.pxla:shard_arg_handlers",
                kind,
                _shard,
                why="Arguments of numpy's types may have to be put by Python.",
            )
            for kind in _TYPES
        ),
    ]


def _is_small(x: Any) -> bool:
    return type(x) is np.ndarray and x.nbytes < UP_BYTES


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


def _shard(_: Any, xs: Sequence[Any], shardings: Any, layouts: Sequence[Any], *rest: Any) -> Any:
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


def _copied_leaf(leaf: Any) -> Any:
    return _like(leaf, _copy(np.asarray(leaf))) if isinstance(leaf, host_arrays) else leaf


def _contiguous(x: Any) -> Any:
    array: Any = np.asarray(x)
    # Not ascontiguousarray, which leaves the strides of an array of one element as they are.
    return x if min(array.strides, default=1) > 0 else _like(x, array.copy(order="C"))


def _like(x: Any, array: Any) -> Any:
    """`array` as what `x` is: JAX's own kind of host array keeps its type whatever JAX makes of 64 bits."""
    if not isinstance(x, typed_array):
        return array
    return typed_array(array, x.aval if issubclass(typed_array, np.ndarray) else x.weak_type)
