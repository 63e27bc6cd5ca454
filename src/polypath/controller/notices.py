"""Questions that workers answer to the client itself, so that the answer takes no way through the head.

The client sees a program without results that it runs with the arrays it asks about. The number of the launch is
its name for the question. It can also ask about a program's end with running it: the question's number is then where
jaxlib has one for the thread (`polypath.notices`). Whatever stands against an answer is told with that number alone:
the client then asks as any other does, and hears why.
"""

from __future__ import annotations

import math

from polypath.controller import events
from polypath.controller.core import Core, Refused, refuse, union
from polypath.controller.state import MOST_HOSTS, Executable, Future, Notify, Session, Value
from polypath.messages import MOST_ELEMENTS, MOST_QUESTIONS, NUMBERS
from polypath.messages import Notify as NotifyCommand
from polypath.types import Code, HostId


class Notices:
    """The handlers of programs that notify."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def compile(self, request: events.CompileNotify) -> None:
        devices, _ = self._core.place(request.devices)
        notify = Notify(request.address, request.elements, request.pointer)
        executable = self._core.load(request, "notify", devices, notify)
        if not request.pointer:
            self._core.session(request).asks_by[request.elements] = executable

    def run(self, request: events.Execute, executable: Executable, notify: Notify, status: events.Handle) -> None:
        """Have the arrays' hosts tell. The end of this is now, should `status` be asked for."""
        core, session = self._core, self._core.session(request)
        self.ask(session, request, [], [])  # Nobody tells of the end of a question.
        number = request.launch
        if not 0 < number < NUMBERS or not request.args or (notify.elements and len(request.args) > 1):
            refuse(
                Code.INVALID_ARGUMENT,
                f"A question to workers has a number from 1 to {NUMBERS - 1} and one array, or several whose elements "
                f"are not asked for; this one has number {number} and {len(request.args)} arrays.",
            )
        try:
            values = core.arrays(session, request.args)
        except Refused:
            self.unanswerable(session, number)
        else:
            asked = self._question(session, executable, notify, number, values)
            if asked is not None:
                core.send(*asked)
        if request.fill_status:
            session.futures[status] = Future()
        core.reply(request, events.Executed(status if request.fill_status else 0, ()))

    def ask(self, session: Session, request: events.Execute, results: list[Value], ends: list[Value]) -> None:
        """Ask about a program's end, if the client did with running it."""
        if (asked := self.early(session, request, results, ends)) is not None:
            self._core.send(*asked)

    def early(
        self, session: Session, request: events.Execute, results: list[Value], ends: list[Value]
    ) -> tuple[tuple[HostId, ...], NotifyCommand] | None:
        """What to send after a program, if the client asks about its end; `ends` are what has to be there then."""
        number, result = request.question, request.elements
        if not number:
            return None
        if session.questions.get(number % MOST_QUESTIONS, (0,))[0] == number:
            return None  # It was asked about another execution.
        session.questions[number % MOST_QUESTIONS] = number, ()
        executable = session.asks_by.get(result is not None)
        notify = executable.does if executable is not None and executable.id in self._core.executables else None
        if result is not None:
            # What is large comes another way.
            ends = [value for value in results[result:][:1] if math.prod(value.spec.shape) <= MOST_ELEMENTS]
        if executable is None or not isinstance(notify, Notify) or not ends:
            self.unanswerable(session, number)
            return None
        return self._question(session, executable, notify, number, ends)

    def _question(
        self, session: Session, executable: Executable, notify: Notify, number: int, values: list[Value]
    ) -> tuple[tuple[HostId, ...], NotifyCommand] | None:
        hosts, device = union(value.hosts for value in values), None
        if notify.elements:
            device = values[0].spec.sharding.devices[0]
            hosts = (self._core.devices[device].host,)
        if not 0 < len(hosts) <= MOST_HOSTS:
            self.unanswerable(session, number)
            return None
        notify.hosts.update(hosts)
        session.questions[number % MOST_QUESTIONS] = number, hosts
        ids = tuple([value.id for value in values])
        told = notify.address, number, len(hosts), device, notify.pointer
        return hosts, NotifyCommand(executable.id, ids, *told)

    def lost(self, host: HostId) -> None:
        """It answers nothing any more."""
        for session in self._core.sessions.values():
            for number, hosts in session.questions.values():
                if host in hosts:
                    self.unanswerable(session, number)

    def unanswerable(self, session: Session, number: int) -> None:
        """Tell the client that no worker will answer this question."""
        self._core.effects.append(events.Unanswerable(session.id, number))
