from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayfed.errors import DataError
from experiments.study import checks, figures, floors, theory
from experiments.study.checks import clients, deterministic, stochastic
from experiments.study.floors import drift, first_order
from experiments.study.known import Known
from experiments.study.loop import Course
from experiments.study.outcome import Check, Mark, read_marks, summary, verdict, write_marks
from experiments.study.rules import Clients, Drift, FirstOrder, Rules, Stochastic
from experiments.study.slopes import slope
from experiments.study.smooth import Problem
from experiments.study.subject import Subject, course
from strategies.task import Params


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
    monkeypatch.setattr(theory, "SHARED", {"toy": lambda _: failed})
    with pytest.raises(theory.typer.Exit) as exit_:
        theory.main(tmp_path, only=["toy"])
    assert exit_.value.exit_code == 1
    text = (tmp_path / "summary.md").read_text()
    assert "| [toy](#toy) | FAIL |" in text
    before = (tmp_path / "toy.png").read_bytes()
    (tmp_path / "toy.png").unlink()
    figures.main(tmp_path)
    assert (tmp_path / "toy.png").read_bytes() == before


def test_an_unknown_check_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(theory.typer.Exit):
        theory.main(tmp_path / "no", only=["nonsense"])
    assert "nonsense" in capsys.readouterr().out
    assert not (tmp_path / "no").exists()


SMALL = Problem(clients=3, episodes=6, dimensions=2)


class Misjudged(Known):
    """Takes F for a tenth as steep as it is, or learns of it on the way."""

    learns = False

    def smoothness(self, points: Sequence[Params]) -> float:
        met = self.learns and len(points) > 1
        return super().smoothness(points) * (1 if met else 0.1)


class Learning(Misjudged):
    learns = True


def test_the_deterministic_check_holds() -> None:
    found = deterministic(Known(SMALL))
    assert found.passed
    bound = {m.x: m.y for m in found.marks if m.series.startswith("bound")}
    assert all(m.y <= bound[m.x] for m in found.marks if m.series == "least")
    assert "PASS" in summary([found], "title")


def test_too_large_a_rate_breaks_the_bound() -> None:
    found = deterministic(Misjudged(SMALL))
    assert found.passed is False
    assert found.numbers["first T beyond the bound"] != "none"


def test_the_rate_follows_what_the_path_meets() -> None:
    found, known = deterministic(Learning(SMALL)), deterministic(Known(SMALL))
    assert found.passed
    assert found.marks == known.marks


def test_a_claim_whose_premise_is_not_met_is_no_failure() -> None:
    asked = count(1)

    class Steeper(Known):
        def smoothness(self, points: Sequence[Params]) -> float:
            return super().smoothness(points) * next(asked)

    found = deterministic(Steeper(SMALL))
    assert verdict(found) == "DOES NOT APPLY"


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


@pytest.mark.parametrize("check", [stochastic, clients, first_order, drift])
def test_no_check_is_passed_where_a_run_diverges(
    check: theory.Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Rules(
        stochastic=Stochastic(lengths=(16, 64, 256), repeats=1),
        clients=Clients(numbers=(1, 3, 9), shares=(0.1,), rounds=(101,), repeats=2),
        first_order=FirstOrder(alphas=(0.01, 0.02, 0.04), fitted=3, rounds=41, gap=0.1),
        drift=Drift(rate=0.4, counts=(1, 2, 4), rounds=(61, 80), removed=0.1),
        every=20,
    )
    subject = Known(Problem(clients=2, episodes=8), brief)
    ran: list[Course] = []

    def keep(*of: Any, **more: Any) -> Course:
        ran.append(course(*of, **more))
        return ran[-1]

    def again(*_: Any, **__: Any) -> Course:
        return replace(ran.pop(0), diverged=True)

    for stub, passed in ((keep, True), (again, False)):
        for module in (checks, floors):
            monkeypatch.setattr(module, "course", stub)
        assert check(subject).passed is passed


class Steep(Known):
    """Where F is least, a second derivative is no number."""

    def smoothness(self, points: Sequence[Params]) -> float:
        del points
        return math.inf

    @property
    def unit(self) -> float:
        return 0.0

    def alike(self) -> Steep:
        return self


@pytest.mark.parametrize("check", [clients, first_order, drift])
def test_a_check_that_begins_where_no_rate_is_known_does_not_apply(
    check: Callable[[Subject], Check],
) -> None:
    found = check(Steep(Problem(clients=4)))
    assert verdict(found) == "DOES NOT APPLY"
    assert "infinite" in str(found.numbers)
    assert ".png" not in summary([found], "title")
