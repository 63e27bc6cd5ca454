"""The few XLA protos a worker reads or writes by hand, by field number.

Numbers are from `xla/xla_data.proto`, `xla/service/hlo.proto`,
`xla/pjrt/proto/executable_metadata.proto` and IFRT proxy's `StringArrayContents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from polypath.protos import fields, number, packed, repeated, varint

REPLICATED = b""
"""An `OpSharding` of type REPLICATED, its default."""


def layout(minor_to_major: Sequence[int]) -> bytes:
    """A `LayoutProto` without tiles."""
    # XLA writes -1 for a tail padding that is not set, and so reads 0 as such; 1 is its default.
    return packed(1, minor_to_major) + number(16, 1)


def minor_to_major(layout_proto: bytes) -> tuple[int, ...]:
    """The dimension order of a `LayoutProto`."""
    return repeated(layout_proto, 1)


def tiled(
    dimensions: Sequence[int],
    reshape: Sequence[int],
    permutation: Sequence[int],
    replicate_last: bool,
) -> bytes:
    """An `OpSharding` that deals out an iota of devices."""
    return (
        number(1, 3)
        + packed(3, dimensions)
        + number(6, int(replicate_last))
        + packed(9, reshape)
        + packed(10, permutation)
    )


def strings(data: bytes | memoryview) -> list[bytes]:
    """The elements of a `StringArrayContents`."""
    return [bytes(value) for field, value in fields(data) if field == 1 and not isinstance(value, int)]


def string_contents(elements: Iterable[bytes]) -> bytes:
    """A `StringArrayContents`."""
    return b"".join(b"\x0a" + varint(len(each)) + each for each in elements)


def aliased_parameters(module: bytes) -> tuple[int, ...]:
    """The parameters of an `HloModuleProto` whose buffers its results take over."""
    found: set[int] = set()
    for field, config in fields(module):
        if field != 8 or isinstance(config, int):
            continue
        for _, entry in fields(config):
            if not isinstance(entry, int):
                found.add(next((value for name, value in _ints(entry) if name == 2), 0))
    return tuple(sorted(found))


def _ints(data: memoryview) -> Iterator[tuple[int, int]]:
    return ((name, value) for name, value in fields(data) if isinstance(value, int))
