"""Fuzzes frames, messages and shardings with atheris: `python tests/fuzz/fuzz_transport.py -runs=100000`.

Options are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["polypath"]):
    from transport_harness import one_input

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], "-len_control=0", "-max_len=300", *sys.argv[1:]], one_input)
    atheris.Fuzz()
