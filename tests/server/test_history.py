from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bayfed.errors import CheckpointError
from server import history


def write(path: Path, count: int) -> None:
    for number in range(count):
        history.append(path, {"round": number, "loss": float(number)})


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert history.read(path) == []
    write(path, 3)
    assert [line["round"] for line in history.read(path)] == [0, 1, 2]


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    history.append(path, {"loss": float("nan"), "clients": [{"loss": float("inf")}]})
    assert history.read(path) == [{"loss": None, "clients": [{"loss": None}]}]


def test_cutting_drops_later_and_unfinished_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 3)
    with path.open("a") as file:
        file.write('{"round": 3, "lo')
    history.cut(path, 2)
    assert path.read_text().count("\n") == 2
    history.append(path, {"round": 2})
    assert [line["round"] for line in history.read(path)] == [0, 1, 2]


def test_a_history_shorter_than_the_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1)
    with pytest.raises(CheckpointError, match="2 lines are expected, 1 found"):
        history.cut(path, 2)


def test_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("no json\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        history.read(path)


def test_a_full_disk_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"/dev/full: cannot be written \(No space left"):
        history.append(Path("/dev/full"), {"round": 0})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "metrics.jsonl"
    write(path, 2)
    monkeypatch.setattr(history, "write_atomic", full)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: cannot be written \(No space left"):
        history.cut(path, 1)
    assert len(history.read(path)) == 2
