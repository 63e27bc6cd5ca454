"""Small programs that a client of any supported version of JAX runs, each checked against numpy.

Run in an environment that need not have Polypath: `python version_programs.py`. Prints, as JSON, for
each program an empty string or how it failed. What is used of JAX is what all versions have.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable

import jax
import numpy as np

if "--pathwaysutils" in sys.argv:
    import pathwaysutils

    pathwaysutils.initialize()
    assert importlib.util.find_spec("polypath") is None

import jax.export
import jax.numpy as jnp
import ml_dtypes
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

PROGRAMS: dict[str, Callable[[], None]] = {}
RNG = np.random.default_rng(0)


def program(run: Callable[[], None]) -> Callable[[], None]:
    PROGRAMS[run.__name__] = run
    return run


def same(found: object, expected: object) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), (found, expected)
    np.testing.assert_array_equal(found, expected)


def close(found: object, expected: object, tolerance: float = 1e-5) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def message(run: Callable[[], object]) -> str:
    """The exception that is raised."""
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


def mesh(*shape: int, names: str = "abc", kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh(shape, tuple(names[: len(shape)]), axis_types=(kind,) * len(shape))


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


# --- Arrays ---------------------------------------------------------------------------------------------------------


@program
def devices() -> None:
    found = jax.devices()
    assert len(found) == 8 == jax.device_count() == jax.local_device_count()
    assert found[0].client.runtime_type == "proxy/polypath"
    assert [device.id for device in found] == list(range(8)), found
    assert {device.slice_index for device in found} == {0}
    assert {device.process_index for device in found} == {0}
    assert {device.platform for device in found} == {"cpu"}
    assert {device.device_kind for device in found} == {"cpu"}
    assert {memory.kind for memory in found[0].addressable_memories()} == {"device", "pinned_host", "unpinned_host"}
    assert found[3].default_memory().kind == "device"


@program
def hooks() -> None:
    if importlib.util.find_spec("polypath") is not None:
        from polypath.client.hooks import patches

        assert not patches.left_out


@program
def dtypes() -> None:
    kinds = ["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "complex64"]
    small = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float4_e2m1fn"]
    smaller = ["int4", "uint4", "int2", "uint2"]
    types = [np.dtype(name) for name in kinds] + [np.dtype(getattr(ml_dtypes, name)) for name in small + smaller]
    with jax.enable_x64(True):
        for dtype in [*types, *(np.dtype(name) for name in ["int64", "uint64", "float64", "complex128"])]:
            a = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
            x = jax.device_put(a)
            assert x.dtype == dtype
            same(x, a)
            same(x.T, a.T)
            same(jax.device_put(np.array(1, dtype)), np.array(1, dtype))
            eight = np.array([0, 1] * 8).astype(dtype)
            same(jax.device_put(eight, NamedSharding(mesh(8), P("a"))), eight)


@program
def shapes() -> None:
    for shape in ((), (0,), (3, 0, 2), (1, 1, 1), (5,), (2, 3, 4, 5, 6)):
        a = np.ones(shape, np.float32)
        same(jax.device_put(a), a)
        same(jax.jit(lambda x: x + 1)(a), a + 1)


@program
def large() -> None:
    a = np.arange(8 << 20, dtype=np.int32)
    same(jax.device_put(a), a)
    same(jax.jit(lambda x: x + 1)(jax.device_put(a, NamedSharding(mesh(8), P("a")))), a + 1)


@program
def placement() -> None:
    a, both = floats(8, 16), mesh(2, 4)
    x = jax.device_put(a, NamedSharding(both, P("a", "b")))
    for shard in x.addressable_shards:
        same(shard.data, a[shard.index])
    for spec in (P("b", "a"), P(None, ("a", "b")), P("a"), P(), P(None, "b")):
        x = jax.device_put(x, NamedSharding(both, spec))
        same(x, a)
    turned = Mesh(both.devices[::-1, ::-1].T, ("a", "b"))
    x = jax.device_put(x, NamedSharding(turned, P("a", "b")))
    same(x, a)
    for device in jax.devices():
        x = jax.device_put(x, device)
        assert x.devices() == {device}
        same(x, a)
    x = jax.device_put(x, NamedSharding(Mesh(both.devices[1], ("b",)), P("b")))
    same(x, a)
    many = jax.device_put([a, {"b": a + 1}], [jax.devices()[1], {"b": NamedSharding(both, P("a"))}])
    same(many[0], a)
    same(many[1]["b"], a + 1)


@program
def assembled() -> None:
    a, sharding = floats(16, 4), NamedSharding(mesh(2, 4), P(("a", "b")))
    same(jax.make_array_from_callback(a.shape, sharding, lambda index: a[index]), a)
    parts = [jax.device_put(a[2 * i : 2 * i + 2], d) for i, d in enumerate(sharding.mesh.devices.flat)]
    x = jax.make_array_from_single_device_arrays(a.shape, sharding, parts)
    same(x, a)
    same(x[3:9], a[3:9])
    same(jnp.concatenate([x, x]), np.concatenate([a, a]))


@program
def copies() -> None:
    a = floats(8, 8)
    x = jax.device_put(a, NamedSharding(mesh(8), P("a")))
    y = jnp.copy(x)
    x.delete()
    assert x.is_deleted()
    same(y, a)
    z = jax.device_put(y, jax.devices()[5], may_alias=False)
    y.delete()
    same(z, a)


@program
def memories() -> None:
    a = floats(8, 8)
    for sharding in (SingleDeviceSharding(jax.devices()[2]), NamedSharding(mesh(2, 4), P("a", "b"))):
        x = jax.device_put(a, sharding.with_memory_kind("pinned_host"))
        assert x.sharding.memory_kind == "pinned_host"
        same(x, a)
        y = jax.device_put(x, sharding.with_memory_kind("device"))
        same(jax.jit(lambda y: y * 2)(y), a * 2)


# --- Programs -------------------------------------------------------------------------------------------------------


@program
def jit() -> None:
    a, b = floats(5, 7), floats(7, 3)
    x, y = jax.device_put(a), jax.device_put(b)
    close(jax.jit(jnp.dot)(x, y), a @ b)
    step = jax.jit(lambda tree, n: {k: (v + i, v.sum()) for i in range(n) for k, v in tree.items()}, static_argnums=1)
    for _ in range(3):  # The first call learns what the results are, the others name them themselves.
        found = step({"a": x, "b": y}, 2)
        close(found["a"][0], a + 1)
        close(found["b"][1], b.sum(), 1e-4)
    x = jnp.float32(0)
    for _ in range(100):
        x = x + 1
    same(x, np.float32(100))


@program
def sharded() -> None:
    a, both = floats(8, 16), mesh(2, 4)
    x = jax.device_put(a, NamedSharding(both, P("a", "b")))
    close(jax.jit(lambda x: (x * x).sum(axis=0))(x), (a * a).sum(axis=0))
    close(jax.jit(lambda x: x @ x.T)(x), a @ a.T, 1e-4)
    for spec in (P("b", "a"), P(None, ("a", "b")), P(), P("a")):
        to = NamedSharding(both, spec)
        y = jax.jit(lambda x: x + 1, out_shardings=to)(x)
        assert y.sharding.is_equivalent_to(to, 2), y.sharding
        same(y, a + 1)
        z = jax.jit(lambda x, to=to: jax.lax.with_sharding_constraint(x * 2, to).T)(x)
        same(z, (a * 2).T)
    same(jax.jit(lambda x: jnp.sort(x.reshape(4, 32), axis=1))(x), np.sort(a.reshape(4, 32), axis=1))
    three = mesh(2, 2, 2)
    w = jax.device_put(a.reshape(2, 4, 16), NamedSharding(three, P("a", ("c", "b"))))
    same(jax.jit(lambda w: w.transpose(2, 0, 1) - 1)(w), a.reshape(2, 4, 16).transpose(2, 0, 1) - 1)
    same(jax.jit(lambda w: w.reshape(8, 4, 4)[:, ::-1])(w), a.reshape(8, 4, 4)[:, ::-1])


@program
def explicit_shardings() -> None:
    a = floats(8, 16)
    with jax.set_mesh(mesh(2, 4, kind=AxisType.Explicit)) as both:
        del both
        x = jax.device_put(a, P("a", "b"))
        y = jax.jit(lambda x: jnp.sin(x) * 2)(x)
        assert jax.typeof(y).sharding.spec == P("a", "b"), jax.typeof(y)
        close(y, np.sin(a) * 2)
        close(jax.jit(lambda x: jax.sharding.reshard(x, P("b", None)).sum(axis=1))(x), a.sum(axis=1))


@program
def shard_map() -> None:
    a, both = floats(8, 16), mesh(2, 4)
    x = jax.device_put(a, NamedSharding(both, P("a", "b")))

    def run(body: Callable[..., object], out: P) -> object:
        return jax.jit(jax.shard_map(body, mesh=both, in_specs=P("a", "b"), out_specs=out))(x)

    parts = a.reshape(2, 4, 4, 4)
    close(run(lambda x: jax.lax.psum(x, "a"), P(None, "b")), parts.sum(axis=0).reshape(4, 16))
    close(run(lambda x: jax.lax.psum(x, ("a", "b")), P()), a.reshape(2, 4, 4, 4).sum(axis=(0, 2)))
    same(run(lambda x: jax.lax.pmax(x, "b"), P("a")), a.reshape(8, 4, 4).max(axis=1))
    turned = np.roll(a.reshape(8, 4, 4), 1, axis=1).reshape(8, 16)
    same(run(lambda x: jax.lax.ppermute(x, "b", [(i, (i + 1) % 4) for i in range(4)]), P("a", "b")), turned)
    gathered = run(lambda x: jax.lax.all_gather(x, "b", axis=1, tiled=True)[:, :4], P("a", "b"))
    same(gathered, np.tile(a[:, :4], (1, 4)))
    scattered = run(lambda x: jax.lax.psum_scatter(x, "a", scatter_dimension=0, tiled=True), P("a", "b"))
    close(scattered, a[:4] + a[4:])
    same(run(lambda x: x + jax.lax.axis_index("a"), P("a", "b")), a + np.repeat([0, 1], 4)[:, None].astype("f"))


@program
def pmap() -> None:
    a = floats(8, 3)
    close(jax.pmap(lambda x: x / jax.lax.psum(x, "i"), axis_name="i")(a), a / a.sum(axis=0), 1e-4)


@program
def donation() -> None:
    a = floats(8, 16)
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    for x in (jax.device_put(a), jax.device_put(a, NamedSharding(mesh(2, 4), P("a", "b")))):
        y = step(x)
        assert x.is_deleted()
        assert "deleted" in message(lambda x=x: np.asarray(x))
        same(step(y), a + 1 + 1)


@program
def control_flow() -> None:
    a = floats(10)
    close(jax.jit(lambda x: jax.lax.scan(lambda c, x: (c + x, c), 0.0, x))(a)[0], a.sum())
    same(jax.jit(lambda n: jax.lax.while_loop(lambda i: i < n, lambda i: i * 2, 1))(100), np.int32(128))
    choose = jax.jit(lambda p, x: jax.lax.cond(p, jnp.sin, jnp.cos, x))
    close([choose(True, a[0]), choose(False, a[0])], [np.sin(a[0]), np.cos(a[0])])
    same(
        jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda i, x: x.at[i].set(0), x))(a), np.where(np.arange(10) < 5, 0, a)
    )


@program
def gradients() -> None:
    a, w, both = floats(8, 16), floats(16, 4), mesh(2, 4)
    x = jax.device_put(a, NamedSharding(both, P("a")))
    weights = jax.device_put(w, NamedSharding(both, P(None, "b")))

    @jax.jit
    def step(w: jax.Array, x: jax.Array) -> jax.Array:
        return w - 0.1 * jax.grad(lambda w: ((x @ w) ** 2).sum())(w)

    for _ in range(3):
        weights, w = step(weights, x), w - 0.1 * 2 * a.T @ (a @ w)
    close(weights / np.abs(w).max(), w / np.abs(w).max(), 1e-4)
    close(jax.vmap(jax.hessian(lambda x: x**3))(a[0]), 6 * a[0])
    close(jax.jvp(jnp.tanh, (a,), (a,))[1], a * (1 - np.tanh(a) ** 2))


@program
def linalg() -> None:
    a = floats(6, 6)
    p = a @ a.T + 6 * np.eye(6, dtype=np.float32)
    close(jnp.linalg.cholesky(p), np.linalg.cholesky(p), 1e-4)
    close(jnp.linalg.solve(p, a), np.linalg.solve(p, a), 1e-3)
    close(jnp.linalg.inv(p) @ p, np.eye(6), 1e-4)
    close(jnp.linalg.eigvalsh(p), np.linalg.eigvalsh(p), 1e-3)
    close(jnp.linalg.svd(a, compute_uv=False), np.linalg.svd(a, compute_uv=False), 1e-4)
    q, r = jnp.linalg.qr(a)
    close(q @ r, a, 1e-4)
    close(np.sort_complex(jnp.linalg.eigvals(a)), np.sort_complex(np.linalg.eigvals(a)), 1e-3)
    close(jnp.linalg.det(p) / np.linalg.det(p), 1.0, 1e-4)
    close(jnp.linalg.pinv(a), np.linalg.pinv(a), 1e-2)
    close(jax.scipy.linalg.expm(a / 10) @ jax.scipy.linalg.expm(-a / 10), np.eye(6), 1e-4)
    close(jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(p), a), np.linalg.solve(p, a), 1e-3)
    close(jnp.fft.ifft(jnp.fft.fft(a)).real, a)
    close(jnp.fft.fft2(a), np.fft.fft2(a), 1e-4)
    close(jnp.fft.rfft(a), np.fft.rfft(a), 1e-4)


@program
def random() -> None:
    # What plain JAX gives; the same in all versions.
    same(jax.random.bits(jax.random.key(0), (4,)), np.array(BITS, np.uint32))
    same(jax.random.key_data(jax.random.split(jax.random.key(7), 2)), np.array(SPLIT, np.uint32))
    close(jax.random.normal(jax.random.PRNGKey(3), (3,)), NORMAL)
    over = NamedSharding(mesh(2, 4), P(("a", "b")))
    x = jax.jit(lambda key: jax.random.uniform(key, (64,)), out_shardings=over)(jax.random.key(1))
    same(x, jax.device_get(jax.random.uniform(jax.random.key(1), (64,))))
    keys = jax.device_put(jax.random.split(jax.random.key(2), 8), over)
    same(jax.vmap(jax.random.bits)(keys), [jax.random.bits(key) for key in keys])
    for name in ("rbg", "unsafe_rbg"):
        assert jax.random.bits(jax.random.key(0, impl=name), (8,)).shape == (8,)
    shuffled = jax.random.permutation(jax.random.key(4), 100)
    same(np.sort(shuffled), np.arange(100, dtype=np.int32))
    assert abs(float(jax.random.gamma(jax.random.key(5), 3.0, (2000,)).mean()) - 3) < 0.3


BITS = [4070199207, 4202968722, 1427181096, 2012915765]
SPLIT = [[3625411723, 1954958720], [195045567, 4062205631]]
NORMAL = [-1.446257, 1.5393810, 0.38250625]


# --- Beside programs ------------------------------------------------------------------------------------------------


@program
def errors() -> None:
    unknown = jax.ffi.ffi_call("nobody_registered_this", jax.ShapeDtypeStruct((2,), np.float32))
    assert "nobody_registered_this" in message(lambda: jax.block_until_ready(jax.jit(unknown)()))
    assert "TypeError" in message(lambda: jnp.ones(3) + jnp.ones(4))
    x = jax.device_put(floats(4))
    x.delete()
    assert "deleted" in message(lambda: jax.jit(lambda x: x + 1)(x))
    both = mesh(2, 4)
    assert "divisible" in message(lambda: jax.device_put(floats(3), NamedSharding(both, P("b"))))
    same(jax.jit(lambda x: x + 1)(np.float32(1)), np.float32(2))


@program
def ahead_of_time() -> None:
    a = floats(8, 16)
    over = NamedSharding(mesh(2, 4), P("a", "b"))
    lowered = jax.jit(lambda x: x @ x.T, in_shardings=over).lower(jax.ShapeDtypeStruct(a.shape, a.dtype))
    compiled = lowered.compile()
    close(compiled(jax.device_put(a, over)), a @ a.T, 1e-4)
    assert compiled.input_shardings[0][0].is_equivalent_to(over, 2)
    assert "HloModule" in compiled.as_text()
    costs = compiled.cost_analysis()
    assert (costs[0] if isinstance(costs, list) else costs)["flops"] > 0
    assert compiled.memory_analysis().argument_size_in_bytes == a.nbytes // 8


@program
def export() -> None:
    a = floats(8, 16)
    over = NamedSharding(mesh(2, 4), P("a", "b"))
    alone = jax.export.export(jax.jit(lambda x: jnp.sin(x).sum(axis=1)))(jax.ShapeDtypeStruct(a.shape, a.dtype))
    close(jax.jit(jax.export.deserialize(alone.serialize()).call)(a), np.sin(a).sum(axis=1))
    (n,) = jax.export.symbolic_shape("n")
    any_size = jax.export.export(jax.jit(lambda x: x * 2))(jax.ShapeDtypeStruct((n,), np.float32))
    same(jax.export.deserialize(any_size.serialize()).call(a[0]), a[0] * 2)
    cut = jax.export.export(jax.jit(lambda x: x @ x.T, in_shardings=over))(jax.ShapeDtypeStruct(a.shape, a.dtype))
    again = jax.export.deserialize(cut.serialize())
    assert again.nr_devices == 8
    close(jax.jit(again.call)(jax.device_put(a, over)), a @ a.T, 1e-4)


def callbacks() -> None:
    a, over = floats(8, 4), NamedSharding(mesh(8), P("a"))
    calls = []

    def host(x: np.ndarray) -> np.ndarray:
        calls.append(np.shape(x))
        return np.sin(x)

    part = jax.ShapeDtypeStruct((1, 4), a.dtype)
    body = jax.shard_map(
        lambda x: jax.pure_callback(host, part, x), mesh=over.mesh, in_specs=over.spec, out_specs=over.spec
    )
    close(jax.jit(body)(jax.device_put(a, over)), np.sin(a))
    assert calls == [(1, 4)] * 8, calls
    told = []
    jax.jit(lambda x: jax.debug.callback(lambda y: told.append(float(y)), x.sum()))(a)
    jax.effects_barrier()
    close(told, [a.sum()], 1e-4)

    def fail(x: np.ndarray) -> np.ndarray:
        raise ValueError("in my own words")

    whole = jax.ShapeDtypeStruct(a.shape, a.dtype)
    assert "in my own words" in message(lambda: jax.block_until_ready(jax.pure_callback(fail, whole, a)))


if "--pathwaysutils" not in sys.argv:  # JAX alone refuses them.
    program(callbacks)


@program
def many_arrays() -> None:
    trees = [jax.device_put(np.full((16,), i, np.int32), jax.devices()[i % 8]) for i in range(200)]
    for i, x in enumerate(jax.device_get(trees)):
        same(x, np.full((16,), i, np.int32))
    del trees
    add = jax.jit(lambda *xs: sum(xs))
    same(add(*[np.int32(i) for i in range(60)]), np.int32(1770))


def main() -> None:
    found = {"jax": jax.__version__}
    for name, run in PROGRAMS.items():
        print(name, file=sys.stderr, flush=True)  # Where the process ended, if it did not end well.
        try:
            run()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
