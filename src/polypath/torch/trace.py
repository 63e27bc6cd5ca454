"""What is to run: the operators that wait, and how they become one program.

An operator is not run when it is called. It becomes a `Node`, and its results are `Ref`s that have no array
yet. `flush` makes one program of all nodes that wait, starts it, and gives the refs their arrays. Where the
same nodes come again, joined in the same way, the program is the same one: a step of training, whichever
graphs and single operators it is made of, is compiled once and is one program on the cluster.

Rules:

- A `Ref` is a value that never changes. What changes is which ref a buffer holds (`buffers`).
- A program gives what some buffer holds; the rest lives only inside it.
- An argument that no buffer holds any more is donated, if a result can take its memory.
"""

from __future__ import annotations

import itertools
import os
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from polypath.client import backend
from polypath.torch.account import account, size_of
from polypath.torch.errors import ClosedError, TorchError, check_devices, is_closed

MOST_NODES: Final = 4096
"""Nodes that may wait: a loop that reads nothing must not pile up its values for ever."""

MOST_IN_PIECE: Final = 64
"""Nodes of a piece of a program."""

TIMES_IN_PIECES: Final = 8
"""How often the same is started in pieces before it is made one program."""

MANY_ALONE: Final = 200
"""Operators one by one in a program that are worth a word."""

Array = Any
"""A `jax.Array`, a tracer of one, or a Python number that stands for a scalar of no dtype of its own."""
Run = Callable[..., Sequence[Array]]
"""What a node does: arrays in, arrays out; a random one gets a PRNG key before them."""


new_key: Final = itertools.count().__next__
"""A key that no other node has."""


def exact(value: Hashable) -> Hashable:
    """What tells a Python value from all others: `==` takes 0.0 for -0.0, 1 for True, and no NaN for another."""
    return type(value), repr(value) if isinstance(value, float | complex) else value


class EagerWarning(UserWarning):
    """Much ran operator by operator."""


class Ref:
    """One value: an array, or one that a node will give."""

    __slots__ = ("__weakref__", "array", "bytes", "dtype", "failure", "holders", "shape", "sharding")

    def __init__(self, shape: tuple[int, ...], dtype: Any, array: Array = None) -> None:
        self.shape = shape
        self.dtype = dtype
        """None for a Python number, which promotes like one."""
        self.array: Array = array
        self.bytes = 0
        """What the array takes on the devices."""
        self.holders = 0
        """The buffers that hold this."""
        self.sharding: Sharding | None = None
        """How it is to be laid out, where that was said."""
        self.failure: Exception | None = None
        """Why there is no array, where its program failed."""
        if isinstance(array, jax.Array):
            self.hold(array)

    def hold(self, array: jax.Array) -> None:
        """Have this array."""
        if self.bytes:
            account.give(self.bytes)
        self.array = array
        self.bytes = size = size_of(array)
        account.take(size)

    def release(self) -> None:
        """The array's memory is somebody else's now, or nobody's."""
        if self.bytes:
            account.give(self.bytes)
            self.bytes = 0

    def __del__(self) -> None:
        if self.bytes:
            account.give(self.bytes)


class Node:
    """One operator, or one graph of them."""

    __slots__ = ("ends", "graph", "inputs", "key", "outputs", "random", "run")

    def __init__(self, run: Run, key: Hashable, inputs: Sequence[Ref], random: bool, graph: bool, ends: bool) -> None:
        self.run = run
        self.key = key
        """What `run` does: nodes of one key do the same with arguments of the same shapes."""
        self.inputs = inputs
        self.outputs: list[Ref] = []
        self.random = random
        self.graph = graph
        """Whether it is a whole graph, of a compiled function."""
        self.ends = ends
        """Whether a piece of a program may well end here."""


class _Program:
    """Nodes joined in one way, as JAX runs them."""

    def __init__(
        self,
        steps: list[tuple[Run, tuple[int, ...], int, bool]],
        outputs: tuple[int, ...],
        donated: tuple[int, ...],
        shardings: tuple[Sharding | None, ...],
    ) -> None:
        self._steps = steps
        self._outputs = outputs
        random = any(step[3] for step in steps)
        self.random = random
        placed: dict[str, Any] = {"out_shardings": list(shardings)} if any(one is not None for one in shardings) else {}
        self.call = jax.jit(self._run, donate_argnums=tuple(index + 1 for index in donated), **placed)

    def _run(self, seed: Array, *arrays: Array) -> list[Array]:
        values: dict[int, Array] = {-1 - index: array for index, array in enumerate(arrays)}
        key: Array = None
        if self.random:
            key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
        count = drawn = 0
        for run, inputs, outputs, random in self._steps:
            given = [values[index] for index in inputs]
            if random:
                given.insert(0, jax.random.fold_in(key, drawn))
                drawn += 1
            results = run(*given)
            for result in results:
                values[count] = result
                count += 1
            assert len(results) == outputs
        return [values[index] for index in self._outputs]


