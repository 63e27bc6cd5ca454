"""What waits to be run, and how it becomes one program: values, nodes that compute them, and nodes joined.

Decides nothing about when a program starts (`trace`), and holds no state between programs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import jax
from jax.sharding import Sharding

from polypath.torch import bounds
from polypath.torch.account import account, size_of
from polypath.torch.bounds import Check

MOST_IN_PIECE: Final = 64
"""Nodes of a piece of a program."""

Array = Any
"""A `jax.Array`, a tracer of one, or a Python number that stands for a scalar of no dtype of its own."""
Run = Callable[..., Sequence[Array]]
"""What a node does: arrays in, arrays out; a random one gets a PRNG key before them."""


new_key: Final = itertools.count().__next__
"""A key that no other node has."""


def exact(value: Hashable) -> Hashable:
    """What tells a Python value from all others: `==` takes 0.0 for -0.0, 1 for True, and no NaN for another."""
    return type(value), repr(value) if isinstance(value, float | complex) else value


class Ref:
    """One value: an array, or one that a node will give."""

    __slots__ = (
        "__weakref__",
        "array",
        "bytes",
        "copy",
        "dtype",
        "failure",
        "holders",
        "overwritten",
        "shape",
        "sharding",
    )

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
        self.overwritten = 0
        """How many arrays gave their memory to the program that computes this."""
        self.copy: jax.Array | None = None
        """The same on all devices of a mesh, until it is known to have got there (`devices`)."""
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

    __slots__ = ("draw", "ends", "graph", "inputs", "key", "number", "outputs", "run")

    def __init__(
        self,
        number: int,
        run: Run,
        key: Hashable,
        inputs: Sequence[Ref],
        draw: tuple[int, int] | None,
        graph: bool,
        ends: bool,
    ) -> None:
        self.number = number
        """How many nodes there were before."""
        self.run = run
        self.key = key
        """What `run` does: nodes of one key do the same with arguments of the same shapes."""
        self.inputs = inputs
        self.outputs: list[Ref] = []
        self.draw = draw
        """Where the random numbers are that it is to have, as seed and count; None where it has none."""
        self.graph = graph
        """Whether it is a whole graph, of a compiled function."""
        self.ends = ends
        """Whether a piece of a program may well end here."""


class Program:
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
        self.step = 0
        """The node that is being traced: where an error came from, if there was one."""
        self.checks: list[Check] = []
        """What the second of its results is about."""
        placed: dict[str, Any] = {}
        if any(one is not None for one in shardings):
            placed["out_shardings"] = (list(shardings), None)
        self.call = jax.jit(self._run, donate_argnums=tuple(index + 1 for index in donated), **placed)

    def compile(self, draws: Array, arrays: Sequence[Array]) -> None:
        """Make it ready for such arguments, so that calling it only starts it."""
        self.call.lower(draws, *arrays).compile()

    def _run(self, draws: Array, *arrays: Array) -> tuple[list[Array], list[Array]]:
        results, found = bounds.collect(lambda: self._results(draws, arrays))
        self.checks = found.checks
        return results, found.result()

    def _results(self, draws: Array, arrays: Sequence[Array]) -> list[Array]:
        values: dict[int, Array] = {-1 - index: array for index, array in enumerate(arrays)}
        count = drawn = 0
        for step, (run, inputs, outputs, random) in enumerate(self._steps):
            self.step = step
            given = [values[index] for index in inputs]
            if random:
                given.insert(0, jax.random.fold_in(jax.random.key(draws[drawn, 0]), draws[drawn, 1]))
                drawn += 1
            results = run(*given)
            for result in results:
                values[count] = result
                count += 1
            assert len(results) == outputs
        self.step = 0
        return [values[index] for index in self._outputs]


class Joined:
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
            self.steps.append((node.run, inputs, len(node.outputs), node.draw is not None))
            structure.append((node.key, inputs))
        self.draws = [node.draw for node in nodes if node.draw is not None]
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


def pieces(nodes: list[Node]) -> list[list[Node]]:
    """Cut after each product of matrices, so that the same layers make the same pieces."""
    pieces: list[list[Node]] = [[]]
    for node in nodes:
        pieces[-1].append(node)
        if node.ends or len(pieces[-1]) >= MOST_IN_PIECE:
            pieces.append([])
    return [piece for piece in pieces if piece]


def needed(nodes: list[Node]) -> list[Node]:
    """Those whose results are held, or asked for by such."""
    wanted: set[int] = set()
    needed: list[Node] = []
    for node in reversed(nodes):
        if any(ref.holders or id(ref) in wanted for ref in node.outputs):
            needed.append(node)
            wanted.update(id(ref) for ref in node.inputs)
    needed.reverse()
    return needed


def donated(arguments: list[Ref], results: list[Ref]) -> tuple[int, ...]:
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
