"""Makes a cluster a backend of JAX. The only file of the client that touches JAX's internals.

JAX has no public way to give one backend two names, to ask whether backends exist, or to change
how a numpy array is put on a device; all are done here, for the versions of JAX named below.
Registers; does not start or stop clusters.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any, Final

import jax
import jax.extend.backend
import msgspec
import numpy as np
from jax._src import lib, literals, xla_bridge
from jax._src.interpreters import pxla

from polypath.client.environment import (
    CLIENT_ATTRIBUTE,
    FOLDER_ATTRIBUTE,
    INSECURE_CREDENTIALS,
    LARGE_TRANSFER_DIRECTORY,
    LARGE_TRANSFER_THRESHOLD,
    SOCKET_NAME,
    THRESHOLD_BYTES,
    socket_path,
)
from polypath.client.folder import lasting_path, make_folder
from polypath.client.watch import HeadWatch
from polypath.errors import NotRunning, UnsupportedVersion
from polypath.launch.runtime_dir import ClusterRecord

OLDEST: Final = (0, 10)
NEWEST: Final = (0, 12)
"""The versions of JAX, without their last number, that this was checked with."""

_CONNECT_TIMEOUT: Final = 10
_WARNINGS_OFF: Final = 2

# JAX's annotations don't reach as far as its users.
_bridge: Any = xla_bridge
_lib: Any = lib
_pxla: Any = pxla
_extend: Any = jax.extend.backend
_config: Any = jax.config

_watch: HeadWatch | None = None


def check_version(version: str) -> None:
    """Refuse a JAX that this was not checked with.

    Raises:
        UnsupportedVersion: it is older or newer.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if not OLDEST <= (major, minor) <= NEWEST:
        raise UnsupportedVersion(
            f"Polypath's client supports jax {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, and this is "
            f"jax {version}: install one of those, or another version of Polypath."
        )


def read_option(name: str) -> Any:
    """The value of one of JAX's options."""
    return _config._read(name)


def set_option(name: str, value: Any) -> None:
    """Set one of JAX's options, as `jax.config.update` does."""
    _config.update(name, value)


def is_ours(target: str) -> bool:
    """Whether a target is a cluster of Polypath, rather than another proxy's server."""
    path = socket_path(target)
    return path is not None and Path(path).name == SOCKET_NAME


def is_registered() -> bool:
    """Whether someone has registered a proxy backend."""
    return "proxy" in _bridge._backend_factories


def register() -> None:
    """Make `proxy` the cluster at `jax_backend_target`; connects when JAX first needs devices."""
    _extend.register_backend_factory("proxy", _make_client, priority=-1)


def clear() -> None:
    """Drop JAX's backends, so that it connects anew, and with them the watch on the head."""
    stop_watch()
    if _bridge.backends_are_initialized():
        _extend.clear_backends()


def stop_watch() -> None:
    """The cluster's end is wanted: don't tell of it."""
    global _watch
    if _watch is not None:
        _watch.stop()
        _watch = None


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
    global _watch
    check_version(jax.__version__)
    target = str(read_option("jax_backend_target"))
    check_answers(target)
    record = _record(target)
    folder = None if record is None else make_folder(Path(record.shared_dir))
    _make_strides_positive()
    stop_watch()
    if record is not None and not record.stale:
        _watch = HeadWatch(record, folder)
    try:
        client = _connect(target, folder)
    except BaseException:
        stop_watch()
        if folder is not None:  # No session began that would remove it.
            shutil.rmtree(folder, ignore_errors=True)
        raise
    # JAX keeps one name per backend and this one's is `proxy`. Scripts ask for what it runs on.
    _bridge._backends.setdefault(client._raw_platform, client)
    return client


def _make_strides_positive() -> None:
    """Copy numpy arrays that jaxlib's proxy client refuses: those with a negative or a zero stride."""
    handlers = _pxla.shard_arg_handlers
    for kind in (np.ndarray, getattr(literals, "TypedNdArray", None)):
        put = handlers.get(kind)
        if put is None or hasattr(put, "puts"):
            continue

        def put_contiguous(xs: Any, *rest: Any, put: Any = put) -> Any:
            return put([_contiguous(x) for x in xs], *rest)

        put_contiguous.puts = kind  # pyright: ignore[reportFunctionMemberAccess]
        handlers[kind] = put_contiguous


def _contiguous(x: Any) -> Any:
    array: Any = np.asarray(x)
    if min(array.strides, default=1) > 0:
        return x
    # Not ascontiguousarray, which leaves the strides of an array of one element as they are.
    array = array.copy(order="C")
    return array if isinstance(x, np.ndarray) else type(x)(array, weak_type=x.weak_type)


def _connect(target: str, folder: Path | None) -> Any:
    proxy = _extend.ifrt_proxy
    options = proxy.ClientConnectionOptions()
    options.connection_timeout_in_seconds = _CONNECT_TIMEOUT
    told: dict[str, bytes] = {CLIENT_ATTRIBUTE: _who().encode()}
    if folder is not None:
        # They stay set: jaxlib reads one now and the other at the first big transfer.
        os.environ[LARGE_TRANSFER_DIRECTORY] = lasting_path(folder)
        os.environ.setdefault(LARGE_TRANSFER_THRESHOLD, str(THRESHOLD_BYTES))
        told[FOLDER_ATTRIBUTE] = os.fsencode(folder)
    if is_ours(target):
        options.initialization_data = told
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX's own default.
        _lib.utils.absl_set_min_log_level(_WARNINGS_OFF)
    before = os.environ.get(INSECURE_CREDENTIALS)
    if is_ours(target):
        os.environ[INSECURE_CREDENTIALS] = "true"
    try:
        return proxy.get_client(target, options)
    finally:
        if before is None:
            os.environ.pop(INSECURE_CREDENTIALS, None)
        else:
            os.environ[INSECURE_CREDENTIALS] = before


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
