"""Factorizations of matrices and what is solved with them.

Pivots are torch's: int32, counted from 1. `info` says 0, since a device cannot stop half way: what cannot be
factored gives NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax

from polypath.torch.lowerings.matmul import product
from polypath.torch.lowerings.table import aten, if_known, lowers, reads_strides
from polypath.torch.lowerings.types import is_complex, is_contiguous, to_complex, to_real

Arrays = tuple[jax.Array, ...]


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, -1, -2).conj()


def _turned(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, -1, -2)


def _info(x: jax.Array, bad: jax.Array | None = None) -> jax.Array:
    return jnp.zeros(x.shape[:-2], jnp.int32) if bad is None else bad.astype(jnp.int32)


def _nowhere(x: jax.Array) -> bool:
    return 0 in x.shape


def _factor(x: jax.Array) -> Arrays:
    if _nowhere(x):
        few = min(x.shape[-2:])
        return x, jnp.zeros((*x.shape[:-2], few), jnp.int32), jnp.zeros((*x.shape[:-2], x.shape[-2]), jnp.int32)
    found, pivots, order = lax.linalg.lu(x)
    return found, pivots, order


def _singular(found: jax.Array) -> jax.Array:
    """The first zero on the diagonal, counted from 1."""
    if _nowhere(found):
        return jnp.zeros(found.shape[:-2], jnp.int32)
    zero = jnp.diagonal(found, axis1=-2, axis2=-1) == 0
    return jnp.where(jnp.any(zero, -1), jnp.argmax(zero, -1) + 1, 0).astype(jnp.int32)


@lowers(aten.linalg_lu_factor_ex)
def lu_factor(x: jax.Array, *, pivot: bool = True, check_errors: bool = False) -> Arrays:
    found, pivots, _ = _factor(x) if pivot else _without_pivots(x)
    return found, pivots + 1, _singular(found)


def _without_pivots(x: jax.Array) -> Arrays:
    def step(at: int, x: jax.Array) -> jax.Array:
        rows, columns = jnp.arange(x.shape[-2]), jnp.arange(x.shape[-1])
        below = jnp.where(rows > at, x[..., :, at] / x[..., at, at][..., None], 0)
        x = x - below[..., :, None] * jnp.where(columns > at, x[..., at, :], 0)[..., None, :]
        return x.at[..., :, at].set(jnp.where(rows > at, below, x[..., :, at]))

    few = min(x.shape[-2:])
    found = lax.fori_loop(0, few, step, x) if few else x
    pivots = jnp.broadcast_to(jnp.arange(few, dtype=jnp.int32), (*x.shape[:-2], few))
    return found, pivots, jnp.broadcast_to(jnp.arange(x.shape[-2], dtype=jnp.int32), (*x.shape[:-2], x.shape[-2]))


def _permutation(order: jax.Array, of: Any) -> jax.Array:
    """The matrix P of A = P L U."""
    return _turned(jax.nn.one_hot(order, order.shape[-1], dtype=of))


def _triangles(found: jax.Array) -> Arrays:
    few = min(found.shape[-2:])
    lower = jnp.tril(found[..., :few], -1) + jnp.eye(found.shape[-2], few, dtype=found.dtype)
    return lower, jnp.triu(found[..., :few, :])


@lowers(aten.linalg_lu)
def lu(x: jax.Array, *, pivot: bool = True) -> Arrays:
    found, _, order = _factor(x) if pivot else _without_pivots(x)
    permutation = _permutation(order, x.dtype) if pivot else jnp.zeros((0,), x.dtype)
    return permutation, *_triangles(found)


def _order(pivots: jax.Array, rows: int) -> jax.Array:
    if 0 in pivots.shape:
        return jnp.broadcast_to(jnp.arange(rows), (*pivots.shape[:-1], rows))
    return lax.linalg.lu_pivots_to_permutation(pivots.astype(jnp.int32) - 1, rows)


@lowers(aten.lu_unpack)
def lu_unpack(found: jax.Array, pivots: jax.Array, unpack_data: bool = True, unpack_pivots: bool = True) -> Arrays:
    nothing = jnp.zeros((0,), found.dtype)
    lower, upper = _triangles(found) if unpack_data else (nothing, nothing)
    if not unpack_pivots:
        return nothing, lower, upper
    return _permutation(_order(pivots, found.shape[-2]), found.dtype), lower, upper


@lowers(aten.linalg_lu_solve)
def lu_solve(
    found: jax.Array, pivots: jax.Array, b: jax.Array, *, left: bool = True, adjoint: bool = False
) -> jax.Array:
    if not left:  # X A = B is A^H X^H = B^H.
        return _adjoint(lu_solve(found, pivots, _adjoint(b), adjoint=not adjoint))
    batch = jnp.broadcast_shapes(found.shape[:-2], b.shape[:-2])
    if _nowhere(b) or _nowhere(found):
        return jnp.zeros((*batch, *b.shape[-2:]), b.dtype)
    found = jnp.broadcast_to(found, (*batch, *found.shape[-2:]))
    b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    order = jnp.broadcast_to(_order(pivots, found.shape[-1]), (*batch, found.shape[-1]))[..., None]
    if not adjoint:
        b = jnp.take_along_axis(b, order, axis=-2)
        b = _triangular(found, b, upper=False, unit=True)
        return _triangular(found, b, upper=True)
    b = _triangular(found, b, upper=True, adjoint=True)
    b = _triangular(found, b, upper=False, unit=True, adjoint=True)
    return jnp.take_along_axis(b, jnp.argsort(order, axis=-2), axis=-2)


def _triangular(
    a: jax.Array, b: jax.Array, *, upper: bool, left: bool = True, unit: bool = False, adjoint: bool = False
) -> jax.Array:
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = jnp.broadcast_to(a, (*batch, *a.shape[-2:])), jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    if _nowhere(b):
        return b
    return lax.linalg.triangular_solve(
        a, b, left_side=left, lower=not upper, transpose_a=adjoint, conjugate_a=adjoint, unit_diagonal=unit
    )


@lowers(aten.linalg_solve_triangular)
def solve_triangular(
    a: jax.Array, b: jax.Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> jax.Array:
    return _triangular(a, b, upper=upper, left=left, unit=unitriangular)


@lowers(aten.triangular_solve)
def triangular_solve(
    b: jax.Array, a: jax.Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Arrays:
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = jnp.broadcast_to(a, (*batch, *a.shape[-2:]))
    turned, over = (_turned(a), not upper) if transpose else (a, upper)
    return _triangular(turned, b, upper=over, unit=unitriangular), a


def _factor_as_torch(x: jax.Array, strides: Any) -> Arrays:
    """What backward is to find: the factors of the transposed matrix, where that is the one that LAPACK would read."""
    return lu_factor(_turned(x) if not is_complex(x.dtype) and is_contiguous(x.shape, strides) else x)


@lowers(aten._linalg_solve_ex.default)
def solve(a: jax.Array, b: jax.Array, *, left: bool = True, check_errors: bool = False) -> Arrays:
    found, pivots, info = lu_factor(a)
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    given = b[..., None] if vector else b
    solved = lu_solve(found, pivots, given, left=left or vector)
    return solved[..., 0] if vector else solved, found, pivots, info


@lowers(aten.linalg_inv_ex)
def inverse(x: jax.Array, *, check_errors: bool = False) -> Arrays:
    if _nowhere(x):
        return x, _info(x)
    found, pivots, info = lu_factor(x)
    return lu_solve(found, pivots, jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)), info


def _sign_of(pivots: jax.Array) -> jax.Array:
    swaps = jnp.sum(pivots != jnp.arange(1, pivots.shape[-1] + 1), axis=-1)
    return 1 - 2 * (swaps % 2)


@reads_strides(aten._linalg_det.default)
def det(x: jax.Array, *, strides: Any = None) -> Arrays:
    found, pivots, *_ = _factor_as_torch(x, strides)
    value = jnp.prod(jnp.diagonal(found, axis1=-2, axis2=-1), axis=-1) * _sign_of(pivots).astype(x.dtype)
    return value, found, pivots


@reads_strides(aten._linalg_slogdet.default)
def slogdet(x: jax.Array, *, strides: Any = None) -> Arrays:
    found, pivots, *_ = _factor_as_torch(x, strides)
    diagonal = jnp.diagonal(found, axis1=-2, axis2=-1)
    sign = jnp.prod(jnp.sign(diagonal), axis=-1) * _sign_of(pivots).astype(x.dtype)
    return sign, jnp.sum(jnp.log(jnp.abs(diagonal)), axis=-1), found, pivots


@lowers(aten.linalg_cholesky_ex)
def cholesky_ex(x: jax.Array, *, upper: bool = False, check_errors: bool = False) -> Arrays:
    if _nowhere(x):
        return x, _info(x)
    # Only the lower triangle is looked at, as torch does.
    lower = lax.linalg.cholesky(_turned(x).conj() if upper else x, symmetrize_input=False)
    bad = jnp.any(jnp.isnan(lower), axis=(-1, -2))
    return (_adjoint(lower) if upper else lower), _info(x, bad)


@lowers(*if_known("cholesky"))  # Not in torch 2.14.
def cholesky(x: jax.Array, upper: bool = False) -> jax.Array:
    return cholesky_ex(x, upper=upper)[0]


@lowers(aten.cholesky_solve)
def cholesky_solve(b: jax.Array, factor: jax.Array, upper: bool = False) -> jax.Array:
    lower = _adjoint(factor) if upper else factor
    return _triangular(lower, _triangular(lower, b, upper=False), upper=False, adjoint=True)


@lowers(aten.cholesky_inverse)
def cholesky_inverse(factor: jax.Array, upper: bool = False) -> jax.Array:
    eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    return cholesky_solve(eye, factor, upper)


@lowers(aten.linalg_qr)
def qr(x: jax.Array, mode: str = "reduced") -> Arrays:
    if _nowhere(x):
        rows, few = x.shape[-2], x.shape[-2] if mode == "complete" else min(x.shape[-2:])
        q = jnp.broadcast_to(jnp.eye(rows, few, dtype=x.dtype), (*x.shape[:-2], rows, few))
        return q if mode != "r" else jnp.zeros((0,), x.dtype), jnp.zeros((*x.shape[:-2], few, x.shape[-1]), x.dtype)
    if mode == "r":
        return jnp.zeros((0,), x.dtype), jnp.linalg.qr(x, mode="r")
    q, r = jnp.linalg.qr(x, mode=mode)
    return q, r


@lowers(aten.geqrf)
def geqrf(x: jax.Array) -> Arrays:
    found, tau = jnp.linalg.qr(x, mode="raw")
    return _turned(found), tau


@lowers(aten.linalg_householder_product, aten.orgqr)
def householder_product(x: jax.Array, tau: jax.Array) -> jax.Array:
    if _nowhere(x) or tau.shape[-1] == 0:
        return jnp.broadcast_to(jnp.eye(*x.shape[-2:], dtype=x.dtype), x.shape)
    return lax.linalg.householder_product(x, tau)


@lowers(aten.ormqr)
def ormqr(x: jax.Array, tau: jax.Array, other: jax.Array, left: bool = True, transpose: bool = False) -> jax.Array:
    rows = x.shape[-2]
    whole = jnp.concatenate([x, jnp.zeros((*x.shape[:-1], max(rows - x.shape[-1], 0)), x.dtype)], -1)[..., :rows]
    q = householder_product(whole, tau)
    q = _adjoint(q) if transpose else q
    return product(q, other) if left else product(other, q)


@lowers(aten._linalg_svd.default)
def svd(x: jax.Array, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None) -> Arrays:
    rows, columns = x.shape[-2:]
    few, nothing = min(rows, columns), jnp.zeros((0,), x.dtype)
    if _nowhere(x):
        singular = jnp.zeros((*x.shape[:-2], few), to_real(x.dtype))
        if not compute_uv:
            return nothing, singular, nothing
        tall, wide = (rows, columns) if full_matrices else (few, few)
        return _eyes(x, rows, tall), singular, _eyes(x, wide, columns)
    if not compute_uv:
        return nothing, jnp.linalg.svd(x, compute_uv=False), nothing
    return tuple(jnp.linalg.svd(x, full_matrices=full_matrices))


def _eyes(x: jax.Array, rows: int, columns: int) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(rows, columns, dtype=x.dtype), (*x.shape[:-2], rows, columns))


@lowers(aten._linalg_eigh.default)
def eigh(x: jax.Array, uplo: str = "L", compute_v: bool = True) -> Arrays:
    if _nowhere(x):
        return jnp.zeros(x.shape[:-1], to_real(x.dtype)), x if compute_v else jnp.zeros((0,), x.dtype)
    if not compute_v:
        return jnp.linalg.eigvalsh(x, UPLO=uplo, symmetrize_input=False), jnp.zeros((0,), x.dtype)
    vectors, values = lax.linalg.eigh(x, lower=uplo.upper() == "L", symmetrize_input=False)
    return values, vectors


@lowers(aten.linalg_eig)
def eig(x: jax.Array) -> Arrays:
    of = x.dtype if is_complex(x.dtype) else to_complex(x.dtype)
    if _nowhere(x):
        return jnp.zeros(x.shape[:-1], of), x.astype(of)
    values, vectors = jnp.linalg.eig(x)
    return values, vectors


@lowers(aten._linalg_eigvals)
def eigvals(x: jax.Array) -> jax.Array:
    return eig(x)[0]


@lowers(aten.linalg_matrix_exp)
def matrix_exp(x: jax.Array) -> jax.Array:
    if _nowhere(x):
        return x
    of = jnp.complex128 if is_complex(x.dtype) else jnp.float64  # Its many products cost digits.
    return jsl.expm(x.astype(of)).astype(x.dtype)


@lowers(aten.linalg_pinv.atol_rtol_tensor)
def pinv(
    x: jax.Array, *, atol: jax.Array | None = None, rtol: jax.Array | None = None, hermitian: bool = False
) -> jax.Array:
    if _nowhere(x):
        return jnp.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
    real = to_real(x.dtype)
    if rtol is None:
        least = float(jnp.finfo(real).eps) * max(x.shape[-2:])
        rtol = jnp.asarray(least, real) if atol is None else jnp.where(atol > 0, 0.0, least)
    if hermitian:
        values, vectors = eigh(x)
        size, other = jnp.abs(values), _adjoint(vectors)
    else:
        vectors, values, other = svd(x)
        size = values
    bound = jnp.max(size, axis=-1, keepdims=True) * rtol[..., None]
    bound = bound if atol is None else jnp.maximum(bound, atol[..., None])
    inverted = jnp.where(size > bound, 1 / jnp.where(size > bound, values, 1), 0).astype(x.dtype)[..., None, :]
    return product(_adjoint(other) * inverted, _adjoint(vectors))
