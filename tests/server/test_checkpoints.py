from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bayfed.errors import CheckpointError
from server import checkpoints
from server.checkpoints import Snapshot


def snapshot(number: int) -> Snapshot:
    return Snapshot(
        number,
        theta={"head.weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(number))},
        optimizer={"t": torch.tensor(number), "m/head.weight": torch.ones(3, 2)},
        calibration={"bins": torch.arange(4)},
        history=number + 1,
    )


def equal(left: Snapshot, right: Snapshot) -> bool:
    return (left.round, left.history) == (right.round, right.history) and all(
        torch.equal(tensor, getattr(right, group)[name])
        for group in checkpoints.GROUPS
        for name, tensor in getattr(left, group).items()
    )


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "new", snapshot(12), "e")
    assert path.name == "round-00012.safetensors"
    assert equal(checkpoints.read(path, "e"), snapshot(12))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_latest_is_found(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path, "e") is None
    for number in (0, 9, 10):
        checkpoints.write(tmp_path, snapshot(number), "e")
    found = checkpoints.latest(tmp_path, "e")
    assert found is not None
    assert found.round == 10


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_one_falls_back_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int
) -> None:
    for number in (1, 2):
        path = checkpoints.write(tmp_path, snapshot(number), "e")
    path.write_bytes(path.read_bytes()[:keep])
    with caplog.at_level(logging.WARNING):
        found = checkpoints.latest(tmp_path, "e")
    assert found is not None
    assert found.round == 1
    assert path.name in caplog.text


def test_where_none_is_readable_the_file_is_named(tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path, snapshot(1), "e")
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"round-00001\.safetensors"):
        checkpoints.latest(tmp_path, "e")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path, snapshot(1), "e")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="not those that were written"):
        checkpoints.read(path, "e")


def test_another_experiment_is_refused_even_if_an_older_one_fits(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, snapshot(1), "mine")
    checkpoints.write(tmp_path, snapshot(2), "other")
    with pytest.raises(CheckpointError, match="other settings"):
        checkpoints.latest(tmp_path, "mine")


@pytest.mark.parametrize("metadata", [None, {"bayfed": "{}"}, {"bayfed": "["}, {"bayfed": "[]"}])
def test_a_foreign_safetensors_file_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = checkpoints.path_of(tmp_path, 0)
    save_file({"theta/w": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoints.read(path, "e")


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoints.write(tmp_path, snapshot(1), "e")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CheckpointError, match="disk full"):
        checkpoints.write(tmp_path, snapshot(1), "e")
    monkeypatch.undo()
    assert equal(checkpoints.read(path, "e"), snapshot(1))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
