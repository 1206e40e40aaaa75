"""The server's side: its programs, and who takes part."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bayfed.errors import ConfigError, FederationError
from bayfed.folders import make_folder
from deploy import certificates, trust
from deploy.background import require_running
from deploy.keys import read_public
from deploy.layout import FederationFolder
from deploy.ports import require_free
from deploy.private import make_private_folder
from deploy.settings import FederationSettings, Join, Member, checked, read_settings, write_settings
from deploy.supervisor import Program
from experiments.processes import Home

CONNECTION = "here"
"""What Flower's own commands call the SuperLink of this folder."""
SUPERLINK, GATE = "superlink", "gate"


def create(folder: FederationFolder, settings: FederationSettings, days: int, ca_days: int) -> str:
    """Write a new federation and return the SHA-256 of its authority.

    Raises:
        ConfigError: the folder holds something already, or a file cannot be written.
    """
    if settings.port == settings.control_port:
        raise ConfigError("control_port: the gate has this port already")
    make_private_folder(folder.root)
    certificates.make_authority(folder.authority, settings.name, ca_days)
    certificates.make_server(folder.server, folder.authority, settings.hosts, days)
    make_folder(folder.members)
    write_settings(settings, folder.settings_file)
    return certificates.digest(certificates.load(folder.authority.certificate))


def renew(folder: FederationFolder, days: int) -> None:
    """Replace the server's certificate; nodes trust the authority and notice nothing.

    Raises:
        ConfigError: the authority cannot be used.
    """
    certificates.make_server(folder.server, folder.authority, folder.settings().hosts, days)


def programs(folder: FederationFolder) -> list[Program]:
    """Return the SuperLink and the gate in front of it.

    Raises:
        BayfedError: a setting is wrong, a certificate has expired, or a port is in use.
    """
    settings = folder.settings()
    check_certificates(folder)
    require_free(settings.listen, settings.port, "port")
    require_free("127.0.0.1", settings.control_port, "control_port")
    _write_connection(folder, settings)
    superlink = [
        *("flower-superlink", "--host", "127.0.0.1", "--port", str(settings.control_port)),
        *("--ssl-ca-certfile", str(folder.authority.certificate)),
        *("--ssl-certfile", str(folder.server.certificate)),
        *("--ssl-keyfile", str(folder.server.key)),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        *("--database", str(folder.database)),
    ]
    gate = [sys.executable, "-m", "deploy.gate", str(folder.root)]
    return [
        Program(SUPERLINK, superlink, folder.log(SUPERLINK)),
        Program(GATE, gate, folder.log(GATE)),
    ]


def check_certificates(folder: FederationFolder) -> None:
    """Check that the certificates are still valid.

    Raises:
        ConfigError: one has expired.
    """
    for path in (folder.authority.certificate, folder.server.certificate):
        found = certificates.load(path)
        if certificates.days_left(found) < 0:
            raise ConfigError(
                f"{path}: expired on {found.not_valid_after_utc:%F}, "
                f"run: bayfed federation renew {folder.root}"
            )


def _write_connection(folder: FederationFolder, settings: FederationSettings) -> None:
    make_folder(folder.root / "flwr")
    lines = [
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]',
        f'address = "127.0.0.1:{settings.control_port}"',
        f"root-certificates = {json.dumps(str(folder.authority.certificate))}\n",
    ]
    (folder.root / "flwr" / "config.toml").write_text("\n".join(lines), encoding="utf-8")


def is_up(folder: FederationFolder) -> bool:
    """Return whether plants can reach the SuperLink, through the gate."""
    settings = folder.settings()
    host = settings.listen if settings.listen not in ("0.0.0.0", "::") else "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    trusting = certificates.trusting(folder.authority.certificate)
    trusting.check_hostname = False  # it is our own gate, by whichever of its addresses
    try:
        with httpx.Client(verify=trusting, timeout=2.0, trust_env=False) as client:
            return client.get(f"https://{shown}:{settings.port}/health").is_success
    except httpx.HTTPError:
        return False


def home(folder: FederationFolder) -> Home:
    """Return where Flower's own commands are called."""
    return Home(folder.root, folder.log("commands"), "")


def flower(folder: FederationFolder, words: Sequence[str]) -> dict[str, Any]:
    """Return the answer of one of Flower's own commands.

    Raises:
        FederationError: the federation does not run, or the command fails.
    """
    require_running(folder)
    text = home(folder).call(["flwr", *words, CONNECTION, "--format", "json"])
    try:
        answer = json.loads(text[text.index("{") :])
    except ValueError as error:
        raise FederationError(f"flwr {words[0]}: an answer that cannot be read") from error
    if not answer.get("success", True):
        reason = " ".join(str(answer.get("error-message", "no reason given")).split())
        raise FederationError(f"flwr {words[0]}: {reason[:300]}")
    return dict(answer)


def states(folder: FederationFolder) -> dict[int, str]:
    """Return what the SuperLink says of each registered node: ``online``, ``offline``, ...

    Raises:
        FederationError: the federation does not run.
    """
    nodes = flower(folder, ["supernode", "list"]).get("nodes", [])
    return {int(node["node-id"]): str(node["status"]) for node in nodes}


def members(folder: FederationFolder) -> list[Member]:
    """Return the plants that have joined, in the order of their numbers.

    Raises:
        ConfigError: a file of a member is not as it was written.
    """
    found = [read_settings(Member, path) for path in folder.members.glob("*.yaml")]
    return sorted(found, key=lambda member: member.partition)


def add(folder: FederationFolder, public: Path, name: str | None) -> tuple[Path, Member]:
    """Register a plant's key; return the join file for the plant, and the plant.

    Raises:
        BayfedError: it is no key, the name or the key is there already, or all have joined.
    """
    settings, key = folder.settings(), read_public(public)
    known = members(folder)
    free = sorted(set(range(settings.plants)) - {member.partition for member in known})
    if not free:
        raise ConfigError(
            f"{folder.settings_file}: plants: all {settings.plants} have joined, "
            "raise the number first"
        )
    authority = folder.authority.certificate.read_text(encoding="ascii")
    join = checked(
        Join,
        federation=settings.name,
        server=settings.address,
        name=name or key.name,
        partition=free[0],
        plants=settings.plants,
        key=key.digest,
        authority=authority,
        app=trust.installed(),
    )
    if any(join.name == member.name for member in known):
        raise ConfigError(f"{join.name}: a plant of this name has joined already")
    if any(key.digest == member.key for member in known):
        raise ConfigError(f"{public}: a plant with this key has joined already")
    kept = folder.members / f"{join.name}.pub"
    kept.write_text(key.line + "\n", encoding="utf-8")
    try:
        answer = flower(folder, ["supernode", "register", str(kept)])
    except FederationError:
        kept.unlink()
        raise
    member = Member(
        name=join.name, partition=join.partition, node=int(answer["node-id"]), key=key.digest
    )
    write_settings(member, folder.members / f"{join.name}.yaml")
    path = folder.members / f"{join.name}.join"
    write_settings(join, path)
    return path, member


def remove(folder: FederationFolder, name: str) -> None:
    """Shut a plant out: its key is no longer accepted.

    Raises:
        BayfedError: no such plant has joined, or the federation does not run.
    """
    found = [member for member in members(folder) if member.name == name]
    if not found:
        raise ConfigError(f"{name}: no plant of this name has joined")
    flower(folder, ["supernode", "unregister", str(found[0].node)])
    for ending in ("pub", "join", "yaml"):
        (folder.members / f"{name}.{ending}").unlink(missing_ok=True)
