"""Processes of a cluster that are stopped: every wait for them ends with an error that names the host and why."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster_tools import Client

HERE = Path(__file__).parent


def test_stopped_processes_are_given_up() -> None:
    with Client([sys.executable, str(HERE / "silence_client.py")], {"POLYPATH_HEARTBEAT": "3"}) as client:
        status, out, err = client.end(240)
        assert status == 0, err[-4000:]
        assert out.splitlines()[-1] == "ok"
