"""Where a cluster lives on this machine, and which clusters there are.

    ${POLYPATH_RUNTIME_DIR:-/tmp/polypath-<uid>}/<name>/     lock, cluster.json, sockets, logs/
    /dev/shm/polypath-<name>-<random>/                       array bytes on their way
    ${XDG_CACHE_HOME:-~/.cache}/polypath/                    compiled programs

Owns those paths. A cluster's name is taken while someone holds its lock (the head, and the process that
started it); the lock goes with its holders, so a crash never blocks a name. Everything is
private to the user: folders are made 0700, and one that somebody else made is refused.

A name is taken within one runtime folder only, while shared memory has room for those of all of them, of other
users and of containers. So each start of a cluster has a new folder there, to which the link `shared` in the
cluster's own folder leads whoever cleans up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final, Self

import msgspec

from polypath.errors import AlreadyRunning, ClusterError, NotRunning
from polypath.files import RUNTIME_DIR, explained, private_dir
from polypath.launch.config import FANOUT, SIMULATED_FANOUT, HeadConfig, check_name, check_shape, simulates
from polypath.processes import runs, start_time

SOCKET_PATH_LIMIT: Final = 107
"""Bytes in a unix socket's path (`sun_path` less its end)."""
DEFAULT_NAME: Final = "default"

_LONGEST_SOCKET: Final = "r1073741824.1000.below"
"""A relay's: no socket in a cluster's folder has a longer name."""
PATH_LIMIT: Final = SOCKET_PATH_LIMIT - len(f"/{_LONGEST_SOCKET}")
"""Bytes in the path of a cluster's folder."""
LONGEST_NAME: Final = 40
"""Characters of a cluster's name (`check_name`)."""
_UNUSABLE: Final = "#?,%"
"""Characters that mean something else in the address of a socket."""

_SHARED_MEMORY: Final = Path("/dev/shm")
_LINK: Final = "shared"


class DamagedRecord(ClusterError):
    """A `cluster.json` that cannot be read."""


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`cluster.json`: a cluster, for those who look for one."""

    name: str
    pid: int
    """The head's."""
    started: int
    """The head's start time, which tells it from a later process of the same pid."""
    ready: bool = False
    address: str
    hosts: int
    devices_per_host: int | None = None
    islands: int
    platform: str = ""
    devices: int = 0
    shared_dir: str
    log_dir: str

    @property
    def stale(self) -> bool:
        """Whether the head is gone without having cleaned up."""
        return not runs(self.pid, self.started)


def root_path() -> Path:
    """The folder of all clusters of this user; it need not exist.

    Raises:
        ClusterError: POLYPATH_RUNTIME_DIR is relative or has characters that cannot be in an address.
    """
    path = os.environ.get(RUNTIME_DIR) or f"/tmp/polypath-{os.getuid()}"
    if path != path.lower() or not path.startswith("/"):
        raise ClusterError(
            f"{RUNTIME_DIR}={path} does not do: JAX lower-cases a target's path, so give an absolute "
            "path without upper-case letters."
        )
    if found := sorted(set(path) & set(_UNUSABLE)):
        raise ClusterError(
            f"{RUNTIME_DIR}={path} does not do: a socket's address cannot have {' or '.join(found)} in it; name "
            "another folder."
        )
    return Path(path)


def cache_dir() -> str:
    """Where compiled programs are kept; it need not exist. Empty for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return str((Path(base) if base else Path.home() / ".cache") / "polypath")
    except RuntimeError:
        return ""


class Claim:
    """A name that is ours: its folders exist, empty but for the lock, and nobody else gets them.

    The lock passes to a child that inherits `fd`, and lives as long as one holder.
    """

    def __init__(self, name: str, path: Path, fd: int) -> None:
        self.name = name
        self.path = path
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @explained()
    def config(
        self,
        hosts: int,
        devices_per_host: int | None,
        islands: int,
        platform: str | None,
        *,
        fanout: int | None = None,
        tied: bool,
        debug: bool,
    ) -> HeadConfig:
        """What to tell the head that runs here."""
        check_shape(hosts, devices_per_host, islands, platform, fanout)
        return HeadConfig(
            name=self.name,
            hosts=hosts,
            devices_per_host=devices_per_host,
            islands=islands,
            platform=platform,
            fanout=fanout or (FANOUT if simulates(platform) is None else SIMULATED_FANOUT),
            tied=tied,
            runtime_dir=str(self.path),
            shared_dir=str(self._make_shared()),
            log_dir=str(private_dir(self.path / "logs")),
            cache_dir=cache_dir(),
            debug=debug,
        )

    def _make_shared(self) -> Path:
        base = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path("/tmp")
        folder = base / f"polypath-{self.name}-{secrets.token_hex(4)}"
        (self.path / _LINK).symlink_to(folder)  # First, so that the folder is found whatever happens.
        with explained(folder, ""):
            folder.mkdir(mode=0o700)
        return folder

    def release(self) -> None:
        """Let go, leaving the files to whoever else holds the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """Remove the files, unless the name is another's by now; then let go."""
        try:
            if self.fd >= 0 and _is_same(self.fd, self.path / "lock"):
                _remove_files(self.path)
        finally:
            self.release()


