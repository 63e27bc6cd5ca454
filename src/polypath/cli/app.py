"""The tree of commands. What they do is in the modules next to this one."""

from __future__ import annotations

from typing import Annotated

import typer

from polypath.cli import conformance, doctor, inspect, run, torch_conformance, up
from polypath.cli.context import set_debugging

app = typer.Typer(
    name="polypath",
    help="One Python process drives every device of a cluster, with stock JAX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(up.down)
_SCRIPT_LAST = {"allow_interspersed_args": False, "ignore_unknown_options": True}
app.command(cls=run.Command, context_settings=_SCRIPT_LAST)(run.run)
app.command()(inspect.env)
app.command()(inspect.status)
app.command()(inspect.logs)
app.command()(doctor.doctor)
app.command()(conformance.conformance)
app.command(name="torch-conformance")(torch_conformance.torch_conformance)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"polypath {version('polypath')}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction]
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces (also: POLYPATH_DEBUG=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        set_debugging()
