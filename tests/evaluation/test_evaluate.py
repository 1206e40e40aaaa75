from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bayfed.config import Data, Synthetic, experiment_hash, load_experiment
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import BayfedError, CheckpointError, ConfigError, ProtocolError
from bayfed.evaluation.checkpoint import path_of, read
from bayfed.evaluation.evaluate import Request, evaluate_run
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.evaluation.table import ResultRow, read_rows, untimed
from server import checkpoints
from tests.evaluation.conftest import TREE, FinishedRun

FEW = Synthetic(products=6, size=32, train_good=5, test_good=3, per_defect=1, kinds=("hole",))

PASTED = {"per_site": 4}
SMALL_EPISODE = {"shots": 2, "normals": 2}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six sites, two of which no run has met."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_sites(load_sites(Data(synthetic=FEW), seed=9), folder)
    return folder


def untimed_rows(path: Path) -> list[ResultRow]:
    return [untimed(row) for row in read_rows(path)]


def site_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fixture", ["new_product", "standard"])
def test_the_run_s_own_sites_give_its_own_numbers_again(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(fixture)
    evaluated = evaluate_run(Request(run, out=tmp_path / "new"))
    assert evaluated.results == tmp_path / "new" / "results.csv"
    again = {(r.arm, r.site, r.draw): r for r in untimed_rows(evaluated.results)}
    assert again == {(r.arm, r.site, r.draw): r for r in untimed_rows(run / "results.csv")}


def test_skewed_sites_are_scored_as_they_are_but_for_what_was_taken_for_good(
    finished: FinishedRun, tmp_path: Path
) -> None:
    data = {**TREE["data"], "skew": {"camera": 1.0, "noise": 0.1}}
    run = finished(data=data)
    found = evaluate_run(Request(run, out=tmp_path / "new"))
    assert any("behind the cameras of data.skew" in note for note in found.notes)
    assert {row.site for row in found.rows} == {row.site for row in read_rows(run / "results.csv")}


def test_the_rows_join_the_run_s_table(new_product: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(new_product, run)
    before = untimed_rows(run / "results.csv")
    evaluate_run(Request(run))
    assert sorted(map(str, untimed_rows(run / "results.csv"))) == sorted(map(str, before))
    evaluate_run(Request(run, draws=3))
    assert len(untimed_rows(run / "results.csv")) == len(before) * 3 // 2


def test_sites_never_seen_are_scored_in_both_arms(
    new_product: Path, elsewhere: Path, tmp_path: Path
) -> None:
    new = sorted(set(site_names(elsewhere)) - {"cap_00", "fabric_00", "metal_00"})
    wanted = Request(new_product, elsewhere, sites=tuple(new), draws=2, out=tmp_path)
    rows = evaluate_run(wanted).rows
    assert len(rows) == len(new) * 2 * 2
    assert {row.arm for row in rows} == {CONTROL, TRAINED}
    assert {row.round for row in rows} == {0, 4}
    assert {row.train_sites for row in rows} == {"cap_00+fabric_00+metal_00"}
    assert all(row.image_auroc is not None and row.cover95 is not None for row in rows)


def test_a_namesake_does_not_replace_a_site_of_the_run(
    new_product: Path, elsewhere: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(new_product, run)
    before = (run / "results.csv").read_bytes()
    wanted = Request(run, elsewhere, sites=("bolt_00",))
    with pytest.raises(ProtocolError, match="bolt_00 is there already"):
        evaluate_run(wanted)
    assert (run / "results.csv").read_bytes() == before
    assert evaluate_run(replace(wanted, out=tmp_path)).rows


def test_twins_among_the_good_images_do_not_change_the_supports(
    finished: FinishedRun, elsewhere: Path, tmp_path: Path
) -> None:
    for name in site_names(elsewhere)[:2]:
        shutil.copytree(elsewhere / name, tmp_path / name)
        first = sorted((tmp_path / name / "train" / "good").iterdir())[0]
        shutil.copy(first, first.with_name("000_twin.png"))
    run = finished(
        data={"source": "folders", "root": str(tmp_path), "pasted": PASTED}, episode=SMALL_EPISODE
    )
    before = untimed_rows(run / "results.csv")
    evaluate_run(Request(run))
    assert untimed_rows(run / "results.csv") == before


def test_training_images_out_of_reach_are_mentioned(
    finished: FinishedRun, elsewhere: Path, tmp_path: Path
) -> None:
    first, other = site_names(elsewhere)[:2]
    shutil.copytree(elsewhere / first, tmp_path / "data" / first)
    data = {"source": "folders", "root": str(tmp_path / "data"), "pasted": PASTED}
    run = finished(data=data, episode=SMALL_EPISODE)
    wanted = Request(run, elsewhere, sites=(other,), out=tmp_path / "new")
    assert evaluate_run(wanted).notes == ()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert "images of 1 training site are not at hand" in evaluate_run(wanted).notes[0]


def test_a_round_without_an_evaluation_has_no_p_values(new_product: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "new"
    shutil.copytree(new_product, run)
    identity = experiment_hash(load_experiment(run / "config.yaml"))
    between = read(path_of(run / "checkpoints", 4), identity)
    checkpoints.write(run / "checkpoints", replace(between, round=3, calibration={}), identity)
    evaluated = evaluate_run(Request(run, round=3, out=out))
    covered = {row.round: row.cover95 is not None for row in evaluated.rows}
    assert covered == {0: True, 3: False}
    assert "No p-values at round 3" in evaluated.notes[0]


def test_another_number_of_shots_has_no_p_values(new_product: Path, tmp_path: Path) -> None:
    evaluated = evaluate_run(Request(new_product, shots=4, out=tmp_path))
    assert {row.shots for row in evaluated.rows} == {4}
    assert {row.cover95 for row in evaluated.rows} == {None}
    assert "at 3 shots" in evaluated.notes[0]


def test_round_zero_alone_is_the_control_alone(new_product: Path, tmp_path: Path) -> None:
    rows = evaluate_run(Request(new_product, round=0, out=tmp_path)).rows
    assert {row.arm for row in rows} == {CONTROL}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sites": ("cap_00",)}, ProtocolError, "cap_00: took part in training"),
        ({"sites": ("cap_00",), "protocol": "standard"}, ProtocolError, "cap_00: its test defects"),
        ({"protocol": "new-defect"}, ProtocolError, "kept no type of defect back"),
        ({"protocol": "none"}, ConfigError, "'none' is none of"),
        ({"shots": 13}, ProtocolError, "bolt_00: 12 good training images, 13 shots"),
        ({"shots": 0}, ConfigError, "evaluation.shots"),
        ({"draws": 0}, ConfigError, "evaluation.draws"),
        ({"sites": ("nut",)}, ConfigError, "no site 'nut'"),
        ({"round": 3}, CheckpointError, "round-00003"),
        ({"data": Path("nowhere")}, BayfedError, "nowhere"),
        ({"weights": Path("x")}, ConfigError, "conv4"),
        ({"layout": "cube", "data": Path()}, ConfigError, "data.layout"),
    ],
)
def test_mistakes_are_one_line(
    new_product: Path,
    tmp_path: Path,
    change: dict[str, object],
    error: type[BayfedError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        evaluate_run(replace(Request(new_product, out=tmp_path / "out"), **change))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_settings_that_were_changed_after_the_run_are_noticed(
    new_product: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(new_product, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("- bolt\n", "- cap\n"))
    with pytest.raises(CheckpointError, match="other settings"):
        evaluate_run(Request(run))


def test_a_run_without_checkpoints_is_refused(new_product: Path, tmp_path: Path) -> None:
    shutil.copy(new_product / "config.yaml", tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        evaluate_run(Request(tmp_path))


def test_a_folder_that_cannot_be_made_is_one_line_before_anything_is_computed(
    new_product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayfed.evaluation.evaluate._measure", lambda *_: pytest.fail("too late"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/x")):
        with pytest.raises(ConfigError, match=f"^{out}: "):
            evaluate_run(Request(new_product, out=out))


def test_parameters_of_another_shape_are_refused(new_product: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from bayfed.evaluation.checkpoint import digest

    run = tmp_path / "run"
    shutil.copytree(new_product, run)
    path = path_of(run / "checkpoints", 4)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["bayfed"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["theta/head.bias"] = torch.zeros(3)
    header["digest"] = digest(tensors)
    save_file(tensors, path, {"bayfed": json.dumps(header)})
    with pytest.raises(CheckpointError, match="round 4: its parameters are not those"):
        evaluate_run(Request(run))
