"""The one table of all that Polypath changes in JAX, and how it is put in place and taken away again.

`HOOKS` names the hooks, each a module here, which says what JAX lacks and what it does instead. A hook's function
`patches(session)` gives its rows: what each replaces, by what, on which versions of JAX that was seen, and why.
A hook works for its session's client alone and passes everything else on unchanged.

- `install(session)` puts all patches in place. A hook whose names this JAX lacks is left out whole, with one warning.
- `Installed.undo()` restores the originals, the newest patch first. Where somebody has put a function of their own
  over one of ours meanwhile, both stay: ours passes everything on, as its session is closed.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import jax
from jax._src import lib

from polypath import versions
from polypath.client.session import Session

_log = logging.getLogger(__name__)
_jaxlib: Any = getattr(lib, "_jax")  # noqa: B009

HOOKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "analysis": "devices do not tell of their memory, nor executables of their cost",
        "arrays": "arrays have no buffer protocol and no address",
        "callbacks": "programs cannot call functions of this process (jax.debug.print, pure_callback, io_callback)",
        "copying": "host callbacks cannot take arrays of the cluster to this process's devices",
        "dlpack": "arrays cannot be exchanged with other libraries by DLPack",
        "donating": "jax.device_put(..., donate=True) may lose track of what was donated",
        "partitioning": "custom_partitioning and jax.debug.inspect_array_sharding do not work",
        "programs": "executables cannot be serialized, and jax_compilation_cache_dir does nothing",
        "putting": "a numpy array that is used again after a call may reach the cluster with its new elements",
        "speed": "arrays are waited for and read more slowly",
        "forked": "a process that is forked from this one waits for ever where it uses an array",
    }
)
"""The hooks, in the order in which they are put in place, and what is lost without each."""
FORKED: Final = "forked"
"""The hook that is put in place in a forked child alone."""

_OWN: Final = ("jax", "jaxlib", "nanobind", "polypath")
_MISSING: Final = object()
left_out: Final[set[str]] = set()
"""The hooks that this JAX does not allow; the user was told of each."""


class Replacement(NamedTuple):
    """What replaces something else than a function."""

    make: Callable[[Any], Any]
    """Of the original, which is what `getattr` gives: a property, a module."""


@dataclass(frozen=True)
class Patch:
    """One thing that is replaced: `owner`'s `name`, which is a function unless `hook` says otherwise."""

    owner: str
    """A module, class or dict, as `pkgutil.resolve_name` takes it: `jax._src.array:ArrayImpl`."""
    name: Any
    """Of an attribute of `owner`, or a key where `owner` is a dict."""
    hook: Callable[..., Any] | Replacement
    """What is called in the original's place, with the original before the arguments."""
    why: str
    """One sentence."""
    seen_on: str = "0.9-0.12"
    """The first and the last minor version of JAX that has `name`."""
    python: tuple[int, int] = (3, 11)
    """The first Python on which JAX has `name`."""
    shortcut: bool = False
    """Whether this only gives the original's answer sooner, without calling it. So it is left out where somebody has
    put a function of their own in JAX's place, which has to be called."""
    adds: bool = False
    """Whether JAX looks for `name` where some versions have none: only these get it, and there is no original."""

    def wrap(self, original: Any) -> Any:
        """What takes the original's place."""
        return self.hook.make(original) if isinstance(self.hook, Replacement) else _around(self.hook, original)

    def belongs_to(self, version: str) -> bool:
        """Whether a JAX of this version should have `name`: later ones should have what the newest known has."""
        first, last = (versions.parse(each) for each in self.seen_on.split("-"))
        minor = versions.parse(version)[:2]
        return first <= minor and (minor <= last or last == versions.NEWEST_CLIENT) and sys.version_info >= self.python


def _around(hook: Callable[..., Any], original: Any) -> Callable[..., Any]:
    def patched(*args: Any, **more: Any) -> Any:
        return hook(original, *args, **more)

    return patched


def getter(hook: Callable[..., Any]) -> Replacement:
    """For a `Patch` of a property: `hook` is called in its getter's place, with that before the object."""

    def make(original: Any) -> property:
        return property(_around(hook, getattr(original, "fget", None)))

    return Replacement(make)


class Overlay:
    """A module as another module sees it: with some names of its own."""

    def __init__(self, module: Any, names: Mapping[str, Any]) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def overlay(**names: Any) -> Replacement:
    """For a `Patch` of a module's name for another module: this one sees `names` there, all others the module's own."""

    def make(original: Any) -> Overlay:
        return Overlay(original, names)

    return Replacement(make)


