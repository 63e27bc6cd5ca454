"""The process that runs one file of JAX's tests, as `python tests/foo_test.py` would.

The file is run as `__main__`, with its directory first in `sys.path`, and calls absl's `main`
itself: only the runner of the tests is ours, which tells the parent of every test's beginning and end.
Knows nothing of clusters: which devices JAX has is a matter of the environment.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import runpy
import sys
import time
import traceback
import unittest
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from polypath.conformance.events import Begun, Done, Ended, Event, Found, Outcome, Request, Unusable

_REASON_LENGTH = 400


def main() -> None:
    """`python -m polypath.conformance.child <file with the request>`."""
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Request)
    os.set_inheritable(request.events, False)
    teller = Teller(request.events)
    try:
        _run(request, teller)
    except unittest.SkipTest as skip:
        teller.tell(Unusable(f"skips itself: {first_line(skip)}"))
    except Exception as error:
        traceback.print_exc()
        teller.tell(Unusable(describe(type(error), error)))
    teller.tell(Done())


def describe(kind: type[BaseException], error: BaseException) -> str:
    """An exception in one line."""
    line = first_line(error)
    return f"{kind.__name__}: {line}" if line else kind.__name__


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), "")[:_REASON_LENGTH]


class Teller:
    """The parent's ear. A line is written whole, so that a crash right after it loses nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, event: Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


def _run(request: Request, teller: Teller) -> None:
    if request.checkout:
        sys.meta_path.append(_LeftOut(request.checkout))
    sys.argv[:] = [request.path]
    sys.path.insert(0, str(Path(request.path).parent))
    from absl.testing import absltest

    upstream: Any = absltest.main
    runner = _Runner(request.tests, teller)

    def main(*args: Any, **options: Any) -> None:
        upstream(*args, **{**options, "argv": [request.path], "testRunner": runner})

    absltest.main = main
    with contextlib.suppress(SystemExit):  # absl's main ends so.
        runpy.run_path(request.path, run_name="__main__")
    if not runner.ran:
        teller.tell(Unusable("runs no tests when it is run as a script"))


class _LeftOut:
    """Finds modules of JAX that are in its sources only. Comes last, so what is installed stands."""

    def __init__(self, checkout: str) -> None:
        self._checkout = Path(checkout)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        if not name.startswith("jax."):
            return None
        return importlib.machinery.PathFinder.find_spec(name, [str(self._checkout.joinpath(*parent.split(".")))])


class _Runner:
    """Stands where unittest's `TextTestRunner` does."""

    def __init__(self, wanted: Sequence[str] | None, teller: Teller) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._teller = teller
        self.ran = False

    def run(self, suite: unittest.TestSuite) -> unittest.TestResult:
        self.ran = True
        tests = {test_id(test): test for test in _flat(suite)}
        self._teller.tell(Found(list(tests)))
        chosen = {name: test for name, test in tests.items() if self._wanted is None or name in self._wanted}
        result = _Result(self._teller, list(chosen))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # As unittest's own runner has it.
            unittest.TestSuite(chosen.values()).run(result)
        result.end_rest()
        return result


def test_id(test: unittest.TestCase) -> str:
    """The class and the method, whatever module the class is from."""
    return f"{type(test).__qualname__}.{test._testMethodName}"  # pyright: ignore[reportPrivateUsage]


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


class _Result(unittest.TestResult):
    """Tells each outcome, and writes tracebacks to stderr instead of keeping them."""

    def __init__(self, teller: Teller, tests: list[str]) -> None:
        super().__init__()
        self._teller = teller
        self._left = dict.fromkeys(tests)
        self._classes: dict[str, tuple[Outcome, str]] = {}
        """Those that could not be set up."""
        self._current: str | None = None
        self._outcome: tuple[Outcome, str] = (Outcome.PASSED, "")
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._current = test_id(test)
        self._outcome = (Outcome.PASSED, "")
        print(f"=== {self._current}", file=sys.stderr, flush=True)
        self._teller.tell(Begun(self._current))
        self._began = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        seconds = round(time.monotonic() - self._began, 3)
        self._end(test_id(test), self._outcome, seconds)
        self._current = None

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        self._failed(test, err)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self._failed(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._failed(test, err)

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self._note(test, Outcome.SKIPPED, reason)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self._note(test, Outcome.FAILED, "it was expected to fail")

    def end_rest(self) -> None:
        """Give those tests an outcome that never began."""
        for name in list(self._left):
            unknown = (Outcome.NOT_RUN, "unittest did not run it")
            self._end(name, self._classes.get(name.rpartition(".")[0], unknown), 0.0)

    def _failed(self, test: Any, err: Any) -> None:
        kind, error, trace = err
        traceback.print_exception(kind, error, trace)
        self._note(test, Outcome.FAILED, describe(kind, error))

    def _note(self, test: Any, outcome: Outcome, reason: str) -> None:
        if self._current is None:  # Not a test: "setUpClass (__main__.SomeTest)".
            of = str(test).partition("(")[2].rstrip(")").partition(".")[2]
            self._classes[of] = (outcome, reason)
        elif self._outcome[0] is not Outcome.FAILED:  # The first failure says most.
            self._outcome = (outcome, reason)

    def _end(self, name: str, outcome: tuple[Outcome, str], seconds: float) -> None:
        self._left.pop(name, None)
        self._teller.tell(Ended(name, *outcome, seconds))


if __name__ == "__main__":
    main()
