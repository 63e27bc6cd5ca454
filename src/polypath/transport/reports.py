"""Reports as payloads. Answers to what several hosts are asked go without their hosts, which frames name."""

from __future__ import annotations

import msgspec

from polypath.errors import ProtocolError
from polypath.messages import AnyReport, Await, Command, Compile, Compiled, Ready, Report, decode_report, encode
from polypath.transport import frames
from polypath.types import HostId, ProgramInfo


def question_of(command: Command) -> int:
    """What numbers the question that a command is to all its hosts; 0 if it is none."""
    if isinstance(command, Await):
        return command.request
    return command.executable if isinstance(command, Compile) else 0


def pack_report(report: Report) -> tuple[int, int, bytes]:
    """(kind, question, body) of one host's report. A failure must not wait for the answers of others."""
    if isinstance(report, Ready):
        if report.failure is None:
            return frames.ANSWER, report.request, encode(Ready((), report.request, None))
        return frames.EXCEPTION, report.request, encode(report)
    if isinstance(report, Compiled):
        if isinstance(report.result, ProgramInfo):
            return (
                frames.ANSWER,
                report.executable,
                encode(Compiled((), report.executable, report.result, report.compiled)),
            )
        return frames.EXCEPTION, report.executable, encode(report)
    return frames.REPORT, 0, encode(report)


def unpack_report(kind: int, payload: frames.Buffer) -> AnyReport:
    """The report that somebody sent.

    Raises:
        ProtocolError: it is of another kind, or not what hosts give together.
        DecodeError: it is none.
    """
    if kind == frames.REPORT:
        return decode_report(payload)
    if kind == frames.EXCEPTION:
        return decode_report(frames.unpack_exception(payload)[1])
    if kind != frames.ANSWER:
        raise ProtocolError(f"A report of kind {kind} is unknown.")
    _, hosts, body = frames.unpack_answer(payload)
    return _given_by(hosts, decode_report(body))


def _given_by(hosts: tuple[HostId, ...], report: AnyReport) -> AnyReport:
    if not isinstance(report, Ready | Compiled):
        raise ProtocolError(f"{type(report).__name__} is not what several hosts report together.")
    return msgspec.structs.replace(report, hosts=hosts)
