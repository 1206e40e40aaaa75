from __future__ import annotations

import io
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bayfed.config import parse_experiment
from bayfed.config.tree import assign
from bayfed.errors import BayfedError, CheckpointError, ConfigError, FederationError, ProtocolError
from bayfed.evaluation.table import ResultRow, read_rows, untimed
from bayfed.folders import alone_in
from experiments.bench import work
from experiments.parallel import schedule
from experiments.run import run as run_job
from server.job import Job
from tests.experiments.bench.conftest import TINY, Benching

ARMS = ("none", "prior", "local", "centralised", "federated", "federated+finetune")
SITES = ("bolt_00", "fabric_00", "metal_00")


def rows(folder: Path) -> list[ResultRow]:
    return [untimed(row) for row in read_rows(folder / "results.csv")]


def test_every_arm_has_its_rows_in_every_protocol(benching: Benching) -> None:
    section = {"finetune_rounds": 1, "pairs": [["baypranometa/federated", "baypranometa"]]}
    protocols = ("standard", "new-product")
    out = benching(section=section, arms=ARMS, protocols=protocols, report=True)
    counted = Counter((row.protocol, row.arm) for row in rows(out))
    standard = {("standard", arm): 3 * 2 for arm in ARMS}
    unseen = {("new-product", arm): 3 * 2 for arm in ARMS[:-1]}
    unseen["new-product", "local"] = 3 * 2 * 2  # each of the two other factories in turn
    assert counted == standard | unseen
    assert {row.site for row in rows(out)} == set(SITES)
    rounds = {"none": 0, "prior": 0, "federated+finetune": 2}
    assert all(row.round == rounds.get(row.arm, 1) for row in rows(out))
    for row in rows(out):
        assert row.image_auroc is not None
        assert row.fpr_at_fnr10 is not None
        assert row.cover90 is not None
        assert (row.site in (row.train_sites or "")) == (row.protocol == "standard")
    assert "### Pairs" in (out / "results.md").read_text()
    assert "bayfed bench" in (out / "report.html").read_text()


@pytest.mark.parametrize("noisy", [False, True])
def test_it_measures_what_a_run_measures(
    benching: Benching, store: Path, tmp_path: Path, noisy: bool
) -> None:
    settings = ("data.synthetic.per_defect=4", "data.synthetic.train_good=12",
                "evaluation={shots: full, noise: 0.3, calibration: 0.25, draws: 2}",
                "method.refine.cycles=1") if noisy else ()  # fmt: skip
    out = benching(arms=("none", "federated"), settings=settings)
    tree = {**deepcopy(TINY), "store": {"directory": str(store)}}
    for text in settings:
        assign(tree, text)
    tree["federation"] = {**tree["federation"], "backend": "inprocess"}
    run_job(Job(parse_experiment(tree), tmp_path / "run"), Console(file=io.StringIO()))
    names = ("arm", "round", "site", "draw")

    def by_key(found: list[ResultRow]) -> dict[Any, dict[str, Any]]:
        return {tuple(getattr(row, n) for n in names): {**vars(row), "run": ""} for row in found}

    assert by_key(rows(out)) == by_key(rows(tmp_path / "run"))


def test_the_report_says_with_which_weights_and_whether_anything_was_trained(
    benching: Benching,
) -> None:
    text = (benching(arms=("none",), report=True) / "results.md").read_text()
    assert "- Backbone: conv4, weights drawn at random" in text
    assert "- Training: none" in text
    text = (benching("more", arms=("federated",), report=True) / "results.md").read_text()
    assert "- Training: 1 rounds of 1 episodes a client" in text


def test_what_has_its_rows_is_skipped(benching: Benching, monkeypatch: pytest.MonkeyPatch) -> None:
    out = benching(arms=("none",))
    before = (out / "results.csv").read_bytes()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(work, "measure", never)
    benching(arms=("none",), resume=True)
    assert (out / "results.csv").read_bytes() == before


