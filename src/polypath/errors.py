"""The errors Polypath raises itself.

    PolypathError
    ├── ClusterError          a cluster could not be started, found, or kept up
    │   ├── AlreadyRunning    the name is taken by a cluster that runs
    │   └── NotRunning        there is no cluster at the address or of the name
    ├── ForkedProcess         the session is that of the process that this one was forked from
    ├── UnsupportedVersion    this JAX is outside the range that is supported
    └── ProtocolError         a message that no peer of ours sends

What fails on the devices is not among them: it reaches the user as JAX's own
`JaxRuntimeError`, at the value that needs it.
"""

from __future__ import annotations


class PolypathError(Exception):
    """The base of them all; the message is one sentence that says what, why and what to do."""


class ClusterError(PolypathError):
    """A cluster could not be started, found, or kept up."""


class AlreadyRunning(ClusterError):
    """A cluster of that name runs already."""


class NotRunning(ClusterError):
    """No cluster runs at that address or under that name."""


class ForkedProcess(PolypathError, RuntimeError):
    """This process was forked from one that uses a cluster, and has no session of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This process was forked from one that uses the cluster {name!r}, and has no session of its own: start it "
            "with multiprocessing's 'spawn' or 'forkserver', or use the cluster in the parent only."
        )


class UnsupportedVersion(PolypathError):
    """This version of JAX is outside the supported range."""


class ProtocolError(PolypathError):
    """A message that no peer of ours sends: truncated, malformed or out of order."""
