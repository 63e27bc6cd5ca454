"""Makes `ifrt_pb2.py` and `ifrt_pb2.pyi` from `ifrt.proto`: `python src/polypath/frontend/wire/generate.py`.

Needs grpcio-tools, which is a development dependency only. The generated files are committed;
a test checks that they are what this makes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCHEMA = "polypath/frontend/wire/ifrt.proto"
_SOURCES = Path(__file__).parents[3]


def generate(folder: Path) -> None:
    """Write the generated modules into `folder`, under the package's path.

    The path is part of the schema's name in protobuf's pool, where `ifrt.proto` alone might
    not stay unique.

    Raises:
        subprocess.CalledProcessError: protoc refused the schema; it has said why.
    """
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={_SOURCES}",
            f"--python_out={folder}", f"--pyi_out={folder}", _SCHEMA,
        ],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    generate(_SOURCES)
