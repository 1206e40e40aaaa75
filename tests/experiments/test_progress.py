from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from experiments.progress import Tail, follow
from server import history


def test_a_line_is_seen_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text('{"round": 0}\n{"rou')
    assert tail.lines() == [{"round": 0}]
    assert tail.lines() == []
    path.write_text('{"round": 0}\n{"round": 1}\n')
    assert tail.lines() == [{"round": 1}]


def test_a_history_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_text('{"round": 0}\n{"round": 1}\n')
    tail.lines()
    path.write_text('{"round": 0}\n')
    assert tail.lines() == [{"round": 0}]


def test_the_bar_shows_the_last_round(tmp_path: Path) -> None:
    path, text = tmp_path / "metrics.jsonl", io.StringIO()
    with follow(path, 2, Console(file=text, width=120)):
        for number in range(3):
            line = {"round": number, "loss": 0.5, "bytes_up": 1, "bytes_down": 2}
            history.append(path, line)
    assert "2/2" in text.getvalue()
    assert "loss 0.5000" in text.getvalue()
