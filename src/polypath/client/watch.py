"""Tells the user, in one sentence, when the cluster they use is gone, or their session on it.

A head that is stopped, or out of reach, closes nothing. jaxlib's client would wait for it for ever, so its connections
are ended here, and what waits on them raises.

jaxlib's own `on_disconnect` cannot be used: it calls into Python while the interpreter shuts down, which aborts the
process.
"""

from __future__ import annotations

import atexit
import sys

from polypath.client import connections
from polypath.client.environment import socket_path
from polypath.launch.runtime_dir import ClusterRecord


class Watch:
    """Until `stop()`, what to do when the link to the head ends."""

    def __init__(self, record: ClusterRecord) -> None:
        self._record = record
        self._stopped = False
        atexit.register(self.stop)

    def ended(self, reason: str, *, told: bool) -> None:
        """The link to the head ended; whether the head itself told why. Called on any thread."""
        if self._stopped:
            return
        self.stop()
        record = self._record
        if told and reason:
            _print(f"the session with the cluster {record.name!r} ended, and with it all its values: {reason}")
            return
        # The sentence comes first, as it tells more than what jaxlib then raises.
        cause = "ended" if told or not reason else f"is lost to this process ({reason})"
        _print(
            f"the cluster {record.name!r} at {record.address} is gone, and with it all its values, because its head "
            f"(pid {record.pid}) {cause}; see `polypath status`, and start it again with `polypath up`."
        )
        if not told and (path := socket_path(record.address)) is not None:
            connections.end(path)

    def stop(self) -> None:
        """The cluster's end is no news any more. May be called again."""
        self._stopped = True
        atexit.unregister(self.stop)


def _print(sentence: str) -> None:
    # On a line of its own, at once, also where another thread is in the middle of writing its exception.
    sys.stderr.write(f"\npolypath: {sentence}\n")
    sys.stderr.flush()
