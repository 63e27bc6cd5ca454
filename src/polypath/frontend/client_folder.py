"""The folder of a client of ours in shared memory: its sockets and pipes. To be deleted once links take their place."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from polypath.frontend.farewell import Farewell
from polypath.frontend.refused import Refused, invalid
from polypath.notices import NAME as NOTICES
from polypath.notices import Writer
from polypath.types import Code


class ClientFolders:
    """The cluster's folder in shared memory, in which each client of ours has a folder of its own."""

    def __init__(self, root: Path | None) -> None:
        self._root = root.resolve() if root else None
        self._claimed: set[Path] = set()

    def claim(self, wanted: str | None) -> ClientFolder:
        """The folder for a new session, which has none unless it wants one.

        Raises:
            Refused: `wanted` is not a folder inside ours, or another session uses it.
        """
        if wanted is None:
            return ClientFolder(None, self._claimed)
        try:
            folder = Path(wanted).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise invalid(f"The client's folder {wanted!r} cannot be found: {error}.") from error
        if self._root is None or self._root not in folder.parents or not folder.is_dir():
            raise invalid(f"The client's folder {wanted!r} is not inside the cluster's folder {str(self._root)!r}.")
        if folder in self._claimed:
            raise invalid(f"The client's folder {wanted!r} is in use: each client needs its own.")
        self._claimed.add(folder)
        return ClientFolder(folder, self._claimed)


class ClientFolder:
    """The folder of one session, if it has one."""

    def __init__(self, folder: Path | None, claimed: set[Path]) -> None:
        self._folder = folder
        self._claimed = claimed
        self._farewell = Farewell(folder)

    def path(self) -> Path:
        """Where the client's sockets and pipes are.

        Raises:
            Refused: it has no folder.
        """
        if self._folder is None:
            raise Refused(Code.FAILED_PRECONDITION, "This session has no folder for sockets of its own.")
        return self._folder

    def tell_unanswered(self, number: int) -> None:
        """Tell the client by its pipe, if it has one, that no worker will answer its question."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError), contextlib.closing(Writer(str(self._folder / NOTICES))) as pipe:
            pipe.tell(number, answered=False)  # One that is gone need not hear it.

    def close(self, reason: str) -> None:
        """Say why the session ended, and remove the folder."""
        self._farewell.say(reason)
        if self._folder is not None:
            self._claimed.discard(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)  # The client may just be removing it as well.
            self._folder = None
