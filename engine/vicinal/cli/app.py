"""The `vicinal` command: its subcommands, and how every error leaves it.

Exit codes: 0 done, 1 a typed error (one line on standard error, no traceback), 2 bad usage, 130 interrupted.
Subcommands import what they need when they run, so that `--help` stays fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vicinal.cli import build, demo, maintain, output, query, serve, warmup
from vicinal.errors import VicinalError

__all__ = ["app", "main"]

app = typer.Typer(
    name="vicinal",
    help="A vector search engine: build indexes offline, serve them, ask them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(build.build)
app.command()(serve.serve)
app.command()(query.query)
app.command()(query.info)
app.command()(maintain.verify)
app.command()(maintain.compact)
app.command()(maintain.backup)
app.command()(maintain.restore)
app.command()(demo.demo)
app.command()(warmup.warmup)


def _version(wanted: bool) -> None:
    if wanted:
        from vicinal import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of `vicinal` itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, `sys.argv` by default; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given)
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else int(finished.code is not None)
    except VicinalError as error:
        output.print_error(error, as_json="--json" in given)
        return 1
    except OSError as error:
        named = VicinalError(f"{error}: check that the path exists and may be read and written")
        output.print_error(named, as_json="--json" in given)
        return 1
    except MemoryError as error:
        named = VicinalError(f"no memory is left ({error}): give the process more, or ask for less at once")
        output.print_error(named, as_json="--json" in given)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