@explained()
def claim(name: str) -> Claim:
    """Take a name, cleaning up after a cluster that died under it.

    Raises:
        AlreadyRunning: a cluster of that name runs, or is being started.
        ClusterError: the name or the place won't do.
    """
    check_name(name)
    path = root_path() / name
    if (length := len(os.fsencode(path))) > PATH_LIMIT:
        raise ClusterError(
            f"{path} is {length} bytes long and may have {PATH_LIMIT}, as a socket's path may have "
            f"{SOCKET_PATH_LIMIT}: name a shorter folder in {RUNTIME_DIR}."
        )
    private_dir(path.parent)
    while True:
        private_dir(path)
        try:
            fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # Its last holder removed the folder under us.
        except OSError:
            with contextlib.suppress(OSError):  # There may be files of an earlier cluster.
                path.rmdir()
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise AlreadyRunning(
                f"A cluster named {name!r} runs already: use it (`polypath env --name {name}`), take it down "
                f"(`polypath down --name {name}`), or choose another name."
            ) from None
        if _is_same(fd, path / "lock"):
            break
        os.close(fd)
    try:
        _remove_files(path, keep_lock=True)
    except BaseException:
        os.close(fd)
        raise
    return Claim(name, path, fd)


@explained()
def publish(record: ClusterRecord) -> None:
    """Write `cluster.json`, at once and whole."""
    path = root_path() / record.name
    draft = path / "cluster.json.new"
    with explained(draft):
        draft.write_bytes(msgspec.json.encode(record))
    draft.replace(path / "cluster.json")


def mark_ready(config: HeadConfig, platform: str, devices: int) -> None:
    """The head's announcement that clients may come: `cluster.json` of the calling process."""
    publish(record_of(config, os.getpid(), ready=True, platform=platform, devices=devices))


def record_of(
    config: HeadConfig, pid: int, *, ready: bool = False, platform: str = "", devices: int = 0
) -> ClusterRecord:
    """The record of a cluster whose head has that pid."""
    return ClusterRecord(
        name=config.name,
        pid=pid,
        started=start_time(pid) or 0,
        ready=ready,
        address=config.address,
        hosts=config.hosts,
        devices_per_host=config.devices_per_host,
        islands=config.islands,
        platform=platform or config.platform or "",
        devices=devices,
        shared_dir=config.shared_dir,
        log_dir=config.log_dir,
    )


def remove(config: HeadConfig) -> None:
    """The head's last act: remove the cluster's files. The lock goes with the process."""
    _remove_files(Path(config.runtime_dir))
    _remove_folder(Path(config.shared_dir))  # No link leads there if somebody has removed the other one.


@explained()
def read(name: str) -> ClusterRecord | None:
    """The record of that name, stale or not; None if there is none.

    Raises:
        ClusterError: the folder is not ours.
        DamagedRecord: the record cannot be read.
    """
    check_name(name)
    root = root_path()
    if not root.exists():
        return None
    path = private_dir(root) / name / "cluster.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterRecord)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DamagedRecord(f"{path} is damaged ({error}): remove it with `polypath down --name {name}`.") from error


def find(name: str | None = None) -> ClusterRecord:
    """A cluster that runs: the one of that name; else the only one there is, or `default`.

    Raises:
        NotRunning: there is none, or its head is gone.
        ClusterError: there are several, and none is named `default`.
    """
    record = read(name) if name is not None else _only_one()
    if record is None:
        what = f"No cluster named {name!r} runs" if name else "No cluster runs"
        raise NotRunning(f"{what} here: start one with `polypath up`.")
    if record.stale:
        raise NotRunning(
            f"Cluster {record.name!r} is stale: its head (pid {record.pid}) ended without cleaning up; clean up "
            f"with `polypath down --name {record.name}` and start it again with `polypath up`."
        )
    return record


def any_name() -> str:
    """The name of the cluster that is meant where none is given, stale or not."""
    record = _only_one()
    return record.name if record else DEFAULT_NAME


def _only_one() -> ClusterRecord | None:
    found = records()
    found = [record for record in found if not record.stale] or found
    default = [record for record in found if record.name == DEFAULT_NAME]
    if len(found) > 1 and not default:
        names = ", ".join(record.name for record in found)
        raise ClusterError(f"There are several clusters ({names}): say which with --name.")
    return next(iter(default or found), None)


@explained()
def records() -> list[ClusterRecord]:
    """Every cluster of this user, also those being started and stale ones, by name."""
    root = root_path()
    if not root.exists():
        return []
    names = sorted(path.parent.name for path in private_dir(root).glob("*/cluster.json"))
    return [record for name in names if (record := read(name)) is not None]


def remove_stale(name: str) -> None:
    """Remove what a dead cluster, or a damaged record, left.

    Raises:
        AlreadyRunning: it is not dead.
    """
    claim(name).remove()


def _is_same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


@explained()
def _remove_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # Others may be removing files in it, too.
    if path.exists():
        shutil.rmtree(path)


@explained()
def _remove_files(path: Path, *, keep_lock: bool = False) -> None:
    if not path.is_dir():
        return
    link = path / _LINK
    if link.is_symlink() and link.readlink().name.startswith(f"polypath-{path.name}-"):
        _remove_folder(link.readlink())
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove_folder(entry)
        elif entry.name != "lock":
            entry.unlink(missing_ok=True)
    if not keep_lock:
        (path / "lock").unlink(missing_ok=True)  # Last: the name is taken until all else is gone.
        with contextlib.suppress(OSError):  # The next holder of the name may be there already.
            path.rmdir()
