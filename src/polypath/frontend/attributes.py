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


def decode(attributes: pb.AttributeMapProto) -> dict[str, Attribute]:
    """The dictionary of a wire map; bytes that are no UTF-8 come with escapes."""
    found: dict[str, Attribute] = {}
    for name, value in attributes.attributes.items():
        match value.WhichOneof("value"):
            case "bool_value":
                found[name] = value.bool_value
            case "int64_value":
                found[name] = value.int64_value
            case "float_value":
                found[name] = value.float_value
            case "string_value":
                found[name] = value.string_value.decode(errors="backslashreplace")
            case "int64_list_value":
                found[name] = tuple(value.int64_list_value.elements)
            case _:
                pass  # A kind of value of a newer protocol: whoever asks for it finds nothing.
    return found
