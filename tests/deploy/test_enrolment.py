from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from flwr.cli.supernode.register import try_load_public_key
from hypothesis import given
from hypothesis import strategies as st

from bayfed.errors import ConfigError
from deploy import federation, node
from deploy.certificates import digest, load
from deploy.federation import add
from deploy.keys import read_private, read_public
from deploy.layout import FederationFolder, NodeFolder
from deploy.node import own_config
from deploy.settings import FederationSettings, Join, NodeSettings, checked, read_settings
from strategies.secure.secret import make


def test_flower_accepts_the_key_that_a_plant_hands_over(plant: NodeFolder) -> None:
    public = read_private(plant.key).public_key()
    assert try_load_public_key(plant.public) == node_bytes(public)
    assert read_public(plant.public).name == "plant-a"
    assert plant.key.stat().st_mode & 0o777 == 0o600


def node_bytes(public: object) -> bytes:
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    return public_key_to_bytes(public)


def test_nothing_that_is_handed_over_is_secret(plant: NodeFolder, join: Path) -> None:
    for path in (plant.public, join):
        assert "PRIVATE" not in path.read_text()


def test_the_node_decides_its_own_paths(plant: NodeFolder, tmp_path: Path) -> None:
    config = own_config(plant, plant.settings())
    assert config == {
        "partition-id": 1,
        "num-partitions": 2,
        "threads": 1,
        "data-dir": str(tmp_path / "images"),
        "state-dir": str(plant.state),
    }
    assert plant.state.is_dir()


def test_a_secret_goes_with_a_journal_and_the_keys_of_the_others(plant: NodeFolder) -> None:
    make(plant.sums_secret)
    plant.peers.write_text("{}")
    config = own_config(plant, plant.settings())
    assert config["secret"] == str(plant.sums_secret)
    assert config["peers"] == str(plant.peers)
    assert Path(str(config["state-dir"])).is_dir()
    assert plant.sums_secret.stat().st_mode & 0o777 == 0o600


def test_a_relative_path_starts_from_the_folder_of_the_node(plant: NodeFolder) -> None:
    tree = yaml.safe_load(plant.settings_file.read_text())
    plant.settings_file.write_text(yaml.safe_dump({**tree, "data": "images", "weights": "w"}))
    assert plant.settings().data == plant.root / "images"
    assert plant.settings().weights == plant.root / "w"


def test_the_join_file_of_another_plant_is_refused(
    plant: NodeFolder, join: Path, tmp_path: Path
) -> None:
    other = NodeFolder(tmp_path / "plant-b")
    node.create(other, "plant-b")
    with pytest.raises(ConfigError, match="came back for the key of plant-a"):
        node.enrol(other, join, tmp_path / "images")
    assert not other.authority.exists()
    node.enrol(plant, join, tmp_path / "images")


def test_a_node_that_is_enrolled_once_more_keeps_its_limits(
    plant: NodeFolder, join: Path, tmp_path: Path
) -> None:
    text = plant.settings_file.read_text()
    text = text.replace("memory_mb: null", "memory_mb: 900").replace("port: null", "port: 4711")
    plant.settings_file.write_text(text)
    node.enrol(plant, join, tmp_path)
    found = plant.settings()
    assert (found.limits.memory_mb, found.port, found.data) == (900, 4711, tmp_path)


def test_the_hash_of_a_key_is_of_the_key_alone(tmp_path: Path) -> None:
    keys = [node.create(NodeFolder(tmp_path / name), name) for name in ("a", "b")]
    for key in keys:
        bare = " ".join(key.line.split(" ")[:2])
        for line in (bare, f"{bare} other", f"{bare} of two words"):
            (tmp_path / "bare.pub").write_text(line)
            assert read_public(tmp_path / "bare.pub").digest == key.digest
    assert keys[0].digest != keys[1].digest


def test_a_join_file_of_another_federation_is_refused(
    server: FederationFolder, join: Path, tmp_path: Path
) -> None:
    folder = NodeFolder(tmp_path / "plant-a")
    told = digest(load(server.authority.certificate))
    with pytest.raises(ConfigError, match="not the one that was told"):
        node.enrol(folder, join, tmp_path, authority="0" * 64)
    assert not folder.authority.exists()
    node.enrol(folder, join, tmp_path, authority=told.upper())
    assert folder.settings().server == "127.0.0.1:1"


def test_a_join_file_that_is_none_is_refused(plant: NodeFolder, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("server: somewhere\n")
    with pytest.raises(ConfigError, match="wrong: "):
        node.enrol(plant, tmp_path / "wrong", tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        node.enrol(plant, tmp_path / "nowhere", tmp_path)


def test_a_folder_without_a_key_cannot_be_enrolled(join: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node.key: No such file"):
        node.enrol(NodeFolder(tmp_path / "new"), join, tmp_path)


def test_a_node_that_is_not_enrolled_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no node is enrolled here"):
        NodeFolder(tmp_path).settings()
    with pytest.raises(ConfigError, match="no federation is here"):
        FederationFolder(tmp_path).settings()


def test_a_folder_in_use_gets_no_second_federation(server: FederationFolder) -> None:
    before = server.authority.key.read_bytes()
    with pytest.raises(ConfigError, match="is not empty"):
        federation.create(server, FederationSettings(), 1, 1)
    assert server.authority.key.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../plant", "Plant", "a/b", "a b", "-a"])
def test_names_that_could_be_paths_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name: "):
        node.create(NodeFolder(tmp_path / "plant"), name)
    assert not (tmp_path / "plant").exists()


def test_what_is_no_public_key_is_refused(
    server: FederationFolder, plant: NodeFolder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"node.key: not the public key"):
        add(server, plant.key, None)
    (tmp_path / "rsa.pub").write_text("ssh-rsa AAAA nobody")
    with pytest.raises(ConfigError, match="not the public key"):
        add(server, tmp_path / "rsa.pub", None)


def test_an_unknown_setting_is_named(plant: NodeFolder) -> None:
    with plant.settings_file.open("a") as file:
        file.write("shots: 5\n")
    with pytest.raises(ConfigError, match=r"node.yaml: unknown setting 'shots'"):
        plant.settings()


def test_settings_that_cannot_be_read_are_named(plant: NodeFolder) -> None:
    plant.settings_file.write_text("a: [")
    with pytest.raises(ConfigError, match=r"node.yaml: not a YAML file"):
        plant.settings()


@given(st.text(max_size=20))
def test_an_address_is_a_host_and_a_port_or_an_error(text: str) -> None:
    values = {"name": "a", "server": text, "partition": 0, "plants": 1, "data": "."}
    try:
        found = checked(NodeSettings, **values)
    except ConfigError:
        return
    host, _, port = found.server.rpartition(":")
    assert host
    assert port.isdigit()


@pytest.mark.parametrize("host", ["fed.example.org:9092", "fed:9092", "bad_host!", "", "a b"])
def test_a_host_that_plants_could_not_dial_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"hosts.*neither a name nor an address"):
        checked(FederationSettings, hosts=("127.0.0.1", host))


def test_an_address_with_colons_is_put_in_brackets() -> None:
    assert FederationSettings(hosts=("2001:db8::1",), port=1).address == "[2001:db8::1]:1"


def test_a_join_file_reads_as_it_was_written(join: Path, server: FederationFolder) -> None:
    found = read_settings(Join, join)
    assert found.authority == server.authority.certificate.read_text()
