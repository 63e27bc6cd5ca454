"""Models of transformers on the cluster's devices give what they give on torch's CPU: see `models_client`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cluster_tools import Client

CLIENT = Path(__file__).parent / "models_client.py"
CLIENT_TIMEOUT = 240
FORWARD, LOSSES = 1e-5, 1e-3
"""Relative, in float32. What rounding leaves in a forward pass is far below; steps of training amplify it."""

MESHES = ("1", "data", "fsdp", "tensor")
CHOSEN = {
    "gpt2": ("1", "tensor"),
    "llama": ("fsdp",),
    "mixtral": ("tensor",),
    "bert": ("data",),
    "vit": ("fsdp",),
    "whisper": ("1",),
    "t5": ("tensor",),
    "resnet": ("data",),
}
"""What `make test` has time for: each model, each mesh."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("--every-mesh")
    chosen = [(model, MESHES if every else meshes) for model, meshes in CHOSEN.items()]
    metafunc.parametrize(("model", "meshes"), chosen, ids=[model for model, _ in chosen])


@pytest.mark.timeout(4 * CLIENT_TIMEOUT)
def test_model_computes_trains_and_generates_as_on_torch_cpu(
    model: str, meshes: tuple[str, ...], cluster: dict[str, str]
) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    with Client([sys.executable, str(CLIENT), model, "--mesh", *meshes], cluster | offline) as client:
        status, out, err = client.end(CLIENT_TIMEOUT * len(meshes))
        assert status == 0, out + err[-6000:]
    results = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [result["mesh"] for result in results] == list(meshes)
    for result in results:
        assert result["forward"] <= FORWARD, result
        assert result["losses"] <= LOSSES, result
        assert result["tokens"] is not False, result
        first, last = result["first_and_last_loss"]
        assert last < first, result