def table(session: Session) -> dict[str, list[Patch]]:
    """All patches, by hook; those of `forked` are put in place in a forked child alone."""
    return {hook: _patches_of(hook, session) for hook in HOOKS}


def install(session: Session) -> Installed:
    """Put all patches in place until `session` closes, but for those of a forked child."""
    found = table(session)
    _resolve(FORKED, found.pop(FORKED))  # The user is told here, rather than in the child, what this JAX lacks.
    return session.own(Installed(found))


def install_in_forked_child(session: Session) -> Installed:
    """Put in place what raises in a forked child, over what its parent had."""
    return Installed({FORKED: _patches_of(FORKED, session)})


def _patches_of(hook: str, session: Session) -> list[Patch]:
    """A hook's patches; none where this JAX does not let it be imported."""
    try:
        module: Any = importlib.import_module(f"polypath.client.hooks.{hook}")
        return module.patches(session)
    except (ImportError, AttributeError) as error:
        _tell_left_out(hook, str(error))
        return []


class _Done(NamedTuple):
    """A patch in place."""

    owner: Any
    name: Any
    before: Any
    """What the owner itself had under this name, or `_MISSING` where it inherited it or had none."""
    hook: Any


class Installed:
    """Patches in place, until `undo()`."""

    def __init__(self, patches: Mapping[str, Iterable[Patch]]) -> None:
        self._done: list[_Done] = []
        for hook, its in patches.items():
            for owner, patch in _resolve(hook, its):
                self._put(owner, patch)

    def undo(self) -> None:
        """Restore the originals, but for what somebody has put over ours. May be called again."""
        if self._done:  # JAX's C++ keeps programs that it has started, as hooks have changed them.
            _jaxlib.PjitFunctionCache.clear_all()
        while self._done:
            owner, name, before, hook = self._done.pop()
            if _own(owner).get(name) is not hook:
                continue
            if isinstance(owner, dict):
                owner[name] = before
            elif before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

    def close(self) -> None:
        """As the session ends."""
        self.undo()

    def abandon(self) -> None:
        """A forked child keeps the patches, which say there that the session is the parent's."""

    def _put(self, owner: Any, patch: Patch) -> None:
        original = _original(owner, patch)
        if (patch.shortcut and not is_jaxs_own(original)) or (patch.adds and hasattr(owner, patch.name)):
            return
        self.replace(owner, patch.name, patch.wrap(original))

    def replace(self, owner: Any, name: Any, hook: Any) -> None:
        """Put `hook` in the place of `owner`'s `name`."""
        self._done.append(_Done(owner, name, _own(owner).get(name, _MISSING), hook))
        if isinstance(owner, dict):
            owner[name] = hook
        else:
            setattr(owner, name, hook)


def is_jaxs_own(function: Any) -> bool:
    """Whether JAX made a function, rather than somebody who replaced JAX's: names may have been copied from it."""
    code_of = getattr(function, "__globals__", None)
    module = type(function).__module__ if code_of is None else str(code_of.get("__name__"))
    return module.partition(".")[0] in _OWN


def _resolve(hook: str, patches: Iterable[Patch]) -> list[tuple[Any, Patch]]:
    """A hook's patches that belong to this JAX, with their owners; none where it lacks a name of any."""
    here = [patch for patch in patches if patch.belongs_to(jax.__version__)]
    try:
        owners = [pkgutil.resolve_name(patch.owner) for patch in here]
        for owner, patch in zip(owners, here, strict=True):
            _original(owner, patch)
    except (ImportError, AttributeError, KeyError) as error:
        _tell_left_out(hook, str(error))
        return []
    return list(zip(owners, here, strict=True))


def _original(owner: Any, patch: Patch) -> Any:
    if patch.adds:
        return None
    return _own(owner)[patch.name] if isinstance(owner, dict) else getattr(owner, patch.name)


def _own(owner: Any) -> Mapping[Any, Any]:
    """What a module, a class or a dict has itself."""
    return cast("Mapping[Any, Any]", owner if isinstance(owner, dict) else vars(owner))


def _tell_left_out(hook: str, lacks: str) -> None:
    if hook not in left_out:
        left_out.add(hook)
        _log.warning(
            "jax %s is not as the hook %r of Polypath expects it (%s), so it is left out, and on the cluster %s.",
            jax.__version__,
            hook,
            lacks,
            HOOKS.get(hook, "some things do not work"),
        )
