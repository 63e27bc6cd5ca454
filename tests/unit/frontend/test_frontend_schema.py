"""Our schema is the protocol's, as the installed jaxlib has it."""

from __future__ import annotations

from importlib import metadata

import jaxlib_schema
import pytest
from google.protobuf import descriptor_pb2

from polypath.frontend.requests import HANDLERS
from polypath.frontend.wire import generate, ifrt_pb2
from polypath.versions import NEWEST_CLIENT, parse

# Submessages that only pass through, or are read at need: bytes to us.
OPAQUE = {
    "ConcreteShardingProto.dynamic_shape",
    "HloShardingProto.xla_op_sharding",
    "LoadedExecutableMetadataResponse.LayoutList.layouts",
    "LoadedExecutableMetadataResponse.ShardingList.shardings",
    "LoadedExecutableMetadataResponse.compiled_memory_stats",
    "PjRtLayoutProto.xla_layout",
    "XlaCompileOptionsProto.compile_options",
}
# XLA has one of each name in two packages.
RENAMED = {"XlaLayoutProto": "xla.LayoutProto"}
PACKAGES = ("xla.ifrt.proxy", "xla.ifrt.proto", "xla.ifrt", "tensorflow", "xla")
NEWEST = parse(metadata.version("jaxlib"))[:2] == NEWEST_CLIENT
_Field = descriptor_pb2.FieldDescriptorProto


def _ours() -> dict[str, descriptor_pb2.DescriptorProto]:
    file = descriptor_pb2.FileDescriptorProto()
    ifrt_pb2.DESCRIPTOR.CopyToProto(file)
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    pending = [(message.name, message) for message in file.message_type]
    while pending:
        name, message = pending.pop()
        found[name] = message
        pending.extend((f"{name}.{nested.name}", nested) for nested in message.nested_type)
    return found


OURS = _ours()


def _theirs(name: str) -> descriptor_pb2.DescriptorProto:
    names = [RENAMED[name]] if name in RENAMED else [f"{package}.{name}" for package in PACKAGES]
    return next(found for n in names if (found := jaxlib_schema.messages().get(n)) is not None)


def _oneof(message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto) -> str | None:
    return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None


@pytest.mark.parametrize("name", sorted(OURS))
def test_message_is_the_same(name: str) -> None:
    ours, theirs = OURS[name], _theirs(name)
    their_fields = {field.name: field for field in theirs.field}
    for field in ours.field:
        same = their_fields[field.name]
        where = f"{name}.{field.name}"
        assert field.number == same.number, where
        assert field.label == same.label, where
        assert field.proto3_optional == same.proto3_optional, where
        assert _oneof(ours, field) == _oneof(theirs, same), where
        if where in OPAQUE:
            assert (field.type, same.type) == (_Field.TYPE_BYTES, _Field.TYPE_MESSAGE)
        else:
            assert field.type == same.type, where
            simple = field.type_name.rpartition(".")[2]
            assert simple.removeprefix("Xla") == same.type_name.rpartition(".")[2].removeprefix("Xla"), where
    for enum in ours.enum_type:
        (same_enum,) = (e for e in theirs.enum_type if e.name == enum.name)
        # The newest has the most; all have the same numbers.
        values = {v.name: v.number for v in enum.value}
        others = {v.name: v.number for v in same_enum.value}
        assert others.items() <= values.items()
        assert others == values or not NEWEST


def test_every_request_of_the_protocol_is_served() -> None:
    requests = {field.name for field in _theirs("IfrtRequest").field} - {"request_metadata"}
    assert set(HANDLERS) == requests


def test_responses_answer_requests() -> None:
    responses = {field.name for field in _theirs("IfrtResponse").field}
    assert {name.replace("_request", "_response") for name in HANDLERS} < responses


def test_generated_code_is_up_to_date(tmp_path) -> None:
    generate.generate(tmp_path)
    for name in ("ifrt_pb2.py", "ifrt_pb2.pyi"):
        fresh = (tmp_path / "polypath/frontend/wire" / name).read_text()
        assert fresh == generate._SOURCES.joinpath("polypath/frontend/wire", name).read_text()
