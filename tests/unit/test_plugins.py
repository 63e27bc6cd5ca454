"""The JSON of plugin programs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from polypath import plugins
from polypath.errors import ProtocolError
from polypath.types import Sharding

_CUT = bytes((8, 3, 26, 1, 2, 34, 2, 0, 1))


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def stored(shape: Any, devices: tuple[int, ...] = (4, 5)) -> dict[str, Any]:
    return {
        "b64_location": b64("/checkpoints/1"),
        "b64_name": b64("layer.kernel"),
        "b64_hlo_sharding_string": b64(_CUT),
        "shape": shape,
        "devices": {"device_ids": devices},
        "timeout": {"seconds": 3, "nanos": 500_000_000},
    }


TYPED = {"xla_primitive_type_str": "BF16", "dimensions": [8, 2]}


def parse(request: Any) -> plugins.Asked:
    return plugins.parse(json.dumps(request).encode())


def array(dtype: str) -> plugins.StoredArray:
    return plugins.StoredArray("/checkpoints/1", "layer.kernel", dtype, (8, 2), Sharding((4, 5), op_sharding=_CUT), 3.5)


def test_persistence() -> None:
    read, write = plugins.Read((array("bfloat16"),)), plugins.Write((array(""),))
    assert parse({"persistenceReadRequest": stored(TYPED)}) == read
    assert parse({"persistenceWriteRequest": stored([8, 2])}) == write
    found = parse({"bulk_persistence_read_request": {"read_requests": [stored(TYPED)] * 2}})
    assert found == plugins.Read(read.arrays * 2)
    found = parse({"bulk_persistence_write_request": {"write_requests": [stored([8, 2])] * 2}})
    assert found == plugins.Write(write.arrays * 2)


def test_reshard() -> None:
    def one(devices: list[int], **more: str) -> dict[str, Any]:
        return {"devices": {"device_ids": devices}, "xla_hlo_sharding": b64(_CUT), **more}

    body = {"donateInput": True, "inSharding": [one([0, 1])], "outSharding": [one([3, 2], memory_kind="pinned_host")]}
    assert parse({"reshardRequest": body}) == plugins.Reshard(
        (Sharding((0, 1), op_sharding=_CUT),), (Sharding((3, 2), "pinned_host", _CUT),), True
    )
    with pytest.raises(ProtocolError, match="as many new shardings as old ones"):
        parse({"reshardRequest": body | {"outSharding": []}})


def test_profile() -> None:
    plain = {"traceLocation": "/traces", "maxNumHosts": 2, "includeResourceManagers": True}
    assert parse({"profileRequest": plain}) == plugins.Profile("/traces", "", 2, 0.0, None, False, {}, 0)
    options = {
        "traceDirectory": "/traces/a",
        "hostTraceLevel": 1,
        "traceSessionName": "run",
        "pwTraceOptions": {
            "enablePythonTracer": True,
            "advancedConfiguration": {
                "a": {"boolValue": True},
                "b": {"int64Value": 7},
                "c": {"stringValue": "x"},
            },
        },
    }
    assert parse({"profileRequest": plain | {"xprofTraceOptions": options, "maxDurationSecs": 1.5}}) == plugins.Profile(
        "/traces/a", "run", 2, 1.5, 1, True, {"a": True, "b": 7, "c": "x"}, 1
    )


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ([], "must be a JSON object with one request"),
        ({}, "must be a JSON object with one request"),
        ({"launchRequest": {}}, "asks for launchRequest; the requests that are served are persistenceReadRequest"),
        ({"persistenceReadRequest": {}, "profileRequest": {}}, "asks for persistenceReadRequest, profileRequest"),
        ({"profileRequest": {"traceLocation": "/a", "speed": 1}}, "unknown field `speed`"),
        ({"profileRequest": {"maxNumHosts": 1}}, "missing required field `traceLocation`"),
        ({"persistenceReadRequest": stored([8, 2])}, "has the type of its elements where it is read"),
        ({"persistenceWriteRequest": stored(TYPED)}, "has the type of its elements where it is read"),
        ({"persistenceWriteRequest": stored([-1])}, "cannot have the shape"),
        ({"persistenceReadRequest": stored(TYPED | {"xla_primitive_type_str": "F7"})}, "there is no type 'F7'"),
        ({"persistenceReadRequest": stored(TYPED) | {"b64_name": "/w=="}}, "cannot be read"),
        ({"persistenceReadRequest": stored(TYPED) | {"b64_name": "?"}}, "cannot be read"),
        ({"bulk_persistence_read_request": {"read_requests": []}}, "names no array"),
        (
            {"bulk_persistence_write_request": {"write_requests": [stored([8]), stored([8], (0, 1))]}},
            "different devices",
        ),
    ],
)
def test_what_is_not_known_is_refused_in_a_sentence(request_: Any, told: str) -> None:
    with pytest.raises(ProtocolError, match=told) as refused:
        parse(request_)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_there_and_back() -> None:
    asked = plugins.Profile("/traces", "run", 2, 1.5, None, True, {"a": True, "b": 1, "c": "x"}, 1)
    for each in (plugins.Read((array("int8"),)), plugins.Write((array(""),)), asked):
        assert plugins.decode(plugins.encode(each)) == each
