"""Makes the PJRT client of a worker: of the platform that was asked for, or the best that works here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
from jax._src import hardware_utils as _hardware
from jax._src import xla_bridge as _bridge
from jaxlib import _jax

from polypath.worker.config import MOST_DEVICES, WorkerConfig
from polypath.worker.guard import guarded
from polypath.worker.jaxlib import share
from polypath.worker.jaxlib.group import Group
from polypath.worker.jaxlib.types import Client

_log = logging.getLogger(__name__)

_GPUS: Final = ("cuda", "rocm")
_NOT_OURS: Final = ("interpreter", "proxy")
"""Backends of JAX that have no devices of this machine."""
_PRESENT: Final[dict[str, tuple[str, Callable[[], object]]]] = {
    "cuda": ("an NVIDIA GPU", _hardware.has_visible_nvidia_gpu),
    "rocm": ("an AMD GPU", lambda: _hardware.num_available_amd_gpus(stop_at=1)),
    "tpu": ("a TPU", lambda: _hardware.num_available_tpu_chips_and_device_id()[0]),
}
"""By platform: what it is of, and whether this machine has one."""


def make_client(config: WorkerConfig, group: Group | None) -> Client:
    """A PJRT client of the platform; a member of `group` if there is one.

    Raises:
        RuntimeError: this machine has no device of the platform, or other devices than were asked for; or none
            was asked for, and an accelerator that is there cannot be used.
    """
    jax.config.update("jax_enable_x64", True)
    trouble = [] if config.platform == "cpu" else register_plugins()
    for name in _candidates(config.platform):
        if name in _GPUS and not config.platform and not _PRESENT[name][1]():
            continue  # JAX does not try it either.
        try:
            client = _make(name, config, group)
        except Exception as error:
            trouble.append(f"{name}: {error}")
            continue
        if name == "cpu" != config.platform:
            _check_not_broken(trouble)
        _check_devices(client, name, config)
        return client
    raise RuntimeError(f"This host has no device of platform {config.platform!r} ({'; '.join(trouble)}).")


def make_cpu_client(devices: int, group: Group | None) -> Client:
    """A second client, of the CPU beside accelerators; a member of the same group."""
    jax.config.update("jax_num_cpu_devices", devices)
    return _cpu_client(group)


def _cpu_client(group: Group | None) -> Client:
    if group is None:
        return _bridge.make_cpu_client()
    # Left to itself gloo listens on the address that this machine's name resolves to, which may be a network's.
    make = functools.partial(_jax.make_gloo_tcp_collectives, group.client, hostname="127.0.0.1")
    return _bridge.make_cpu_client(guarded(make))


def register_plugins() -> list[str]:
    """Register every PJRT plugin that JAX finds, and what they have to know of each other.

    They are the packages `jax_plugins.*`, entry points of that name, and what `PJRT_NAMES_AND_LIBRARY_PATHS`
    names. Returns what went wrong, which JAX only logs.

    Raises:
        RuntimeError: a library that this variable names cannot be loaded.
    """
    heard = _Heard()
    logger = logging.getLogger(_bridge.__name__)
    logger.addHandler(heard)
    try:
        _bridge._discover_and_register_pjrt_plugins()
    except Exception as error:
        raise RuntimeError(
            f"A PJRT plugin that PJRT_NAMES_AND_LIBRARY_PATHS names cannot be loaded ({error}): mend the variable, or "
            "remove it."
        ) from error
    finally:
        logger.removeHandler(heard)
    return heard.errors


class _Heard(logging.Handler):
    """The errors among what is logged, in a line each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.errors.append(record.getMessage() + (f": {error}" if error else ""))


def _candidates(platform: str) -> Sequence[str]:
    """The backends to try, the best first."""
    if platform:
        return _GPUS if platform == "gpu" else (platform,)
    known = _bridge._backend_factories
    return sorted((name for name in known if name not in _NOT_OURS), key=lambda name: -known[name].priority)


def _make(name: str, config: WorkerConfig, group: Group | None) -> Client:
    known = _bridge._backend_factories
    if name not in known:
        others = ", ".join(sorted(set(known) - set(_NOT_OURS)))
        raise RuntimeError(f"jaxlib has no plugin of that name; it has {others}")
    if name == "cpu" and config.devices:
        jax.config.update("jax_num_cpu_devices", config.devices)
    elif name in _GPUS:
        share.take_gpus(config, name)
    elif name == "tpu":
        share.take_chips(config, group)
    client: Any = _cpu_client(group) if name == "cpu" else known[name].factory()
    if client is None or not client.local_devices():
        raise RuntimeError("it has no devices")
    return client


def _check_not_broken(trouble: list[str]) -> None:
    """Refuse a CPU that would stand in for an accelerator which is there; log what else went wrong."""
    for each in trouble:
        _log.info("Not used: %s", each)
    for name, (what, is_present) in _PRESENT.items():
        if not is_present():
            continue
        # JAX names the module of a plugin that it could not register: jax_plugins.xla_cuda13.
        if broken := [each for each in trouble if each.startswith(f"{name}:") or f"_{name}" in each]:
            raise RuntimeError(
                f"This machine has {what}, and jaxlib cannot use it ({'; '.join(broken)}): mend that (`polypath "
                "doctor` looks), or say `--platform cpu` to run without."
            )
        _log.warning("This machine has %s, and jaxlib has no plugin for it: `polypath doctor` says which.", what)


def _check_devices(client: Client, name: str, config: WorkerConfig) -> None:
    """Refuse other devices than were asked for: the ids of two hosts' devices would overlap."""
    found = len(client.local_devices())
    if config.devices and found != config.devices:
        raise RuntimeError(
            f"This host was asked for {config.devices} devices, and has {found} of {name}: say `--devices-per-host "
            f"{found}`, or leave it out."
        )
    if found > MOST_DEVICES:
        raise RuntimeError(f"A host has at most {MOST_DEVICES} devices, and this one has {found} of {name}.")
