"""The one object that owns what this process's session with a cluster has.

A session begins when JAX connects and ends with `close()`. The hooks into JAX hold it and ask it whether a client of
JAX is the cluster's; it knows nothing of them. Whatever else belongs to the session (the patches, links to workers, the
watch on the head) is handed to `own()`, and ends with it.

After a fork, the parent's session is none of the child's: there, `is_cluster` raises, `close()` does nothing, and what
the session owns has let go of its descriptors (`after_fork_in_child`).
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import jax
from jax._src import xla_bridge
from jax.extend import ifrt_programs

from polypath.client.callbacks import CallbackServer
from polypath.client.environment import cluster_name, socket_path
from polypath.client.interrupts import Interrupts
from polypath.errors import ForkedProcess

if TYPE_CHECKING:
    from polypath.client.transfers import Transfers

_jax: Any = jax
_bridge: Any = xla_bridge
_programs: Any = ifrt_programs


class Resource(Protocol):
    """What a session owns."""

    def close(self) -> None:
        """End it, as its session ends."""
        ...

    def abandon(self) -> None:
        """Let go of its descriptors and threads in a forked child, and tell nobody: the parent goes on with them."""
        ...


_Owned = TypeVar("_Owned", bound=Resource)


class Session:
    """What one client of one cluster has, until `close()`.

    Args:
        client: jaxlib's client, which JAX uses from now on.
        target: the cluster's address, as `JAX_BACKEND_TARGET` has it.
    """

    transfers: Transfers | None = None
    """What goes over the session's links; None where it has none."""

    def __init__(self, client: Any, target: str) -> None:
        self.client: Final = client
        self.target: Final = target
        self.closed = False
        self.forked = False
        """Whether this process was forked from the one that has the session."""
        self.interrupts: Final = Interrupts()
        self._lock = threading.RLock()
        self._owned: list[Resource] = []
        self._server: CallbackServer | None = None
        self._cpu: Any = None

    def own(self, resource: _Owned) -> _Owned:
        """Close `resource` with the session; what is owned last is closed first."""
        self._owned.append(resource)
        return resource

    def is_cluster(self, client: Any) -> bool:
        """Whether `client` is this session's; False once it is closed.

        Raises:
            ForkedProcess: it is, and this process was forked from the one that has the session.
        """
        if client is not self.client:
            return False
        if self.forked:
            raise ForkedProcess(cluster_name(self.target))
        return not self.closed

    def is_on_cluster(self, array: Any) -> bool:
        """Whether a JAX array is on this session's devices."""
        return self.is_cluster(next(iter(array.sharding.device_set)).client)

    def cluster_socket(self, client: Any) -> str | None:
        """The path of the head's socket, if `client` is this session's; None for another, or a cluster not of ours."""
        return socket_path(self.target) if self.is_cluster(client) else None

    def compile_request(self, name: str, body: Any) -> Any:
        """An executable that only the controller knows.

        Raises:
            JaxRuntimeError: the controller does not know this one.
        """
        programs = _programs.ifrt_programs
        return self.client.compile_ifrt_program(
            programs.make_plugin_program(json.dumps({name: body})), programs.make_plugin_compile_options()
        )

    def callback_server(self) -> CallbackServer:
        """Serves this process's functions; started with the first program that has one.

        Raises:
            ClusterError: the cluster takes no host callbacks.
        """
        with self._lock:
            if self._server is None:
                path = socket_path(self.target)
                target = self.target.rpartition("://")[2] if path is None else f"unix:{path}"
                self._server = CallbackServer(target, self._on_local_cpu)
                self.interrupts.begin(self._server)
            return self._server

    def local_cpu(self) -> Any:
        """A CPU client of this process, with one device or more; JAX does not know it by name."""
        with self._lock:
            if self._cpu is None:
                self._cpu = _bridge.make_cpu_client()
            return self._cpu

    def close(self) -> None:
        """End the session: hooks pass everything through from now on. May be called again, and by a forked child."""
        if self.closed:
            return
        self.closed = True
        with contextlib.ExitStack() as stack:  # All are closed, even where one fails.
            if self._server is not None:
                stack.callback(self._server.close)
                stack.callback(self.interrupts.end)
            for resource in self._owned:
                stack.callback(resource.close)
            self._owned = []

    def after_fork_in_child(self) -> None:
        """Let go of all that the parent goes on with: here the session is as one that was closed, and says why."""
        self.forked = self.closed = True
        self.interrupts.end()
        for resource in self._owned:
            resource.abandon()
        self._owned = []

    def _on_local_cpu(self) -> Any:
        # A function that a program on the cluster calls must not need the cluster, which waits for it.
        return _jax.default_device(self.local_cpu().local_devices()[0])
