"""What a cluster answers is what plain JAX answers, and nothing of jaxlib's own is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cluster_tools import Client

PROGRAM = str(Path(__file__).with_name("answers_client.py"))


def answers(where: str) -> dict[str, Any]:
    plain = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    with Client((sys.executable, PROGRAM, where), plain if where == "plain" else None) as client:
        status, out, err = client.end()
    assert status == 0, out + err
    assert err == ""
    return json.loads(out)


def test_a_cluster_answers_as_plain_jax_does() -> None:
    assert answers("cluster") == answers("plain")