def test_an_interrupted_bench_goes_on(benching: Benching, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"arms": ("none", "federated", "local"), "shots": ("2", "3")}
    whole = rows(benching("whole", **options))
    real, calls = schedule.attempt, iter(range(14))

    def until(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(schedule, "attempt", until)
    with pytest.raises(KeyboardInterrupt):
        benching("broken", **options)
    monkeypatch.setattr(schedule, "attempt", real)
    out = benching("broken", resume=True, **options)
    assert rows(out) == whole


def test_the_rows_do_not_depend_on_the_number_of_workers(benching: Benching) -> None:
    options: dict[str, Any] = {"arms": ("none", "federated")}
    alone = rows(benching("alone", workers=1, **options))
    assert rows(benching("together", workers=2, **options)) == alone
    assert {row.arm for row in alone} == {"none", "federated"}


def test_a_bench_can_grow_but_not_change(benching: Benching) -> None:
    out = benching(arms=("none",))
    more = benching(arms=("none", "prior"), shots=("2", "3"), seeds=2, resume=True)
    assert len(rows(more)) == len(rows(out)) == 2 * 2 * 2 * 3 * 2
    before = (out / "results.csv").read_bytes()
    for setting, key in (("method.top_k=0.5", "method.top_k"), ("evaluation.draws=3", "draws"),
                         ("federation.rounds=2", "federation.rounds")):  # fmt: skip
        with pytest.raises(CheckpointError, match=rf"baypranometa .* another .*{key}"):
            benching(arms=("none",), settings=(setting,), resume=True)
    assert (out / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": ("patchcor",)}, ConfigError, "no system is called 'patchcor'"),
        ({"arms": ("lokal",)}, ConfigError, r"bench\.arms\.0"),
        ({"shots": ("3", "10")}, ProtocolError, "site bolt_00: 9 good .* 10 shots needs 10"),
        ({"shots": ("many",)}, ConfigError, r"bench\.shots\.0: a whole number from 1, or 'full'"),
        ({"shots": ("9", "full")}, ConfigError, "at bolt_00 a full support has 9 images"),
        ({"shots": ("0",)}, ConfigError, r"bench\.shots\.0: a whole number from 1"),
        ({"noise": ("0", "1")}, ConfigError, r"bench\.noise\.1: .* less than 1"),
        ({"noise": ("-0.1",)}, ConfigError, r"bench\.noise\.0: .* greater than or equal to 0"),
        (
            {"noise": ("0.1",), "settings": ("data.synthetic.per_defect=1",)},
            ProtocolError,
            "site bolt_00: noise 0.1 needs defects .* it has 2",
        ),
        ({"protocols": ("new",)}, ConfigError, r"bench\.protocols\.0"),
        ({"sites": ("nowhere",)}, ConfigError, "no site 'nowhere'"),
        ({"backbone": "resnet0"}, BayfedError, "baypranometa: .*resnet0"),
        ({"section": {"pairs": [["a", "b"]]}}, ConfigError, "pairs: no system is called 'a'"),
        ({"resume": True}, ConfigError, "no bench to resume"),
        (
            {"methods": ("patchcore",), "settings": ("method.top_k=0.5",)},
            ConfigError,
            r"method\.top_k: of baypranometa, .* set bench\.systems\.patchcore\.method\.top_k",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    benching: Benching, tmp_path: Path, options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        benching(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_label_noise_at_full_support_is_measured_reported_and_resumed(benching: Benching) -> None:
    refine = {"method": {"refine": {"cycles": 2}}, "preset": "baypranometa"}
    section = {"systems": {"baypranometa": {}, "baypranometa-refined": refine}}
    settings = ("evaluation.calibration=0.25", "data.synthetic.per_defect=4")
    options: dict[str, Any] = {
        "section": section, "arms": ("none",), "shots": ("3", "full"), "noise": ("0", "0.3", "0.9"),
        "settings": settings,
    }  # fmt: skip
    out = benching(report=True, **options)
    full = [row for row in rows(out) if row.full_support]
    assert {row.shots for row in full} == {7}  # of nine, two are held back
    assert {row.noise for row in full} == {None, 0.3, 0.9}
    assert all(row.cover90 is not None for row in full)
    for row in full:
        assert (row.noise is None) == (row.noise_reached is None)
        if row.variant is None:
            assert row.reject_precision is None
            assert row.reject_recall is None
    noisy = [row for row in full if row.noise and row.variant == "refined"]
    assert noisy
    assert all(row.reject_recall is not None for row in noisy if row.noise_reached)
    assert max(row.noise_reached or 0 for row in noisy) <= 4 / 7  # half of eight defects
    text = (out / "results.md").read_text()
    assert "noise 0.9 is capped at 0.444, 4 of its 8 test defects" in text
    assert "### Image AUROC and rejection by label noise" in text
    before = (out / "results.csv").read_bytes()
    benching(resume=True, **options)
    assert (out / "results.csv").read_bytes() == before


def test_a_full_support_without_held_back_images_has_no_p_values(benching: Benching) -> None:
    found = rows(benching(arms=("none",), shots=("full",)))
    assert {row.shots for row in found} == {9}
    assert {row.draw for row in found} == {0}  # there is one such support
    assert all(row.cover90 is None and row.image_auroc is not None for row in found)


def test_a_refinement_shares_the_training_of_what_is_in_it(benching: Benching) -> None:
    refine = {"method": {"refine": {"cycles": 2}}, "preset": "baypranometa"}
    section = {"systems": {"baypranometa": {}, "baypranometa-refined": refine}}
    out = benching(section=section, arms=("federated",))
    assert len(list((out / "trainings").iterdir())) == 1
    assert {row.variant for row in rows(out)} == {None, "refined"}


def test_a_folder_that_cannot_be_made_is_one_line(benching: Benching, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/out: Not a directory"):
        benching("file/out", arms=("none",))


def test_two_benches_do_not_write_to_one_folder(benching: Benching, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out), pytest.raises(FederationError, match="another process still writes to it"):
        benching(arms=("none",))
    assert not list(out.iterdir())
    assert rows(benching(arms=("none",)))


def test_a_folder_with_something_else_in_it_is_kept(benching: Benching, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.csv").write_text("run,method\n")
    with pytest.raises(ConfigError, match="results of something else"):
        benching(arms=("none",))
    (out / "bench.yaml").write_text("{}\n")
    with pytest.raises(ConfigError, match="holds a bench already"):
        benching(arms=("none",))
    with pytest.raises(CheckpointError, match="column 'variant' is missing"):
        benching(arms=("none",), resume=True)
    assert (out / "results.csv").read_text() == "run,method\n"


def test_a_cell_that_fails_leaves_the_others(
    benching: Benching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = schedule.attempt

    def broken(function: Any, *arguments: Any) -> Any:
        if function is work.train:
            raise FederationError("round 1: 2 of 3 clients answered")
        return real(function, *arguments)

    monkeypatch.setattr(schedule, "attempt", broken)
    message = r"1 of 2 cells were not measured, .* federated, .*2 of 3 clients answered"
    with pytest.raises(FederationError, match=message):
        benching(arms=("none", "federated"), report=True)
    assert {row.arm for row in rows(tmp_path / "out")} == {"none"}
    assert "Incomplete: 1 cells" in (tmp_path / "out" / "results.md").read_text()
    monkeypatch.setattr(schedule, "attempt", real)
    out = benching(arms=("none", "federated"), resume=True)
    assert {row.arm for row in rows(out)} == {"none", "federated"}


def test_two_grains_stand_apart_in_the_table(benching: Benching) -> None:
    section = {"sweep": {"method.prior.kappa": [0.5]}}
    out = benching(methods=("baypranometa", "baypranometa-image"), arms=("none",), section=section,
                   report=True)  # fmt: skip
    found = {(row.method, row.variant, row.grain) for row in rows(out)}
    assert found == {
        ("baypranometa", None, "patch"), ("baypranometa", "image", "image"),
        ("baypranometa", "kappa=0.5", "patch"), ("baypranometa", "image kappa=0.5", "image"),
    }  # fmt: skip
    assert len(list((out / "plots").glob("sweep-*.png"))) == 1
