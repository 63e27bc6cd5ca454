"""The table of patches: how a patch is put in place and taken away, and that nothing else changes JAX."""

from __future__ import annotations

import ast
import functools
import logging
import pkgutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import pytest
from jax._src import array as jax_array
from jax._src import dispatch

from polypath import client as client_package
from polypath.client.hooks import patches
from polypath.client.hooks.patches import Installed, Overlay, Patch, Replacement, getter, is_jaxs_own, overlay
from polypath.client.session import Session

DOCUMENT = Path(__file__).parents[3] / "docs" / "patches.md"
MISSING = object()


class Base:
    def inherited(self) -> str:
        return "inherited"


class Thing(Base):
    @property
    def name(self) -> str:
        return "thing"

    @staticmethod
    def made() -> str:
        return "made"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that can be patched by its name, `patched`."""
    module: Any = types.ModuleType("patched")
    module.function = len
    module.other = types.SimpleNamespace(kept="kept", replaced="before")
    module.handlers = {int: "before"}
    module.Thing = type("Thing", (Base,), dict(vars(Thing)))
    monkeypatch.setitem(sys.modules, "patched", module)
    return module


@pytest.fixture(autouse=True)
def _nothing_left_out() -> Iterator[None]:
    yield
    patches.left_out.clear()


def hooked(original: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    return "hooked", original(*args)


def patch(name: Any, how: Callable[..., Any] | Replacement = hooked, owner: str = "patched", **more: Any) -> Patch:
    return Patch(owner, name, how, "To test it.", **more)


def put(*its: Patch) -> Installed:
    return Installed({"hook": its})


def test_all_kinds_are_put_in_place_and_undone(target: Any) -> None:
    before = {owner: dict(vars(owner)) for owner in (target, target.Thing)}
    installed = put(
        patch("function"),
        patch("other", overlay(replaced="after")),
        patch(int, Replacement(lambda original: (original, "after")), "patched:handlers"),
        patch("name", getter(hooked), "patched:Thing"),
        patch("inherited", hooked, "patched:Thing"),
        patch("new", Replacement(lambda _: "added"), adds=True),
    )
    assert target.function("ab") == ("hooked", 2)
    assert (target.other.kept, target.other.replaced) == ("kept", "after")
    assert target.handlers == {int: ("before", "after")}
    assert (target.Thing().name, target.Thing().inherited()) == (("hooked", "thing"), ("hooked", "inherited"))
    assert target.new == "added"
    installed.undo()
    installed.undo()
    assert {owner: dict(vars(owner)) for owner in before} == before
    assert target.handlers == {int: "before"}


def test_what_is_patched_twice_is_restored_to_the_first(target: Any) -> None:
    installed = put(patch("function"), patch("function"))
    assert target.function("ab") == ("hooked", ("hooked", 2))
    installed.undo()
    assert target.function is len


def test_what_somebody_put_on_top_stays(target: Any) -> None:
    installed = put(patch("function"))
    ours = target.function
    theirs = target.function = lambda value: ("theirs", ours(value))
    installed.undo()
    assert target.function is theirs
    assert target.function("ab") == ("theirs", ("hooked", 2))


@functools.wraps(dispatch.apply_primitive)
def looks_like_jaxs() -> None:
    """Somebody's own; its names are those of JAX's."""


@pytest.mark.parametrize("function", [len, looks_like_jaxs, mock.MagicMock(), lambda: None])
def test_a_shortcut_leaves_alone_what_is_not_jaxs_own(target: Any, function: Any) -> None:
    target.function = function
    put(patch("function", shortcut=True))
    assert target.function is function
    put(patch("function"))
    assert target.function is not function


def test_a_shortcut_takes_the_place_of_jaxs_own() -> None:
    assert is_jaxs_own(jax_array.ArrayImpl.block_until_ready)
    assert is_jaxs_own(jax_array.ArrayImpl.__array__)


def test_what_is_added_is_added_only_where_it_is_missing(target: Any) -> None:
    put(patch("function", Replacement(lambda _: "added"), adds=True))
    assert target.function is len


@pytest.mark.parametrize(
    "lacking", [patch("lacking"), patch("name", owner="patched:Lacking"), patch("name", owner="lacking")]
)
def test_a_hook_whose_name_jax_lacks_is_left_out_whole_and_told_of_once(
    target: Any, lacking: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        Installed({"dlpack": [patch("function"), lacking], "other": [patch("other", overlay(replaced="after"))]})
    assert target.function is len
    assert isinstance(target.other, Overlay)
    assert patches.left_out == {"dlpack"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"jax {jax.__version__} is not as the hook 'dlpack' of Polypath expects it (" in record.getMessage()
    assert record.getMessage().endswith(
        "), so it is left out, and on the cluster arrays cannot be exchanged with other libraries by DLPack."
    )


def test_a_hook_that_cannot_be_imported_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "polypath.client.hooks.donating", None)
    session = Session(jax.devices()[0].client, "")
    session.transfers = mock.Mock()
    assert [hook for hook, its in patches.table(session).items() if not its] == ["donating"]
    assert "the hook 'donating'" in caplog.text
    session.transfers = None
    patches.install(session)  # All others.
    session.close()


def test_versions() -> None:
    old, new = patch("function", seen_on="0.9-0.10"), patch("function", seen_on="0.11-0.12")
    versions = ("0.9.0", "0.10.2", "0.11.0.1", "0.12.1", "0.13.0")
    assert [old.belongs_to(version) for version in versions] == [True, True, False, False, False]
    # A name that the newest JAX has is expected of later ones: a user is told where they lack it.
    assert [new.belongs_to(version) for version in versions] == [False, False, True, True, True]


def state_of_jax(session: Session) -> dict[tuple[str, Any], Any]:
    """All that is patched, as its owner has it."""
    found: dict[tuple[str, Any], Any] = {}
    for its in patches.table(session).values():
        for each in its:
            owner = pkgutil.resolve_name(each.owner) if each.belongs_to(jax.__version__) else object()
            own = owner if isinstance(owner, dict) else getattr(owner, "__dict__", {})
            found[each.owner, each.name] = own.get(each.name, MISSING)
    return found


def test_closing_restores_jax() -> None:
    before = None
    for _ in range(2):
        session = Session(jax.devices()[0].client, "")
        before = before or state_of_jax(session)
        patches.install(session)
        while_open = state_of_jax(session)
        assert sum(while_open[key] is not before[key] for key in before) > 20
        session.close()
        after = state_of_jax(session)
        assert [key for key in before if after[key] is not before[key]] == []


def test_this_jax_has_all() -> None:
    session = Session(jax.devices()[0].client, "")
    patches.install(session)
    session.close()
    assert not patches.left_out


def test_nothing_else_changes_jax() -> None:
    root = Path(client_package.__file__).parent
    changing = {
        f"{file.relative_to(root)}"
        for file in root.rglob("*.py")
        if file.name != "patches.py" and changes_of_jax(ast.parse(file.read_text()))
    }
    assert changing == set()


def test_a_sessions_state_is_no_modules() -> None:
    root = Path(client_package.__file__).parent
    found = {
        f"{file.relative_to(root)}"
        for file in root.rglob("*.py")
        if any(isinstance(node, ast.Global) for node in ast.walk(ast.parse(file.read_text())))
    }
    assert found == set()


def test_what_changes_jax_is_seen() -> None:
    for line in (
        "_jax.config = 1",
        "_array.ArrayImpl.block_until_ready: int = 1",
        "del _array.ArrayImpl",
        "_array.handlers[1] = 2",
        "setattr(x, 'y', 1)",
        "h = _array.handlers\nh[1] = 2",
    ):
        assert changes_of_jax(
            ast.parse(f"import jax\nfrom jax._src import array\n_jax = jax\n_array: Any = array\n{line}")
        )
    assert not changes_of_jax(ast.parse("from jax import x\ny = x\nself.x = 1\nz.value = y.read()\nz[1] = 2"))


def changes_of_jax(tree: ast.AST) -> bool:
    """Whether a module assigns into what it has of JAX's, under whichever name, or by `setattr`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for alias in node.names:
                if (module or alias.name).partition(".")[0] in ("jax", "jaxlib"):
                    names.add((alias.asname or alias.name).partition(".")[0])
    size = -1
    while len(names) > size:  # What is given another name is still JAX's.
        size = len(names)
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.Assign, ast.AnnAssign))
                and node.value is not None
                and root_of(node.value) in names
            ):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {each.id for each in targets if isinstance(each, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            return True
        assigns = isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del))
        if assigns and root_of(node) in names:
            return True
    return False


