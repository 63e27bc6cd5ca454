"""Keys, and what a worker is told to find its head: CURVE pairs for links, a certificate for bulk streams."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import zmq
import zmq.auth.thread

from polypath.errors import ClusterError

_MAKE_CERTIFICATE: Final = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
    *("-days", "36500", "-subj", "/CN=polypath", "-keyout", "/dev/stdout", "-out", "/dev/stdout"),
)


class KeyPair(msgspec.Struct, frozen=True):
    """What one end of a link is known by: a CURVE key pair, both halves Z85 text of 40 characters.

    On one machine `public` is a secret that the two ends share, and `secret` is empty.
    """

    public: str
    secret: str

    @classmethod
    def new(cls, *, network: bool) -> KeyPair:
        if not network:
            return cls(secrets.token_hex(20), "")
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


class BulkKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cluster's processes know each other by on bulk streams. One for all, as each may send to each."""

    secret: str
    """Said by who connects."""
    certificate: str = ""
    """Shown by who is connected to, in PEM; none where all are on one machine."""
    private_key: str = ""

    @classmethod
    def new(cls, *, network: bool) -> BulkKeys:
        """New ones; with a certificate for streams over networks.

        Raises:
            ClusterError: there is no `openssl` to make one.
        """
        secret = secrets.token_hex(32)
        if not network:
            return cls(secret)
        try:
            made = subprocess.run(_MAKE_CERTIFICATE, capture_output=True, check=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise ClusterError(
                f"The certificate for hosts on other machines could not be made ({error}): install openssl."
            ) from error
        start = made.index("-----BEGIN CERTIFICATE-----")
        return cls(secret, made[start:], made[:start])


class WorkerLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one worker, or relay, needs to reach the head (or the relay above it) and to be reached."""

    host: int
    """Its number: a host's, or a relay's."""
    incarnation: int
    """Counts its starts: reports of an earlier one are dropped."""
    reports: str
    """The address of who is above."""
    head_key: str
    """The public key of who is above."""
    keys: KeyPair
    """Its own."""
    bulk: BulkKeys
    """The cluster's: by it a worker knows another that sends it a shard, however early that is."""
    listen: str
    """Where it listens: `ipc://PATH` (it appends a suffix) or `tcp://ADDRESS`."""
    patience: float
    """Seconds of silence after which it gives up who is above, and is given up."""


class _Provider:
    def __init__(self, allowed: Callable[[str, bytes], bool]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        """pyzmq's hook: whether the Z85 public `key` may connect."""
        return self._allowed(domain, key)


def guard(
    context: zmq.Context[zmq.Socket[bytes]], domains: Iterable[str], allowed: Callable[[str, bytes], bool]
) -> Callable[[], None]:
    """Let only keys for which `allowed(domain, key)` is true connect; returns how to stop.

    `domains` are those of the context's servers. `allowed` is called on a thread of its own.
    """
    authenticator = zmq.auth.thread.ThreadAuthenticator(context)
    authenticator.start()
    for domain in domains:
        authenticator.configure_curve_callback(domain, credentials_provider=_Provider(allowed))
    return authenticator.stop


def secure_server(socket: zmq.Socket[bytes], keys: KeyPair, domain: str) -> None:
    """Make `socket` the side that checks keys."""
    socket.zap_domain = domain.encode()
    socket.curve_secretkey = keys.secret.encode()
    socket.curve_publickey = keys.public.encode()
    socket.curve_server = True


def secure_client(socket: zmq.Socket[bytes], keys: KeyPair, server_key: str) -> None:
    """Make `socket` the side that shows its key, and checks whom it reached."""
    socket.curve_secretkey = keys.secret.encode()
    socket.curve_publickey = keys.public.encode()
    socket.curve_serverkey = server_key.encode()


def listen(context: zmq.Context[zmq.Socket[bytes]], link: WorkerLink, name: str) -> tuple[zmq.Socket[bytes], str]:
    """A worker's PULL socket for what is called `name`, and its address."""
    socket = context.socket(zmq.PULL)
    socket.set_hwm(0)
    secure_server(socket, link.keys, name)
    socket.bind(f"{link.listen}.{name}" if link.listen.startswith("ipc://") else f"{link.listen}:*")
    return socket, endpoint(socket)


def endpoint(socket: zmq.Socket[bytes]) -> str:
    """The address that `socket` is bound to."""
    return bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()  # pyright: ignore[reportArgumentType]


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """The file descriptor that becomes readable when `socket` has news."""
    return int(socket.getsockopt(zmq.FD))
