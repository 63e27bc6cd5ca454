"""The table of dtypes knows all that ml_dtypes, jaxlib and the wire know."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from jaxlib import xla_client

from polypath import types
from polypath.frontend import dtypes
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.worker.executors import stablehlo

NOT_IN_XLA = {"complex32", "bcomplex32"}
"""ml_dtypes has them and XLA no arrays of them."""
NEWER = {"F6E2M3FN", "F6E3M2FN"}
"""jaxlib 0.12 has these, and 0.10 has not."""
NO_ELEMENTS = {"PRIMITIVE_TYPE_INVALID", "TUPLE", "OPAQUE_TYPE", "TOKEN"}


def dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def test_the_table_has_what_ml_dtypes_has() -> None:
    found = {name for name, one in vars(ml_dtypes).items() if isinstance(one, type) and issubclass(one, np.generic)}
    assert found - types.DTYPES.keys() == NOT_IN_XLA


def test_the_table_has_what_jaxlib_has() -> None:
    members: Any = xla_client.PrimitiveType.__members__
    # (Its Python has no names for XLA's types of one bit and of two.)
    assert set(members) - NO_ELEMENTS - NEWER == set(types.DTYPES.values()) - {"S1", "U1", "S2", "U2"} - NEWER


def test_the_table_has_what_the_wire_has() -> None:
    kinds = {value.name.removeprefix("KIND_") for value in pb.DTypeProto.Kind.DESCRIPTOR.values}
    assert kinds - {"UNSPECIFIED", "OPAQUE", "TOKEN", "STRING"} == set(types.DTYPES.values())
    assert all(dtypes.decode(dtypes.encode(name)) == name for name in types.DTYPES)


@pytest.mark.parametrize("name", types.DTYPES)
def test_an_element_has_the_size_that_numpy_says(name: str) -> None:
    assert types.element_size(name) == dtype(name).itemsize


def test_programs_may_take_any_dtype_but_those_of_a_bit() -> None:
    assert set(stablehlo.DTYPES.values()) == types.DTYPES.keys() - {"int1", "uint1"}
