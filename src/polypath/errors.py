"""The errors Polypath raises itself.

    PolypathError
    ├── ClusterError          a cluster could not be started, found, or kept up
    │   ├── AlreadyRunning    the name is taken by a cluster that runs
    │   └── NotRunning        there is no cluster at the address or of the name
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


class UnsupportedVersion(PolypathError):
    """This version of JAX is outside the supported range."""


class ProtocolError(PolypathError):
    """A message that no peer of ours sends: truncated, malformed or out of order."""
