"""A forked child is nobody's session: `fork_client.py` says in which ways one is made, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from cluster_tools import Client

HERE = Path(__file__).parent
PATIENCE = 60


def test_no_way_of_forking_harms_the_parent() -> None:
    with Client((sys.executable, str(HERE / "fork_client.py"))) as client:
        status, out, err = client.end()
    assert status == 0, out + err
    assert out.splitlines()[-1] == "after the cluster was closed", out + err


def test_a_child_does_not_keep_the_cluster_of_a_parent_that_died() -> None:
    with Client((sys.executable, str(HERE / "fork_orphan.py"))) as client:
        head, child = map(int, client.hear().split())
        ends = [os.pidfd_open(pid) for pid in (head, child)]
        try:
            client.signal(signal.SIGKILL)
            assert select.select(ends[:1], [], [], PATIENCE)[0], "the head runs on"
            assert not select.select(ends[1:], [], [], 0)[0], "the child had ended"
        finally:
            signal.pidfd_send_signal(ends[1], signal.SIGKILL)
            assert select.select(ends[1:], [], [], PATIENCE)[0]
            for end in ends:
                os.close(end)
        client.end()
