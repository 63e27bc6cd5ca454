"""`nn.RNN`, `nn.LSTM` and `nn.GRU` on the device: torch's operators of whole networks, made of layers that loop.

torch makes these operators of a cell for each time step, on every device that has no kernel for them; here each
layer and direction is one operator, `polypath::rnn_layer` (`lowerings/recurrent.py`), with its gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from polypath.torch.errors import TorchError
from polypath.torch.lowerings.recurrent import ours

_NETWORKS: Final = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN_TANH", "rnn_relu": "RNN_RELU"}
_KEYS: Final = ("AutogradPrivateUse1", "PrivateUse1")
_libraries: Final[list[torch.library.Library]] = []
"""What they register ends with them."""


def register() -> None:
    """Have torch use them on the device; once."""
    library = torch.library.Library("aten", "IMPL")
    for name, mode in _NETWORKS.items():
        for overload, network in (("input", _of_input), ("data", _of_packed)):
            kernel = torch.compiler.disable(functools.partial(network, mode))
            for key in _KEYS:
                library.impl(f"{name}.{overload}", kernel, key)
    library.impl("_thnn_fused_gru_cell", _like_gru_cell, "Meta")
    library.impl("_thnn_fused_gru_cell_backward", _like_gru_gradients, "Meta")
    _libraries.append(library)
    for operator, fake in ((ours.rnn_layer, _like_layer), (ours.rnn_layer_backward, _like_gradients)):
        torch.library.register_fake(operator.default, fake)
    torch.library.register_autograd(ours.rnn_layer.default, _backward, setup_context=_keep)
    torch.library.register_autograd(ours.rnn_layer_backward.default, _no_second_derivative)


def _of_input(
    mode: str, x: Tensor, hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    x = x.transpose(0, 1) if batch_first else x
    rest = params, has_biases, num_layers, dropout if train else 0.0, bidirectional
    found, *state = _network(mode, x, None, hx, *rest)
    return (found.transpose(0, 1) if batch_first else found, *state)


def _of_packed(
    mode: str, x: Tensor, batch_sizes: Tensor, hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    rest = params, has_biases, num_layers, dropout if train else 0.0, bidirectional
    return _network(mode, x, batch_sizes.tolist(), hx, *rest)


def _network(
    mode: str, x: Tensor, batch_sizes: list[int] | None, hx: Any, params: Sequence[Tensor], has_biases: bool,
    num_layers: int, dropout: float, bidirectional: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    state: list[Tensor] = [hx] if isinstance(hx, Tensor) else list(hx)
    directions = 2 if bidirectional else 1
    count = len(params) // (num_layers * directions)
    finals: list[list[Tensor]] = []
    for at in range(num_layers):
        outputs: list[Tensor] = []
        for direction in range(directions):
            place = at * directions + direction
            weights = list(params[place * count : (place + 1) * count])
            given = [one[place] for one in state]
            found, *final = ours.rnn_layer(x, given, weights, batch_sizes, mode, direction == 1)
            outputs.append(found)
            finals.append(final)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        if dropout and at < num_layers - 1:
            x = torch.dropout(x, dropout, train=True)
    return (x, *(torch.stack(one) for one in zip(*finals, strict=True)))


# --- Rules for shapes and gradients -----------------------------------------------------------


def _like_gru_cell(
    input_gates: Tensor, hidden_gates: Tensor, hx: Tensor, input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(torch has such a rule for the cell of an LSTM only.)"""
    return hx.new_empty(hx.shape), hx.new_empty((hx.shape[0], 5 * hx.shape[1]))


def _like_gru_gradients(grad_hy: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    batch, hidden = grad_hy.shape
    gates = [grad_hy.new_empty((batch, 3 * hidden)) for _ in range(2)]
    biases = [grad_hy.new_empty((3 * hidden,)) if has_bias else None for _ in range(2)]
    return (*gates, grad_hy.new_empty((batch, hidden)), *biases)


def _like_layer(
    x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], batch_sizes: Any, mode: str, reverse: bool
) -> list[Tensor]:
    return [x.new_empty((*x.shape[:-1], state[0].shape[-1])), *(torch.empty_like(one) for one in state)]


def _like_gradients(
    grads: Sequence[Tensor | None], x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], *_: Any
) -> list[Tensor]:
    return [one.new_empty(one.shape) for one in (x, *state, *weights)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, state, weights, *ctx.rest = inputs
    ctx.states = len(state)
    ctx.save_for_backward(x, *state, *weights)


def _backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    x, *others = ctx.saved_tensors
    state, weights = others[: ctx.states], others[ctx.states :]
    to_x, *rest = ours.rnn_layer_backward(list(grads), x, state, weights, *ctx.rest)
    return (to_x, rest[: ctx.states], rest[ctx.states :], None, None, None)


def _no_second_derivative(ctx: Any, *_: Any) -> Any:
    raise TorchError(
        "A recurrent layer has no second derivative on the cluster's device, as with cuDNN; for one, loop over time "
        "with nn.LSTMCell, nn.GRUCell or nn.RNNCell."
    )
