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


def test_a_silent_head_ends_all_waits() -> None:
    """jaxlib's too, which know of no silence."""
    with Client([sys.executable, str(HERE / "silent_head_client.py")], {"POLYPATH_HEARTBEAT": "3"}) as client:
        status, out, err = client.end(240)
        assert status == 0, out + err[-4000:]
        ended = [line.partition(": ")[0] for line in out.splitlines()]
        assert sorted(ended[:-2]) == ["block_until_ready", "compile", "earlier", "float", "put", "read", "small put"], (
            out
        )
        assert ended[-2:] == ["afterwards", "over"]
        (told,) = (line for line in err.splitlines() if line.startswith("polypath: "))
        assert "is lost to this process (it did not answer for 3 s: is it stopped, or the network between cut?)" in told
