"""The device's random numbers: states of them, and what torch does with these, which is checkpointing."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402

import polypath.torch as pt  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()
pytestmark = [pytest.mark.filterwarnings("ignore:.torch.jit.script_method", "ignore::UserWarning:torch")]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_checkpointing_draws_the_same_again(reentrant: bool, compiled: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Dropout(0.5)).to(DEVICE)
    x = torch.ones(3, 4, device=DEVICE, requires_grad=True)

    def forward(x: Any) -> Any:
        return checkpoint(model, x, use_reentrant=reentrant)

    if compiled:
        forward = torch.compile(forward, backend="polypath")
    drawn: set[tuple[bool, ...]] = set()
    for _ in range(2):
        model.zero_grad()
        out = forward(x)
        out.sum().backward()
        kept = out.detach().cpu() != 0  # By the mask that the forward pass drew.
        torch.testing.assert_close(model[0].bias.grad.cpu(), kept.float().sum(0) * 2)
        drawn.add(tuple(kept.flatten().tolist()))
    assert len(drawn) == 2


def test_a_step_with_checkpoints_is_one_program() -> None:
    layers = [torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)) for _ in range(3)]
    model = torch.nn.Sequential(*layers).to(DEVICE)
    x = torch.ones(3, 4, device=DEVICE)
    trace.flush()
    before = trace.runs
    checkpoint_sequential(model, 3, x, use_reentrant=False).sum().backward()
    trace.flush()
    assert trace.runs == before + 1


def test_a_state_gives_the_same_numbers_again() -> None:
    torch.manual_seed(3)
    assert torch.polypath.initial_seed() == 3
    state, every = torch.polypath.get_rng_state(), torch.polypath.get_rng_state_all()
    first, second = torch.rand(4, device=DEVICE), torch.rand(4, device=DEVICE)
    assert not torch.equal(first, second)
    torch.polypath.set_rng_state(state)
    assert torch.equal(torch.rand(4, device=DEVICE), first)
    torch.polypath.set_rng_state_all(every)
    again = torch.rand(4, device=DEVICE), torch.rand(4, device=DEVICE)
    assert torch.equal(again[1], second)  # Whether the first is read or not.
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4, device=DEVICE), first)
    torch.polypath.seed()
    assert not torch.equal(torch.rand(4, device=DEVICE), first)
    with pytest.raises(pt.TorchError, match="16 bytes"):
        torch.polypath.set_rng_state(torch.get_rng_state())


def test_a_fork_of_the_random_numbers_leaves_them_as_they_were() -> None:
    torch.manual_seed(5)
    plain = torch.rand(3, device=DEVICE)
    for given in ({}, {"device_type": "polypath"}, {"devices": [0], "device_type": "polypath"}):
        torch.manual_seed(5)
        with torch.random.fork_rng(**given):
            torch.rand(3, device=DEVICE)
            torch.manual_seed(6)
        assert torch.equal(torch.rand(3, device=DEVICE), plain)
