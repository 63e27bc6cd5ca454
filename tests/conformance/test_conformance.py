"""Every case of `programs/`, on plain JAX and on a cluster: the results must be the same.

A module runs once in a process of its own for each of the two. Values are equal bit for bit,
unless the module names an `RTOL` because its results depend on the order of a reduction.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAMS = Path(__file__).parent / "programs"
PREFIX = "case_"


def find_cases() -> list[tuple[str, str]]:
    """(module, case) of all programs; they are read, not imported, to keep JAX out of this process."""
    return [
        (file.stem, node.name.removeprefix(PREFIX))
        for file in sorted(PROGRAMS.glob("[a-z]*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith(PREFIX)
    ]


def assert_same(got: Any, want: Any, rtol: float, where: str) -> None:
    """Compare two trees of dicts, sequences, arrays and plain values."""
    assert type(got) is type(want), f"{where}: {type(got).__name__}, expected {type(want).__name__}"
    if isinstance(want, dict):
        assert sorted(got) == sorted(want), where
        for key in want:
            assert_same(got[key], want[key], rtol, f"{where}[{key!r}]")
    elif isinstance(want, list | tuple):
        assert len(got) == len(want), where
        for index, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_same(a, b, rtol, f"{where}[{index}]")
    elif isinstance(want, np.ndarray):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), where
        inexact = want.dtype.kind not in "iubOSU"
        if rtol and inexact:
            # Relative to the largest element: what cancels to almost zero has no digits of its own.
            wide = np.complex128 if want.dtype.kind == "c" else np.float64
            a, b = got.astype(wide), want.astype(wide)
            scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=where)
        else:
            assert got.tobytes() == want.tobytes(), f"{where}: {got} is not {want}"
    elif isinstance(want, float) and rtol:
        assert got == pytest.approx(want, rel=rtol, nan_ok=True), where
    else:
        assert got == want, where


@pytest.mark.parametrize(("module", "case"), [pytest.param(m, c, id=f"{m}-{c}") for m, c in find_cases()])
def test_cluster_computes_what_plain_jax_computes(
    module: str,
    case: str,
    plain: dict[str, str],
    cluster: dict[str, str],
    report_of: Callable[[str, dict[str, str]], dict[str, Any]],
) -> None:
    reference, report = report_of(module, plain), report_of(module, cluster)
    assert (reference["devices"], report["devices"]) == (8, 8)
    assert report["runtime"].startswith("proxy"), f"the programs ran on {report['runtime']}, not on the cluster"
    want, got = reference["cases"][case], report["cases"][case]
    assert "value" in want, f"plain JAX fails: {want.get('trace')}"
    assert "value" in got, f"the cluster fails: {got.get('trace')}"
    assert_same(got["value"], want["value"], reference["rtol"], case)


def test_every_program_has_cases() -> None:
    modules = {module for module, _ in find_cases()}
    assert modules == {file.stem for file in PROGRAMS.glob("[a-z]*.py")}
