"""Linear algebra, transforms and convolution; custom calls among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from _common import noise, put, ramp
from jax import lax

jax.config.update("jax_enable_x64", True)
RTOL = 1e-5
TYPES = (np.float32, np.float64, np.complex64, np.complex128)


def square(n: int, dtype: Any) -> np.ndarray:
    x = noise(n, n) + (1j * noise(n, n, seed=1) if np.issubdtype(dtype, np.complexfloating) else 0)
    return (x + 3 * np.eye(n)).astype(dtype)


def of_each_type(f: Callable[..., Any], make: Callable[[Any], np.ndarray] = lambda t: square(6, t)) -> dict[str, Any]:
    """On one device, and split over the mesh."""
    return {np.dtype(t).name: [jax.jit(f)(make(t)), jax.jit(f)(put(make(t), "x"))] for t in TYPES}


def hermitian(dtype: Any) -> np.ndarray:
    x = square(6, dtype)
    return (x @ x.conj().T + 6 * np.eye(6)).astype(dtype)


def case_cholesky() -> Any:
    return of_each_type(jnp.linalg.cholesky, hermitian)


def case_qr() -> Any:
    return of_each_type(lambda x: [jnp.abs(jnp.linalg.qr(x)[1]), jnp.matmul(*jnp.linalg.qr(x))])


def case_svd() -> Any:
    def f(x: jax.Array) -> list[jax.Array]:
        u, s, v = jnp.linalg.svd(x, full_matrices=False)
        return [s, (u * s) @ v]

    return of_each_type(f)


def case_eigh() -> Any:
    def f(x: jax.Array) -> list[jax.Array]:
        w, v = jnp.linalg.eigh(x)
        return [w, (v * w) @ v.conj().T]

    return of_each_type(f, hermitian)


def case_eig() -> Any:
    f = jax.jit(lambda x: jnp.sort(jnp.linalg.eigvals(x)))
    return [f(square(6, t)) for t in TYPES]


def case_lu() -> Any:
    return of_each_type(jsp.linalg.lu)


def case_solve_inv_det() -> Any:
    return of_each_type(
        lambda x: [jnp.linalg.solve(x, x[0]), jnp.linalg.inv(x), jnp.linalg.det(x), jnp.linalg.slogdet(x)]
    )


def case_triangular_solve() -> Any:
    return of_each_type(lambda x: lax.linalg.triangular_solve(x, x, left_side=True, lower=True))


def case_more_factorizations() -> Any:
    def f(x: jax.Array) -> list[jax.Array]:
        return [
            jnp.linalg.matrix_power(x, 3), jnp.linalg.norm(x), jnp.linalg.cond(x), jnp.linalg.pinv(x),
            jsp.linalg.expm(x / 9), jsp.linalg.cho_solve(jsp.linalg.cho_factor(x @ x.T), x[0]),
        ]  # fmt: skip

    return [jax.jit(f)(square(5, np.float64)), jax.jit(f)(put(square(5, np.float64)))]


def case_schur_hessenberg_tridiagonal() -> Any:
    x = square(6, np.float64)
    return [jnp.sort(jnp.diag(jsp.linalg.schur(jnp.asarray(x @ x.T))[0])), jnp.abs(lax.linalg.hessenberg(x)[0])]


def case_batched() -> Any:
    x = np.stack([hermitian(np.float32) + i * np.eye(6, dtype=np.float32) for i in range(8)])
    f = jax.jit(lambda x: [jnp.linalg.cholesky(x), jnp.linalg.inv(x), jnp.linalg.eigvalsh(x)])
    return f(put(x, ("x", "y")))


def case_grad_of_factorizations() -> Any:
    f = jax.jit(jax.grad(lambda x: jnp.linalg.slogdet(x)[1] + jnp.linalg.svd(x, compute_uv=False).sum()))
    return f(put(square(6, np.float64)))


def case_fft() -> Any:
    x = {t: square(8, t) for t in (np.complex64, np.complex128)}
    f = jax.jit(lambda x: [jnp.fft.fft(x), jnp.fft.ifft(x), jnp.fft.fft2(x), jnp.fft.fftn(x), jnp.fft.fftshift(x)])
    return [[f(v), f(put(v, "x"))] for v in x.values()]


def case_real_fft() -> Any:
    f = jax.jit(lambda x: [jnp.fft.rfft(x), jnp.fft.irfft(jnp.fft.rfft(x), 8), jnp.fft.hfft(x), jnp.fft.rfftn(x)])
    return [f(noise(8, 8)), f(put(noise(8, 8), "x")), f(put(noise(8, 8, dtype=np.float64), "y"))]


def case_convolutions() -> Any:
    x, k = noise(8, 3, 10, 10), noise(4, 3, 3, 3, seed=1)
    f = jax.jit(lambda x, k: [lax.conv(x, k, (1, 1), "SAME"), lax.conv(x, k, (2, 2), "VALID")])
    one = jax.jit(lambda a, b: [jnp.convolve(a, b), jnp.correlate(a, b, "same"), jsp.signal.convolve(a, b)])
    return [f(put(x, "x"), put(k)), f(x, k), one(noise(20), noise(5, seed=2))]


def case_pooling_and_image() -> Any:
    x = put(noise(8, 8, 3), "x")
    pool = jax.jit(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID"))
    return [pool(x), jax.image.resize(x, (5, 12, 3), "bilinear"), jax.jit(jax.grad(lambda x: pool(x).sum()))(x)]


def case_einsum_and_dots() -> Any:
    a, b = put(noise(8, 4, 6), "x"), put(noise(6, 4, 8, seed=1), None, "y")
    f = jax.jit(lambda a, b: [jnp.einsum("abc,cbd->ad", a, b), jnp.tensordot(a, b, ((2, 1), (0, 1))), jnp.vdot(a, a)])
    return [
        f(a, b),
        lax.dot(ramp(4, 4).astype(np.int8) % 5, ramp(4, 4).astype(np.int8) % 7, preferred_element_type=np.int32),
    ]


def case_special_functions() -> Any:
    x = put(np.abs(noise(8, 8)) + 0.1, "x", "y")
    s = jsp.special
    f = jax.jit(
        lambda x: [
            s.gammaln(x),
            s.erf(x),
            s.digamma(x),
            s.betainc(x, x, 0.3),
            s.i0e(x),
            s.logsumexp(x, 0),
            s.ndtri(x / 9),
        ]
    )
    return f(x)
