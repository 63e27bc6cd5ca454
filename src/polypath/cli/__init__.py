"""The command `polypath`. Each error is one sentence on stderr and exit status 1 (2 for usage)."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The entry point."""
    from polypath.cli.app import app
    from polypath.cli.context import debugging
    from polypath.errors import PolypathError

    try:
        app()
    except PolypathError as error:
        if debugging():
            raise
        print(f"polypath: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has closed it. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if debugging():
            raise
        what = f"{os.fsdecode(error.filename)} cannot be used" if error.filename else "Something could not be done"
        why = error.strerror or error
        print(f"polypath: {what} ({why}): see that it is there and yours, or run `polypath doctor`.", file=sys.stderr)
        sys.exit(1)
