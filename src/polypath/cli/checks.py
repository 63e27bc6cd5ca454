"""The checks of `polypath doctor`. They look and change nothing."""

from __future__ import annotations

import operator
import os
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import msgspec

from polypath import versions
from polypath.errors import ClusterError
from polypath.files import explained, private_dir
from polypath.launch import runtime_dir
from polypath.processes import MOST_FILES
from polypath.worker import guard

_SHARED_MEMORY: Final = Path("/dev/shm")
_SHARED_MEMORY_WANTED: Final = 2**30
_FILES_WANTED: Final = 1024
_PYTHON: Final = (3, 11)

Version = tuple[int, ...]
_PACKAGES: Final[tuple[tuple[str, Version, Version | None], ...]] = (
    ("jax", versions.OLDEST_WORKER, versions.TOO_NEW_WORKER),
    ("jaxlib", versions.OLDEST_WORKER, versions.TOO_NEW_WORKER),
    ("grpcio", (1, 80), None),
    ("pyzmq", (27,), None),
    ("protobuf", (7, 35, 1), None),
    ("msgspec", (0, 20), None),
)
"""Name, oldest, and the first that is too new."""


_BOUND: Final = re.compile(r"(<=|>=|==|<|>)([\w.]+)")
_MEETS: Final = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    level: Literal["ok", "warning", "problem"]
    subject: str
    text: str
    advice: str = ""
    """What to do; empty if all is well."""


def examine() -> list[Finding]:
    """Every finding, in the order in which they matter."""
    return [finding for check in CHECKS for finding in check()]


def check_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _PYTHON:
        yield Finding("problem", "python", version, "install Python 3.11 or newer")
    else:
        yield Finding("ok", "python", f"{version} at {sys.executable}")


def check_packages() -> Iterator[Finding]:
    for name, oldest, too_new in _PACKAGES:
        installed = installed_version(name)
        wanted = f"{name}>={_text(oldest)}" + (f",<{_text(too_new)}" if too_new else "")
        if installed is None:
            yield Finding("problem", name, "is not installed", f"pip install '{wanted}'")
        elif not oldest <= versions.parse(installed) or (too_new and versions.parse(installed) >= too_new):
            if name in ("jax", "jaxlib") and versions.is_client(installed):
                text = f"{installed} will do for clients of a cluster, not for its workers"
                yield Finding("warning", name, text, f"where clusters are started: pip install '{wanted}'")
                continue
            yield Finding("problem", name, f"{installed} is outside the supported range", f"pip install '{wanted}'")
        else:
            yield Finding("ok", name, installed)
    jax, jaxlib, wanted = installed_version("jax"), installed_version("jaxlib"), jaxlib_wanted()
    bounds = _BOUND.findall(wanted)
    if jax and jaxlib and not all(_MEETS[how](versions.parse(jaxlib), versions.parse(bound)) for how, bound in bounds):
        yield Finding("problem", "jaxlib", f"{jaxlib} does not go with jax {jax}", f"pip install 'jaxlib{wanted}'")


def check_other_users() -> Iterator[Finding]:
    if why := guard.missing():
        yield Finding(
            "warning",
            "other users",
            f"who can log in to this machine can break programs that run on several CPU hosts: {why}",
            "run the cluster where nobody else does, such as in a container with a network of its own",
        )
    else:
        yield Finding("ok", "other users", "workers take connections of this user only")


def check_loopback() -> Iterator[Finding]:
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with socket.create_connection(listener.getsockname(), timeout=2):
                yield Finding("ok", "loopback", "ports on 127.0.0.1 can be bound and reached")
    except OSError as error:
        yield Finding("problem", "loopback", f"127.0.0.1 cannot be used ({error})", "bring it up: ip link set lo up")


def check_runtime_dir() -> Iterator[Finding]:
    try:
        root = runtime_dir.root_path()
        with explained():
            if root.exists():
                private_dir(root)
    except ClusterError as error:
        yield Finding("problem", "runtime folder", str(error), "")
        return
    base = root if root.exists() else root.parent
    try:
        with tempfile.TemporaryDirectory(dir=base) as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/s")
    except OSError as error:
        yield Finding(
            "problem",
            "unix sockets",
            f"none can be made in {base} ({error})",
            "name another folder in POLYPATH_RUNTIME_DIR",
        )
        return
    yield Finding("ok", "unix sockets", f"can be made in {base}")
    room = runtime_dir.PATH_LIMIT - len(os.fsencode(root)) - len("/")
    if room < runtime_dir.LONGEST_NAME:
        yield Finding(
            "warning",
            "runtime folder",
            f"{root} leaves {max(room, 0)} characters for a cluster's name, as a socket's path may have "
            f"{runtime_dir.SOCKET_PATH_LIMIT} bytes",
            "name a shorter folder in POLYPATH_RUNTIME_DIR",
        )


