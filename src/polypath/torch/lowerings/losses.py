"""The gradients of losses that torch does not make of other operators."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from polypath.torch.lowerings.table import aten, lowers


@lowers(aten.multi_margin_loss_backward)
def multi_margin_loss_backward(
    grad: jax.Array, x: jax.Array, target: jax.Array, p: float, margin: float, weight: jax.Array | None = None,
    reduction: int = 1,
) -> jax.Array:  # fmt: skip
    def loss(x: jax.Array) -> jax.Array:
        rows, at = x.reshape(-1, x.shape[-1] if x.ndim else 1), target.reshape(-1)
        right = jnp.take_along_axis(rows, at[:, None], 1)
        short = jnp.maximum(margin - right + rows, 0) ** p
        if weight is not None:
            short = short * weight[at][:, None]
        each = jnp.sum(jnp.where(jnp.arange(rows.shape[1]) == at[:, None], 0, short), 1) / rows.shape[1]
        return each.reshape(target.shape) if reduction == 0 else each.mean() if reduction == 1 else each.sum()

    return jax.vjp(loss, x)[1](grad.reshape(jax.eval_shape(loss, x).shape))[0]


@lowers(aten.multilabel_margin_loss_backward)
def multilabel_margin_loss_backward(
    grad: jax.Array, x: jax.Array, target: jax.Array, reduction: int, is_target: jax.Array
) -> jax.Array:
    def loss(x: jax.Array) -> jax.Array:
        rows, at, right = (one.reshape(-1, x.shape[-1] if x.ndim else 1) for one in (x, target, is_target))
        named = jnp.cumprod(at >= 0, axis=1) > 0  # A row's classes end at its first -1.
        scores = jnp.take_along_axis(rows, jnp.where(named, at, 0), 1)
        short = jnp.maximum(1 - scores[:, :, None] + rows[:, None, :], 0)
        each = jnp.sum(jnp.where(named[:, :, None] & (right[:, None, :] == 0), short, 0), (1, 2)) / rows.shape[1]
        return each.reshape(x.shape[:-1]) if reduction == 0 else each.mean() if reduction == 1 else each.sum()

    return jax.vjp(loss, x)[1](grad.reshape(jax.eval_shape(loss, x).shape))[0]
