"""Ports that a program is about to listen on."""

from __future__ import annotations

import errno
import socket

from bayfed.errors import FederationError


def require_free(host: str, port: int, key: str) -> None:
    """Check that nobody listens on ``port`` of ``host``.

    Args:
        host: A name or an address of this machine.
        port: The port.
        key: The setting that names it, for the message.

    Raises:
        FederationError: it is in use, or cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            why = "in use by another program" if used else error.strerror or str(error)
            raise FederationError(f"{key}: port {port} of {host} is {why}") from error
