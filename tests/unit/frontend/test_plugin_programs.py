"""Plugin programs as events."""

from __future__ import annotations

import json
from typing import Any, cast, get_args

import frontend_fakes as fakes
import pytest

from polypath import plugins
from polypath.controller import events
from polypath.frontend.refused import Refused
from polypath.frontend.requests.base import Scope
from polypath.frontend.requests.plugins import compile_plugin
from polypath.frontend.shardings import Shardings
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import ArraySpec

_CUT = "CAMaAQIiAgAB"
"""An `OpSharding` of two tiles."""


def compile_(request: Any, options: str = "PluginCompileOptions", prefix: str = "__serialized_plugin_program ") -> Any:
    view = fakes.view(4)
    scope = Scope(1, view, cast(Any, None), Shardings(view))
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


@pytest.mark.parametrize("what", get_args(plugins.Wanted))
def test_what_is_wanted_of_arrays(what: str) -> None:
    event = compile_({plugins.ATTACH_REQUEST: {"devices": 2, "what": what}})
    assert isinstance(event, events.CompileAttach)
    assert (event.devices, event.what) == ((0, 1), what)


def test_an_array_that_is_given() -> None:
    sharding = {"devices": {"device_ids": [1, 0]}, "xla_hlo_sharding": _CUT}
    given = {"dtype": "bfloat16", "shape": [4], "sharding": sharding}
    event = compile_({plugins.ATTACH_REQUEST: {"devices": 2, "gives": given}})
    assert isinstance(event, events.CompileAttach)
    assert isinstance(event.what, ArraySpec)
    assert event.devices is event.what.sharding.devices
    assert (event.what.dtype, event.what.shape, event.devices) == ("bfloat16", (4,), (1, 0))
    for wrong, words in (
        ({"shape": [-4]}, r"no arrays of bfloat16\[-4\]"),
        ({"dtype": "string"}, "no arrays of string"),
    ):
        with pytest.raises(Refused, match=words):
            compile_({plugins.ATTACH_REQUEST: {"devices": 2, "gives": given | wrong}})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"devices": 1}, "either say what is wanted or give an array"),
        ({"devices": 1, "what": "soul"}, "'soul'"),
        ({"what": "ready"}, "devices"),
        ({"devices": 1, "what": "ready", "address": "/pipe"}, "address"),
    ],
)
def test_a_request_on_links_that_makes_no_sense(body: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        compile_({plugins.ATTACH_REQUEST: body})


def test_what_is_no_plugin_program_is_refused() -> None:
    with pytest.raises(Refused, match="Bad PluginProgram: A plugin program asks for a;"):
        compile_({"a": {}})
    with pytest.raises(Refused, match="compile options of type 'xla::ifrt::XlaCompileOptions'"):
        compile_({"a": {}}, options="XlaCompileOptions")
    with pytest.raises(Refused, match="do not begin"):
        compile_({"a": {}}, prefix="")
