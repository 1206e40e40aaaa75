"""A listening service, from its start to the signal that ends it."""

from __future__ import annotations

import logging
import socket

import uvicorn
from rich.console import Console

from bayfed.errors import ConfigError
from bayfed.serve.app import create_app
from bayfed.serve.product import Load
from bayfed.serve.service import Settings, open_service

PATIENCE = 20
"""Seconds that requests in hand have to end."""


def run(settings: Settings, port: int, load: Load) -> None:
    """Serve until a signal comes; what waits then is still scored and answered.

    Raises:
        ConfigError: the address is taken or is none of this machine, or a folder is at fault.
        BayfedError: the product or the history cannot be opened.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    console = Console()
    with _listening(settings.host, port) as listener, open_service(settings, load) as service:
        config = uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=PATIENCE,
        )
        name = service.worker.model.product.name
        place, number = settings.host, listener.getsockname()[1]
        url = f"http://{f'[{place}]' if ':' in place else place}:{number}/"
        for line in (f"{name}: {url}", f"history and images: {settings.folder}"):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror or error}") from error
