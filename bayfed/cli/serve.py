"""``bayfed serve``: a page for the operator, and the same as a REST service."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from bayfed.errors import ConfigError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve_command(
    product: Annotated[Path, typer.Argument(help="Product file of bayfed fit.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="BAYFED_TOKEN", help="Secret that clients send; better by variable."),
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Folder whose new images are scored as they come.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of history and images; else beside PRODUCT.")
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(min=1, help="Days that pictures and maps are kept; decisions stay. Else all."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local weights of the backbone (safetensors).")
    ] = None,
) -> None:
    """Score images for people and programs; people decide the doubtful ones."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve: {missing[0]} is missing, run: pip install 'bayfed[serve]'")
    from bayfed.serve.fitted import loader
    from bayfed.serve.run import run
    from bayfed.serve.service import Settings

    run(Settings(product, data, watch, host, token, keep_days), port, loader(weights))
