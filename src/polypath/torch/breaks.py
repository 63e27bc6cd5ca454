"""Says where a compiled function is not one program, and why: at the user's line, once.

A break of Dynamo's graph costs nothing by itself, as the graphs of a step are joined (`trace`), so nothing is said
of it. It costs where a value is read: there the program ends, and each call waits. And it costs without gradients,
where each graph is a program of its own. What Dynamo breaks at on its own account (`backward()`, an optimizer's
step), or was told to (`graph_break()`, `disable`), is no news to the user.
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
import sysconfig
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, cast

import torch
from torch._dynamo.resume_execution import TORCH_DYNAMO_RESUME_IN_PREFIX


class GraphBreakWarning(UserWarning):
    """A compiled function is more than one program, because of a line of the user's."""


class Line(NamedTuple):
    """A line of the user's code."""

    file: str
    number: int

    def __str__(self) -> str:
        code = linecache.getline(*self).strip()
        return f"`{code}` (line {self.number} of {Path(self.file).name})"


class Break(NamedTuple):
    """Where a graph ended before the function did."""

    line: Line
    why: str


_TORCH: Final = str(Path(torch.__file__).parent)
_OURS: Final = str(Path(__file__).parent)
_STANDARD: Final = sysconfig.get_path("stdlib")
_COMPILED: Final = torch.compile(lambda: None, backend="eager").__code__
_DISABLED: Final = cast("Any", torch.compiler.disable(lambda: None)).__code__
"""What runs beneath every compiled function, and beneath those that are not to be compiled."""

_ended: Final[dict[Line, Break]] = {}
"""Those at which a program has ended, the last one last."""
_told: Final[set[Line]] = set()


def break_of(graph: torch.fx.GraphModule) -> Break | None:
    """Where the user's code broke a graph of Dynamo's; None if it did not."""
    reason: Any = getattr(graph, "compile_subgraph_reason", None)
    if reason is None or not reason.graph_break:
        return None
    what, *more = reason.reason.splitlines()
    if "graph_break()" in what or "torch.compiler.disable()" in what or _TORCH in reason.reason:
        return None
    lines = [Line(frame.filename, frame.lineno) for frame in reason.user_stack if _is_users(frame.filename)]
    explained = [line.partition("Explanation: ")[2] for line in more if "Explanation: " in line]
    return Break(lines[-1], _first_sentence(explained[0] if explained else what)) if lines else None


def _first_sentence(text: str) -> str:
    sentence = re.split(r"\.`? ", text + " ")[0].strip()
    return sentence + "`" * (sentence.count("`") % 2)


def program_ended(at: Break) -> None:
    """The graph that broke there was started by itself."""
    _ended.pop(at.line, None)
    _ended[at.line] = at


def goes_on(graph: torch.fx.GraphModule) -> None:
    """Tell of the break that a graph comes after, if that has cost a program."""
    reason: Any = getattr(graph, "compile_subgraph_reason", None)
    frame = reason.user_stack[0] if reason is not None and reason.user_stack else None
    if frame is None or not frame.name.startswith(TORCH_DYNAMO_RESUME_IN_PREFIX):
        return
    at = _ended.get(Line(frame.filename, int(frame.name.rpartition("_at_")[2])))
    if at is not None:
        _tell(
            at.line,
            f"breaks the graph of a compiled function ({at.why}): without gradients, what comes before it and what "
            "comes after are a program each, at every call; move it out of the function (fullgraph=True refuses it).",
        )


def value_read(by: object) -> None:
    """Tell of a line within a compiled function that reads a value from the cluster, by an operator."""
    frame: FrameType | None = sys._getframe(1)
    line = None
    while frame is not None:
        code = frame.f_code
        if line is None:
            if _is_users(code.co_filename):
                line = _line_of(frame)
                if line in _told:
                    return
        elif code is _DISABLED:
            return
        elif code is _COMPILED:
            _tell(
                line,
                f"reads a value within a compiled function, by {by}: its program ends there, and every call waits for "
                "the value; return the tensor and read it outside, or choose with torch.where (fullgraph=True takes "
                "such a line into the program, or refuses it).",
            )
            return
        frame = frame.f_back


def _line_of(frame: FrameType) -> Line:
    """The line that a user's function is at.

    From Python 3.13 on the jump of an `if` has none in what Dynamo makes of the function, which then seems to be at
    its first line: it is where the last program ended.
    """
    code = frame.f_code
    if frame.f_lineno == code.co_firstlineno and _ended:
        last = next(reversed(_ended))
        if last.file == code.co_filename and last.number > code.co_firstlineno:
            return last
    return Line(code.co_filename, frame.f_lineno)


def _tell(line: Line, sentence: str) -> None:
    if line in _told:
        return
    _told.add(line)
    warnings.warn_explicit(f"{line} {sentence}", GraphBreakWarning, *line)


@functools.cache
def _is_users(file: str) -> bool:
    of_python = file.startswith(_STANDARD) and "-packages" not in file.removeprefix(_STANDARD)
    return not of_python and not file.startswith((_TORCH, _OURS, "<frozen "))