def root_of(node: ast.AST) -> str | None:
    """The name of which this is an attribute or an item; of `getattr(module, name)`, the module's."""
    while not isinstance(node, ast.Name):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            node = node.args[0]
        else:
            return None
    return node.id


def title(names: list[Any]) -> str:
    """Of several types, of which each has an entry of its own in a table of JAX's, how many there are."""
    return ", ".join(f"`{name}`" for name in names) if isinstance(names[0], str) else f"{len(names)} types"


def document() -> str:
    """What `docs/patches.md` is to be."""
    session = Session(jax.devices()[0].client, "")
    session.transfers = mock.Mock()
    lines = [
        "# What Polypath changes in JAX",
        "",
        "Everything here is in place while a process uses a cluster, for that cluster alone, and closing it undoes it",
        "(`client/hooks/patches.py`). A hook whose names a JAX lacks is left out, and a warning says what is lost.",
        "This page is written by `python tests/unit/client/test_patches.py`; a test holds it to the code.",
    ]
    for hook, its in patches.table(session).items():
        lines += ["", f"## `{hook}`", "", f"Without it, {patches.HOOKS[hook]}.", ""]
        lines += ["| in | what | seen on jax | why |", "| --- | --- | --- | --- |"]
        names: dict[tuple[str, str, str], list[Any]] = {}
        for each in its:
            names.setdefault((each.owner, each.seen_on, each.why), []).append(each.name)
        lines += [f"| `{owner}` | {title(found)} | {seen} | {why} |" for (owner, seen, why), found in names.items()]
    return "\n".join(lines) + "\n"


def test_the_documents_table_is_ours() -> None:
    assert DOCUMENT.read_text() == document()


if __name__ == "__main__":
    DOCUMENT.write_text(document())
