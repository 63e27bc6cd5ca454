"""Images in another size. Each dimension has a matrix that says how much of every pixel is in each new one.

Forward, torch's decompositions gather pixels, but for the antialiased ones. Backward is the matrix, turned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from polypath.torch.lowerings.table import aten, lowers

Weigh = Callable[[int, int, bool, float | None], np.ndarray[Any, Any]]
"""The matrix [old, new] of: old size, new size, whether corners are aligned, scale."""


def _ratio(size: int, count: int, corners: bool, scale: float | None) -> float:
    """How many pixels are one new pixel."""
    if corners:
        return (size - 1) / (count - 1) if count > 1 else 0.0
    return 1 / scale if scale else size / count


def _matrix(size: int, places: np.ndarray[Any, Any], shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """From the pixels [new, k] and their shares; what is outside counts as the pixel at the edge."""
    weights = np.zeros((size, len(places)))
    columns = np.broadcast_to(np.arange(len(places))[:, None], places.shape)
    np.add.at(weights, (np.clip(places, 0, size - 1), columns), shares)
    return weights


def _nearest(exact: bool) -> Weigh:
    def weigh(size: int, count: int, corners: bool, scale: float | None) -> np.ndarray[Any, Any]:
        at = (np.arange(count) + (0.5 if exact else 0.0)) * np.float32(_ratio(size, count, False, scale))
        return _matrix(size, np.floor(at).astype(int)[:, None], np.ones((count, 1)))

    return weigh


def _centers(size: int, count: int, corners: bool, scale: float | None) -> np.ndarray[Any, Any]:
    ratio = _ratio(size, count, corners, scale)
    return np.arange(count) * ratio if corners else (np.arange(count) + 0.5) * ratio - 0.5


def _linear(size: int, count: int, corners: bool, scale: float | None) -> np.ndarray[Any, Any]:
    at = np.maximum(_centers(size, count, corners, scale), 0.0)
    below = np.floor(at)
    part = at - below
    return _matrix(size, np.stack([below, below + 1], -1).astype(int), np.stack([1 - part, part], -1))


def _keys(away: np.ndarray[Any, Any], a: float) -> np.ndarray[Any, Any]:
    """Keys' cubic kernel."""
    near = ((a + 2) * away - (a + 3)) * away * away + 1
    far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return np.where(away < 1, near, np.where(away < 2, far, 0.0))


def _cubic(size: int, count: int, corners: bool, scale: float | None) -> np.ndarray[Any, Any]:
    at = _centers(size, count, corners, scale)
    places = np.floor(at)[:, None] + np.arange(-1, 3)
    return _matrix(size, places.astype(int), _keys(np.abs(at[:, None] - places), -0.75))


def _smooth(cubic: bool) -> Weigh:
    """Antialiased: a new pixel has something of all pixels below it."""

    def weigh(size: int, count: int, corners: bool, scale: float | None) -> np.ndarray[Any, Any]:
        ratio = _ratio(size, count, corners, scale)
        stretch = max(ratio, 1.0)
        reach = (2.0 if cubic else 1.0) * stretch
        weights = np.zeros((size, count))
        for new in range(count):
            center = ratio * (new + 0.5)
            first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), size)
            away = np.abs((np.arange(first, last) - center + 0.5) / stretch)
            share = _keys(away, -0.5) if cubic else np.maximum(1 - away, 0.0)
            weights[first:last, new] = share / share.sum()
        return weights

    return weigh


def _apply(x: jax.Array, matrices: Sequence[np.ndarray[Any, Any]]) -> jax.Array:
    for dim, matrix in enumerate(matrices, start=x.ndim - len(matrices)):
        turned = jnp.tensordot(x, matrix.astype(x.dtype), (dim, 0), precision=lax.Precision.HIGHEST)
        x = jnp.moveaxis(turned, -1, dim)
    return x


def _matrices(
    weigh: Weigh, sizes: Sequence[int], counts: Sequence[int], given: Sequence[Any], aligns: bool
) -> list[np.ndarray[Any, Any]]:
    """`given`: whether corners are aligned, where there is such a thing, and the scales."""
    corners, scales = (bool(given[0]), given[1:]) if aligns else (False, given)
    scales = [*scales, *[None] * (len(sizes) - len(scales))]
    return [weigh(*one, corners, scale) for one, scale in zip(zip(sizes, counts, strict=True), scales, strict=True)]


def _forward(weigh: Weigh) -> Callable[..., jax.Array]:
    def lowering(x: jax.Array, size: Sequence[int], *given: Any) -> jax.Array:
        return _apply(x, _matrices(weigh, x.shape[2:], size, given, True))

    return lowering


def _backward(weigh: Weigh, aligns: bool) -> Callable[..., jax.Array]:
    def lowering(grad: jax.Array, size: Sequence[int], input_size: Sequence[int], *given: Any) -> jax.Array:
        return _apply(grad, [one.T for one in _matrices(weigh, input_size[2:], size, given, aligns)])

    return lowering


_KINDS: Final[dict[str, tuple[Weigh, bool]]] = {
    "upsample_linear1d": (_linear, True),
    "upsample_bilinear2d": (_linear, True),
    "upsample_trilinear3d": (_linear, True),
    "upsample_bicubic2d": (_cubic, True),
    "_upsample_bilinear2d_aa": (_smooth(False), True),
    "_upsample_bicubic2d_aa": (_smooth(True), True),
    **{f"upsample_nearest{n}d": (_nearest(False), False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": (_nearest(True), False) for n in (1, 2, 3)},
}
for _name, (_weigh, _aligns) in _KINDS.items():
    lowers(getattr(aten, f"{_name}_backward").default)(_backward(_weigh, _aligns))
    if _name.endswith("_aa"):
        lowers(getattr(aten, _name).default)(_forward(_weigh))
