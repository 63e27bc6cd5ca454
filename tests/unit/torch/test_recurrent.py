"""Recurrent networks on the device, beside torch's CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import polypath.torch as pt  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()
LENGTHS = torch.tensor([5, 3, 1])
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


def used(module: Any, x: Any, device: Any, *, compiled: bool = False) -> list[Any]:
    """All results of a forward pass, and the gradients of the input and the parameters."""
    module = copy.deepcopy(module).to(device)
    call = torch.compile(module, backend="polypath", fullgraph=True) if compiled else module
    x = x.detach().to(device).requires_grad_()
    packed = isinstance(module, torch.nn.RNNBase) and x.dim() == 3
    given = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS) if packed and module.bidirectional else x
    result, state = call(given) if isinstance(module, torch.nn.RNNBase) else (call(x), None)
    results = [one for one in torch.utils._pytree.tree_leaves((result, state)) if one is not None]
    results = [one for one in results if one.is_floating_point()]
    loss = sum((one * one).sum() for one in results)
    return [one.detach().cpu() for one in (*results, *torch.autograd.grad(loss, [x, *module.parameters()]))]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.LSTM(3, 4, 2, bidirectional=True),  # Those in both directions are given packed sequences.
        lambda: torch.nn.LSTM(3, 4, 2, proj_size=2),
        lambda: torch.nn.GRU(3, 4, bidirectional=True, bias=False),
        lambda: torch.nn.RNN(3, 4, 2, nonlinearity="relu", batch_first=True),
        lambda: torch.nn.GRU(3, 4).double(),
    ],
    ids=["packed LSTM", "LSTM with projection", "packed GRU", "RNN", "GRU in float64"],
)
def test_a_network_and_its_gradients_are_those_of_torchs_cpu(make: Any) -> None:
    torch.manual_seed(0)
    module = make()
    x = torch.randn(5, 3, 3, dtype=next(module.parameters()).dtype)
    for want, got in zip(used(module, x, "cpu"), used(module, x, DEVICE), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [torch.nn.LSTMCell, torch.nn.GRUCell, torch.nn.RNNCell])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_cell_and_its_gradients_are_those_of_torchs_cpu(cell: Any, compiled: bool) -> None:
    torch.manual_seed(0)
    module, x = cell(3, 4), torch.randn(2, 3)
    for want, got in zip(used(module, x, "cpu"), used(module, x, DEVICE, compiled=compiled), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_a_long_sequence_is_no_longer_program() -> None:
    module = torch.nn.LSTM(3, 4).to(DEVICE)
    trace.flush()
    found = [len(trace._nodes) for length in (2, 500) if module(torch.ones(length, 1, 3, device=DEVICE))]
    assert found[1] - found[0] == found[0]


def test_values_between_layers_are_dropped() -> None:
    """(torch's own decomposition of these operators drops none.)"""
    module = torch.nn.RNN(3, 64, 2, dropout=0.9).to(DEVICE)
    x = torch.ones(1, 1, 3, device=DEVICE)
    assert not torch.equal(module(x)[0], module(x)[0])
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


def test_a_second_derivative_is_refused() -> None:
    module, x = torch.nn.LSTM(3, 4).to(DEVICE), torch.ones(2, 1, 3, device=DEVICE, requires_grad=True)
    (first,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
    with pytest.raises(pt.TorchError, match="no second derivative"):
        first.sum().backward()


def test_autocast_computes_in_the_smaller_dtype() -> None:
    x = torch.ones(2, 3, device=DEVICE)
    with torch.autocast("polypath", dtype=torch.bfloat16):
        assert torch.nn.LSTM(3, 4).to(DEVICE)(x)[0].dtype is torch.bfloat16
        assert torch.nn.GRUCell(3, 4).to(DEVICE)(x).dtype is torch.bfloat16
