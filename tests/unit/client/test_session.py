"""What a session owns, when it ends, and what is left of it in a forked child."""

from __future__ import annotations

from typing import Any
from unittest import mock

import jax
import pytest

from polypath.client import session as session_module
from polypath.client.session import Session
from polypath.errors import ForkedProcess


@pytest.fixture
def client() -> mock.Mock:
    return mock.Mock()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """What stands for the class of servers of functions."""
    server = mock.Mock()
    monkeypatch.setattr(session_module, "CallbackServer", server)
    return server


def test_only_its_client_is_the_clusters_until_it_closes(client: mock.Mock) -> None:
    session = Session(client, "grpc://unix:/run/name/ifrt.sock")
    assert session.is_cluster(client)
    assert not session.is_cluster(mock.Mock())
    assert session.cluster_socket(client) == "/run/name/ifrt.sock"
    session.close()
    assert not session.is_cluster(client)
    assert session.cluster_socket(client) is None


def test_another_proxys_server_has_no_socket(client: mock.Mock) -> None:
    session = Session(client, "grpc://10.0.0.1:29000")
    assert session.is_cluster(client)
    assert session.cluster_socket(client) is None


def test_an_array_is_on_its_devices() -> None:
    session = Session(jax.devices()[0].client, "")
    here = session.local_cpu().local_devices()[0]
    assert session.is_on_cluster(jax.numpy.ones(2))
    assert not session.is_on_cluster(jax.device_put(1.0, here))
    assert session.local_cpu() is session.local_cpu()


def test_a_request_is_a_program_of_json(client: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = mock.Mock()
    monkeypatch.setattr(session_module, "_programs", programs)
    made = programs.ifrt_programs
    found = Session(client, "").compile_request("name", {"devices": 2})
    assert found is client.compile_ifrt_program.return_value
    made.make_plugin_program.assert_called_once_with('{"name": {"devices": 2}}')
    client.compile_ifrt_program.assert_called_once_with(
        made.make_plugin_program.return_value, made.make_plugin_compile_options.return_value
    )


def test_what_it_owns_is_closed_once_and_the_last_first(client: mock.Mock, server: mock.Mock) -> None:
    order = mock.Mock()
    session = Session(client, "grpc://unix:/run/name/ifrt.sock")
    assert session.own(order.first) is order.first
    session.own(order.second)
    order.second.close.side_effect = OSError("broken")
    order.attach_mock(session.callback_server().close, "server")
    server.assert_called_once()
    assert server.call_args.args[0] == "unix:/run/name/ifrt.sock"
    assert session.interrupts.may_wait_for_functions()
    with pytest.raises(OSError, match="broken"):
        session.close()
    session.close()
    assert [call[0] for call in order.mock_calls] == ["second.close", "first.close", "server"]
    assert not session.interrupts.may_wait_for_functions()


def test_a_forked_child_lets_go_of_all_and_ends_nothing(client: mock.Mock, server: mock.Mock) -> None:
    session = Session(client, "grpc://unix:/run/name/ifrt.sock")
    owned: Any = session.own(mock.Mock())
    session.callback_server()
    session.after_fork_in_child()
    owned.abandon.assert_called_once_with()
    session.close()
    owned.close.assert_not_called()
    server.return_value.close.assert_not_called()
    assert not session.interrupts.may_wait_for_functions()
    assert not session.is_cluster(mock.Mock())
    for touch in (session.is_cluster, session.cluster_socket):
        with pytest.raises(ForkedProcess) as raised:
            touch(client)
        assert str(raised.value) == (
            "This process was forked from one that uses the cluster 'name', and has no session of its own: start it "
            "with multiprocessing's 'spawn' or 'forkserver', or use the cluster in the parent only."
        )
        assert isinstance(raised.value, RuntimeError)
