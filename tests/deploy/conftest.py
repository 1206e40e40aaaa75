from __future__ import annotations

from pathlib import Path

import pytest

from deploy import federation, node
from deploy.layout import FederationFolder, NodeFolder
from deploy.settings import FederationSettings, Join, write_settings

SERVER = FederationSettings(hosts=("127.0.0.1",), plants=2)


@pytest.fixture
def server(tmp_path: Path) -> FederationFolder:
    folder = FederationFolder(tmp_path / "federation")
    federation.create(folder, SERVER, days=2, ca_days=4)
    return folder


@pytest.fixture
def join(server: FederationFolder, tmp_path: Path) -> Path:
    """What a plant gets back, for a server that nobody has started."""
    key = node.create(NodeFolder(tmp_path / "plant-a"), "plant-a")
    authority = server.authority.certificate.read_text()
    made = Join(
        federation="federation",
        server="127.0.0.1:1",
        name="plant-a",
        partition=1,
        plants=2,
        key=key.digest,
        authority=authority,
        app="0" * 64,
    )
    write_settings(made, tmp_path / "plant-a.join")
    return tmp_path / "plant-a.join"


@pytest.fixture
def plant(join: Path, tmp_path: Path) -> NodeFolder:
    folder = NodeFolder(tmp_path / "plant-a")
    (tmp_path / "images").mkdir()
    node.enrol(folder, join, tmp_path / "images")
    return folder
