"""The process that uses entries of torch's databases on the device; it tells of each as a process of tests does."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from polypath.conformance import events
from polypath.conformance.child import Teller, describe
from polypath.conformance.events import Begun, Done, Ended, Outcome, Request, Unusable
from polypath.torch.conformance.verdicts import VARIANTS, Found, Kind, Test, Verdict, told

LIMIT: Final = "POLYPATH_TORCH_CONFORMANCE_SAMPLES"
"""The variable that says how many samples an entry gets at most in each variant."""


def main() -> None:
    """`python -m polypath.torch.conformance.child <file with the request>`."""
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Request)
    os.set_inheritable(request.events, False)
    teller = Teller(request.events)
    try:
        _run(request, teller)
    except Exception as error:
        traceback.print_exc()
        teller.tell(Unusable(describe(type(error), error)))
    teller.tell(Done())


def _run(request: Request, teller: Teller) -> None:
    entries = {kind: _module(kind).entries() for kind in Kind}
    every = [Test(kind, name, variant) for kind in Kind for name in entries[kind] for variant in VARIANTS[kind]]
    teller.tell(events.Found([str(test) for test in every]))
    if request.tests == []:
        return
    import polypath.torch
    from polypath.torch.kernels import host

    device = polypath.torch.device()
    calls = _counted(host)
    for text in [str(test) for test in every] if request.tests is None else request.tests:
        teller.tell(Begun(text))
        began = time.monotonic()
        test = Test.of(text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _check(test, entries[test.kind][test.name], device, calls)
            outcome, reason = told(found)
        except Exception as error:  # Of the samples themselves.
            traceback.print_exc()
            outcome, reason = Outcome.FAILED, f"raises: {describe(type(error), error)}"
        teller.tell(Ended(text, outcome, reason, round(time.monotonic() - began, 3)))


def _check(test: Test, entry: Any, device: Any, calls: list[str]) -> Found:
    from polypath.torch.conformance.compare import NotHere, check

    try:
        return check(_module(test.kind).cases(entry, test.variant), device, int(os.environ[LIMIT]), calls)
    except NotHere as why:
        return Found(Verdict.ABSENT, str(why))


def _module(kind: Kind) -> ModuleType:
    """What knows the entries of that database, and how they are used."""
    return importlib.import_module(f"polypath.torch.conformance.{kind}")


def _counted(host: Any) -> list[str]:
    """The operators that run on the client's CPU, as they do."""
    calls: list[str] = []
    original = host.on_host

    def on_host(op: Any, args: Any, kwargs: Any) -> Any:
        calls.append(op.name())
        return original(op, args, kwargs)

    host.on_host = on_host
    return calls


if __name__ == "__main__":
    main()
