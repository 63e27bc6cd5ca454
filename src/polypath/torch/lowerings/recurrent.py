"""Recurrent networks: torch's fused cells of LSTM and GRU, and layers that loop over time in one program.

The formulas are those that `torch.nn.RNN`, `torch.nn.LSTM` and `torch.nn.GRU` document. Gates have the shape
(batch, gates * hidden); a workspace is what the backward pass reads of the forward pass. A layer is an operator of
our own (`kernels/recurrent.py` has torch use it): torch's decompositions repeat a cell for each time step, and XLA
took two minutes to compile those of 200 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from polypath.torch.lowerings.matmul import product
from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import wide

_Optional = jax.Array | None
_Arrays = Sequence[jax.Array]
_State = tuple[jax.Array, ...]
"""What goes from one time step to the next: h, and c where it is an LSTM; (batch, hidden) each."""

_library: Final = torch.library.Library("polypath", "FRAGMENT")  # Its operators end with it.
_library.define(
    "rnn_layer(Tensor x, Tensor[] state, Tensor[] weights, int[]? batch_sizes, str mode, bool reverse) -> Tensor[]"
)
_library.define(
    "rnn_layer_backward(Tensor?[] grads, Tensor x, Tensor[] state, Tensor[] weights, int[]? batch_sizes, str mode, "
    "bool reverse) -> Tensor[]"
)
ours: Final[Any] = torch.ops.polypath


def _gates(x: jax.Array, bias: _Optional, count: int) -> list[jax.Array]:
    return jnp.split(wide(x) if bias is None else wide(x) + wide(bias), count, axis=1)


@lowers(aten._thnn_fused_lstm_cell)
def lstm_cell(
    input_gates: jax.Array, hidden_gates: jax.Array, cx: jax.Array, input_bias: _Optional = None,
    hidden_bias: _Optional = None,
) -> tuple[jax.Array, ...]:  # fmt: skip
    pairs = zip(_gates(input_gates, input_bias, 4), _gates(hidden_gates, hidden_bias, 4), strict=True)
    i, f, g, o = (of_input + of_hidden for of_input, of_hidden in pairs)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    cy = f * wide(cx) + i * g
    results = o * jnp.tanh(cy), cy, jnp.concatenate([i, f, g, o], axis=1)
    return tuple(one.astype(cx.dtype) for one in results)


@lowers(aten._thnn_fused_lstm_cell_backward_impl)
def lstm_cell_backward(
    grad_hy: _Optional, grad_cy: _Optional, cx: jax.Array, cy: jax.Array, workspace: jax.Array, has_bias: bool
) -> tuple[_Optional, ...]:
    if grad_hy is None and grad_cy is None:
        return None, None, None
    i, f, g, o = _gates(workspace, None, 4)
    to_hy, to_cy = (jnp.zeros_like(i) if one is None else wide(one) for one in (grad_hy, grad_cy))
    c = jnp.tanh(wide(cy))
    to_cy = to_cy + to_hy * o * (1 - c * c)
    gates = jnp.concatenate(
        [to_cy * g * i * (1 - i), to_cy * wide(cx) * f * (1 - f), to_cy * i * (1 - g * g), to_hy * c * o * (1 - o)],
        axis=1,
    )
    results = gates, to_cy * f, jnp.sum(gates, axis=0) if has_bias else None
    return tuple(None if one is None else one.astype(workspace.dtype) for one in results)


@lowers(aten._thnn_fused_gru_cell)
def gru_cell(
    input_gates: jax.Array, hidden_gates: jax.Array, hx: jax.Array, input_bias: _Optional = None,
    hidden_bias: _Optional = None,
) -> tuple[jax.Array, ...]:  # fmt: skip
    r, z, n = _gates(input_gates, input_bias, 3)
    of_r, of_z, of_n = _gates(hidden_gates, hidden_bias, 3)
    r, z = jax.nn.sigmoid(r + of_r), jax.nn.sigmoid(z + of_z)
    n = jnp.tanh(n + r * of_n)
    results = n + z * (wide(hx) - n), jnp.concatenate([r, z, n, wide(hx), of_n], axis=1)
    return tuple(one.astype(hx.dtype) for one in results)


@lowers(aten._thnn_fused_gru_cell_backward)
def gru_cell_backward(grad_hy: jax.Array, workspace: jax.Array, has_bias: bool) -> tuple[_Optional, ...]:
    r, z, n, hx, of_n = _gates(workspace, None, 5)
    grad = wide(grad_hy)
    to_n = grad * (1 - z) * (1 - n * n)
    to_r, to_z = to_n * of_n * r * (1 - r), grad * (hx - n) * z * (1 - z)
    inputs, hidden = (jnp.concatenate([to_r, to_z, last], axis=1) for last in (to_n, to_n * r))
    biases = [jnp.sum(one, axis=0) if has_bias else None for one in (inputs, hidden)]
    results = inputs, hidden, grad * z, *biases
    return tuple(None if one is None else one.astype(workspace.dtype) for one in results)


def _lstm(gates: jax.Array, hidden: jax.Array, state: _State) -> _State:
    return lstm_cell(gates, hidden, state[1])[:2]


def _gru(gates: jax.Array, hidden: jax.Array, state: _State) -> _State:
    return gru_cell(gates, hidden, state[0])[:1]


def _simple(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array, _State], _State]:
    return lambda gates, hidden, state: (function(wide(gates) + wide(hidden)).astype(state[0].dtype),)


_CELLS: Final = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _simple(jnp.tanh), "RNN_RELU": _simple(jax.nn.relu)}
"""By the name that `torch.nn.RNNBase` gives them."""


@lowers(ours.rnn_layer)
def layer(
    x: jax.Array, state: _Arrays, weights: _Arrays, batch_sizes: Sequence[int] | None, mode: str, reverse: bool
) -> list[jax.Array]:
    """One layer in one direction: its outputs, and its state in the end. Half floats are rounded only there.

    Args:
        x: (time, batch, features); packed, it has (sum of `batch_sizes`, features).
        weights: those of the inputs and of the state, both biases if there are any, the projection if there is one.
        batch_sizes: how many sequences are still going on at each time, where they are packed.
    """
    dtype = x.dtype
    x, state, weights = wide(x), [wide(one) for one in state], [wide(one) for one in weights]
    to_gates, of_hidden, *rest = weights
    biases = rest[:2] if len(rest) > 1 else [None, None]
    projection = rest[-1] if len(rest) % 2 else None
    gates = _linear(x, to_gates, biases[0])
    going: _Optional = None
    packing = None if batch_sizes is None else _packing(batch_sizes)
    if batch_sizes is not None:
        gates = jnp.zeros((len(batch_sizes), batch_sizes[0], gates.shape[-1]), gates.dtype).at[packing].set(gates)
        going = jnp.arange(batch_sizes[0]) < jnp.asarray(batch_sizes)[:, None]

    def step(before: _State, given: tuple[jax.Array, _Optional]) -> tuple[_State, jax.Array]:
        after = _CELLS[mode](given[0], _linear(before[0], of_hidden, biases[1]), before)
        if projection is not None:
            after = (_linear(after[0], projection, None), *after[1:])
        if given[1] is not None:
            after = tuple(jnp.where(given[1][:, None], new, old) for new, old in zip(after, before, strict=True))
        return after, after[0]

    end, outputs = lax.scan(step, tuple(state), (gates, going), reverse=reverse)
    outputs = outputs if packing is None else outputs[packing]
    return [one.astype(dtype) for one in (outputs, *end)]


@lowers(ours.rnn_layer_backward)
def layer_backward(
    grads: Sequence[_Optional], x: jax.Array, state: _Arrays, weights: _Arrays, batch_sizes: Sequence[int] | None,
    mode: str, reverse: bool,
) -> list[jax.Array]:  # fmt: skip
    """The gradients of `x`, of the state and of the weights; the forward pass is computed anew."""

    def forward(x: jax.Array, state: _Arrays, weights: _Arrays) -> list[jax.Array]:
        return layer(x, state, weights, batch_sizes, mode, reverse)

    outputs, pull = jax.vjp(forward, x, list(state), list(weights))
    given = [jnp.zeros_like(out) if grad is None else grad for out, grad in zip(outputs, grads, strict=True)]
    to_x, to_state, to_weights = pull(given)
    return [to_x, *to_state, *to_weights]


def _linear(x: jax.Array, weight: jax.Array, bias: _Optional) -> jax.Array:
    found = product(x, weight.T)
    return found if bias is None else found + bias


def _packing(batch_sizes: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The time and the sequence of each packed element."""
    times = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    return times, np.concatenate([np.arange(size) for size in batch_sizes])
