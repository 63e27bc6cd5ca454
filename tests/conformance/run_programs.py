"""Run the cases of one module in this process and pickle what they return.

    python run_programs.py OUT.pkl MODULE [CASE ...]

Knows nothing of Polypath: the environment says which devices JAX finds. A case that raises is
recorded, with its type and message, and the others go on.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PREFIX = "case_"


def to_host(leaf: Any) -> Any:
    """A leaf as plain numpy (or a plain Python value), so that pickling needs no JAX."""
    import jax

    if isinstance(leaf, jax.Array):
        return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
    return leaf


def run_case(module: ModuleType, name: str) -> dict[str, Any]:
    """`{"value": ...}`, or `{"raised": message, "trace": text}`."""
    import jax

    try:
        return {"value": jax.tree.map(to_host, getattr(module, PREFIX + name)())}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def main() -> None:
    out, module_name, *names = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent / "programs"))
    module = importlib.import_module(module_name)
    import jax

    if not names:
        names = [name.removeprefix(PREFIX) for name in vars(module) if name.startswith(PREFIX)]
    report = {
        "devices": len(jax.devices()),
        "runtime": jax.devices()[0].client.runtime_type,
        "rtol": getattr(module, "RTOL", 0.0),
        "cases": {name: run_case(module, name) for name in names},
    }
    Path(out).write_bytes(pickle.dumps(report))


if __name__ == "__main__":
    main()