def check_shared_memory() -> Iterator[Finding]:
    subject = str(_SHARED_MEMORY)
    if not _SHARED_MEMORY.is_dir():
        yield Finding(
            "warning",
            subject,
            "is missing: workers that start again keep their arrays in /tmp",
            "mount a tmpfs there",
        )
        return
    if not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        yield Finding("problem", subject, "cannot be written", f"chmod 1777 {subject}")
        return
    usage = shutil.disk_usage(_SHARED_MEMORY)
    text = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f}"
    if usage.free < _SHARED_MEMORY_WANTED:
        yield Finding(
            "warning",
            subject,
            f"{text}: arrays of workers that start again may not fit",
            "remove files there, or enlarge it: mount -o remount,size=8G /dev/shm (docker run --shm-size=8g)",
        )
    else:
        yield Finding("ok", subject, text)


def check_cache() -> Iterator[Finding]:
    folder = Path(runtime_dir.cache_dir() or "/nonexistent")
    try:
        with explained():
            if folder.exists():
                private_dir(folder, "XDG_CACHE_HOME")
    except ClusterError as error:
        yield Finding("warning", "compile cache", f"no compiled program is kept: {error}")
    else:
        yield Finding("ok", "compile cache", str(folder))


def check_gpu() -> Iterator[Finding]:
    present = any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None
    plugins = {name: installed_version(name) for name in ("jax-cuda13-plugin", "jax-cuda12-plugin")}
    found = {name: version for name, version in plugins.items() if version}
    jaxlib = installed_version("jaxlib")
    if not present:
        yield Finding("ok", "gpu", "no NVIDIA GPU on this machine")
    elif not found:
        yield Finding(
            "problem",
            "gpu",
            "there is an NVIDIA GPU, and the installed jaxlib cannot see it",
            f"pip install 'jax[cuda13]=={installed_version('jax')}' (cuda12 for drivers older than 580)",
        )
    elif jaxlib not in found.values():
        name, version = next(iter(found.items()))
        yield Finding(
            "problem", "gpu", f"{name} {version} does not match jaxlib {jaxlib}", f"pip install '{name}=={jaxlib}'"
        )
    else:
        yield Finding("ok", "gpu", f"{next(iter(found))} {jaxlib}")


def check_clusters() -> Iterator[Finding]:
    try:
        records = runtime_dir.records()
    except ClusterError as error:
        yield Finding("warning", "clusters", str(error))
        return
    for record in records:
        if record.stale:
            yield Finding(
                "warning",
                "clusters",
                f"{record.name!r} is stale: its head ended without cleaning up",
                f"polypath down --name {record.name}",
            )
        else:
            yield Finding("ok", "clusters", f"{record.name!r} runs (pid {record.pid})")
    if not records:
        yield Finding("ok", "clusters", "none runs")


def check_files() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # A head takes all that it may.
    if hard == resource.RLIM_INFINITY or hard >= _FILES_WANTED:
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        yield Finding("ok", "open files", f"a process may have {most}")
    else:
        yield Finding(
            "warning",
            "open files",
            f"a process may have no more than {hard}, which many hosts or clients may reach",
            f"raise the hard limit to {MOST_FILES}: nofile in /etc/security/limits.conf, LimitNOFILE of systemd, "
            f"docker run --ulimit nofile={MOST_FILES}",
        )


CHECKS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    check_python,
    check_packages,
    check_loopback,
    check_runtime_dir,
    check_other_users,
    check_shared_memory,
    check_cache,
    check_gpu,
    check_clusters,
    check_files,
)


def installed_version(name: str) -> str | None:
    """A distribution's version; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def jaxlib_wanted() -> str:
    """What the installed jax asks of jaxlib, as in `<=0.10.2,>=0.10.1`; empty if it asks for nothing."""
    try:
        wanted = metadata.requires("jax") or []
    except metadata.PackageNotFoundError:
        return ""
    return next((each.removeprefix("jaxlib") for each in wanted if re.fullmatch(r"jaxlib[^;\w]+[^;]*", each)), "")


def _text(version: Version) -> str:
    return ".".join(map(str, version))
