"""Memory of arrays that came, used again: never while somebody holds it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from polypath.client import memory

SIZE = 1 << 20
FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    memory._kept.clear()
    yield
    memory._kept.clear()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_for_an_array_of_its_size() -> None:
    first = memory.empty((2, SIZE // 4), FLOAT)
    where = address(first)
    del first
    other = memory.empty((SIZE,), FLOAT)
    again = memory.empty((SIZE, 2), np.dtype(np.uint8))
    assert (address(other) == where, address(again) == where) == (False, True)


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[3:7, None],
        lambda array: array.view(np.uint16).T,
        memoryview,
        lambda array: np.frombuffer(memoryview(array)[1:2], np.uint8),
        np.from_dlpack,
        lambda array: {"reference": array.data},
    ],
)
def test_not_while_somebody_holds_a_part_of_it(hold) -> None:
    array = memory.empty((SIZE, 1), FLOAT)
    where = address(array)
    held = hold(array)
    del array
    gc.collect()
    assert address(memory.empty((SIZE,), FLOAT)) != where
    del held
    gc.collect()
    assert where in {address(each) for each in [memory.empty((SIZE,), FLOAT) for _ in range(2)]}


def test_what_is_kept_has_a_limit_and_the_oldest_go_first() -> None:
    arrays = [memory.empty((size << 20,), np.dtype(np.int8)) for size in (100, 60, 90, 30, 257)]
    while arrays:
        del arrays[0]
    assert [len(each) >> 20 for each in memory._kept] == [60, 90, 30]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (SIZE + 1,), (3, 7, SIZE // 20)])
@pytest.mark.parametrize("dtype", [np.dtype(ml_dtypes.bfloat16), np.dtype(np.complex128), np.dtype(bool)])
def test_it_is_as_numpy_s(shape: tuple[int, ...], dtype: np.dtype) -> None:
    array, expected = memory.empty(shape, dtype), np.empty(shape, dtype)
    assert (array.shape, array.dtype, array.strides) == (expected.shape, expected.dtype, expected.strides)
    assert array.flags.writeable
    assert array.flags.aligned
