"""Attribute maps: small dictionaries of what programs read about devices and clients."""

from __future__ import annotations

from collections.abc import Mapping

from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Attribute


def encode(attributes: Mapping[str, Attribute], out: pb.AttributeMapProto) -> None:
    """Write `attributes` into `out`. Floats lose precision: the wire has 32 bits for them."""
    for name, value in attributes.items():
        entry = out.attributes[name]
        match value:
            case bool():  # before int, which it is
                entry.bool_value = value
            case int():
                entry.int64_value = value
            case float():
                entry.float_value = value
            case str():
                entry.string_value = value.encode()
            case tuple():
                entry.int64_list_value.elements.extend(value)
                entry.int64_list_value.SetInParent()
