"""A study from its file to its summary, over the toy problem."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from rich.console import Console
from scipy import stats

from bayfed.config.study import Cell
from bayfed.errors import BayfedError, ConfigError, DataError, FederationError
from experiments.study import figures, work
from experiments.study.estimate import cost_of, probed_pairs
from experiments.study.plan import Plan, check, plan
from experiments.study.plots import NAMES, band
from experiments.study.run import run
from experiments.study.table import Point, Run
from experiments.study.work import Cost
from tests import fakes

PLAIN = {
    "aggregate": "parameters",
    "local_steps": 2,
    "local_lr": 0.2,
    "optimizer": "sgd",
    "lr": 1.0,
}
TREE: dict[str, Any] = {
    "device": "cpu",
    "federation": {
        "backend": "inprocess", "rounds": 4, "server": PLAIN, "diagnostics": {"every": 1},
    },
    "evaluation": {"every": 2},
    "study": {
        "strategies": {
            "fedavg": {},
            "scaffold": {"algorithm": {"name": "scaffold"}},
            "wild": {"server": {"lr": 1e30}},
        },
        "heterogeneity": {"equal": {}, "unequal": {"federation": {"server": {"unequal": 0.5}}}},
        "seeds": 2,
        "workers": 1,
    },
}  # fmt: skip
FEW = {
    **TREE,
    "study": {
        "strategies": {"fedavg": {}, "wild": {"server": {"lr": 1e30}}}, "seeds": 2, "workers": 1,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    monkeypatch.setattr("experiments.study.run.check", lambda _: None)


def planned(folder: Path, tree: dict[str, Any] = TREE, *words: str) -> Plan:
    (folder / "toy.yaml").write_text(yaml.safe_dump(tree))
    return plan(str(folder / "toy.yaml"), words, folder / "out", folder)


def play(asked: Plan, resume: bool = False, estimate: bool = False) -> str:
    text = StringIO()
    run(asked, resume, estimate, Console(file=text, width=200))
    return text.getvalue()


def test_a_study_leaves_tables_figures_and_words(tmp_path: Path) -> None:
    asked = planned(tmp_path)
    said = play(asked)
    assert "study: " not in said
    assert "toy: 12 runs, 0 of them done" in said
    assert "estimate: 12 runs, 48 rounds, 1 processes" in said
    runs = Run.read(asked.folder)
    assert len(runs) == 3 * 2 * 2
    assert {r.status for r in runs if r.strategy == "wild"} == {"diverged"}
    assert {r.status for r in runs if r.strategy != "wild"} == {"completed"}
    assert all(math.isnan(r.auroc) and r.reason for r in runs if r.strategy == "wild")
    curves = Point.read(asked.folder)
    one = [p for p in curves if p.cell == Cell("fedavg", "equal", 0)]
    assert [p.round for p in one] == [0, 1, 2, 3, 4]
    assert one[-1].slope < one[0].slope
    assert [math.isnan(p.auroc) for p in one] == [False, True, False, True, False]
    assert all(a.megabytes < b.megabytes for a, b in pairwise(one))
    text = (asked.folder / "summary.md").read_text()
    assert "**wild under equal** diverged with 2 of 2 seeds (0, 1): " in text
    assert "not ranked, for a seed is missing: wild" in text
    assert "8 completed, 4 diverged, 0 failed" in text
    assert all((asked.folder / f"{name}.png").exists() for name in NAMES)


def test_figures_can_be_drawn_anew_from_the_tables_alone(tmp_path: Path) -> None:
    asked = planned(tmp_path, FEW)
    play(asked)
    before = {name: (asked.folder / f"{name}.png").read_bytes() for name in NAMES}
    for name in NAMES:
        (asked.folder / f"{name}.png").unlink()
    figures.main(asked.folder)
    assert {name: (asked.folder / f"{name}.png").read_bytes() for name in NAMES} == before


def test_a_killed_study_goes_on_with_what_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, played, own = planned(tmp_path, FEW), list[str](), work.play

    def killed_at_the_third(experiment: Any, out: Path) -> None:
        if out.name != "run":  # that of a probe
            played.append(out.name)
        if len(played) == 3:
            raise KeyboardInterrupt
        own(experiment, out)

    def written() -> dict[str, int]:
        files = {name: asked.folder / "runs" / name / "metrics.jsonl" for name in played[:2]}
        return {name: file.stat().st_mtime_ns for name, file in files.items()}

    monkeypatch.setattr("experiments.study.work.play", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        play(asked)
    monkeypatch.setattr("experiments.study.work.play", own)
    before = written()
    with pytest.raises(ConfigError, match="holds a study already"):
        play(planned(tmp_path, FEW))
    assert "4 runs, 2 of them done" in play(planned(tmp_path, FEW), resume=True)
    assert written() == before
    assert len(Run.read(asked.folder)) == 4
    with pytest.raises(ConfigError, match="was run with other settings"):
        play(planned(tmp_path, FEW, "federation.episodes=3"), resume=True)


def test_a_run_that_fails_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work.play

    def fails_once(experiment: Any, out: Path) -> None:
        if out.name == "fedavg-sites-1":
            raise DataError("site1/x.png: cannot be read")
        own(experiment, out)

    monkeypatch.setattr("experiments.study.work.play", fails_once)
    asked = planned(tmp_path, FEW)
    with pytest.raises(FederationError, match=r"1 runs failed.*fedavg-sites-1: site1/x\.png"):
        play(asked)
    assert len(Run.read(asked.folder)) == 3


def test_an_estimate_runs_nothing(tmp_path: Path) -> None:
    asked = planned(tmp_path)
    assert "estimate: 12 runs" in play(asked, estimate=True)
    assert not asked.folder.exists()


def test_a_run_costs_its_start_its_rounds_and_its_measurements() -> None:
    settings = {"rounds": 20, "diagnostics": {"every": 5}}
    cost = Cost(start=3.0, round=2.0, measuring=10.0, peak=1)
    assert cost.seconds(fakes.experiment(**settings)) == 3 + 20 * 2 + 11 * 10  # evaluated every 2nd


def test_a_heterogeneity_that_costs_more_is_estimated_so() -> None:
    grid = [Cell(s, h, 0) for h in ("few", "many") for s in ("a", "b")]
    cheap, dear = Cost(1, 2, 3, 10), Cost(1, 8, 3, 30)
    costs = {("a", "few"): cheap, ("b", "few"): Cost(2, 4, 3, 20), ("a", "many"): dear}
    assert list(probed_pairs(grid)) == list(costs)
    assert cost_of(Cell("a", "many", 7), costs) == dear
    assert cost_of(Cell("b", "many", 0), costs) == Cost(2, 16, 3, 30)


def test_what_does_not_follow_from_others_is_probed_itself() -> None:
    left = [Cell("a", "few", 2), Cell("b", "many", 2)]
    assert list(probed_pairs(left)) == [("a", "few"), ("b", "many")]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probed(_: Any) -> None:
        raise AssertionError("a probe has begun")

    monkeypatch.setattr("experiments.study.work.probe", probed)
    asked = planned(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BayfedError, match="file"):
        play(replace(asked, folder=tmp_path / "file" / "out"))


@pytest.mark.parametrize("name", ["study.csv", "curves.csv"])
def test_a_missing_table_is_named_by_the_command_that_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name == "curves.csv":
        Run.write(tmp_path, [])
    with pytest.raises(typer.Exit):
        figures.main(tmp_path)
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert "table" in said
    assert said.count("\n") == 1


def test_each_run_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    jobs = planned(tmp_path).jobs
    job = jobs[Cell("scaffold", "unequal", 1)]
    assert job.experiment.seed == 1
    assert job.experiment.federation.algorithm.name == "scaffold"
    assert job.experiment.federation.server.unequal == 0.5
    assert job.experiment.federation.server.local_steps == 2


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (None, "has no section 'study'"),
        ({"strategies": {}}, r"study\.strategies"),
        ({"strategies": {"a": {}}, "sedes": 1}, r"unknown setting 'study\.sedes'"),
        ({"strategies": {"a": {"algorithm": {"name": "fedfoo"}}}}, "a under sites.*'fedprox'"),
        (
            {"strategies": {"a": {"algorithm": {"name": "fedprox", "nu": 1}}}},
            r"unknown setting 'federation\.algorithm\.nu'",
        ),
        (
            {"strategies": {"a": {}, "a-b": {}}, "heterogeneity": {"b-c": {}, "c": {}}},
            "two runs are called a-b-c-0",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, study: Any, message: str) -> None:
    tree = {k: v for k, v in TREE.items() if k != "study"}
    with pytest.raises(ConfigError, match=message) as error:
        planned(tmp_path, tree if study is None else {**tree, "study": study})
    assert "toy.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_impossible_partition_is_found_before_anything_runs(tmp_path: Path) -> None:
    clients = {"partition": "dirichlet", "number": 30, "alpha": 1e-3}
    study = {**TREE["study"], "heterogeneity": {"tiny": {"federation": {"clients": clients}}}}
    with pytest.raises(ConfigError, match=r"study: tiny, seed 0: federation\.clients\.alpha"):
        check(planned(tmp_path, {**TREE, "study": study}).jobs)


def test_a_band_is_students_interval() -> None:
    values = np.array([[1.0, 2.0], [3.0, 2.0], [8.0, 2.0]])
    mean, half = band(values)
    low, high = stats.t.interval(0.95, 2, loc=4, scale=stats.sem(values[:, 0]))
    assert (mean[0] - half[0], mean[0] + half[0]) == pytest.approx((low, high))
    assert half[1] == 0
