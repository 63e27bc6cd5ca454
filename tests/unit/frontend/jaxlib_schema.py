"""Finds the message descriptors inside the installed jaxlib's shared library.

The library carries each file's serialized FileDescriptorProto. One begins with its name, and
ends where no further field of a FileDescriptorProto follows.
"""

from __future__ import annotations

import functools
import importlib.util
import mmap
import re
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

_FILE_FIELDS = {field.number for field in descriptor_pb2.FileDescriptorProto.DESCRIPTOR.fields}


@functools.cache
def messages() -> dict[str, descriptor_pb2.DescriptorProto]:
    """Every message of XLA in jaxlib, by its full name."""
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for file in _files():
        for message in file.message_type:
            _collect(file.package, message, found)
    return found


def _collect(scope: str, message: descriptor_pb2.DescriptorProto, found: dict) -> None:
    name = f"{scope}.{message.name}"
    found[name] = message
    for nested in message.nested_type:
        _collect(name, nested, found)


def _files() -> list[descriptor_pb2.FileDescriptorProto]:
    spec = importlib.util.find_spec("jaxlib")
    assert spec is not None
    assert spec.origin is not None
    libraries = [p for p in Path(spec.origin).parent.iterdir() if ".so" in p.suffixes]
    library = max(libraries, key=lambda path: path.stat().st_size)
    best: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in re.finditer(rb"\x0a([\x08-\x7f])(xla/[a-z0-9_/]+\.proto)", data):
            if match[1][0] > len(match[2]):
                continue
            descriptor = descriptor_pb2.FileDescriptorProto()
            try:
                descriptor.ParseFromString(data[match.start() : _end(data, match.start())])
            except DecodeError:
                continue
            known = best.get(descriptor.name)
            if known is None or known.ByteSize() < descriptor.ByteSize():
                best[descriptor.name] = descriptor
    return list(best.values())


def _end(data: mmap.mmap, start: int) -> int:
    at = start
    while True:
        tag, after = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if number not in _FILE_FIELDS or (number == 1 and at != start) or wire_type not in {0, 2}:
            return at
        value, after = _varint(data, after)
        if wire_type == 2:
            if value > 2_000_000 or after + value > len(data):
                return at
            after += value
        at = after


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64 and at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at
