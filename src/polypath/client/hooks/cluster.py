"""To be deleted: what the hooks that are not in `patches.HOOKS` yet use in place of a `Session`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from jax._src import lib, literals

from polypath.client.hooks.patches import Installed, Overlay, is_jaxs_own
from polypath.client.session import Session

_lib: Any = lib

typed_array: Final[Any] = literals.TypedNdArray
"""JAX's own host array, whose type is not canonicalized; a subclass of numpy's since JAX 0.10."""
host_arrays: Final[tuple[Any, ...]] = (np.ndarray, typed_array)
"""What JAX hands on of numpy's."""


class _Current:
    session: Session | None = None
    installed: Installed = Installed({})


def use(session: Session) -> None:
    """JAX uses this session's cluster from now on."""
    _Current.session, _Current.installed = session, session.own(Installed({}))


def current() -> Session | None:
    """The session that JAX uses, or used last."""
    return _Current.session


def is_cluster(client: Any) -> bool:
    """Whether a client of JAX is the cluster's."""
    return _Current.session is not None and _Current.session.is_cluster(client)


def compile_request(client: Any, name: str, body: Any) -> Any:
    """A program that the controller alone knows."""
    assert _Current.session is not None
    assert _Current.session.client is client
    return _Current.session.compile_request(name, body)


def next_number() -> int:
    """For a launch, to tell an array by."""
    assert _Current.session is not None
    return _Current.session.next_number()


def takes_numbers() -> bool:
    """Whether an execution can have a number, by which arrays and questions are told apart: not before jaxlib 0.10."""
    return "launch_id" in (_lib.xla_client.LoadedExecutable.execute_sharded.__doc__ or "")


def replace(module: Any, name: str, wrap: Callable[[Any], Any], *, shortcut: bool = False) -> None:
    """Put `wrap(original)` in the place of a module's function, or a class's method, once."""
    original = getattr(module, name)
    if _is_hook(original) or (shortcut and not is_jaxs_own(original)):
        return
    hook = wrap(original)
    hook.polypath_hook = True
    _Current.installed.replace(module, name, hook)


def _is_hook(function: Any) -> bool:
    return getattr(function, "polypath_hook", None) is True  # A mock has every attribute.


def overlay(module: Any, name: str, **names: Any) -> None:
    """Let `module` see what it calls `name` with some names replaced, once."""
    if not isinstance(getattr(module, name), Overlay):
        _Current.installed.replace(module, name, Overlay(getattr(module, name), names))
