from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bayfed.errors import FederationError
from server import outcome

LOST = FederationError("the SuperLink is gone")


@pytest.mark.parametrize(
    ("said", "error", "status", "reason"),
    [
        (None, LOST, "failed", "the SuperLink is gone"),
        (None, KeyError("x"), "failed", "KeyError: 'x'"),
        (None, KeyboardInterrupt(), "interrupted", ""),
        # Of a server that is taken down the workers die first.
        (("failed", "a worker died"), KeyboardInterrupt(), "interrupted", ""),
        (("failed", "a worker died"), LOST, "failed", "a worker died"),
        (("completed", ""), KeyboardInterrupt(), "completed", ""),
        (("completed", ""), LOST, "completed", ""),
    ],
)
def test_what_the_server_could_not_say_is_said_for_it(
    tmp_path: Path,
    said: tuple[str, str] | None,
    error: BaseException,
    status: str,
    reason: str,
) -> None:
    path = tmp_path / "outcome.json"

    def end() -> None:
        if said:
            outcome.write(path, *said)
        raise error

    with pytest.raises(type(error)), outcome.recorded(path):
        end()
    assert outcome.read(path) == {"status": status, "reason": reason}


def test_a_run_that_ends_well_is_left_to_the_server(tmp_path: Path) -> None:
    with outcome.recorded(tmp_path / "outcome.json"):
        pass
    assert outcome.read(tmp_path / "outcome.json") == {}


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_outcome_is_no_outcome(tmp_path: Path, text: str) -> None:
    (tmp_path / "outcome.json").write_text(text)
    assert outcome.read(tmp_path / "outcome.json") == {}


def test_a_full_disk_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "outcome.json"
    outcome.require_room(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(outcome, "write_atomic", full)
    outcome.record(path, LOST)
    with pytest.raises(FederationError, match=r"cannot be written to \(No space left on device"):
        outcome.require_room(path)
