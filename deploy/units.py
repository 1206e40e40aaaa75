"""systemd units that keep a server or a node running, and let it do little else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bayfed.errors import ConfigError
from deploy.layout import FederationFolder, NodeFolder
from experiments.processes import ROOT

_UNIT = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
WorkingDirectory={root}
ExecStart={command}
Restart=on-failure
# Growing from 2 s to 2 min; before systemd 254 it stays at 2 s.
RestartSec=2
RestartSteps=6
RestartMaxDelaySec=120
TimeoutStopSec=45
UMask=0077
{limits}
ProtectSystem=strict
ReadWritePaths={writable}
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_PROGRAMS_MB = 1000
"""What Flower's programs and the libraries hold themselves, in millions of bytes."""


@dataclass(frozen=True)
class Unit:
    """A unit and the name of its file."""

    name: str
    text: str

    def write(self, folder: Path) -> Path:
        """Write the unit into ``folder`` and return its path.

        Raises:
            ConfigError: it cannot be written.
        """
        path = folder / self.name
        try:
            path.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        return path


def server_unit(folder: FederationFolder, user: str) -> Unit:
    """Return the unit of a federation's server.

    Raises:
        ConfigError: there is no federation, or a path cannot stand in a unit.
    """
    name = folder.settings().name
    text = _text(f"bayfed server of {name}", user, "federation", folder.root, [folder.root])
    return Unit(f"bayfed-{name}.service", text)


def node_unit(folder: NodeFolder, user: str) -> Unit:
    """Return the unit of a plant's node, with the limits of its settings.

    Raises:
        ConfigError: the node is not enrolled, or a path cannot stand in a unit.
    """
    settings = folder.settings()
    writable = [folder.root, *([settings.store] if settings.store else [])]
    most = settings.limits.memory_mb
    limits = "" if most is None else f"MemoryMax={(most + _PROGRAMS_MB) * 1_000_000}"
    description = f"bayfed node of {settings.name}"
    text = _text(description, user, "node", folder.root, writable, limits)
    return Unit(f"bayfed-node-{settings.name}.service", text)


def _text(
    description: str,
    user: str,
    kind: str,
    folder: Path,
    writable: Sequence[Path],
    limits: str = "",
) -> str:
    command = [sys.executable, "-m", "deploy.background", kind, "start", str(folder)]
    return _UNIT.format(
        description=description,
        user=_word(user),
        root=_word(str(ROOT)),
        command=" ".join(_word(part) for part in [*command, "--foreground"]),
        limits=limits or "# MemoryMax= goes by limits.memory_mb of node.yaml",
        writable=" ".join(_word(str(path)) for path in writable),
    )


def _word(text: str) -> str:
    if not text or set(text) & set(" \t\n\"'\\$"):
        raise ConfigError(f"{text!r}: a blank or a quote cannot stand in a unit, choose another")
    return text.replace("%", "%%")
