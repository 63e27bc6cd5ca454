"""Models of transformers on the cluster's devices give what they give on torch's CPU: see `models_client`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cluster_tools import Client, run_python

CLIENT = Path(__file__).parent / "models_client.py"
CLIENT_TIMEOUT = 240
FORWARD, LOSSES = 1e-5, 1e-3
"""Relative, in float32. What rounding leaves in a forward pass is far below; steps of training amplify it."""

MESHES = ("1", "data", "fsdp", "tensor")
CHOSEN: dict[str, tuple[str, ...]] = {
    "gpt2": ("tensor",),
    "llama": ("fsdp",),
    "mixtral": ("1",),
    "bert": ("data",),
    "vit": (),
    "whisper": (),
    "t5": ("1",),
    "resnet": (),
}
"""What `make test` has time for; each model on each mesh is run with `--every-mesh`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "meshes" not in metafunc.fixturenames:
        return
    every = metafunc.config.getoption("--every-mesh", default=False)
    chosen = [(model, MESHES if every else meshes) for model, meshes in CHOSEN.items() if meshes or every]
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


LOADED = """
import json, jax, torch, polypath
from polypath.torch.buffers import buffer_of

layer = torch.nn.Linear(16, 16)
weights = {name: weight.clone() for name, weight in layer.state_dict().items()}
layer.to(polypath.torch.device())
polypath.torch.fsdp(layer, jax.make_mesh((8,), ("data",)))
layer.load_state_dict(weights)
array = buffer_of(layer.weight).ref.array
same = torch.equal(layer.weight.detach().cpu(), weights["weight"])
print(json.dumps([same, sorted(shard.data.shape for shard in array.addressable_shards)]))
"""


def test_weights_that_are_loaded_are_cut_as_those_before(cluster: dict[str, str]) -> None:
    assert json.loads(run_python(LOADED, cluster)) == [True, [[2, 16]] * 8]


SHARED = """
import json, torch, polypath

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens))

def losses(device, backend):
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)  # Made before the model moves.
    before = model.head.weight
    model.to(device)
    assert model.embed.weight is model.head.weight is before
    tokens = torch.tensor([1, 2, 3], device=device)

    def step():
        loss = torch.nn.functional.cross_entropy(model(tokens), tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    step = torch.compile(step, backend=backend) if backend else step
    found = [step().item() for _ in range(4)]
    model.cpu()  # A compiled function refers to its parameters weakly.
    assert model.embed.weight is model.head.weight and model.head.weight.device.type == "cpu"
    return found

device = polypath.torch.device()
print(json.dumps([losses("cpu", None), losses(device, None), losses(device, "polypath")]))
"""


def test_weights_that_modules_share_stay_one(cluster: dict[str, str]) -> None:
    here, eager, compiled = json.loads(run_python(SHARED, cluster))
    assert eager == pytest.approx(here, rel=1e-6)
    assert compiled == pytest.approx(here, rel=1e-6)
