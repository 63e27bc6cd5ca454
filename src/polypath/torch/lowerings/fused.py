"""The fused optimizers: a step of all parameters as one operator (`torch.optim.AdamW(..., fused=True)`).

The formulas are those of torch's CUDA kernels. `grad_scale` and `found_inf` are a gradient scaler's: gradients are
divided by the one, and nothing changes where the other is 1. Half floats are computed in float32, as torch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Operand, wide

_Arrays = Sequence[jax.Array]
_Lists = tuple[list[jax.Array], ...]


def _gradients(grads: _Arrays, scale: jax.Array | None) -> list[jax.Array]:
    return [wide(one) if scale is None else wide(one) / scale for one in grads]


def _results(found_inf: jax.Array | None, before: Sequence[_Arrays], after: Sequence[_Arrays]) -> _Lists:
    """What is written, in the dtypes that were there."""

    def one(old: jax.Array, new: jax.Array) -> jax.Array:
        new = new.astype(old.dtype)
        return new if found_inf is None else jnp.where(found_inf == 1, old, new)

    return tuple([one(*pair) for pair in zip(*lists, strict=True)] for lists in zip(before, after, strict=True))


def _adam(*, decoupled: bool) -> Any:
    def lowering(
        params: _Arrays, grads: _Arrays, exp_avgs: _Arrays, exp_avg_sqs: _Arrays, max_exp_avg_sqs: _Arrays,
        state_steps: _Arrays, *, lr: Operand, beta1: Operand, beta2: Operand, weight_decay: Operand, eps: Operand,
        amsgrad: bool, maximize: bool, grad_scale: jax.Array | None = None, found_inf: jax.Array | None = None,
    ) -> _Lists:  # fmt: skip
        scaled = _gradients(grads, grad_scale)
        after: list[list[jax.Array]] = [[], scaled, [], [], []]
        for at, step in enumerate(state_steps):
            p, g, m, v = wide(params[at]), scaled[at], wide(exp_avgs[at]), wide(exp_avg_sqs[at])
            g = -g if maximize else g
            p, g = (p - lr * weight_decay * p, g) if decoupled else (p, g + weight_decay * p)
            m, v = m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * g * g
            most = jnp.maximum(wide(max_exp_avg_sqs[at]), v) if amsgrad else v
            # In float32 few digits are left of 1 - 0.999.
            corrections = [1 - jnp.asarray(beta, jnp.float64) ** step.astype(jnp.float64) for beta in (beta1, beta2)]
            size, root = (lr / corrections[0]).astype(p.dtype), jnp.sqrt(corrections[1]).astype(p.dtype)
            p = p - size * m / (jnp.sqrt(most) / root + eps)
            for list_, one in zip((after[0], after[2], after[3]), (p, m, v), strict=True):
                list_.append(one)
            if amsgrad:
                after[4].append(most)
        if not amsgrad:
            after[4] = list(max_exp_avg_sqs)
        return _results(found_inf, (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), after)

    return lowering


lowers(aten._fused_adam.default, aten._fused_adam.tensor_lr)(_adam(decoupled=False))
lowers(aten._fused_adamw.default, aten._fused_adamw.tensor_lr)(_adam(decoupled=True))


@lowers(aten._fused_sgd.default, aten._fused_sgd.tensor_lr)
def sgd(
    params: _Arrays, grads: _Arrays, momentum_buffer_list: _Arrays, *, weight_decay: Operand, momentum: Operand,
    lr: Operand, dampening: Operand, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: jax.Array | None = None, found_inf: jax.Array | None = None,
) -> _Lists:  # fmt: skip
    scaled = _gradients(grads, grad_scale)
    changed: list[jax.Array] = []
    buffers: list[jax.Array] = []
    for at, param in enumerate(params):
        p = wide(param)
        g = (-scaled[at] if maximize else scaled[at]) + weight_decay * p
        if momentum_buffer_list:
            buffer = g if is_first_step else momentum * wide(momentum_buffer_list[at]) + (1 - dampening) * g
            buffers.append(buffer)
            g = g + momentum * buffer if nesterov else buffer
        changed.append(p - lr * g)
    return _results(found_inf, (params, grads, momentum_buffer_list), (changed, scaled, buffers))


@lowers(aten._fused_adagrad.tensor_lr)
def adagrad(
    params: _Arrays, grads: _Arrays, state_sums: _Arrays, state_steps: _Arrays, *, lr: Operand, lr_decay: Operand,
    weight_decay: Operand, eps: Operand, maximize: bool, grad_scale: jax.Array | None = None,
    found_inf: jax.Array | None = None,
) -> _Lists:  # fmt: skip
    scaled = _gradients(grads, grad_scale)
    changed: list[jax.Array] = []
    sums: list[jax.Array] = []
    for at, step in enumerate(state_steps):
        p = wide(params[at])
        g = (-scaled[at] if maximize else scaled[at]) + weight_decay * p
        total = wide(state_sums[at]) + g * g
        size = (lr / (1 + (step.astype(jnp.float64) - 1) * lr_decay)).astype(p.dtype)
        changed.append(p - size * g / (jnp.sqrt(total) + eps))
        sums.append(total)
    return _results(found_inf, (params, grads, state_sums), (changed, scaled, sums))


@lowers(aten._fused_adagrad.default)
def adagrad_with_steps(
    params: _Arrays, grads: _Arrays, state_sums: _Arrays, state_steps: _Arrays, **options: Any
) -> _Lists:
    """The same; this overload says that it changes the steps, too, which it does not."""
    return (*adagrad(params, grads, state_sums, state_steps, **options), list(state_steps))
