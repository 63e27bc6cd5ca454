"""A cluster in the hands of a script or a notebook: `polypath.start` and `polypath.connect`.

Owns the switch of this process's JAX to the cluster and back. Imports JAX only after the head
was started, so that both come up at the same time; and what starts a head only when one is
started, so that `import polypath` costs next to nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from polypath.client.environment import socket_path
from polypath.errors import ClusterError, ForkedProcess, NotRunning
from polypath.versions import check_client

if TYPE_CHECKING:
    from polypath.client.status import Status
    from polypath.launch.head_process import HeadProcess

_OPTIONS = ("jax_platforms", "jax_backend_target")


class Cluster:
    """A cluster that JAX in this process uses until `close()`, or until the `with` block ends."""

    def __init__(self, name: str, address: str, head: HeadProcess | None = None) -> None:
        """Not to be called: use `polypath.start` or `polypath.connect`."""
        self.name = name
        self.address = address
        """What `JAX_BACKEND_TARGET` names."""
        self._head = head
        self._before: dict[str, Any] | None = None
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r} at {self.address}{'' if self._before else ', closed'}>"

    def status(self) -> Status:
        """What the cluster consists of and holds.

        Raises:
            NotRunning: it is gone.
            ForkedProcess: this process was forked from the one that uses the cluster.
        """
        if self._pid != os.getpid():
            raise ForkedProcess(self.name)
        from polypath.client.status import read_status

        return read_status(self.address)

    def close(self) -> None:
        """Give JAX in this process its own devices back; end the cluster if it was started here.

        May be called again. Arrays on the cluster are lost with it. In a forked child only the former is done: the
        cluster and the arrays are its parent's.
        """
        try:
            self._leave()
        finally:
            if self._head is not None:
                self._head.close()

    def _enter(self) -> None:
        """Make JAX in this process use the cluster."""
        import jax

        check_client(jax.__version__)
        from polypath.client import backend

        backend.check_answers(self.address)
        backend.clear()
        self._before = {name: backend.read_option(name) for name in _OPTIONS}
        backend.set_option("jax_platforms", "proxy")
        backend.set_option("jax_backend_target", self.address)
        backend.register()
        _Used.cluster = self

    def _leave(self) -> None:
        if self._before is None:
            return
        from polypath.client import backend

        before, self._before = self._before, None
        _Used.cluster = None
        try:
            backend.clear()
        finally:
            for name, value in before.items():
                backend.set_option(name, value)


class _Used:
    """The cluster that this process uses: JAX has one set of backends per process, hence one cluster at a time."""

    cluster: Cluster | None = None


def _after_fork_in_child() -> None:
    if (cluster := _Used.cluster) is not None and cluster._head is not None:  # pyright: ignore[reportPrivateUsage]
        cluster._head.abandon()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork_in_child)


def start(
    hosts: int = 1,
    devices_per_host: int | None = None,
    platform: str | None = None,
    islands: int = 1,
    name: str | None = None,
    *,
    fanout: int | None = None,
    debug: bool = False,
) -> Cluster:
    """Start a cluster on this machine and make JAX in this process use it.

    It ends with this process at the latest, however that ends. Arrays made before belong to the
    backends that JAX had then and do not move.

    Args:
        hosts: worker processes.
        devices_per_host: virtual devices of each on CPU (default 1); of GPUs and TPU chips, by default an equal share
            of the machine's.
        platform: `cpu`, `cuda`, `rocm`, `tpu` or the name of a PJRT plugin; the best that jaxlib finds if not given.
            `simulated` has any number of hosts in a few processes: programs are compiled by nobody, run by nothing,
            and give zeros. Its devices say that they are CPUs; those of `simulated-cuda` (or `-tpu`, ...) that.
        islands: equal groups of hosts; a program runs within one.
        name: what `polypath status --name` calls it; made up if not given.
        fanout: hosts, or relays, that one process has below it at most (64); more hosts get relays between
            them and the head. Of simulated hosts, those that share a process (1,250).
        debug: let the cluster's logs tell more.

    Raises:
        ClusterError: such a cluster cannot be, the name is taken, or it did not come up.
        UnsupportedVersion: this JAX is outside the supported range.
    """
    _check_free()
    from polypath.launch.head_process import HeadProcess

    head = HeadProcess.start(
        name or f"py-{os.getpid()}-{os.urandom(2).hex()}",
        hosts=hosts,
        devices_per_host=devices_per_host,
        islands=islands,
        platform=platform,
        fanout=fanout,
        tied=True,
        debug=debug,
    )
    try:
        _preload_jax()
        reply = head.wait_ready()
        cluster = Cluster(head.config.name, reply.address or head.config.address, head)
        cluster._enter()  # pyright: ignore[reportPrivateUsage]
    except BaseException:
        head.close()
        raise
    return cluster


def connect(address_or_name: str | None = None) -> Cluster:
    """Make JAX in this process use a cluster that runs: `polypath up` started it, say.

    Args:
        address_or_name: what `polypath up` printed, or a name; the one that runs if not given.

    Raises:
        NotRunning: no cluster runs there.
        ClusterError: there are several, or this process uses one already.
        UnsupportedVersion: this JAX is outside the supported range.
    """
    _check_free()
    if address_or_name is not None and ":" in address_or_name:
        path = socket_path(address_or_name)
        if path is None:
            raise NotRunning(
                f"{address_or_name} is no cluster's address: those begin with grpc://unix: (see `polypath status`)."
            )
        cluster = Cluster(Path(path).parent.name, address_or_name)
    else:
        from polypath.launch import runtime_dir

        record = runtime_dir.find(address_or_name)
        cluster = Cluster(record.name, record.address)
    cluster._enter()  # pyright: ignore[reportPrivateUsage]
    return cluster


def _check_free() -> None:
    if (backend := sys.modules.get("polypath.client.backend")) is not None:
        backend.check_process()
    if _Used.cluster is not None:
        raise ClusterError(
            f"This process uses the cluster {_Used.cluster.name!r} already: close it first (`cluster.close()`), or use "
            "another process."
        )


def _preload_jax() -> None:
    """Import JAX while the head starts. A warning that it logs at each connection is turned off."""
    if "jax" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    check_client(jax.__version__)
    from polypath.client import backend  # pyright: ignore[reportUnusedImport]  # noqa: F401
