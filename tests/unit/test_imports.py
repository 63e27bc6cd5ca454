"""What each process imports before it can do its part: what it does not is not waited for."""

import json
import subprocess
import sys

import pytest

_STARTERS = ["msgspec", "psutil", "secrets", "zmq", "asyncio"]
_EDGE = ["google.protobuf", "grpc", "hpack"]
_JAX = ["cloudpickle", "jax", "jaxlib", "numpy", "scipy"]
_PEOPLE = ["rich", "typer"]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        # A script that imports it pays for none of what a cluster needs.
        ("polypath", [*_STARTERS, *_EDGE, *_JAX, *_PEOPLE]),
        # While it starts a head, and its JAX is still to be imported.
        ("polypath.launch.head_process", [*_EDGE, *_JAX, *_PEOPLE, "psutil", "zmq"]),
        # A head, until the workers' processes are made.
        ("polypath.head", [*_EDGE, *_JAX, *_PEOPLE, "psutil"]),
        # A worker: scipy comes with the first program that calls LAPACK.
        ("polypath.worker.server, polypath.worker.executors.pjrt", [*_EDGE, *_PEOPLE, "psutil", "scipy"]),
        ("polypath.worker.server, polypath.worker.executors.null", [*_EDGE, *_PEOPLE, "psutil", "scipy"]),
        # JAX imports this one in every process, whether or not there is a cluster.
        ("polypath.client.plugin", [*_STARTERS, *_EDGE, *_JAX, *_PEOPLE]),
    ],
)
def test_nothing_heavy_is_imported_too_early(modules: str, absent: list[str]) -> None:
    code = f"import json, sys\nbefore = set(sys.modules)\nimport {modules}\n"
    code += "print(json.dumps([*set(sys.modules) - before]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not set(absent) & set(json.loads(done.stdout))
