"""What moving an array costs where the worker is on another machine, a network namespace: over TLS, or by a tunnel.

    python benchmarks/networks.py [--rounds N]

As root, with iproute2. Each way runs in processes of its own, once per round, in turns: a client on the head's machine,
which has a link over TLS; one on a machine without a route to the worker, whose link goes through the head; one raw
TCP stream, and a cluster on one machine, for comparison. Prints medians in ms of 64 MiB up and down.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from polypath.client.environment import client_environment
from polypath.launch.head_process import HeadProcess

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tests" / "cluster"
sys.path.insert(0, str(TOOLS))

from namespaces import Network, inside  # noqa: E402  # The tests' own.

SIZE = 64 << 20
SCRIPTS = Path(__file__).parent / "contenders"
ARGUMENTS = ("--times=7", "--sizes", str(SIZE))


def samples(command: list[str], variables: Mapping[str, str]) -> dict[str, float]:
    """What a contender took, in seconds."""
    done = subprocess.run(command, env=os.environ | dict(variables), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["samples"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, dict[str, list[float]]] = {}
    network = Network(2)
    name = f"bench-{secrets.token_hex(2)}"
    try:
        network.make()
        here, there = network.machines
        command = [*inside(here), sys.executable, str(TOOLS / "networks_head.py"), f"{there}={network.addresses[1]}"]
        with HeadProcess.start(
            name, hosts=1, devices_per_host=1, islands=1, platform="cpu", tied=True, command=command
        ) as head:
            variables = client_environment(head.wait_ready().address)
            client = [sys.executable, str(SCRIPTS / "jax_transfers.py"), *ARGUMENTS]
            local = [sys.executable, "-m", "polypath.cli", "run", "--hosts", "1", "--platform", "cpu", *client[1:]]
            ways = {
                "TLS": ([*inside(here), *client], variables),
                "tunnel": ([*inside(network.alone), *client], variables),
                "one machine": (local, {}),
                "TCP stream": ([sys.executable, str(SCRIPTS / "tcp_stream.py"), *ARGUMENTS], {}),
            }
            for _ in range(rounds):
                for way, (program, told) in ways.items():
                    for what, seconds in samples(program, told).items():
                        found.setdefault(way, {}).setdefault(what, []).append(seconds * 1000)
    finally:
        network.remove()
    for way, times in found.items():
        line = ", ".join(
            f"{what.rpartition(' ')[0]} {statistics.median(each):.0f} ({min(each):.0f})" for what, each in times.items()
        )
        print(f"{way}: {line}")


if __name__ == "__main__":
    main()
