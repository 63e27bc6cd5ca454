"""A forked child is nobody's session: it must not reach the session that its parent has.

jaxlib's client sends requests from C++ destructors, over a connection that the child shares with its parent, so a
child's garbage would free the parent's arrays. A call would wait for ever, as the threads that gRPC reads with are the
parent's. So in the child, right after the fork:

- what the clients hold (arrays, executables, tokens) is kept for ever, so that no destructor runs, and nothing that the
  parent left is collected: a client of a session that was closed would wait for threads that only the parent has;
- JAX's caches of started programs are cleared, so that each call passes through Python, where a patch raises
  `ForkedProcess`;
- the descriptors of the connection are put out of use without being shut down, which would end the parent's too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from jax._src import array, dispatch, lib, sharding

from polypath.client.connections import connected_to
from polypath.client.environment import socket_path
from polypath.client.hooks.patches import Patch, getter, install_in_forked_child
from polypath.client.session import Session

_xla: Any = getattr(lib, "xla_client")  # noqa: B009
_jaxlib: Any = getattr(lib, "_jax")  # noqa: B009
_Array: Any = array.ArrayImpl
_Sharding: Any = sharding.Sharding
_tokens: Any = getattr(dispatch, "runtime_tokens")  # noqa: B009
_clear_started_programs: Any = _jaxlib.PjitFunctionCache.clear_all
_live_executables: Any = _xla.Client.live_executables
_live_arrays: Any = _xla.Client.live_arrays
"""JAX's own, whatever is put in its place."""

_WHY: Final = "Raises ForkedProcess for what is the parent's."
_ARRAY: Final = "jax._src.array:ArrayImpl"
_GUARDED: Final = {
    _ARRAY: (
        "_copy_single_device_array_to_host_async",
        "_fully_replicated_shard",
        "_replace_with",
        "_single_device_array_to_np_array_did_copy",
        "block_until_ready",
        "clone",
        "delete",
        "is_deleted",
        "is_ready",
        "on_device_size_in_bytes",
        "unsafe_buffer_pointer",
    ),
    "jaxlib._jax:LoadedExecutable": (
        "cost_analysis",
        "execute_sharded",
        "get_compiled_memory_stats",
        "get_hlo_text",
        "hlo_modules",
        "serialize",
    ),
    "jaxlib._jax:Client": (
        "compile",
        "compile_and_load",
        "compile_ifrt_program",
        "deserialize_executable",
        "get_default_layout",
        "serialize_executable",
    ),
    "jax._src.lib:xla_client": (
        "batched_block_until_ready",
        "batched_copy_array_to_devices_with_sharding",
        "batched_device_put",
        "reorder_shards",
    ),
}
_GUARDED_PROPERTIES: Final = ("__cuda_array_interface__", "_arrays", "_pjrt_layout")
"""Of arrays."""


def patches(session: Session) -> list[Patch]:
    """This hook's, which are put in place in a forked child alone."""

    def check(*args: Any) -> None:
        for each in args:
            if (client := _client(each)) is not None:
                session.is_cluster(client)  # Raises.

    def guard(original: Any, *args: Any, **more: Any) -> Any:
        check(*args)
        return original(*args, **more)

    def guard_new(original: Any, self: Any, *args: Any, **more: Any) -> None:
        check(*args)
        original(self, *args, **more)

    return [
        *(Patch(owner, name, guard, _WHY) for owner, names in _GUARDED.items() for name in names),
        *(Patch(_ARRAY, name, getter(guard), _WHY) for name in _GUARDED_PROPERTIES),
        Patch(_ARRAY, "__init__", guard_new, _WHY),
        Patch(_ARRAY, "_rewrap_with_aval_and_sharding", guard, _WHY, seen_on="0.10-0.12"),
        Patch("jaxlib._jax", "batched_copy_to_host_async", guard, _WHY, seen_on="0.11-0.12"),
    ]


def seal(session: Session | None, clients: Sequence[Any], targets: Sequence[str], sessions: Sequence[Session]) -> None:
    """Keep this process, which was just forked, off its parent's sessions.

    Args:
        session: the one that JAX uses, None if it is closed.
        clients: jaxlib's, of all sessions, also of those that were closed: arrays of theirs may live.
        targets: the addresses that the parent has connected to, the last one last.
        sessions: all that the parent has not collected, closed or not.
    """
    if session is not None:
        session.forked = True
    _cut_off({path for target in targets if (path := socket_path(target)) is not None})
    # Before the session lets go of anything.
    gc.freeze()
    for client in clients:
        _keep((client, *_live_arrays(client), *_live_executables(client)))
    _keep((*sessions, dict(_tokens.current_tokens), dict(_tokens.output_runtime_tokens)))
    _tokens.clear()
    _clear_started_programs()
    for client in clients:
        its = session if session is not None and session.client is client else Session(client, targets[-1])
        its.after_fork_in_child()
        install_in_forked_child(its)


def _keep(kept: Any) -> None:
    """Let nothing of it ever be destroyed, not even as the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def _client(value: Any) -> Any:
    """The client of JAX to which something belongs; None where that is none."""
    if isinstance(value, (list, tuple)):
        return _client(value[0]) if value else None
    if isinstance(value, _xla.Client):
        return value
    if isinstance(value, (_xla.Device, _xla.LoadedExecutable)):
        return value.client
    if isinstance(value, _Array):
        value = value.sharding
    if isinstance(value, _Sharding):
        with contextlib.suppress(ValueError):  # That of an abstract mesh has no devices.
            return next(iter(value.device_set)).client
    return None


def _cut_off(paths: set[str]) -> None:
    """Put a socket without another end in the place of each that is connected to one of these."""
    dead, other = socket.socketpair()
    other.close()
    with dead:
        for number, _ in connected_to(paths):
            os.dup2(dead.fileno(), number, inheritable=False)
