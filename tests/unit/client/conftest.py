"""The fixtures of the launcher's tests (a runtime folder of its own, and nothing left after), and those of hooks."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("launch_fixtures", Path(__file__).parents[1] / "launch" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

runtime = _fixtures.runtime
fake_head = _fixtures.fake_head


@pytest.fixture
def session() -> Iterator[Any]:
    """A session whose cluster is this process's CPU, with all patches of the table in place."""
    import jax

    from polypath.client.hooks import patches
    from polypath.client.session import Session

    session = Session(jax.devices()[0].client, "grpc://unix:/nowhere/t/ifrt.sock")
    installed = patches.install(session)
    yield session
    session.close()
    installed.undo()  # As a forked child does not.


@pytest.fixture
def hook(session: Any) -> Callable[[str, Any], Any]:
    """By name, a hook of the table around a stand-in for what it replaces."""
    from polypath.client.hooks import patches

    def find(name: str, original: Any) -> Any:
        its = [each for hook, them in patches.table(session).items() if hook != patches.FORKED for each in them]
        (found,) = (each for each in its if each.name == name)
        return found.wrap(original)

    return find
