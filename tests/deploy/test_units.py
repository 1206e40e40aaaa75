from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bayfed.errors import ConfigError
from deploy.layout import FederationFolder, NodeFolder
from deploy.units import Unit, node_unit, server_unit

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose.yaml"


def service(unit: Unit) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.text)
    return parser["Service"]


@pytest.fixture(params=["server", "node"])
def unit(request: pytest.FixtureRequest, server: FederationFolder, plant: NodeFolder) -> Unit:
    if request.param == "server":
        return server_unit(server, "root")
    return node_unit(plant, "root")


def test_a_unit_starts_again_later_and_later_and_may_do_little(unit: Unit) -> None:
    found = service(unit)
    assert found["Restart"] == "on-failure"
    assert int(found["RestartSec"]) < int(found["RestartMaxDelaySec"])
    assert int(found["RestartSteps"]) > 0
    for key in ("NoNewPrivileges", "PrivateTmp", "RestrictSUIDSGID"):
        assert found[key] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["UMask"] == "0077"
    assert found["ExecStart"].endswith("--foreground")


def test_systemd_reads_it(unit: Unit, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd here")
    path = unit.write(tmp_path)
    done = subprocess.run([tool, "verify", path], capture_output=True, text=True, check=False)
    # Older ones do not know the growing delay and say so.
    said = [line for line in done.stderr.splitlines() if str(path) in line]
    assert [line for line in said if "Unknown key" not in line] == []


def test_a_node_may_write_to_its_own_folders_alone(plant: NodeFolder, tmp_path: Path) -> None:
    tree = yaml.safe_load(plant.settings_file.read_text())
    limits = {"memory_mb": 2000}
    changed = {**tree, "store": str(tmp_path / "store"), "limits": limits}
    plant.settings_file.write_text(yaml.safe_dump(changed))
    found = service(node_unit(plant, "plant"))
    assert found["ReadWritePaths"].split() == [str(plant.root), str(tmp_path / "store")]
    assert int(found["MemoryMax"]) > 2_000_000_000


def test_a_name_that_would_be_two_words_is_refused(plant: NodeFolder) -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit"):
        node_unit(plant, "two words")


def test_containers_have_no_privileges_and_a_read_only_image() -> None:
    for name, found in yaml.safe_load(COMPOSE.read_text())["services"].items():
        assert found["read_only"] is True, name
        assert found["cap_drop"] == ["ALL"]
        assert found["restart"] == "on-failure"
        assert found["security_opt"] == ["no-new-privileges:true"]
