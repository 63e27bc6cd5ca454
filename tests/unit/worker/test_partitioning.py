"""Programs whose compiler asks the client's functions something."""

from __future__ import annotations

import msgspec
import numpy as np

from polypath import messages as m
from polypath.types import Code, Failure, ProgramInfo

ALL = (0, 1, 2, 3)
CALLBACKS = m.Callbacks("client", 1, 0, answers_compilers=True)


def start(worker, executable, program, callbacks):
    worker.tell(m.Compile(executable, *program, ALL, callbacks=callbacks))


def asked(worker) -> tuple[m.Called, m.CompilerQuestion]:
    called = worker.report(m.Called)
    (payload,) = called.args
    return called, msgspec.msgpack.decode(payload.data, type=m.CompilerQuestion)


def test_a_question_is_put_to_the_client_each_time_a_program_is_compiled(worker, ids, programs):
    for executable in (next(ids), next(ids)):
        start(worker, executable, programs["inspected"], CALLBACKS)
        called, question = asked(worker)
        assert (called.callbacks, called.index, called.in_place) == (CALLBACKS, 0, False)
        assert (question.kind, question.number, question.result) == ("inspect", 0, None)
        (operand,) = question.operands
        assert operand.sharding
        answer = msgspec.msgpack.encode(m.CompilerAnswer())
        worker.tell(m.Return(called.call, m.Results((m.Elements("uint8", (len(answer),), answer),))))
        assert isinstance(worker.report(m.Compiled, executable=executable).result, ProgramInfo)
    value, out = next(ids), next(ids)
    worker.put(value, *np.arange(8, dtype=np.float32).reshape(4, 2), devices=ALL)
    worker.tell(m.Execute(executable, (value,), (out,), (), 1))
    assert worker.fetch(out, 3, shape=(2,)).tolist() == [7, 8]


def test_a_failure_of_the_function_is_the_compilations(worker, ids, programs):
    start(worker, executable := next(ids), programs["inspected"], CALLBACKS)
    called, _ = asked(worker)
    worker.tell(m.Return(called.call, Failure(Code.INTERNAL, "ValueError: not today")))
    result = worker.report(m.Compiled, executable=executable).result
    assert isinstance(result, Failure)
    assert "Error calling inspect_sharding" in result.message
    assert "ValueError: not today" in result.message


def test_addresses_of_a_client_that_does_not_answer_are_not_followed(worker, ids, programs):
    for callbacks in (None, m.Callbacks("client", 1, 0)):
        start(worker, executable := next(ids), programs["inspected"], callbacks)
        result = worker.report(m.Compiled, executable=executable).result
        assert isinstance(result, Failure)
        assert "install polypath there" in result.message
