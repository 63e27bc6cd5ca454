"""Layouts: how an array's elements lie in a device's memory.

Inside Polypath a layout is a serialized XLA `LayoutProto`. The wire has it in three more forms:
the text that XLA prints, such as `{1,0:T(8,128)}`, and two messages inside `Serialized`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from polypath.frontend.refused import invalid, parse, unimplemented
from polypath.frontend.wire import ifrt_pb2 as pb

_TEXT: Final = re.compile(
    r"\{(?P<order>[\d,]*)"
    r"(:(T(?P<tiles>(\([\d,]+\))+))?(L\((?P<padding>\d+)\))?(E\((?P<bits>\d+)\))?(S\((?P<space>\d+)\))?)?\}"
)


def from_text(text: bytes) -> bytes:
    """The `LayoutProto` that `text` describes.

    Raises:
        Refused: it describes none, or one of a kind that no supported platform has.
    """
    found = _TEXT.fullmatch(text.decode(errors="replace"))
    if found is None:
        raise invalid(f"The layout {text!r} cannot be read: one such as '{{1,0}}' was expected.")
    layout = pb.XlaLayoutProto(
        minor_to_major=_numbers(found["order"]),
        tiles=[pb.TileProto(dimensions=_numbers(tile)) for tile in re.findall(r"[\d,]+", found["tiles"] or "")],
        tail_padding_alignment_in_elements=_number(found["padding"] or "1"),
        element_size_in_bits=_number(found["bits"] or "0"),
        memory_space=_number(found["space"] or "0"),
    )
    return layout.SerializeToString()


def to_text(layout: bytes) -> bytes:
    """What XLA prints for a `LayoutProto`."""
    proto = pb.XlaLayoutProto.FromString(layout)
    more = ""
    if proto.tiles:
        more += "T" + "".join(f"({_comma(tile.dimensions)})" for tile in proto.tiles)
    if proto.tail_padding_alignment_in_elements > 1:
        more += f"L({proto.tail_padding_alignment_in_elements})"
    if proto.element_size_in_bits:
        more += f"E({proto.element_size_in_bits})"
    if proto.memory_space:
        more += f"S({proto.memory_space})"
    return f"{{{_comma(proto.minor_to_major)}{':' if more else ''}{more}}}".encode()


def row_major_text(rank: int) -> bytes:
    """The text of the layout whose last dimension is the fastest."""
    return f"{{{_comma(range(rank - 1, -1, -1))}}}".encode()


def decode(layout: pb.LayoutProto) -> bytes:
    """The `LayoutProto` in a request.

    Raises:
        Refused: it cannot be read.
    """
    serialized = layout.serialized_layout
    match serialized.type_name:
        case "xla::ifrt::PjRtLayout":
            return parse(pb.PjRtLayoutProto, serialized.data, "a layout").xla_layout
        case "xla::ifrt::CompactLayout":
            order = parse(pb.CompactLayoutProto, serialized.data, "a layout").major_to_minor
            return pb.XlaLayoutProto(minor_to_major=reversed(order)).SerializeToString()
        case other:
            raise unimplemented(f"layout of type {other!r}", "leave the layout to the compiler")


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")] if text else []


def _number(text: str) -> int:
    try:
        return min(int(text), 2**62)
    except ValueError as error:  # No digits, or more than Python reads.
        raise invalid(f"The layout's number {text[:20]!r} cannot be read.") from error


def _comma(numbers: Iterable[int]) -> str:
    return ",".join(str(n) for n in numbers)
