"""Lowerings of torch's operators: types, the table, and what is taken from torchax."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from polypath.torch import lowerings  # noqa: E402
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


def test_torchax_leaves_nothing_behind() -> None:
    lowering = lowerings.find(torch.ops.aten.special_bessel_j0.default)
    assert lowering is not None
    x = torch.linspace(0.1, 9, 20)
    assert torch.allclose(
        torch.tensor(lowering(jnp.asarray(x.numpy())).tolist()), torch.special.bessel_j0(x), atol=1e-5
    )
    assert not [name for name in sys.modules if name.partition(".")[0] == "torchax"]
    assert torch._C._get_privateuse1_backend_name() != "jax"
