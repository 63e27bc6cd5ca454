"""How hooks are put in place, and what those do that need no cluster: `tests/cluster/test_answers.py` has the rest."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import array as jax_array
from jax._src import dispatch

from polypath.client.hooks.cluster import replace
from polypath.client.hooks.together import _Request


def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def hook(*args: Any) -> Any:
        return "hooked", original(*args)

    return hook


def module(function: Any) -> Any:
    return types.SimpleNamespace(function=function)


def test_a_function_is_replaced_once() -> None:
    target = module(len)
    replace(target, "function", wrap)
    replace(target, "function", wrap)
    assert target.function("ab") == ("hooked", 2)


@functools.wraps(dispatch.apply_primitive)
def looks_like_jaxs() -> None:
    """Somebody's own; its names are those of JAX's."""


@pytest.mark.parametrize("function", [len, looks_like_jaxs, mock.MagicMock(), lambda: None])
def test_a_shortcut_leaves_alone_what_is_not_jaxs_own(function: Any) -> None:
    target = module(function)
    replace(target, "function", wrap, shortcut=True)
    assert target.function is function
    replace(target, "function", wrap)
    assert target.function is not function


@pytest.mark.parametrize("function", [jax_array.ArrayImpl.block_until_ready, jax_array.ArrayImpl.__array__])
def test_a_shortcut_takes_the_place_of_jaxs_own(function: Any) -> None:
    target = module(getattr(function, "__wrapped__", function))
    replace(target, "function", wrap, shortcut=True)
    assert target.function is not function


def test_what_landed_together_is_told_apart_whatever_the_order() -> None:
    arrays = [jnp.arange(6, dtype=jnp.int8).reshape(2, 3), jnp.float32(2.5), jnp.array([True, False]), jnp.ones(5)]
    request = _Request(arrays)
    order, data = [2, 0, 3, 1], b"".join(np.asarray(arrays[index]).tobytes() for index in [2, 0, 3, 1])
    request.room[:] = np.frombuffer(np.array(order, np.uint32).tobytes() + data, np.uint8)
    request.came = lambda: True
    for place, array in enumerate(arrays):
        found = request.elements(place)
        assert found is not None
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, array, strict=True)


def test_what_does_not_land_is_left_to_jaxlib() -> None:
    came = mock.Mock(return_value=False)
    request = _Request([jnp.ones(2), jnp.ones(3)])
    request.came = came
    assert [request.elements(place) for place in (0, 1)] == [None, None]
    came.assert_called_once_with()
