"""What a node checks before it starts, so that a mistake is one line at the plant."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from bayfed.errors import BayfedError, ConfigError, FederationError
from deploy import certificates
from deploy.keys import read_private
from deploy.layout import NodeFolder
from deploy.ports import require_free

BEHIND, AHEAD = 300.0, 5.0
"""Seconds by which a node's clock may differ: Flower refuses signatures that are older or newer."""
_ROUNDED = 1.0
"""Seconds by which the server's word of its clock may be late."""
_PATIENCE = 5.0
_REASONS = (
    ("expired", "its certificate has expired; its administrator must renew it"),
    ("not yet valid", "its certificate is not valid yet; compare the clocks"),
    ("mismatch", "its certificate is for another host"),
    ("", "its certificate is not from this federation's authority"),
)


class UnreachableError(BayfedError):
    """The server cannot be asked at this moment; a node may start before it."""


def check_own(folder: NodeFolder) -> None:
    """Check all that lies on this machine.

    Raises:
        BayfedError: a setting is wrong, or what it names cannot be used.
    """
    settings = folder.settings()
    read_private(folder.key)
    authority = certificates.load(folder.authority)
    if certificates.days_left(authority) < 0:
        raise ConfigError(f"{folder.authority}: expired on {authority.not_valid_after_utc:%F}")
    file = f"{folder.settings_file}"
    _check_readable(settings.data, f"{file}: data", folder=True)
    if settings.weights is not None:
        _check_readable(settings.weights, f"{file}: weights", folder=False)
    if settings.port is not None:
        require_free("127.0.0.1", settings.port, f"{file}: port")


def _check_readable(path: Path, key: str, folder: bool) -> None:
    try:
        if folder:
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {error.strerror or error}") from error


def check_server(folder: NodeFolder) -> None:
    """Check that the server is the one this node has joined, and that the clocks agree.

    Raises:
        UnreachableError: it does not answer.
        FederationError: it is another one, its certificate has expired, or a clock is wrong.
    """
    server = folder.settings().server
    trusting = certificates.trusting(folder.authority)
    try:
        with httpx.Client(verify=trusting, timeout=_PATIENCE, trust_env=False) as client:
            answer = client.get(f"https://{server}/health")
    except httpx.TransportError as error:
        reason = _certificate_error(error)
        if reason is None:
            raise UnreachableError(f"{server}: {error}") from error
        raise FederationError(f"{server}: {reason}") from error
    _check_clock(server, answer.headers.get("date", ""))


def _certificate_error(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            said = str(error)
            return next(reason for word, reason in _REASONS if word in said)
        error = error.__cause__ or error.__context__
    return None


def _check_clock(server: str, date: str) -> None:
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return
    ahead = (datetime.now(UTC) - theirs).total_seconds()
    word, most = ("ahead of", AHEAD + _ROUNDED) if ahead > 0 else ("behind", BEHIND)
    if abs(ahead) > most:
        raise FederationError(
            f"this machine's clock is {abs(ahead):.0f} s {word} the server's ({server}): a node "
            f"may be {AHEAD:g} s ahead or {BEHIND:g} s behind"
        )
