"""Plugin programs as events."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import frontend_fakes as fakes
import pytest

from polypath import plugins
from polypath.controller import events
from polypath.frontend.refused import Refused
from polypath.frontend.requests.base import Scope
from polypath.frontend.requests.plugins import compile_plugin
from polypath.frontend.shardings import Shardings
from polypath.frontend.wire import ifrt_pb2 as pb

_CUT = "CAMaAQIiAgAB"
"""An `OpSharding` of two tiles."""


def compile_(request: Any, options: str = "PluginCompileOptions", prefix: str = "__serialized_plugin_program ") -> Any:
    view = fakes.view(4)
    buffers = cast(Any, SimpleNamespace(folder=SimpleNamespace(path=lambda: Path("/client"))))
    scope = Scope(1, view, buffers, Shardings(view))
    program = pb.Serialized(type_name="xla::ifrt::PluginProgram", data=(prefix + json.dumps(request)).encode())
    return compile_plugin(
        scope,
        7,
        pb.CompileRequest(program=program, compile_options=pb.Serialized(type_name=f"xla::ifrt::{options}")),
    )


def test_a_trace_needs_hosts_and_a_name_that_all_agree_on() -> None:
    event = compile_({"profileRequest": {"traceLocation": "/traces"}})
    assert isinstance(event, events.Compile)
    assert (event.kind, event.devices) == ("plugin", (0, 1, 2, 3))
    asked = plugins.decode(event.program)
    assert isinstance(asked, plugins.Profile)
    assert asked.session


def test_a_reshard_is_the_controllers() -> None:
    def on(devices: list[int]) -> dict[str, Any]:
        return {"devices": {"device_ids": devices}, "xla_hlo_sharding": _CUT}

    request = {"reshardRequest": {"donateInput": True, "inSharding": [on([0, 1])], "outSharding": [on([3, 2])]}}
    event = compile_(request)
    assert isinstance(event, events.CompileReshard)
    assert event.devices == (0, 1)
    (target,) = event.targets
    assert (target.devices, target.fully_replicated) == ((3, 2), False)
    request["reshardRequest"]["outSharding"][0]["devices"]["device_ids"] = [9, 2]
    with pytest.raises(Refused, match="Device 9 does not exist"):
        compile_(request)


def test_an_import_says_what_comes() -> None:
    sharding = {"devices": {"device_ids": [0, 1]}, "xla_hlo_sharding": _CUT}
    request = {"dtype": "bfloat16", "shape": [4], "sharding": sharding}
    event = compile_({plugins.IMPORT_REQUEST: request})
    assert isinstance(event, events.CompileImport)
    assert event.address == "/client/landing"
    assert (event.spec.dtype, event.spec.shape, event.spec.sharding.devices) == ("bfloat16", (4,), (0, 1))
    with pytest.raises(Refused, match=r"no arrays of float32\[-4\]"):
        compile_({plugins.IMPORT_REQUEST: request | {"dtype": "float32", "shape": [-4]}})
    with pytest.raises(Refused, match="no arrays of string"):
        compile_({plugins.IMPORT_REQUEST: request | {"dtype": "string"}})


def test_what_is_no_plugin_program_is_refused() -> None:
    with pytest.raises(Refused, match="Bad PluginProgram: A plugin program asks for a;"):
        compile_({"a": {}})
    with pytest.raises(Refused, match="compile options of type 'xla::ifrt::XlaCompileOptions'"):
        compile_({"a": {}}, options="XlaCompileOptions")
    with pytest.raises(Refused, match="do not begin"):
        compile_({"a": {}}, prefix="")
