"""The cluster that JAX uses now, as the hooks see it, and how a hook is put in place."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any, Final

import jax
import ml_dtypes
import numpy as np
from jax._src import lib, literals, xla_bridge
from jax.extend import ifrt_programs

from polypath.client.callbacks import CallbackServer
from polypath.client.environment import socket_path
from polypath.client.hooks import interrupts
from polypath.messages import NUMBERS

_bridge: Any = xla_bridge
_lib: Any = lib
_programs: Any = ifrt_programs

typed_array: Final[Any] = literals.TypedNdArray
"""JAX's own host array, whose type is not canonicalized; a subclass of numpy's since JAX 0.10."""
host_arrays: Final[tuple[Any, ...]] = (np.ndarray, typed_array)
"""What JAX hands on of numpy's."""

_numbers = itertools.count()
_lock = threading.RLock()
_client: Any = None
_target = ""
_server: CallbackServer | None = None
_cpu: Any = None


def connect(client: Any, target: str) -> None:
    """JAX uses the cluster at `target` from now on."""
    global _client, _target
    _client, _target = client, target


def disconnect() -> None:
    """It uses none."""
    global _client, _server
    _client = None
    if _server is not None:
        _server.close()
        _server = None
        interrupts.end()


def is_connected() -> bool:
    """Whether there is a cluster."""
    return _client is not None


def is_cluster(client: Any) -> bool:
    """Whether a client of JAX is the cluster's."""
    return _client is not None and client is _client


def cluster_socket(client: Any) -> str | None:
    """Where the cluster listens, if `client` is its client; None for another or where it is not ours."""
    return socket_path(_target) if is_cluster(client) else None


def compile_request(client: Any, name: str, body: Any) -> Any:
    """A program that the controller alone knows.

    Raises:
        JaxRuntimeError: it does not know this one.
    """
    programs = _programs.ifrt_programs
    return client.compile_ifrt_program(
        programs.make_plugin_program(json.dumps({name: body})), programs.make_plugin_compile_options()
    )


def next_number() -> int:
    """For a launch, to tell an array by."""
    return next(_numbers) % (NUMBERS - 1) + 1


def takes_numbers() -> bool:
    """Whether an execution can have a number, by which arrays and questions are told apart: not before jaxlib 0.10."""
    return "launch_id" in (_lib.xla_client.LoadedExecutable.execute_sharded.__doc__ or "")


def callback_server() -> CallbackServer:
    """What serves this process's functions; started with the first program that has one."""
    global _server
    with _lock:
        if _server is None:
            path = socket_path(_target)
            _server = CallbackServer(_target.rpartition("://")[2] if path is None else f"unix:{path}", dtype_of, _here)
            interrupts.begin(_server)
        return _server


def local_cpu() -> Any:
    """A CPU client of this process, with one device or more; JAX does not know it by name."""
    global _cpu
    with _lock:
        if _cpu is None:
            _cpu = _bridge.make_cpu_client()
        return _cpu


def _here() -> Any:
    # A function that a program on the cluster calls must not need the cluster, which waits for it.
    config: Any = jax
    return config.default_device(local_cpu().local_devices()[0])


def dtype_of(name: str) -> np.dtype[Any]:
    """numpy's type of that name, or ml_dtypes'."""
    return np.dtype(getattr(ml_dtypes, name, name))


def replace(module: Any, name: str, wrap: Callable[[Any], Any], *, shortcut: bool = False) -> None:
    """Put `wrap(original)` in the place of a module's function, or a class's method, once.

    Args:
        shortcut: the hook only gives the original's answer sooner, without calling it. So it is left out where
            somebody has put a function of their own in JAX's place, which has to be called.
    """
    original = getattr(module, name)
    if _is_hook(original) or (shortcut and not _is_jaxs_own(original)):
        return
    hook = wrap(original)
    hook.polypath_hook = True
    setattr(module, name, hook)


def replace_property(kind: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    """Let a class's property give what `wrap(original getter)` gives, once."""
    original = getattr(kind, name).fget
    if not _is_hook(original):
        hook = wrap(original)
        hook.polypath_hook = True
        setattr(kind, name, property(hook))


def _is_hook(function: Any) -> bool:
    return getattr(function, "polypath_hook", None) is True  # A mock has every attribute.


def _is_jaxs_own(function: Any) -> bool:
    """Whether JAX made a function, rather than somebody who replaced JAX's: names may have been copied from it."""
    code_of = getattr(function, "__globals__", None)
    module = type(function).__module__ if code_of is None else str(code_of.get("__name__"))
    return module.partition(".")[0] in ("jax", "jaxlib", "nanobind")


class Overlay:
    """A module as another module sees it: with some names of its own."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def overlay(module: Any, name: str, **names: Any) -> None:
    """Let `module` see what it calls `name` with some names replaced, once."""
    if not isinstance(getattr(module, name), Overlay):
        setattr(module, name, Overlay(getattr(module, name), **names))
