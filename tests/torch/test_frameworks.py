"""Frameworks choose the device by themselves, and their losses are those of the CPU: see `frameworks_client`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cluster_tools import Client

CLIENT = Path(__file__).parent / "frameworks_client.py"


@pytest.mark.timeout(600)
def test_frameworks_train_on_the_device_as_on_the_cpu(cluster: dict[str, str]) -> None:
    names = ("accelerate", "trainer", "peft", "lightning")
    with Client([sys.executable, str(CLIENT), *names], cluster | {"HF_HUB_OFFLINE": "1"}) as client:
        status, out, err = client.end(500)
        assert status == 0, out[-3000:] + err[-6000:]
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    frameworks = {name: runs for line in lines for name, runs in line.items() if name in names}
    assert set(frameworks) == set(names)
    for name, runs in frameworks.items():
        device, want = runs.pop("cpu")
        assert device == "cpu", name
        assert len(want) >= 4
        for way, (device, losses) in runs.items():
            assert device == "polypath:0", (name, way)
            assert losses == pytest.approx(want, rel=2e-2 if way == "bf16" else 1e-5), (name, way)
            assert (losses != want) or way != "bf16", (name, way)  # It did compute in the smaller dtype.
