"""Starts clusters in folders that have room for ever more files, until one comes up. Run under `unshare --mount`.

Usage: `python full_folder.py FOLDER FILES...`. Prints a line of JSON for each attempt: its exit status, what it said,
and which files are left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

POLYPATH = (sys.executable, "-m", "polypath.cli")
UP = ("up", "--detach", "--name", "full", "--platform", "simulated")


def main() -> None:
    folder = sys.argv[1]
    environment = os.environ | {"POLYPATH_RUNTIME_DIR": folder}
    for files in sys.argv[2:]:
        options = f"size=1m,mode=700,nr_inodes={files}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
        up = subprocess.run([*POLYPATH, *UP], env=environment, capture_output=True, text=True, timeout=90, check=False)
        if up.returncode == 0:
            subprocess.run([*POLYPATH, "down", "--name", "full"], env=environment, check=True, timeout=60)
        left = [str(path) for path in Path(folder).rglob("*")]
        print(json.dumps({"status": up.returncode, "said": up.stdout + up.stderr, "left": left}), flush=True)
        subprocess.run(["umount", folder], check=True)


if __name__ == "__main__":
    main()
