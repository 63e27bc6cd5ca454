"""Lowerings of torch's operators: types, the table, and functions that are computed in a way of our own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402

from polypath import types as types_of_arrays  # noqa: E402
from polypath.torch import dtypes, lowerings  # noqa: E402
from polypath.torch.lowerings import types  # noqa: E402
from polypath.torch.lowerings.table import LOWERINGS, RANDOM, is_functional  # noqa: E402

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]
operands = st.one_of(
    st.tuples(st.sampled_from(DTYPES), st.sampled_from([(), (2,), (1, 2)])),
    st.sampled_from([True, 3, 2.5, 1j]),
)


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@settings(deadline=None, max_examples=300)
@given(operands, operands)
def test_types_are_promoted_as_torch_does(one: Any, other: Any) -> None:
    if not isinstance(one, tuple) and not isinstance(other, tuple):
        return  # torch has no operator of two numbers.
    theirs = [torch.empty(of[1], dtype=of[0]) if isinstance(of, tuple) else of for of in (one, other)]
    if torch.result_type(*theirs) in (torch.complex32, getattr(torch, "bcomplex32", None)):
        return  # XLA has no such type.
    with jax.enable_x64(True):
        ours = [jnp.zeros(of[1], types.dtype(of[0])) if isinstance(of, tuple) else of for of in (one, other)]
        assert types.result_type(*ours) == types.dtype(torch.result_type(*theirs))


def test_numbers_wrap_around_in_small_integers() -> None:
    assert torch.tensor(300).to(torch.uint8).item() == types.cast(300, jnp.uint8).item()
    assert torch.tensor(200).to(torch.int8).item() == types.cast(200, jnp.int8).item()


def test_an_operator_has_a_lowering_or_a_decomposition_and_not_both() -> None:
    assert not LOWERINGS.keys() & lowerings.decompositions().keys()
    assert all(is_functional(operator) for operator in LOWERINGS)
    assert LOWERINGS.keys() >= RANDOM


def test_a_type_that_xla_lacks_is_refused() -> None:
    with pytest.raises(Exception, match="complex32"):
        lowerings.dtype(torch.complex32)


def test_indexing_depends_on_data_only_where_there_is_a_mask() -> None:
    index = torch.ops.aten.index.Tensor
    x = torch.zeros(3)
    assert lowerings.is_data_dependent(index, (x, [x > 0]))
    assert not lowerings.is_data_dependent(index, (x, [torch.tensor([1])]))
    assert lowerings.is_data_dependent(torch.ops.aten.nonzero.default)


def test_what_is_out_of_bounds_is_seen() -> None:
    lowering = lowerings.find(torch.ops.aten.embedding.default)
    assert lowering is not None
    found = lowering(jnp.ones((3, 2)), jnp.asarray([1, 7]))
    assert jnp.isnan(found[1]).all()
    assert not jnp.isnan(found[0]).any()


def test_a_random_lowering_takes_a_key() -> None:
    operator = torch.ops.aten.native_dropout.default
    lowering = lowerings.find(operator)
    assert lowering is not None
    assert lowerings.is_random(operator)
    one, kept = lowering(jax.random.key(0), jnp.ones(1000), 0.25, True)
    other, _ = lowering(jax.random.key(1), jnp.ones(1000), 0.25, True)
    assert (one != other).any()
    assert 650 < kept.sum() < 850


def test_as_strided_reads_the_memory_of_a_transposed_tensor() -> None:
    x = torch.arange(6.0).reshape(2, 3).t()
    lowering = lowerings.find(torch.ops.aten.as_strided.default)
    assert lowering is not None
    found = lowering(jnp.asarray(x.numpy()), (2, 2), (1, 2), 1, strides=x.stride())
    assert found.tolist() == torch.as_strided(x, (2, 2), (1, 2), 1).tolist()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", ["j0", "j1", "y0", "y1"])
def test_bessel_functions_are_those_of_scipy(name: str, dtype: Any) -> None:
    from scipy import special

    lowering = lowerings.find(getattr(torch.ops.aten, f"special_bessel_{name}").default)
    assert lowering is not None
    x = np.concatenate([np.linspace(-60, 60, 4001), np.logspace(-30, 4, 1000)]).astype(dtype)
    found = lowering(jnp.asarray(x))
    assert found.dtype == dtype
    wanted = getattr(special, name)(x.astype(float))
    known, values = np.isfinite(wanted), np.asarray(found, float)
    np.testing.assert_array_equal(values[~known], wanted[~known])
    # Near its zeros a function has as many digits as its size elsewhere leaves it, and far out it is a wave of height
    # sqrt(2 / (pi x)), whose phase has no more digits than x.
    eps = float(jnp.finfo(dtype).eps)
    most = 8 * eps * np.maximum(np.abs(wanted), 1) + eps * np.sqrt(np.abs(x, dtype=float))
    np.testing.assert_array_less(np.abs(values[known] - wanted[known]), most[known])
    ends = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan], dtype=torch.float64)
    theirs = getattr(torch.special, f"bessel_{name}")(ends)
    np.testing.assert_allclose(lowering(jnp.asarray(ends.numpy())), theirs, rtol=8 * jnp.finfo(dtype).eps)


def test_a_product_that_dynamo_fuses_with_a_sum_has_a_lowering() -> None:
    lowering = lowerings.find(torch.ops.prims.fma.default)
    assert lowering is not None
    assert lowering(jnp.asarray(2.0), jnp.asarray(3.0), jnp.asarray(4.0)) == 10


def test_each_dtype_of_torch_has_one_of_xla_or_is_refused_in_words() -> None:
    # They count bits, or stand for numbers that others packed or quantized: torch itself computes with none of them.
    no_numbers = re.compile(r"torch\.(q|bits|u?int[1-7]$|float4_e2m1fn_x2|complex32)")
    for dtype in {one for one in vars(torch).values() if isinstance(one, torch.dtype)}:
        if no_numbers.match(str(dtype)):
            with pytest.raises(TypeError, match=f"XLA has no dtype like {dtype}"):
                dtypes.jax_dtype(dtype)
        else:
            assert dtypes.torch_dtype(dtypes.jax_dtype(dtype)) is dtype
            x = torch.arange(4).to(dtype)
            assert torch.equal(dtypes.to_torch(jnp.asarray(dtypes.to_numpy(x))), x)
    for name in types_of_arrays.DTYPES.keys() - {str(one).removeprefix("torch.") for one in dtypes.KNOWN}:
        with pytest.raises(TypeError, match=f"torch has no dtype like {name}"):
            dtypes.torch_dtype(np.dtype(getattr(ml_dtypes, name, name)))


FUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "_fused_adam_": (3, {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "eps": 1e-8, "amsgrad": True}),
    "_fused_adamw_": (3, {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "eps": 1e-8, "amsgrad": True}),
    "_fused_sgd_": (1, {"weight_decay": 0.1, "momentum": 0.9, "dampening": 0.1, "nesterov": True}),
    "_fused_adagrad_": (1, {"lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-8}),
}
"""How many lists of state each has, and its options."""


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("found_inf", [0.0, 1.0])
def test_a_fused_optimizer_heeds_a_gradient_scaler(name: str, found_inf: float) -> None:
    count, options = FUSED[name]
    options = {"lr": 0.01, "maximize": True, **options, **({"is_first_step": False} if name == "_fused_sgd_" else {})}
    torch.manual_seed(0)
    lists = [[torch.rand(3), torch.rand(2, 2)] for _ in range(2 + count)]
    steps = [] if name == "_fused_sgd_" else [[torch.tensor(3.0), torch.tensor(3.0)]]
    scaler = {"grad_scale": torch.tensor(4.0), "found_inf": torch.tensor(found_inf)}
    theirs = [[one.clone() for one in list_] for list_ in lists]
    getattr(torch, name)(*theirs, *steps, **options, **scaler)
    lowering = lowerings.find(getattr(torch.ops.aten, name[:-1]).default)
    assert lowering is not None
    arrays = [[jnp.asarray(one.numpy()) for one in list_] for list_ in (*lists, *steps)]
    found = lowering(*arrays, **options, **{key: jnp.asarray(one.numpy()) for key, one in scaler.items()})
    for want, got in zip(theirs, found, strict=False):  # (One lists the steps besides.)
        for one, other in zip(want, got, strict=True):
            np.testing.assert_allclose(other, one.numpy(), rtol=1e-5, atol=1e-6)
    assert bool((found[0][0] == arrays[0][0]).all()) == bool(found_inf)


def test_what_is_added_to_a_product_of_half_floats_is_added_before_it_is_rounded() -> None:
    lowering = lowerings.find(torch.ops.aten.addmm.default)
    assert lowering is not None
    # 257 is no bfloat16: rounded first it were 256, and the sum 0.
    x = jnp.asarray([[-256.0]], jnp.bfloat16)
    one, two = jnp.asarray([[16.0, 1.0]], jnp.bfloat16), jnp.asarray([[16.0], [1.0]], jnp.bfloat16)
    found = lowering(x, one, two)
    assert (found.dtype, found.item()) == (jnp.bfloat16, 1.0)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_gradient_of_a_multilabel_margin_loss(reduction: str) -> None:
    torch.manual_seed(0)
    x, target = torch.randn(3, 4, requires_grad=True), torch.tensor([[3, 0, -1, 1], [-1, 2, 0, 0], [1, 1, 2, -1]])
    loss = torch.nn.functional.multilabel_margin_loss(x, target, reduction=reduction)
    grad = torch.rand(loss.shape)
    (want,) = torch.autograd.grad(loss, x, grad)
    number = ["none", "mean", "sum"].index(reduction)
    _, is_target = torch.ops.aten.multilabel_margin_loss_forward(x, target, number)
    lowering = lowerings.find(torch.ops.aten.multilabel_margin_loss_backward.default)
    assert lowering is not None
    arrays = [jnp.asarray(one.detach().numpy()) for one in (grad, x, target, is_target)]
    np.testing.assert_allclose(lowering(*arrays[:3], number, arrays[3]), want.numpy(), rtol=1e-5, atol=1e-6)
