"""A plant's side: its key, what it is given for it, and its two programs."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from bayfed.errors import ConfigError
from bayfed.folders import make_folder
from deploy import certificates, trust
from deploy.keys import PublicKey, make_key, public_of
from deploy.layout import NodeFolder
from deploy.private import make_private_folder, write_secret
from deploy.rejoin import leave
from deploy.settings import Join, Limits, NodeSettings, checked, read_settings, write_settings
from deploy.supervisor import Program
from experiments.deployment import NodeConfig, node_config
from experiments.processes import ROOT, free_port

SUPERNODE, SUPEREXEC = "supernode", "superexec"


def create(folder: NodeFolder, name: str) -> PublicKey:
    """Make the key of a new node and return its public part.

    Raises:
        ConfigError: the folder holds something already, or cannot be written.
    """
    checked(NodeSettings, name=name, server="host:1", partition=0, plants=1, data=".")
    make_private_folder(folder.root)
    return make_key(folder.key, folder.public, name)


def enrol(
    folder: NodeFolder,
    join_file: Path,
    data: Path,
    weights: Path | None = None,
    store: Path | None = None,
    load: tuple[str, ...] = (),
    authority: str | None = None,
) -> Join:
    """Write the node's settings from what the server has handed over.

    Limits and a port that were set before are kept.

    Args:
        folder: It has the node's key.
        join_file: What came back for the public key.
        data: Folder of the plant's images.
        weights: Weights of the backbone.
        store: Folder for features.
        load: Libraries that processes find loaded.
        authority: SHA-256 of the federation's authority, as its administrator has told it.

    Raises:
        ConfigError: there is no key, or what was handed over is not what it should be, or is
            another plant's.
    """
    own_key = public_of(folder.key, "").digest
    join = read_settings(Join, join_file)
    if join.key != own_key:
        raise ConfigError(
            f"{join_file}: came back for the key of {join.name}, {join.key[:12]}, not for the one "
            f"in {folder.root}, {own_key[:12]}"
        )
    _keep_authority(folder, join, authority)
    kept = _own_decisions(folder)
    own = [None if path is None else path.expanduser().resolve() for path in (data, weights, store)]
    settings = checked(
        NodeSettings,
        name=join.name,
        server=join.server,
        partition=join.partition,
        plants=join.plants,
        data=own[0],
        weights=own[1],
        store=own[2],
        load=load,
        **kept,
    )
    write_settings(settings, folder.settings_file)
    if not folder.trusted.exists():
        folder.trusted.write_text(f"{trust.INSTALLED}\n", encoding="ascii")
    return join


def _own_decisions(folder: NodeFolder) -> dict[str, object]:
    """Return what a node that is enrolled once more has decided for itself.

    Raises:
        ConfigError: its settings cannot be read.
    """
    if not folder.settings_file.exists():
        return {"limits": Limits()}
    before = read_settings(NodeSettings, folder.settings_file)
    return {"limits": before.limits, "port": before.port}


def _keep_authority(folder: NodeFolder, join: Join, authority: str | None) -> None:
    partial = folder.authority.with_suffix(".partial")
    partial.write_text(join.authority, encoding="ascii", errors="replace")
    try:
        found = certificates.digest(certificates.load(partial))
        if authority is not None and found != authority.replace(":", "").strip().lower():
            raise ConfigError(f"the authority's SHA-256 is {found}, not the one that was told")
    except ConfigError:
        partial.unlink()
        raise
    partial.replace(folder.authority)


def programs(folder: NodeFolder) -> list[Program]:
    """Return the SuperNode and the SuperExec that runs what it receives.

    Raises:
        BayfedError: a setting is wrong, or a file that it names cannot be used.
    """
    settings = folder.settings()
    trusted = trust.trusted(folder.trusted, trust.installed())
    if not trusted:
        raise ConfigError(f"{folder.trusted}: no app is trusted, so that none could run")
    make_folder(folder.logs)
    write_secret(folder.secret, secrets.token_bytes(32), replace=True)
    port = settings.port or free_port()
    supernode = [
        *(sys.executable, "-P", "-m", "deploy.supernode"),
        *("--isolation", "process", "--port", str(port)),
        *("--superlink", settings.server, "--root-certificates", str(folder.authority)),
        *("--auth-supernode-private-key", str(folder.key)),
        *("--superexec-auth-secret-file", str(folder.secret)),
        *("--node-config", node_config(own_config(folder, settings))),
    ]
    script = str(ROOT / "experiments" / "superexec.py")
    superexec = [sys.executable, "-P", script, f"127.0.0.1:{port}", "--secret", str(folder.secret)]
    for hashed in trusted:
        superexec += ["--trust", hashed]
    for library in settings.load:
        superexec += ["--load", library]
    if settings.limits.memory_mb is not None:
        superexec += ["--memory", str(settings.limits.memory_mb * 1_000_000)]
    return [
        # A SuperNode waits for ever for the answer that a killed SuperExec was to give.
        Program(SUPEREXEC, superexec, folder.log(SUPEREXEC), takes=(SUPERNODE,)),
        Program(SUPERNODE, supernode, folder.log(SUPERNODE), lambda: leave(folder)),
    ]


def own_config(folder: NodeFolder, settings: NodeSettings) -> NodeConfig:
    """Return what the app asks its node for, never the server."""
    found: dict[str, int | str] = {
        "partition-id": settings.partition,
        "num-partitions": settings.plants,
        "threads": settings.limits.threads,
        "data-dir": str(settings.data),
    }
    if settings.weights is not None:
        found["weights"] = str(settings.weights)
    if settings.store is not None:
        found["store-dir"] = str(settings.store)
    make_folder(folder.state)
    found["state-dir"] = str(folder.state)
    if folder.sums_secret.exists():
        found["secret"] = str(folder.sums_secret)
        if folder.peers.exists():
            found["peers"] = str(folder.peers)
    return found
