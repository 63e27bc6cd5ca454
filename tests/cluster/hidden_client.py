"""Runs a program that reaches no worker's socket for links: `hidden_client.py FOLDER PROGRAM ARGUMENTS...`.

Run under `unshare --mount`. FOLDER is the cluster's; the head, which is not in this namespace, reaches all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

folder, *program = sys.argv[1:]
sockets = list(Path(folder).glob("*.*.link"))
assert sockets
for path in sockets:
    subprocess.run(["mount", "--bind", "/dev/null", path], check=True)
os.execv(sys.executable, [sys.executable, *program])