class Trace:
    """The nodes that wait, and the programs that were made."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._programs: dict[Hashable, _Program] = {}
        self._seen: Counter[int] = Counter()
        """How often nodes came that were joined in one way and may be started in pieces."""
        self.seed = 0
        self._drawn = 0
        self._alone = 0
        self._spent = 0.0
        """Operators that wait and came one by one, and the seconds of Python that they took."""
        self._told = False
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
        self.flush()
        self.seed, self._drawn = seed, 0

    def random_state(self) -> tuple[int, int]:
        """Where the random numbers are."""
        self.flush()
        return self.seed, self._drawn

    def set_random_state(self, state: tuple[int, int]) -> None:
        """Go on with the random numbers from there."""
        self.flush()
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
        """Have `run` done; its results by shape and dtype."""
        if len(self._nodes) >= MOST_NODES:
            for ref in inputs:
                ref.holders += 1
            try:
                self.flush()
            finally:
                for ref in inputs:
                    ref.holders -= 1
        node = Node(run, key, inputs, random, graph, ends)
        node.outputs = [Ref(shape, dtype) for shape, dtype in outputs]
        self._nodes.append(node)
        return node.outputs

    def spend(self, seconds: float) -> None:
        """An operator came by itself, which took so long."""
        self._alone += 1
        self._spent += seconds

    def _tell(self) -> None:
        """Say once what running operator by operator costs, when a program of many of them runs again."""
        if self._alone >= MANY_ALONE and not self._told:
            self._told = True
            warnings.warn(
                f"{self._alone} operators ran one by one, which took {self._spent * 1e3:.0f} ms of Python before their "
                'program could start; torch.compile(..., backend="polypath") saves most of that at each call '
                "(within a function that is compiled, TORCH_LOGS=graph_breaks tells why they were left out).",
                EagerWarning,
                stacklevel=4,
            )

    def value(self, ref: Ref) -> jax.Array:
        """The array of a ref, which has come into being once it is looked at."""
        if ref.array is None:
            ref.holders += 1
            try:
                self.flush()
            finally:
                ref.holders -= 1
        if ref.array is None:
            raise _failed(ref)
        return ref.array

    def flush(self) -> None:
        """Start all that waits, as one program.

        Many operators that came one by one are started in pieces at first: the layers of a model are mostly the same
        pieces, each of which is compiled once, and what is joined anew each time (by a sequence that grows with each
        token) needs little more. What comes again and again is one program then.
        """
        nodes, self._nodes = _needed(self._nodes), []
        if not nodes:
            return
        self.check_process()
        try:
            self._start_all(nodes)
        except ClosedError as error:
            rest = _without_closed(nodes, error)
            if len(rest) == len(nodes):
                raise
            self._nodes = rest + self._nodes
            self.flush()  # Who asks for one of the others is told there.
        except Exception as error:
            for ref in itertools.chain.from_iterable(node.outputs for node in nodes):
                ref.failure = error
            raise

    def _start_all(self, nodes: list[Node]) -> None:
        joined = _Joined(nodes)
        if len(nodes) > MOST_IN_PIECE and not any(node.graph for node in nodes):
            form = hash((joined.structure, joined.given))
            self._seen[form] += 1
            if self._seen[form] <= TIMES_IN_PIECES:
                self._start_in_pieces(nodes)
                return
        self._start(nodes, joined)

    def _start_in_pieces(self, nodes: list[Node]) -> None:
        for node in nodes:
            for ref in node.inputs:
                ref.holders += 1  # Until the piece with this node has started, its arguments are asked for.
        pieces = deque(_pieces(nodes))
        try:
            while pieces:
                piece = pieces.popleft()
                for ref in itertools.chain.from_iterable(node.inputs for node in piece):
                    ref.holders -= 1
                self._start(piece, _Joined(piece))
        finally:
            for ref in itertools.chain.from_iterable(node.inputs for piece in pieces for node in piece):
                ref.holders -= 1

    def _start(self, nodes: list[Node], joined: _Joined) -> None:
        arguments, results = joined.arguments, joined.results
        for ref in arguments:
            if ref.array is None:
                raise _failed(ref)
        _join_devices(arguments)
        shardings = tuple(ref.sharding for ref in results)
        donated = _donated(arguments, results)
        key = (joined.structure, joined.given, donated, shardings)
        program = self._programs.get(key)
        if program is not None:
            self._tell()
        else:
            program = self._programs[key] = _Program(joined.steps, joined.given, donated, shardings)
        self._alone, self._spent = 0, 0.0
        self.runs += 1
        seed = _NO_SEED
        if program.random:
            seed = np.array([self.seed, self._drawn], np.int64)
            self._drawn += 1
        given = [ref.array for ref in arguments]
        try:
            with jax.enable_x64(True):
                arrays = program.call(seed, *given)
        except Exception as error:
            check_devices(given, error)
            raise
        for index in donated:
            arguments[index].release()
        for ref, array in zip(results, arrays, strict=True):
            ref.hold(array)
        self.started(results)


class _Joined:
    """How nodes are joined: what they need from before, what they give, and what makes them like others."""

    def __init__(self, nodes: list[Node]) -> None:
        self.arguments: list[Ref] = []
        self.results: list[Ref] = []
        self.steps: list[tuple[Run, tuple[int, ...], int, bool]] = []
        self._numbers: dict[int, int] = {}
        self._scalars: dict[Any, int] = {}
        structure: list[Hashable] = []
        given: list[int] = []
        count = 0
        for node in nodes:
            inputs = tuple([self._number(ref) for ref in node.inputs])
            for ref in node.outputs:
                self._numbers[id(ref)] = count
                if ref.holders:
                    self.results.append(ref)
                    given.append(count)
                count += 1
            self.steps.append((node.run, inputs, len(node.outputs), node.random))
            structure.append((node.key, inputs))
        self.structure: Hashable = tuple(structure)
        self.given = tuple(given)

    def _number(self, ref: Ref) -> int:
        """Of a node's result from 0 up, of an argument from -1 down; equal numbers are one argument."""
        number = self._numbers.get(id(ref))
        if number is not None:
            return number
        number = next_number = -1 - len(self.arguments)
        if ref.dtype is None:
            number = self._scalars.setdefault(exact(ref.array), number)
        self._numbers[id(ref)] = number
        if number == next_number:
            self.arguments.append(ref)
        return number


