"""Makes a cluster a backend of JAX: with `hooks`, all of the client that touches JAX's internals.

JAX has no public way to give one backend two names or to ask whether backends exist; both are
done here, for the versions of JAX that `polypath.versions` names: check before importing this.
Registers; does not start or stop clusters.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import socket
import sys
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import jax
import jax.extend.backend
import msgspec
from jax._src import lib, xla_bridge

from polypath.client.environment import (
    CLIENT_ATTRIBUTE,
    INSECURE_CREDENTIALS,
    LINK_ATTRIBUTE,
    LINK_NAME,
    PYTHON_ATTRIBUTE,
    cluster_name,
    is_ours,
    socket_path,
)
from polypath.client.hooks import patches
from polypath.client.session import Session
from polypath.client.transfers import Transfers
from polypath.client.watch import Watch
from polypath.errors import ForkedProcess, NotRunning
from polypath.launch.runtime_dir import ClusterRecord
from polypath.link.client import Links

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT: Final = 10
_FATAL_ONLY: Final = 3
_PR_SET_TIMERSLACK: Final = 29
_PR_GET_TIMERSLACK: Final = 30

# JAX's annotations don't reach as far as its users.
_jax: Any = jax
_bridge: Any = xla_bridge
_lib: Any = lib
_extend: Any = jax.extend.backend
_config: Any = _jax.config


class _Proxy:
    """JAX's backend `proxy`, of which a process has one at a time."""

    session: Session | None = None
    watch: Watch | None = None
    clients: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
    """Jaxlib's clients of all sessions: arrays keep one alive after its session has closed."""
    sessions: Final[weakref.WeakSet[Session]] = weakref.WeakSet()
    """All that are not collected yet, also those that were closed: what they have of gRPC is collected with them."""
    targets: Final[list[str]] = []
    """The addresses that this process has connected to, the last one last."""
    forked_from = ""
    """The cluster that the process used from which this one was forked."""


def read_option(name: str) -> Any:
    """The value of one of JAX's options."""
    return _config._read(name)


def set_option(name: str, value: Any) -> None:
    """Set one of JAX's options, as `jax.config.update` does."""
    _config.update(name, value)


def is_registered() -> bool:
    """Whether someone has registered a proxy backend."""
    return "proxy" in _bridge._backend_factories


def register() -> None:
    """Make `proxy` the cluster at `jax_backend_target`; connects when JAX first needs devices."""
    _extend.register_backend_factory("proxy", _make_client, priority=-1)


def in_use() -> bool:
    """Whether JAX has chosen its devices, in this process or in the one that it was forked from."""
    return _bridge.backends_are_initialized()


def clear() -> None:
    """Drop JAX's backends, so that it connects anew, and with them the session and the watch on the head."""
    stop_watch()
    try:
        _finish_effects()
    finally:
        _close_session()  # What it has compiled is dropped while somebody is there to be told.
        if _bridge.backends_are_initialized():
            _extend.clear_backends()


def check_process() -> None:
    """Refuse to connect in a process whose gRPC is a copy of its parent's, without the threads.

    Raises:
        ForkedProcess: this process was forked from one that uses a cluster, or has used one.
    """
    if _Proxy.forked_from:
        raise ForkedProcess(_Proxy.forked_from)


def _after_fork_in_child() -> None:
    if not _Proxy.targets:
        return
    _Proxy.forked_from = cluster_name(_Proxy.targets[-1])
    session, watch, clients = _Proxy.session, _Proxy.watch, list(_Proxy.clients)
    _Proxy.session = _Proxy.watch = None
    if watch is not None:
        watch.stop()
    if patches.FORKED not in patches.left_out:
        from polypath.client.hooks import forked

        forked.seal(session, clients, _Proxy.targets, list(_Proxy.sessions))


os.register_at_fork(after_in_child=_after_fork_in_child)


def _close_session() -> None:
    if (session := _Proxy.session) is not None:
        _Proxy.session = None
        session.close()


def _finish_effects() -> None:
    """Wait for functions of this process that programs call still, but for those that the user interrupted.

    A program that fails meanwhile is told of and not raised, as nobody looks at it and the rest is to be closed.
    """
    if not _bridge.backends_are_initialized():
        return
    if _Proxy.session is not None:
        _Proxy.session.interrupts.give_up_interrupted()
    try:
        _jax.effects_barrier()
    except _jax.errors.JaxRuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        _log.warning("A program was still running when the cluster was left, and failed: %s", cause)


