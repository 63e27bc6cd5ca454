"""Tells the user, in one sentence, when the cluster they use is gone.

A thread waits for the head's process to end. jaxlib's own `on_disconnect` cannot be used: it
calls into Python while the interpreter shuts down, which aborts the process.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading

from polypath.launch.runtime_dir import ClusterRecord


class HeadWatch:
    """Waits for a head to end, until `stop()`."""

    def __init__(self, record: ClusterRecord) -> None:
        self._record = record
        self._pidfd = os.pidfd_open(record.pid)
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="polypath-head-watch", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """The cluster's end is no news any more. May be called again."""
        if self._stop < 0:
            return
        atexit.unregister(self.stop)
        os.close(self._stop)
        self._stop = -1
        self._thread.join()
        os.close(self._stopped)
        os.close(self._pidfd)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        ended = {fd for fd, _ in poll.poll()}
        if self._stopped not in ended:
            record = self._record
            print(
                f"polypath: the cluster {record.name!r} at {record.address} is gone, and with it all its values, "
                f"because its head (pid {record.pid}) ended: see `polypath status`, and start it again with "
                "`polypath up`.",
                file=sys.stderr,
                flush=True,
            )
