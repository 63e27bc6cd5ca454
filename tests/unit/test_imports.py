"""What each process imports before it can do its part: what it does not is not waited for."""

import json
import subprocess
import sys

import pytest

import polypath

_STARTERS = ["msgspec", "psutil", "secrets", "zmq", "asyncio"]
_EDGE = ["google.protobuf", "grpc", "hpack"]
_JAX = ["cloudpickle", "jax", "jaxlib", "numpy", "scipy"]
_PEOPLE = ["rich", "typer"]
_TORCH = ["torch"]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        # A script that imports it pays for none of what a cluster needs.
        ("polypath", [*_STARTERS, *_EDGE, *_JAX, *_PEOPLE, *_TORCH]),
        # While it starts a head, and its JAX is still to be imported.
        ("polypath.launch.head_process", [*_EDGE, *_JAX, *_PEOPLE, *_TORCH, "psutil", "zmq"]),
        # A head, until the workers' processes are made.
        ("polypath.head", [*_EDGE, *_JAX, *_PEOPLE, *_TORCH, "psutil"]),
        # A worker: scipy comes with the first program that calls LAPACK.
        ("polypath.worker.server, polypath.worker.executors.pjrt", [*_EDGE, *_PEOPLE, *_TORCH, "psutil", "scipy"]),
        ("polypath.worker.server, polypath.worker.executors.null", [*_EDGE, *_PEOPLE, *_TORCH, "psutil", "scipy"]),
        # JAX imports this one in every process, whether or not there is a cluster.
        ("polypath.client.plugin", [*_STARTERS, *_EDGE, *_JAX, *_PEOPLE, *_TORCH]),
    ],
)
def test_nothing_heavy_is_imported_too_early(modules: str, absent: list[str]) -> None:
    code = f"import json, sys\nbefore = set(sys.modules)\nimport {modules}\n"
    code += "print(json.dumps([*set(sys.modules) - before]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not set(absent) & set(json.loads(done.stdout))


def run(code: str) -> str:
    """What it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_cluster_comes_up_and_ends_without_torch() -> None:
    code = """
import sys
import polypath
with polypath.start(platform="cpu"):
    import jax
    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
print(sorted({"torch"} & set(sys.modules)))
"""
    assert run(code) == "[]\n"


def test_torch_is_imported_when_it_is_first_used() -> None:
    code = """
import sys
import polypath
print("torch" in sys.modules, polypath.torch is sys.modules["polypath.torch"])
"""
    assert run(code) == "False True\n"


def test_without_torch_a_sentence_says_what_to_install() -> None:
    code = """
import importlib.util, sys
import polypath
polypath.find_spec = lambda name: None
try:
    polypath.torch
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    told = "torch polypath.torch needs PyTorch, which is not installed: pip install 'polypath[torch]'.\n"
    assert run(code) == told


def test_other_names_are_refused_as_in_every_module() -> None:
    with pytest.raises(AttributeError, match="module 'polypath' has no attribute 'tensorflow'"):
        _ = polypath.tensorflow