def stop_watch() -> None:
    """The cluster's end is wanted: don't tell of it."""
    if (watch := _Proxy.watch) is not None:
        _Proxy.watch = None
        watch.stop()


def check_answers(target: str) -> None:
    """Refuse, at once, an address with nobody there.

    Raises:
        NotRunning: nobody listens.
    """
    path = socket_path(target)
    if path is None:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except OSError as error:
            raise NotRunning(
                f"No cluster answers at {target} ({error.strerror or error}): start one with `polypath up`, or "
                'see `polypath status` and set the variables anew with `eval "$(polypath env)"`.'
            ) from None


def _make_client() -> Any:
    """Called by JAX, once, when it first needs devices."""
    check_process()
    target = str(read_option("jax_backend_target"))
    check_answers(target)
    stop_watch()
    _close_session()  # Of a backend that was cleared by JAX's own function.
    _Proxy.targets.append(target)
    name = secrets.token_hex(16)
    links = _link(target, name)
    try:
        client = _connect(target, name if links is not None else "")
    except BaseException:
        stop_watch()
        if links is not None:
            links.close()
        raise
    session = _Proxy.session = Session(client, target)
    _Proxy.clients.add(client)
    _Proxy.sessions.add(session)
    if links is not None:
        session.own(links)
        if _takes_numbers():
            session.transfers = session.own(Transfers(session, links))
    patches.install(session)
    # JAX keeps one name per backend and this one's is `proxy`. Scripts ask for what it runs on.
    _bridge._backends.setdefault(client._raw_platform, client)
    return client


def _link(target: str, session: str) -> Links | None:
    """The session's links, none of them to a worker yet; None where the cluster is not of ours."""
    path, record = socket_path(target), _record(target)
    if path is None or record is None or record.stale:
        return None
    watch = _Proxy.watch = Watch(record)
    try:
        return Links(f"unix:{Path(path).with_name(LINK_NAME)}", session, watch.ended)
    except (OSError, ValueError) as error:
        _log.warning("Arrays go through the head alone, as it takes no links (%s).", error)
        stop_watch()
        return None


def _takes_numbers() -> bool:
    """Whether an execution can have a number, by which requests are known: not before jaxlib 0.10."""
    return "launch_id" in (_lib.xla_client.LoadedExecutable.execute_sharded.__doc__ or "")


def _connect(target: str, link: str) -> Any:
    proxy = _extend.ifrt_proxy
    options = proxy.ClientConnectionOptions()
    options.connection_timeout_in_seconds = _CONNECT_TIMEOUT
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = {CLIENT_ATTRIBUTE: _who().encode(), PYTHON_ATTRIBUTE: python.encode(), LINK_ATTRIBUTE: link.encode()}
    if is_ours(target):
        options.initialization_data = told
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX's own default.
        # jaxlib's client also logs what it raises, and each executable that outlives its cluster.
        _lib.utils.absl_set_min_log_level(_FATAL_ONLY)
    before = os.environ.get(INSECURE_CREDENTIALS)
    if is_ours(target):
        os.environ[INSECURE_CREDENTIALS] = "true"
    try:
        with _slack_timers():
            return proxy.get_client(target, options)
    finally:
        if before is None:
            os.environ.pop(INSECURE_CREDENTIALS, None)
        else:
            os.environ[INSECURE_CREDENTIALS] = before


@contextlib.contextmanager
def _slack_timers() -> Generator[None]:
    """Let threads that are started meanwhile sleep up to a millisecond longer than they ask for.

    jaxlib's client has one that looks every 50 µs whether arrays are to be freed. It takes a sixth of a core, always;
    so, it takes a fiftieth.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    before = libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)
    libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1_000_000), 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(before), 0, 0, 0)


def _who() -> str:
    """This process, for people."""
    return f"pid {os.getpid()} {Path(sys.argv[0]).name if sys.argv else ''}".rstrip()


def _record(target: str) -> ClusterRecord | None:
    """The record next to a cluster's socket."""
    path = socket_path(target)
    if path is None:
        return None
    try:
        return msgspec.json.decode(Path(path).with_name("cluster.json").read_bytes(), type=ClusterRecord)
    except (OSError, msgspec.DecodeError):
        return None  # Only the watch on the head needs it.
