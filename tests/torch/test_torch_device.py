"""The device's module on a cluster: see `device_client`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster_tools import Client

CLIENT = Path(__file__).parent / "device_client.py"
SIZE = 8 * 1000 * 4


def test_the_device_knows_its_memory_its_time_and_its_end(cluster: dict[str, str]) -> None:
    with Client([sys.executable, str(CLIENT)]) as client:
        status, out, err = client.end(240)
        assert status == 0, out + err[-6000:]
    seen = json.loads(out.splitlines()[-1])
    assert seen["name"] == "8 x cpu"
    # On one device, cut over eight, whole on each of eight; gone; and the most there was, while it was copied.
    assert seen["memory"][:4] == [SIZE, SIZE, 8 * SIZE, 0]
    assert seen["memory"][4] >= 8 * SIZE
    assert seen["events"] == [True, True, True, True]
    assert seen["pinned"] == 28
    assert "This process was forked from one that uses the cluster" in seen["moved"]
    for name in ("kept", "cut", "pending", "later", "beside another", "moved to", "written with it"):
        assert "A tensor is on a cluster that was closed" in seen[name], seen
    assert all("A tensor is on a cluster that was closed" in one for one in seen["both"])
    assert seen["undone"] == [[1, 1, 1, 1], [2, 2, 2, 2]]
    assert seen["anew"] == [2, 2]
