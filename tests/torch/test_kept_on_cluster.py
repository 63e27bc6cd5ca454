"""Sharded tensors are saved as they are, and no failure on the cluster loses more than it says: see `kept_client`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster_tools import Client

CLIENT = Path(__file__).parent / "kept_client.py"
CLIENT_TIMEOUT = 240


def test_sharded_tensors_are_saved_and_kept(cluster: dict[str, str]) -> None:
    with Client([sys.executable, "-W", "ignore", str(CLIENT)], cluster) as client:
        status, out, err = client.end(CLIENT_TIMEOUT)
        assert status == 0, out + err[-6000:]
    found = json.loads(out)
    assert found.pop("saved") == []
    apart, no_memory = found.pop("apart"), found.pop("no memory")
    assert "incompatible devices" in apart
    assert "this undid the" in apart
    assert "RESOURCE_EXHAUSTED" in no_memory
    assert "memory of 1 tensors that it was to overwrite" in no_memory
    assert found == {
        "after apart": [[0, 1, 2, 3], [4, 5, 6, 7]],
        "kept": [1, 1, 1],
        "loaded again": [1, 2, 3],
    }
