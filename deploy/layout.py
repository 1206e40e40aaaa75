"""What lies where: the folder of a federation and that of a node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bayfed.errors import ConfigError
from deploy.certificates import Pair
from deploy.settings import FederationSettings, NodeSettings, read_settings


@dataclass(frozen=True)
class Folder:
    """What both have: programs with a log each, and a list of those that run."""

    root: Path

    @property
    def logs(self) -> Path:
        """The folder of the logs, one a program."""
        return self.root / "logs"

    @property
    def processes(self) -> Path:
        """The file that lists the programs that run."""
        return self.root / "processes.json"

    @property
    def app(self) -> Path:
        """The copy of the app that is bundled."""
        return self.root / "app"

    def log(self, program: str) -> Path:
        """Return the log of a program."""
        return self.logs / f"{program}.log"


@dataclass(frozen=True)
class FederationFolder(Folder):
    """The folder of the server."""

    @property
    def settings_file(self) -> Path:
        """The file of the settings."""
        return self.root / "federation.yaml"

    @property
    def authority(self) -> Pair:
        """The federation's own authority; its key is needed for new certificates alone."""
        return Pair(self.root / "ca.crt", self.root / "ca.key")

    @property
    def server(self) -> Pair:
        """What the server proves itself with."""
        return Pair(self.root / "server.crt", self.root / "server.key")

    @property
    def database(self) -> Path:
        """Flower's own state: who is registered, which runs there were."""
        return self.root / "superlink.db"

    @property
    def members(self) -> Path:
        """The folder of the members, two files each: public key and join file."""
        return self.root / "members"

    def settings(self) -> FederationSettings:
        """Return the settings.

        Raises:
            ConfigError: this is no such folder, or a setting is wrong.
        """
        if not self.settings_file.is_file():
            raise ConfigError(f"{self.root}: no federation is here, see bayfed federation init")
        return read_settings(FederationSettings, self.settings_file)


@dataclass(frozen=True)
class NodeFolder(Folder):
    """The folder of a plant's node."""

    @property
    def settings_file(self) -> Path:
        """The file of the settings."""
        return self.root / "node.yaml"

    @property
    def key(self) -> Path:
        """The private key, which never leaves this folder."""
        return self.root / "node.key"

    @property
    def public(self) -> Path:
        """The public key, which is handed over."""
        return self.root / "node.pub"

    @property
    def authority(self) -> Path:
        """The certificate of the federation's authority."""
        return self.root / "ca.crt"

    @property
    def trusted(self) -> Path:
        """The hashes of the apps that may run here, one a line."""
        return self.root / "trusted.txt"

    @property
    def secret(self) -> Path:
        """What the node's two programs share, new at each start."""
        return self.root / "superexec.secret"

    def settings(self) -> NodeSettings:
        """Return the settings, with paths that start from this folder.

        Raises:
            ConfigError: the node is not enrolled, or a setting is wrong.
        """
        if not self.settings_file.is_file():
            raise ConfigError(f"{self.root}: no node is enrolled here, see bayfed node enrol")
        found = read_settings(NodeSettings, self.settings_file)
        paths = {key: getattr(found, key) for key in ("data", "weights", "store")}
        here = {key: self.root / path.expanduser() for key, path in paths.items() if path}
        return found.model_copy(update=here)
