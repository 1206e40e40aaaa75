from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bayfed.cli import main as module
from bayfed.evaluation.table import ResultRow, read_rows, untimed
from server import history

TINY = str(Path(__file__).with_name("tiny.yaml"))
Outcome = tuple[list[ResultRow], list[dict[str, Any]]]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Outcome:
    words = [word for setting in settings for word in ("--set", setting)]
    out = folder / "run"
    monkeypatch.setattr(sys, "argv", ["bayfed", "run", TINY, *words, "--out", str(out)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert not caught.value.code
    assert (out / "report.html").exists()
    rows = [untimed(row) for row in read_rows(out / "results.csv")]
    return rows, [history.without_times(line) for line in history.read(out / "metrics.jsonl")]


@pytest.mark.ray
def test_backends_and_numbers_of_workers_give_equal_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(tmp_path / "a", monkeypatch, "federation.backend=inprocess")
    assert len(expected[1]) == 3
    assert run(tmp_path / "b", monkeypatch, "federation.workers=2") == expected
    assert run(tmp_path / "c", monkeypatch, "federation.workers=1") == expected
