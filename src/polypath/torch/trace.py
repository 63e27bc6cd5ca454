"""What is to run: the operators that wait, and how they become one program.

An operator is not run when it is called. It becomes a `Node`, and its results are `Ref`s that have no array
yet. `flush` makes one program of all nodes that wait, starts it, and gives the refs their arrays. Where the
same nodes come again, joined in the same way, the program is the same one: a step of training, whichever
graphs and single operators it is made of, is compiled once and is one program on the cluster.

Rules:

- A `Ref` is a value that never changes. What changes is which ref a buffer holds (`buffers`).
- A program gives what some buffer holds; the rest lives only inside it.
- An argument that no buffer holds any more is donated, if a result can take its memory.
- No failure and no Ctrl-C loses a value that a buffer held: until a program has started, all it was to do can be
  undone (`changes`), and starting it is not interrupted. A program that fails on the devices after that has taken
  what was donated to it with it; whoever reads is told.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import Any, Final

import jax
import numpy as np

from polypath.client import backend
from polypath.torch import bounds
from polypath.torch.changes import Changes, Holder, chain, hold
from polypath.torch.devices import Copies
from polypath.torch.eager import Eager
from polypath.torch.errors import ClosedError, TorchError, closed, failed, is_closed, lost_with
from polypath.torch.interrupts import uninterrupted
from polypath.torch.programs import MOST_IN_PIECE, Joined, Node, Program, Ref, Run, donated, needed, pieces

MOST_NODES: Final = 4096
"""Nodes that may wait: a loop that reads nothing must not pile up its values for ever."""

TIMES_IN_PIECES: Final = 8
"""How often the same is started in pieces before it is made one program."""


class Trace:
    """The nodes that wait, and the programs that were made."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._next = itertools.count().__next__
        self._last = -1
        """The number of the node that was added last."""
        self._changes = Changes()
        self._copies = Copies()
        self._bounds = bounds.Pending()
        self._lock = threading.RLock()
        """Whoever starts programs; other threads may add nodes meanwhile."""
        self._culprit: Node | None = None
        """The node at which a program could not be made."""
        self._programs: dict[Hashable, Program] = {}
        self._seen: Counter[int] = Counter()
        """How often nodes came that were joined in one way and may be started in pieces."""
        self.seed = 0
        self._drawn = 0
        self.eager = Eager()
        self.runs = 0
        """Programs that were started."""
        self._latest: tuple[weakref.ref[Ref], ...] = ()
        """Some of what was started last."""
        self.forked = False
        """Whether this process is a copy of one that uses the devices: they answer only that one."""
        os.register_at_fork(after_in_child=self._fork)

    @property
    def programs(self) -> int:
        """How many different programs there are."""
        return len(self._programs)

    def _fork(self) -> None:
        self.forked |= bool(self._nodes) or backend.in_use()
        # Or the end of this process would wait ten seconds for autograd's threads, which are not here.
        os.environ["TORCH_AUTOGRAD_SHUTDOWN_WAIT_LIMIT"] = "0"
        self._lock = threading.RLock()  # Whoever had it is not here.

    def check_process(self) -> None:
        """Refuse to go on in a process that the devices do not know.

        Raises:
            TorchError: this process was forked from one that uses the device.
        """
        if self.forked:
            raise TorchError(
                "This process was forked from one that uses the cluster, which answers only that one: keep tensors of "
                "the device out of a DataLoader's workers (a dataset gives tensors of the CPU, the training loop moves "
                "each batch with .to(device)), or use num_workers=0."
            )

    def latest(self) -> jax.Array | None:
        """The smallest array that is known of the work started last, None where none is left; starts all that waits."""
        self.flush()
        alive = [ref.array for one in self._latest if (ref := one()) is not None and ref.bytes]
        return min(alive, key=lambda array: array.size, default=None)

    def started(self, results: Sequence[Ref]) -> None:
        """These are the results of what was started last."""
        if results:
            self._latest = (weakref.ref(results[0]), weakref.ref(results[-1]))

    def manual_seed(self, seed: int) -> None:
        """Begin the random numbers anew."""
        self.seed, self._drawn = seed, 0

    def random_state(self) -> tuple[int, int]:
        """Where the random numbers are: the seed, and how many nodes have drawn since."""
        return self.seed, self._drawn

    def set_random_state(self, state: tuple[int, int]) -> None:
        """Go on with the random numbers from there."""
        self.seed, self._drawn = state

    def add(
        self,
        run: Run,
        key: Hashable,
        inputs: Sequence[Ref],
        outputs: Sequence[tuple[tuple[int, ...], Any]],
        *,
        random: bool = False,
        graph: bool = False,
        ends: bool = False,
    ) -> list[Ref]:
        """Have `run` done; its results by shape and dtype.

        Raises:
            TorchError: the program that was to compute an input has failed.
        """
        for ref in inputs:
            if ref.failure is not None:
                raise failed(ref.failure)
        if len(self._nodes) >= MOST_NODES:
            with hold(inputs):
                self.flush()
        draw = None
        if random:
            draw = self.random_state()
            self._drawn += 1
        node = Node(self._next(), run, key, inputs, draw, graph, ends)
        node.outputs = [Ref(shape, dtype) for shape, dtype in outputs]
        self._last = node.number
        self._nodes.append(node)
        return node.outputs

    def check_bounds(self) -> None:
        """Tell of an index that was out of range in a program that has started; waits for these.

        Raises:
            IndexRangeError: there was one.
        """
        self._bounds.tell()

    def changing(self, holder: Holder, form: Any, ref: Ref) -> None:
        """A storage that held `ref` is about to hold what was added last, or before."""
        self._changes.add(self._last, holder, form, ref)

    def value(self, ref: Ref) -> jax.Array:
        """The array of a ref, which has come into being once it is looked at."""
        if ref.array is None:
            with hold([ref]):
                self.flush()
        if ref.array is None:
            raise failed(ref.failure)
        return ref.array

    def flush(self) -> None:
        """Start all that waits, as one program.

        Many operators that came one by one are started in pieces at first: the layers of a model are mostly the same
        pieces, each of which is compiled once, and what is joined anew each time (by a sequence that grows with each
        token) needs little more. What comes again and again is one program then.

        If a program cannot start, what it was to do is undone: storages hold what they did before. If Ctrl-C comes,
        what has not started goes on waiting. What needs tensors of a closed cluster is undone, and the rest is started:
        whoever asks for a result of it is told.
        """
        with self._lock:
            while self._nodes:
                last = self._nodes[-1].number
                nodes = needed(self._nodes)
                self._culprit = None
                try:
                    if nodes:
                        self.check_process()
                        self._start_all(nodes, last)
                    else:
                        self._done(last)
                    break
                except Exception as error:
                    if self._undo_closed(error):
                        continue
                    self._undo(error)
                    raise
        self._bounds.tell(bounds.MOST_PENDING)

    def _undo_closed(self, cause: Exception) -> bool:
        """Undo what needs something of a closed cluster; whether there was any."""
        undone: list[Node] = []
        error = closed(cause)
        for node in self._nodes:
            if any(isinstance(ref.failure, ClosedError) or is_closed(ref.array) for ref in node.inputs):
                undone.append(node)
                for ref in node.outputs:
                    ref.failure = error
        self._changes.undo_all({id(ref) for ref in chain(node.outputs for node in undone)})
        for node in undone:
            self._nodes.remove(node)
        return bool(undone)

    def _undo(self, error: Exception) -> None:
        first = (self._culprit or self._nodes[0]).number
        undone = [node for node in self._nodes if node.number >= first]
        for ref in chain(node.outputs for node in undone):
            ref.failure = error
        del self._nodes[-len(undone) :]
        lost = self._changes.undo(first)
        error.add_note(
            f"polypath.torch: this undid the {len(undone)} operators that waited for the program; tensors have the "
            "values from before them."
            if not lost
            else lost_with(lost)
        )

    def _done(self, last: int) -> None:
        """The nodes up to this number have started."""
        del self._nodes[: sum(node.number <= last for node in self._nodes)]  # Another thread may add to them.
        self._changes.settle(last)

    def _start_all(self, nodes: list[Node], last: int) -> None:
        joined = Joined(nodes)
        if len(nodes) > MOST_IN_PIECE and not any(node.graph for node in nodes):
            form = hash((joined.structure, joined.given))
            self._seen[form] += 1
            if self._seen[form] <= TIMES_IN_PIECES:
                self._start_in_pieces(last)
                return
        self._start(nodes, joined, last)

    def _start_in_pieces(self, last: int) -> None:
        with self._changes.held(-1):  # One piece may start and a later one fail, so that this one is undone no more.
            rest = deque(pieces(needed(self._nodes)))
        while rest:
            piece = rest.popleft()
            end = piece[-1].number if rest else last
            # Until the piece with a node has started, the node's arguments are asked for.
            with hold(chain(node.inputs for later in rest for node in later)), self._changes.held(end):
                self._start(piece, Joined(piece), end)

    def _start(self, nodes: list[Node], joined: Joined, end: int) -> None:
        arguments, results = joined.arguments, joined.results
        for ref in arguments:
            if ref.array is None:
                self._culprit = next(node for node in nodes if ref in node.inputs)
                raise failed(ref.failure)
        self._copies.settle()
        arrays = self._copies.joined(arguments)
        shardings = tuple(ref.sharding for ref in results)
        given = donated(arguments, results)
        key = (joined.structure, joined.given, given, shardings)
        program = self._programs.get(key)
        draws = np.array(joined.draws, np.int64).reshape(-1, 2)
        with jax.enable_x64(True):
            if program is not None:
                self.eager.tell()
            else:
                program = Program(joined.steps, joined.given, given, shardings)
                try:
                    program.compile(draws, arrays)
                except Exception:
                    self._culprit = nodes[program.step]
                    raise
                self._programs[key] = program
            self._changes.forget_unread(end, arguments)
            # Between the start and the results' being known nothing can be undone: what was given away is gone.
            with uninterrupted():
                made, found = program.call(draws, *arrays)
                for index in given:
                    arguments[index].release()
                for ref, array in zip(results, made, strict=True):
                    ref.hold(array)
                    ref.overwritten = len(given)
                self._done(end)
        self.started(results)
        self._bounds.add(found, program.checks)
        self.eager.clear()
        self.runs += 1


trace: Final = Trace()
"""The one that everything on the device goes through."""
