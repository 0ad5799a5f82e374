"""`vicinal serve`: offer a data directory over HTTP."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from vicinal.errors import InvalidArgument

__all__ = ["serve"]


def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The data directory; made when missing.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [default: 6333]")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File holding the API key alone; needed beyond this machine.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every write.")] = False,
) -> None:
    """Serve a data directory until SIGTERM or SIGINT. All settings: docs/http.md."""
    given: dict[str, Any] = {"host": host, "port": port, "api_key_file": api_key_file, "read_only": read_only or None}
    told = {key: value for key, value in given.items() if value is not None}
    settings, app = _server("settings"), _server("app")
    app.run(settings.load_settings(dir=directory, **told))


def _server(module: str) -> Any:
    """Import a module of the server, by name: the command line stands below it and may be used without it."""
    try:
        return importlib.import_module(f"vicinal_server.{module}")
    except ModuleNotFoundError as cause:
        raise InvalidArgument(
            f"the server needs {cause.name}: pip install 'vicinal[server]'", field="serve", value=cause.name
        ) from cause
