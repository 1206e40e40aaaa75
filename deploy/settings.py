"""The settings of a federation, of a node, and of what is handed over between them."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import AfterValidator, Field, ValidationError

from bayfed.config import Settings, key_of
from bayfed.config.settings import Count
from bayfed.config.tree import read_tree
from bayfed.errors import ConfigError
from bayfed.evaluation.atomic import write_atomic

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Of a federation or a plant; it becomes part of file names."""
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
"""A host and a port, as in ``fed.example.org:9092``."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _host(text: str) -> str:
    """Return ``text`` if it is a name or an address of a machine, without a port."""
    try:
        ip_address(text)
    except ValueError:
        if not _NAME.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is neither a name nor an address") from None
    return text


Host = Annotated[str, AfterValidator(_host)]
AnySettings = TypeVar("AnySettings", bound=Settings)


class FederationSettings(Settings):
    """What ``federation.yaml`` says.

    Attributes:
        name: The federation's.
        hosts: Names and addresses of the server, the first of which plants dial.
        listen: Address that the gate listens on.
        port: Port of the gate, which plants reach.
        control_port: Port of the SuperLink, on loopback alone: the administrator's.
        plants: How many plants a run waits for.
        message_mb: Largest request that the gate lets through, in millions of bytes.
        calls: How many a second the gate takes of one plant, averaged over ten.
    """

    name: Name = "federation"
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)] = ("127.0.0.1",)
    listen: str = "127.0.0.1"
    port: Port = 9092
    control_port: Port = 9093
    plants: Count = 3
    message_mb: Count = 64
    calls: Count = 50

    @property
    def address(self) -> str:
        """What a plant dials."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Limits(Settings):
    """What a plant lets the processes of a run have.

    Attributes:
        memory_mb: Data that the process of one message may hold besides the libraries, in
            millions of bytes.
        threads: Threads that it computes with.
    """

    memory_mb: Annotated[int, Field(ge=256)] | None = None
    threads: Count = 1


class NodeSettings(Settings):
    """What ``node.yaml`` says: all that a plant decides for itself.

    Attributes:
        name: The plant's.
        server: What it dials.
        partition: Its number in the federation, from the join file.
        plants: How many plants there are, from the join file.
        data: Folder of its images.
        weights: Weights of the backbone, if an experiment needs them.
        store: Folder for features of its images, if they are to be kept.
        port: Port on loopback between its two programs; a free one if none is named.
        load: Libraries that its processes find loaded, ``timm`` for a pretrained backbone.
        limits: What the processes of a run may have.
    """

    name: Name
    server: Address
    partition: Annotated[int, Field(ge=0)]
    plants: Count
    data: Path
    weights: Path | None = None
    store: Path | None = None
    port: Port | None = None
    load: tuple[str, ...] = ()
    limits: Limits = Limits()


class Join(Settings):
    """What a plant gets back for its public key; nothing in it is secret.

    Attributes:
        federation: Its name.
        server: What the plant is to dial.
        name: The plant's.
        partition: The plant's number.
        plants: How many plants there are.
        key: SHA-256 of the public key for which it came back.
        authority: The certificate of the federation's authority, as PEM.
        app: Hash of the app that the server runs, to compare with what is installed here.
    """

    federation: Name
    server: Address
    name: Name
    partition: Annotated[int, Field(ge=0)]
    plants: Count
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    authority: Annotated[str, Field(max_length=20_000)]
    app: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Member(Settings):
    """What the server keeps of a plant that has joined.

    Attributes:
        name: The plant's.
        partition: Its number.
        node: The number under which Flower knows it.
        key: SHA-256 of its public key.
    """

    name: Name
    partition: Annotated[int, Field(ge=0)]
    node: int
    key: str


def read_settings(kind: type[AnySettings], path: Path) -> AnySettings:
    """Return the settings in a YAML file.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    try:
        return kind.model_validate(read_tree(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = key_of(first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{path}: unknown setting {key!r}") from None
        raise ConfigError(f"{path}: {key}: {first['msg']}") from None


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings as YAML, every one spelled out.

    Raises:
        ConfigError: the file cannot be written.
    """
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def checked(kind: type[AnySettings], **values: object) -> AnySettings:
    """Return settings given on a command line.

    Raises:
        ConfigError: one of them is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{key_of(first['loc'])}: {first['msg']}") from None