_FAILED: Final = (
    "The program that was to compute this value has failed; its error was raised then, and is the cause of this."
)


def _failed(ref: Ref) -> TorchError:
    """What to say of a value whose program has failed."""
    cause = ref.failure
    error = ClosedError(*cause.args) if isinstance(cause, ClosedError) else TorchError(_FAILED)
    error.__cause__ = cause
    return error


def _without_closed(nodes: list[Node], error: ClosedError) -> list[Node]:
    """The nodes that need nothing of a closed cluster; the others have failed."""
    kept: list[Node] = []
    for node in nodes:
        if any(ref.array is not None for ref in node.outputs):  # It was started in a piece before.
            continue
        if any(isinstance(ref.failure, ClosedError) or is_closed(ref.array) for ref in node.inputs):
            for ref in node.outputs:
                ref.failure = error
        else:
            kept.append(node)
    return kept


def _pieces(nodes: list[Node]) -> list[list[Node]]:
    """Cut after each product of matrices, so that the same layers make the same pieces."""
    pieces: list[list[Node]] = [[]]
    for node in nodes:
        pieces[-1].append(node)
        if node.ends or len(pieces[-1]) >= MOST_IN_PIECE:
            pieces.append([])
    return [piece for piece in pieces if piece]


_NO_SEED: Final = np.zeros(2, np.int64)


def _needed(nodes: list[Node]) -> list[Node]:
    """Those whose results are held, or asked for by such."""
    wanted: set[int] = set()
    needed: list[Node] = []
    for node in reversed(nodes):
        if any(ref.holders or id(ref) in wanted for ref in node.outputs):
            needed.append(node)
            wanted.update(id(ref) for ref in node.inputs)
    needed.reverse()
    return needed


def _donated(arguments: list[Ref], results: list[Ref]) -> tuple[int, ...]:
    """The arguments that nobody will ask for again, and whose memory a result can take."""
    room = Counter((ref.shape, ref.dtype) for ref in results)
    donated: list[int] = []
    for index, ref in enumerate(arguments):
        if ref.holders or not isinstance(ref.array, jax.Array):
            continue
        form = ref.shape, ref.dtype
        if room[form] > 0:
            room[form] -= 1
            donated.append(index)
    return tuple(donated)


def _join_devices(arguments: list[Ref]) -> None:
    """Copy what is on one device to the devices where the rest is."""
    wide: Sharding | None = None
    narrow: list[Ref] = []
    for ref in arguments:
        if isinstance(ref.array, jax.Array):
            sharding = ref.array.sharding
            if len(sharding.device_set) == 1:
                narrow.append(ref)
            else:
                wide = wide or sharding
    if wide is None or not narrow:
        return
    mesh = wide.mesh if isinstance(wide, NamedSharding) else Mesh(np.array(sorted(wide.device_set, key=_id)), ("all",))
    whole = NamedSharding(mesh, PartitionSpec())
    with jax.enable_x64(True):
        for ref, array in zip(narrow, jax.device_put([ref.array for ref in narrow], whole), strict=True):
            ref.hold(array)


def _id(device: Any) -> int:
    return device.id


trace: Final = Trace()
"""The one that everything on the device goes through."""
