"""All that processes have open for others to find: named sockets, ports and files. Reads `/proc`."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_TCP_LISTENS = "0A"
_UDP_UNCONNECTED = "07"


def inodes(pids: Iterable[int]) -> set[str]:
    """Of these processes' sockets."""
    links = (str(entry.readlink()) for pid in pids for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}


def unix_sockets(pids: Iterable[int]) -> set[str]:
    """Their names; those of the abstract namespace, which has no permissions, begin with `@`."""
    own = inodes(pids)
    rows = (line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {row[7] for row in rows if len(row) == 8 and row[6] in own}


def ports(pids: Iterable[int]) -> set[str]:
    """`protocol address:port` of what they listen on."""
    own = inodes(pids)
    return {found for protocol in ("tcp", "tcp6", "udp", "udp6") for found in _listening(protocol, own)}


def _listening(protocol: str, own: set[str]) -> Iterator[str]:
    wanted = _TCP_LISTENS if protocol.startswith("tcp") else _UDP_UNCONNECTED
    for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
        row = line.split()
        if row[9] in own and row[3] == wanted:
            address, port = row[1].split(":")
            words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
            family = socket.AF_INET6 if protocol.endswith("6") else socket.AF_INET
            yield f"{protocol} {socket.inet_ntop(family, struct.pack(f'={len(words)}I', *words))}:{int(port, 16)}"


def written_files(pids: Iterable[int]) -> set[str]:
    """Files that have a name and that they have open for writing."""
    found: set[str] = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            path = str(entry.readlink())
            flags = int(re.search(r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())[1], 8)
            if path.startswith("/") and flags & os.O_ACCMODE != os.O_RDONLY and not path.endswith(" (deleted)"):
                found.add(path)
    return found


def system_v(pids: Iterable[int]) -> set[str]:
    """Keys of System V shared memory that they made."""
    rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:])
    return {row[0] for row in rows if int(row[4]) in set(pids)}
