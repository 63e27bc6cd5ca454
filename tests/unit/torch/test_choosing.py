"""Frameworks are amended when they are imported: the real ones are in `tests/torch/test_frameworks.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import polypath.torch  # noqa: E402, F401
from polypath.torch import frameworks  # noqa: E402


def test_a_module_is_amended_once_it_has_run_and_is_as_before_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chooses.py").write_text("device = 'cpu'\n")
    (tmp_path / "fails.py").write_text("raise RuntimeError('of its own')\n")
    (tmp_path / "other.py").write_text("device = 'cpu'\n")
    monkeypatch.syspath_prepend(tmp_path)
    amended: list[str] = []

    def amend(module: object) -> None:
        amended.append(module.device)  # pyright: ignore
        module.device = "polypath"  # pyright: ignore

    for name in ("chooses", "fails", "absent"):
        monkeypatch.setitem(frameworks._AMENDED, name, amend)
    module = importlib.import_module("chooses")
    assert (module.device, amended) == ("polypath", ["cpu"])
    assert module.__spec__ is not None
    assert module.__file__ == str(tmp_path / "chooses.py")
    assert importlib.import_module("other").device == "cpu"
    with pytest.raises(RuntimeError, match="of its own"):
        importlib.import_module("fails")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("absent")
    assert amended == ["cpu"]
    for name in ("chooses", "other"):
        sys.modules.pop(name)
