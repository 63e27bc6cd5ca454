"""The command `polypath`. Each error is one sentence on stderr and exit status 1 (2 for usage)."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The entry point."""
    from polypath.cli.app import app
    from polypath.cli.context import debugging
    from polypath.errors import PolypathError
    from polypath.files import sentence

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
        print(f"polypath: {sentence(error)}", file=sys.stderr)
        sys.exit(1)
