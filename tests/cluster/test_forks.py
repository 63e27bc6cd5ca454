"""A forked child is nobody's session: `fork_client.py` says in which ways one is made, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster_tools import Client


def test_no_way_of_forking_harms_the_parent() -> None:
    with Client((sys.executable, str(Path(__file__).with_name("fork_client.py")))) as client:
        status, out, err = client.end()
    assert status == 0, out + err
    assert out.splitlines()[-1] == "after the cluster was closed", out + err
