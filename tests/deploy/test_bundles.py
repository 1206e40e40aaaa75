from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supernode.runtime import run_clientapp as flower

from bayfed.errors import ConfigError
from deploy import trust
from experiments.bundle import UntrustedError, check, content_hash, is_installed
from experiments.processes import stage
from experiments.superexec import refuse_others

NAME, VERSION = "bayfed/bayfed", "0.1.0"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "app"
    stage(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(app: Path) -> bytes:
    return build_fab_from_disk(app)


def tampered(bundle: bytes, name: str = "clients/app.py", level: int = 9) -> bytes:
    """Return ``bundle`` with a line more in one of its files, its list of hashes included."""
    into = BytesIO()
    with zipfile.ZipFile(BytesIO(bundle)) as old, zipfile.ZipFile(into, "w") as new:
        files = {info.filename: old.read(info) for info in old.infolist()}
        before = hashlib.sha256(files[name]).hexdigest()
        files[name] += b"\nraise SystemExit\n"
        after = hashlib.sha256(files[name]).hexdigest()
        files[".info/CONTENT"] = files[".info/CONTENT"].replace(before.encode(), after.encode())
        for path, content in files.items():
            new.writestr(path, content, zipfile.ZIP_DEFLATED, level)
    return into.getvalue()


def repacked(bundle: bytes) -> bytes:
    into = BytesIO()
    with zipfile.ZipFile(BytesIO(bundle)) as old, zipfile.ZipFile(into, "w") as new:
        for info in reversed(old.infolist()):
            new.writestr(info.filename, old.read(info), zipfile.ZIP_STORED)
    return into.getvalue()


def stated(bundle: bytes) -> tuple[str, str, str]:
    return NAME, VERSION, hashlib.sha256(bundle).hexdigest()


def test_the_hash_is_of_names_and_contents_alone(bundle: bytes) -> None:
    assert content_hash(repacked(bundle)) == content_hash(bundle)


@pytest.mark.parametrize(
    "name", ["clients/app.py", "bayfed/seeds.py", "experiments/demo.yaml", "pyproject.toml"]
)
def test_the_hash_is_of_every_file(bundle: bytes, name: str) -> None:
    assert content_hash(tampered(bundle, name)) != content_hash(bundle)


def test_what_is_installed_here_is_what_would_be_bundled(bundle: bytes) -> None:
    assert trust.installed() == content_hash(bundle)


def answered(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, names: tuple[str, str, str]
) -> list[bytes]:
    """Let Flower's client process receive ``sent``; return what it has installed."""
    found: list[bytes] = []
    run = SimpleNamespace(fab_id=names[0], fab_version=names[1])
    fab = SimpleNamespace(hash_str=names[2], content=sent)
    monkeypatch.setattr(flower, "pull_task_input", lambda _: ("message", "context", run, fab))
    monkeypatch.setattr(flower, "install_from_fab", lambda content, **_: found.append(content))
    return found


def test_a_node_installs_the_app_that_it_trusts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: bytes
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    installed = answered(monkeypatch, bundle, stated(bundle))
    refuse_others(flower, {content_hash(bundle)})
    _, _, _, fab = flower.pull_task_input(None)
    flower.install_from_fab(fab.content, skip_prompt=True)
    assert installed == [bundle]


def test_a_node_installs_an_app_once_and_anew_where_a_part_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: bytes
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    times: list[bytes] = []
    original = flower.install_from_fab

    def install(content: bytes, **options: bool) -> Path:
        times.append(content)
        return original(content, **options)

    answered(monkeypatch, bundle, stated(bundle))
    monkeypatch.setattr(flower, "install_from_fab", install)
    refuse_others(flower, {content_hash(bundle)})
    flower.pull_task_input(None)
    folder = flower.install_from_fab(bundle, skip_prompt=True)
    assert is_installed(bundle, folder)
    assert flower.install_from_fab(bundle, skip_prompt=True) == folder
    assert len(times) == 1
    for spoil in (Path.unlink, lambda path: path.write_text("raise SystemExit")):
        spoil(folder / "clients" / "app.py")
        assert not is_installed(bundle, folder)
        assert flower.install_from_fab(bundle, skip_prompt=True) == folder
        assert is_installed(bundle, folder)
    assert len(times) == 3


def test_a_node_installs_nothing_of_a_tampered_app(
    monkeypatch: pytest.MonkeyPatch, bundle: bytes
) -> None:
    changed = tampered(bundle)
    installed = answered(monkeypatch, changed, stated(changed))
    refuse_others(flower, {content_hash(bundle)})
    flower.pull_task_input(None)
    with pytest.raises(UntrustedError, match=f"does not trust .* {content_hash(changed)}"):
        flower.install_from_fab(changed, skip_prompt=True)
    assert installed == []


@pytest.mark.parametrize(
    "change",
    [
        ("bayfed/other", VERSION),
        (NAME, "0.1.0.x/../../elsewhere"),
    ],
)
def test_a_server_cannot_let_another_app_be_loaded(bundle: bytes, change: tuple[str, str]) -> None:
    with pytest.raises(UntrustedError, match="another app"):
        check(bundle, (*change, stated(bundle)[2]), {content_hash(bundle)})
    with pytest.raises(UntrustedError, match="another app"):
        check(bundle, (NAME, VERSION, "0" * 64), {content_hash(bundle)})
    check(bundle, stated(bundle), {content_hash(bundle)})


def test_a_name_that_is_there_twice_is_refused(bundle: bytes) -> None:
    into = BytesIO(bundle)
    with zipfile.ZipFile(into, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("clients/app.py", "raise SystemExit")
    with pytest.raises(UntrustedError, match="twice"):
        content_hash(into.getvalue())


def test_a_bundle_that_unpacks_to_too_much_is_refused() -> None:
    into = BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(65 << 20))
    with pytest.raises(UntrustedError, match="larger"):
        content_hash(into.getvalue())


@pytest.mark.parametrize("content", [b"", b"PK", bytes(100)])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(UntrustedError, match="no sound archive"):
        content_hash(content)


def test_a_truncated_bundle_is_refused(bundle: bytes) -> None:
    with pytest.raises(UntrustedError):
        content_hash(bundle[: len(bundle) // 2])


def test_an_administrator_names_apps_by_their_hash(tmp_path: Path) -> None:
    path, other, own = tmp_path / "trusted.txt", "a" * 64, "b" * 64
    path.write_text("# ours\ninstalled\n")
    assert trust.trusted(path, own) == [own]
    trust.trust(path, other)
    trust.trust(path, other)
    assert trust.trusted(path, own) == [other, own]
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        trust.trust(path, "abc")
    path.write_text("abc\n")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        trust.read(path)
