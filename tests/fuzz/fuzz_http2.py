"""Fuzzes the HTTP/2 server that clients connect to with atheris: `python tests/fuzz/fuzz_http2.py -runs=10000`.

Options are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["polypath"]):
    from http2_harness import one_input

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], "-len_control=0", "-max_len=2000", *sys.argv[1:]], one_input)
    atheris.Fuzz()
