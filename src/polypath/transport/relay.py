"""A relay: a process between the head and a part of its hosts.

It hands on what comes from above to those below whom it is for, and what they report to above, where it
puts together what several of them answer alike. It reads no command and no report, and decides nothing.

`python -m polypath.transport.relay` reads a `WorkerLink` as one line of JSON on stdin, whose end is the relay's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import Final

import msgspec

from polypath.errors import ProtocolError
from polypath.messages import decode
from polypath.transport import ends, frames
from polypath.transport.answers import Answers, Joined
from polypath.transport.frames import Down
from polypath.transport.keys import WorkerLink
from polypath.transport.routes import EVERY, Node, Routes
from polypath.types import HostId

log = logging.getLogger(__name__)


class Expect(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of `frames.EXPECT` and `frames.DROP`: a node, at the end of this path of relays."""

    path: tuple[Node, ...]
    node: Node
    incarnation: int
    key: str


_expects: Final = msgspec.msgpack.Decoder(Expect)


def decode_expect(body: frames.Buffer) -> Expect:
    """What the head tells a relay of somebody below it.

    Raises:
        DecodeError: it is nothing of that.
    """
    return decode(_expects, body)


class Relay:
    """The links of one relay, and what it knows of those below. Lives on one asyncio loop."""

    def __init__(self, link: WorkerLink) -> None:
        on_machine = link.listen.startswith("ipc://")
        address = f"unix:{link.listen.removeprefix('ipc://')}.below" if on_machine else f"{link.listen}:*"
        self.over = asyncio.Event()
        """Set when nothing will come from above any more."""
        self.left_alone = ""
        """Why this end of the link gave the other up, if it did."""
        self._loop = asyncio.get_running_loop()
        self._below = ends.below(address, link.keys, self._hand_up, self._silent, link.patience)
        self._above = ends.above(link, self._left_alone)
        self._incarnations: dict[Node, int] = {}
        self._routes = Routes()
        self._answers = Answers()
        self._above.send(frames.SERVING, self._below.address.encode())
        self._stop = os.eventfd(0)
        self._reader = threading.Thread(target=self._read_above, name="above", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End all links."""
        os.eventfd_write(self._stop, 1)
        self._reader.join()
        os.close(self._stop)
        self._above.close(0)
        self._below.close()

    # --- Down ---------------------------------------------------------------------------------

    def _read_above(self) -> None:
        """On a thread of its own, as the link above waits for what comes."""
        try:
            while self._above.poll(self._stop):
                try:
                    sequence, data = self._above.receive()
                    self._loop.call_soon_threadsafe(self._hand_down, sequence, Down.unpack(data))
                except ProtocolError as error:
                    log.warning("Dropped a malformed command: %s", error)
        except ConnectionError:
            self._loop.call_soon_threadsafe(self.over.set)

    def _hand_down(self, sequence: int, down: Down) -> None:
        try:
            if down.kind == frames.COMMAND:
                self._command(sequence, down)
            elif down.kind == frames.EXPECT:
                self._expect(decode_expect(down.body), down.question)
            elif down.kind == frames.DROP:
                self._drop(decode_expect(down.body))
            else:
                raise ProtocolError(f"A relay takes nothing of kind {down.kind}.")
        except (ProtocolError, msgspec.MsgspecError) as error:
            log.warning("Dropped a malformed command: %s", error)

    def _command(self, sequence: int, down: Down) -> None:
        hosts = self._routes.hosts(down.route)
        if down.question:
            self._answers.ask(down.question, self._routes.every.intersection(hosts))
        routed = self._routes.split(hosts)
        self._below.send(routed.hosts, sequence, down.body)
        for route, relays in routed.relays:
            self._below.send(relays, sequence, down._replace(route=route).pack())

    def _expect(self, expect: Expect, number: int) -> None:
        if expect.path:
            child = self._hand_further(frames.EXPECT, number, expect)
        else:
            child = expect.node
            self._below.drop(child)
            self._below.expect(child, expect.incarnation, expect.key)
            self._incarnations[child] = expect.incarnation
            self._above.send(frames.EXPECTED, frames.pack_exception(number, b""))
        if expect.node < frames.FIRST_RELAY:
            self._routes.add(expect.node, child)

    def _drop(self, expect: Expect) -> None:
        if expect.path:
            self._hand_further(frames.DROP, 0, expect)
        else:
            self._below.drop(expect.node)
            self._incarnations.pop(expect.node, None)
        gone: Iterable[HostId] = (expect.node,)
        if expect.node < frames.FIRST_RELAY:
            self._routes.remove(expect.node)
        else:
            gone = self._routes.remove_child(expect.node)
        self._tell(self._answers.drop(gone))

    def _hand_further(self, kind: int, number: int, expect: Expect) -> Node:
        child, *path = expect.path
        body = msgspec.msgpack.encode(msgspec.structs.replace(expect, path=tuple(path)))
        self._below.send((child,), 0, Down(kind, number, EVERY, body).pack())
        return child

    # --- Up -----------------------------------------------------------------------------------

    def _hand_up(self, node: Node, kind: int, payload: frames.Buffer) -> None:
        if kind == frames.ANSWER:
            self._tell(self._answers.take(*frames.unpack_answer(payload)))
            return
        teller, told, words = node, kind, payload
        if kind == frames.FROM:
            teller, _, told, words = frames.unpack_from(payload)
            self._above.send(frames.FROM, payload)
        else:
            envelope = frames.pack_from(node, self._incarnations.get(node, 0), kind, payload)
            self._above.send(frames.FROM, envelope)
        if told == frames.EXCEPTION:
            self._tell(self._answers.count(frames.unpack_exception(words)[0], (teller,)))

    def _silent(self, node: Node, seconds: float) -> None:
        """Somebody below was silent: the head ends it."""
        told = frames.pack_silent(seconds)
        self._above.send(frames.FROM, frames.pack_from(node, self._incarnations.get(node, 0), frames.SILENT, told))

    def _left_alone(self, reason: str) -> None:
        self.left_alone = reason
        self._loop.call_soon_threadsafe(self.over.set)

    def _tell(self, answers: Iterable[Joined]) -> None:
        for question, hosts, body in answers:
            self._above.send(frames.ANSWER, frames.pack_answer(question, frames.pack_hosts(hosts), body))


async def _main(link: WorkerLink) -> None:
    relay = Relay(link)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), relay.over.set)
    await relay.over.wait()
    relay.close()
    if relay.left_alone:
        sys.exit(relay.left_alone)  # On standard error, and so its last words.


def main() -> None:
    """The process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerLink)))


if __name__ == "__main__":
    main()
