"""Fuzzes the frontend and the controller with atheris: `python tests/fuzz/fuzz_frontend.py -runs=20000`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["polypath"]):
    from frontend_harness import one_input

if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
