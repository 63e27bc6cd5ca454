"""JAX's test files: where they are, which of them run, and whether they fit the JAX that is installed.

Reads paths and one version; runs nothing.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from polypath.errors import ClusterError

DEFAULT_FILES: Final = (
    "ann_test",
    "aot_test",
    "api_test",
    "array_interoperability_test",
    "array_test",
    "batching_test",
    "buffer_callback_test",
    "checkify_test",
    "colocated_python_test",
    "custom_partitioning_test",
    "custom_partitioning_sharding_rule_test",
    "debug_nans_test",
    "debugger_test",
    "debugging_primitives_test",
    "dtypes_test",
    "export_test",
    "fft_test",
    "image_test",
    "jaxpr_effects_test",
    "key_reuse_test",
    "lax_autodiff_test",
    "lax_control_flow_test",
    "lax_numpy_*test",
    "lax_scipy_*test",
    "lax_scipy_test",
    "lax_numpy_test",
    "lax_test",
    "lax_vmap*_test",
    "layout_test",
    "linalg*_test",
    "memories_test",
    "mesh_utils_test",
    "multi_device_test",
    "mutable_array_test",
    "nn_test",
    "ode_test",
    "optimizers_test",
    "pallas/*interpret*_test",
    "pallas/indexing_test",
    "pallas/ops_test",
    "pallas/pallas_*test",
    "pickle_test",
    "pjit_test",
    "pmap_test",
    "profiler*_test",
    "python_callback_test",
    "random_lax_test",
    "random_test",
    "scipy_*_test",
    "shape_poly_test",
    "shard_map_test",
    "sparse_*test",
    "sparsify_test",
    "state_test",
    "stax_test",
    "string_array_test",
    "transfer_guard_test",
    "tree_util_test",
    "x64_context_test",
)
"""Names or patterns, of what a program may use of JAX."""

_NEEDED: Final = {
    "absl": "absl-py",
    "cloudpickle": "cloudpickle",
    "flatbuffers": "flatbuffers",
    "hypothesis": "hypothesis",
    "PIL": "pillow",
    "pytest": "pytest",
}
"""What JAX's tests import beyond JAX: the module, and what to install."""
_VERSION: Final = re.compile(r'^_version = "([^"]+)"', re.M)


class Suite(msgspec.Struct, frozen=True):
    """A folder of JAX's tests."""

    folder: Path
    checkout: Path | None = None
    """JAX's sources around it, if they are there."""
    version: str = ""
    """Of these sources."""

    def path(self, file: str) -> Path:
        return self.folder / f"{file}.py"


def find_suite(given: Path) -> Suite:
    """The tests in a checkout of JAX, or in its `tests` folder.

    Raises:
        ClusterError: there are none.
    """
    folder = given / "tests" if (given / "tests").is_dir() else given
    if not any(folder.glob("*_test.py")):
        raise ClusterError(
            f"There are no tests of JAX in {given}: give the folder of a checkout of JAX at the version that is "
            "installed, or the folder `tests` in it."
        )
    folder = folder.resolve()
    source = folder.parent / "jax" / "version.py"
    if not source.is_file():
        return Suite(folder)
    match = _VERSION.search(source.read_text())
    return Suite(folder, folder.parent, match[1] if match else "")


def misfit(suite: Suite, installed: str) -> str:
    """What is to be said if the tests may not be those of the JAX that is installed; else empty."""
    if not suite.version:
        return (
            f"Whether {suite.folder} holds the tests of jax {installed} cannot be told, as JAX's sources are not "
            f"beside it: if it does not, differences mean little; use a checkout of the tag jax-v{installed}."
        )
    if suite.version != installed:
        return (
            f"{suite.folder} holds the tests of jax {suite.version} and jax {installed} is installed, so tests may "
            f"fail that should not: use a checkout of the tag jax-v{installed}."
        )
    return ""


def check_dependencies() -> None:
    """Refuse an environment that JAX's tests cannot be imported in.

    Raises:
        ClusterError: something is missing.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ClusterError(
            f"JAX's tests import what is not installed here: run `pip install {' '.join(missing)}` and try again."
        )


def select(suite: Suite, wanted: Sequence[str]) -> list[str]:
    """The files that names and patterns mean, without `.py`, each once and in order; by default `DEFAULT_FILES`.

    Raises:
        ClusterError: a name or a pattern means nothing.
    """
    every = sorted(
        path.relative_to(suite.folder).with_suffix("").as_posix() for path in suite.folder.rglob("*_test.py")
    )
    chosen: set[str] = set()
    for pattern in wanted or DEFAULT_FILES:
        found = fnmatch.filter(every, pattern.removesuffix(".py"))
        # A star of ours stays in its folder: one file of another folder is named with it.
        found = [file for file in found if file.count("/") == pattern.count("/")]
        if wanted and not found:
            raise ClusterError(f"There is no test file {pattern} in {suite.folder}: see the names of the files there.")
        chosen.update(found)
    return sorted(chosen)
