"""Shardings, element types, layouts, attributes and fingerprints: there and back."""

from __future__ import annotations

import contextlib

import frontend_fakes as fakes
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypath.frontend import attributes, dtypes, layouts, shardings
from polypath.frontend.refused import Refused
from polypath.frontend.requests.client import platform_id
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Sharding

SHARDINGS = [
    Sharding((2,), "pinned_host", fully_replicated=True),
    Sharding((0, 1), shard_shapes=((1, 3),)),
    Sharding((0, 1), "device", shard_shapes=((2, 3),), fully_replicated=True),
    Sharding((1, 0), shard_shapes=((1, 3), (2, 3))),
    Sharding((3, 1)),
    Sharding((0, 1), op_sharding=pb.OpSharding(type="OTHER", tile_assignment_dimensions=[2]).SerializeToString()),
    Sharding((0, 1), op_sharding=pb.OpSharding().SerializeToString(), fully_replicated=True),
]


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_shardings_there_and_back(sharding: Sharding) -> None:
    out = pb.ShardingProto()
    shardings.encode(sharding, (2, 3), out)
    decoder = shardings.Shardings(fakes.view(4))
    assert decoder.decode(out) == sharding
    assert decoder.decode(out) is decoder.decode(out)


@pytest.mark.parametrize(
    ("op", "replicated"),
    [
        (pb.OpSharding(type="OTHER", tile_assignment_dimensions=[1, 2], replicate_on_last_tile_dim=True), True),
        (pb.OpSharding(type="OTHER", tile_assignment_dimensions=[2, 1]), False),
        (pb.OpSharding(type="OTHER", tile_assignment_dimensions=[1, 2], last_tile_dims=["REPLICATED"]), True),
        (pb.OpSharding(type="OTHER", tile_assignment_dimensions=[1, 2], last_tile_dims=["MANUAL"]), False),
        (pb.OpSharding(type="MANUAL"), False),
    ],
)
def test_which_op_shardings_replicate(op: pb.OpSharding, replicated: bool) -> None:
    out = pb.ShardingProto()
    shardings.encode(Sharding((0, 1), op_sharding=op.SerializeToString()), (4,), out)
    assert shardings.Shardings(fakes.view(2)).decode(out).fully_replicated is replicated


NAMES = ["SingleDevice", "Hlo", "ConcreteEven", "Concrete", "Opaque", "ShardingParam", "No"]


@given(st.sampled_from(NAMES), st.binary(max_size=40))
def test_any_sharding_is_read_or_refused(name: str, data: bytes) -> None:
    serialized = pb.Serialized(type_name=f"xla::ifrt::{name}Sharding", data=data)
    with contextlib.suppress(Refused):
        shardings.Shardings(fakes.view(2)).decode(pb.ShardingProto(serialized_sharding=serialized))


def test_element_types() -> None:
    served = 0
    for kind in pb.DTypeProto.Kind.values():
        try:
            name = dtypes.decode(pb.DTypeProto(kind=kind))
        except Refused:
            continue
        served += 1
        assert dtypes.encode(name).kind == kind
        scalar = getattr(ml_dtypes, name, None) or getattr(np, name, None)
        if scalar is not None and name not in {"string", "token"}:
            assert dtypes.dense_strides(name, (1,)) == (np.dtype(scalar).itemsize,)
    assert served == len(pb.DTypeProto.Kind.values()) - 2  # unspecified, opaque


def test_sizes_in_host_memory() -> None:
    assert dtypes.dense_strides("float32", (2, 3)) == (12, 4)
    assert dtypes.host_size("float32", (2, 3), (4, 8)) == 24
    assert dtypes.host_size("float32", (2, 1, 0), (0, 0, 0)) == 0
    assert dtypes.host_size("float32", (), ()) == 4
    assert dtypes.host_size("string", (2,), None) is None
    assert dtypes.host_size("token", (), None) == 0


@pytest.mark.parametrize("text", [b"{}", b"{0}", b"{1,0}", b"{1,0:T(8,128)}", b"{2,1,0:T(8,128)(2,1)L(4)E(4)S(5)}"])
def test_layouts_there_and_back(text: bytes) -> None:
    assert layouts.to_text(layouts.from_text(text)) == text


@given(st.binary(max_size=20) | st.from_regex(r"\{[\d,]*:T\([\d,]+\)\}", fullmatch=True).map(str.encode))
def test_any_layout_is_read_or_refused(text: bytes) -> None:
    with contextlib.suppress(Refused):
        layouts.from_text(text)


@pytest.mark.parametrize("text", [b"{1,,0}", b"{%s}" % (b"9" * 5000), b"{0:L(%s)}" % (b"9" * 5000)])
def test_numbers_of_a_layout_that_cannot_be_read(text: bytes) -> None:
    with pytest.raises(Refused, match="number"):
        layouts.from_text(text)


def test_layouts_in_messages() -> None:
    compact = pb.CompactLayoutProto(major_to_minor=[0, 1]).SerializeToString()
    serialized = pb.Serialized(type_name="xla::ifrt::CompactLayout", data=compact)
    assert layouts.to_text(layouts.decode(pb.LayoutProto(serialized_layout=serialized))) == b"{1,0}"


def test_attributes_keep_their_kinds() -> None:
    values = {"a": True, "b": -5, "c": 0.5, "d": "text", "e": (1, 2), "f": ()}
    out = pb.AttributeMapProto()
    attributes.encode(values, out)
    kinds = {name: value.WhichOneof("value") for name, value in out.attributes.items()}
    assert kinds == {
        "a": "bool_value", "b": "int64_value", "c": "float_value", "d": "string_value",
        "e": "int64_list_value", "f": "int64_list_value",
    }  # fmt: skip
    found = out.attributes
    assert (found["a"].bool_value, found["b"].int64_value, found["c"].float_value) == (True, -5, 0.5)
    assert (found["d"].string_value, tuple(found["e"].int64_list_value.elements)) == (b"text", (1, 2))


def test_platforms_have_numbers_that_differ() -> None:
    found = {name: platform_id(name) for name in ("", "cpu", "tpu", "cuda", "rocm", "a longer name")}
    assert len(set(found.values())) == len(found)
    assert all(0 < value < 2**64 for value in found.values())
