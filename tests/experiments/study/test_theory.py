from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bayfed.errors import DataError
from experiments.study import checks, figures, theory
from experiments.study.outcome import Check, Mark, read_marks, summary, write_marks
from experiments.study.slopes import slope


def test_the_slope_covers_the_law_behind_noisy_points() -> None:
    random = np.random.default_rng(0)
    x = np.geomspace(1, 1000, 40)
    found = slope(x.tolist(), (3 * x**-0.5 * np.exp(0.1 * random.standard_normal(40))).tolist())
    assert found.low < -0.5 < found.high
    assert found.high - found.low < 0.1
    assert found.factor == pytest.approx(3, rel=0.2)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    marks = [Mark("y", "a", 1.0, 1e-30, fit=True), Mark("z", "bound, too", 2.0, 0.1 + 0.2)]
    write_marks(tmp_path / "t.csv", "rounds T", marks)
    assert read_marks(tmp_path / "t.csv") == ("rounds T", marks)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("no,table\n1,2\n")
    with pytest.raises(DataError, match=r"t\.csv"):
        read_marks(tmp_path / "t.csv")


def test_a_failed_check_is_reported_and_sets_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tuple(Mark("y", "a", float(x), float(x * x), fit=True) for x in (1, 2, 3))
    failed = Check("toy", "A claim.", "a rule.", "all.", False, {"L": "1"}, "x", marks)
    monkeypatch.setattr(theory, "CHECKS", {"toy": lambda _: failed})
    with pytest.raises(theory.typer.Exit) as exit_:
        theory.main(tmp_path, only=None, seed=0)
    assert exit_.value.exit_code == 1
    text = (tmp_path / "summary.md").read_text()
    assert "| [toy](#toy) | FAIL |" in text
    before = (tmp_path / "toy.png").read_bytes()
    (tmp_path / "toy.png").unlink()
    figures.main(tmp_path)
    assert (tmp_path / "toy.png").read_bytes() == before


def test_an_unknown_check_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(theory.typer.Exit):
        theory.main(tmp_path / "no", only=["nonsense"], seed=0)
    assert "nonsense" in capsys.readouterr().out
    assert not (tmp_path / "no").exists()


def test_the_deterministic_check_holds() -> None:
    found = checks.deterministic(0)
    assert found.passed
    bound = {m.x: m.y for m in found.marks if m.series.startswith("bound")}
    assert all(m.y <= bound[m.x] for m in found.marks if m.series == "least")
    assert "PASS" in summary([found], "title")


def test_real_sites_are_asked_for_by_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, none = tmp_path / "w", tmp_path / "none"
    for data, said in ((None, "which --data names"), (none, str(weights))):
        with pytest.raises(theory.typer.Exit) as exit_:
            theory.main(tmp_path / "out", data=data, weights=weights)
        assert exit_.value.exit_code == 2
        assert said in capsys.readouterr().out
        assert not (tmp_path / "out").exists()
