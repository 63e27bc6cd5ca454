"""The process that uses operators on the device; it tells of each as a process that runs tests does."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Final

import msgspec

from polypath.conformance import events
from polypath.conformance.child import Teller, describe
from polypath.conformance.events import Begun, Done, Ended, Outcome, Request, Unusable
from polypath.torch.conformance.verdicts import Variant, of_test, test_name, told

LIMIT: Final = "POLYPATH_TORCH_CONFORMANCE_SAMPLES"
"""The variable that says how many samples an operator gets at most."""


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
    operators = _operators()
    every = [test_name(name, variant) for name in operators for variant in Variant]
    teller.tell(events.Found(every))
    if request.tests == []:
        return
    import polypath.torch
    from polypath.torch.conformance.compare import check
    from polypath.torch.kernels import host

    device = polypath.torch.device()
    calls = _counted(host)
    for test in every if request.tests is None else request.tests:
        teller.tell(Begun(test))
        began = time.monotonic()
        name, variant = of_test(test)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = check(operators[name], variant, device, int(os.environ[LIMIT]), calls)
            outcome, reason = told(found)
        except Exception as error:  # Of the samples themselves.
            traceback.print_exc()
            outcome, reason = Outcome.FAILED, f"raises: {describe(type(error), error)}"
        teller.tell(Ended(test, outcome, reason, round(time.monotonic() - began, 3)))


def _operators() -> dict[str, Any]:
    """Those of the database, by name."""
    import importlib

    database: Any = importlib.import_module("torch.testing._internal.common_methods_invocations")
    # Some seed the generator at each use, so that what they draw would not be known as random.
    database.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)
    return {op.full_name: op for op in database.op_db}


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
