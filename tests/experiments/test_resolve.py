from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bayfed.config import dump_experiment, experiment_hash
from bayfed.errors import ConfigError, FederationError, WeightsError
from experiments import resolve as module
from experiments.resolve import from_run_config, resolve
from server import plants
from server.job import Job
from server.plants import Plant, Plants

PLANTS = Plants(2, {2**63 + 5: Plant(0, "plant-a"), 7: Plant(1, "plant-b")})
TINY = str(Path(__file__).with_name("tiny.yaml"))


def test_both_commands_resolve_to_the_same_job(tmp_path: Path) -> None:
    line = f"federation.rounds=7 data.sites='[a, b]' out={tmp_path}/run"
    by_flower = from_run_config({"experiment": TINY, "set": line})
    overrides = ["federation.rounds=7", "data.sites=[a, b]"]
    assert by_flower == resolve(TINY, overrides, tmp_path / "run")
    assert by_flower.experiment.data.sites == ("a", "b")
    assert by_flower.experiment.federation.rounds == 7


def test_a_path_with_spaces_survives_flowers_line(tmp_path: Path) -> None:
    plants.write(tmp_path / "plants.json", PLANTS)
    line = f"out='{tmp_path}/a b' resume=false plants='{tmp_path}/plants.json'"
    job = from_run_config({"experiment": TINY, "set": line})
    assert job == Job(job.experiment, tmp_path / "a b", resume=False, plants=PLANTS)


@pytest.mark.parametrize("text", ["", "{}", '{"count": 1, "members": {"1": 2}}'])
def test_a_damaged_list_of_plants_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plants.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"plants\.json: not a list of plants$"):
        plants.read(path)


def test_two_plants_of_one_number_are_refused(tmp_path: Path) -> None:
    twins = Plants(2, {1: Plant(0, "a"), 2: Plant(0, "b")})
    plants.write(tmp_path / "plants.json", twins)
    with pytest.raises(ConfigError, match="two plants have one number"):
        plants.read(tmp_path / "plants.json")


def test_relative_paths_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    overrides = ["data.source=folders", "data.root=images", "backbone.weights=../w.safetensors"]
    (tmp_path / "here").mkdir()
    job = resolve(TINY, overrides, Path("out"), base=tmp_path / "here")
    assert job.experiment.data.root == tmp_path / "here" / "images"
    assert job.experiment.backbone.weights == tmp_path / "w.safetensors"
    assert job.out == tmp_path / "here" / "out"


def test_weights_are_named_by_their_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")

    def job(*words: str) -> Job:
        return resolve(TINY, [f"backbone.weights={words[0]}", *words[1:]], tmp_path / "run")

    stated = hashlib.sha256(b"weights").hexdigest()
    assert job(str(one)).experiment.backbone.sha256 == stated
    assert len({experiment_hash(job(str(path)).experiment) for path in (one, other)}) == 1
    other.write_bytes(b"others!")
    assert len({experiment_hash(job(str(path)).experiment) for path in (one, other)}) == 2
    with pytest.raises(WeightsError, match=r"other.safetensors: sha256 .*, the experiment states"):
        job(str(other), f"backbone.sha256={stated}")


def test_a_bundled_experiment_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text("name: small\n")
    monkeypatch.setattr(module, "BUNDLED", tmp_path)
    job = resolve("small", base=tmp_path / "elsewhere")
    assert job.experiment.name == "small"
    assert job.out.parent == tmp_path / "elsewhere" / "runs"
    assert job.out.name.startswith("small-")
    with pytest.raises(ConfigError, match=r"large: neither a file nor .* \(small\)"):
        resolve("large")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("federation.rouns=3", "unknown setting 'federation.rouns'"),
        ("federation.rounds=many", "federation.rounds"),
        ("rounds", "not of the form key=value"),
        ("name='open", "set: No closing quotation"),
        ("resume=true", "resume: the folder"),
        ("resume=true out=nowhere", "no run to resume"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        from_run_config({"experiment": TINY, "set": line})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_a_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    with pytest.raises(ConfigError, match="holds a run already"):
        resolve(TINY, out=tmp_path)
    assert resolve(TINY, out=tmp_path, resume=True).resume
    with pytest.raises(ConfigError, match="not a folder"):
        resolve(TINY, out=tmp_path / "results.csv")


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, resume: bool) -> None:
    for name in (".hidden", "config.yaml", "server.log", "outcome.json", "flower.log"):
        (tmp_path / name).touch()  # what a run leaves that has failed at its start
    assert resolve(TINY, out=tmp_path, resume=resume).out == tmp_path
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=rf"^{tmp_path}: holds 'thesis\.tex', no run"):
        resolve(TINY, out=tmp_path, resume=resume)
    assert len(list(tmp_path.iterdir())) == 6


def test_notes_beside_a_run_do_not_keep_it_from_being_resumed(tmp_path: Path) -> None:
    for name in ("results.csv", "notes.txt"):
        (tmp_path / name).touch()
    assert resolve(TINY, out=tmp_path, resume=True).resume


def test_weights_that_are_not_there_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"/w\.safetensors: No such file .*\(backbone"):
        resolve(TINY, ["backbone.weights=w.safetensors"], base=tmp_path)


def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    config = tmp_path / "config.yaml"
    config.write_text(dump_experiment(resolve(TINY).experiment))
    before = config.read_bytes()
    assert resolve(TINY, ["federation.workers=1"], out=tmp_path, resume=True).resume
    with pytest.raises(ConfigError, match="other settings"):
        resolve(TINY, ["seed=1"], out=tmp_path, resume=True)
    assert config.read_bytes() == before


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    job = resolve(TINY, out=tmp_path / "run")
    job.make_folder()
    with job.alone(), pytest.raises(FederationError, match="still writes"), job.alone():
        pass
    with job.alone():
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/run: "):
        replace(resolve(TINY), out=tmp_path / "file" / "run").make_folder()


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("federation.backend=inprocess", True),
        ("federation.workers=1", True),
        ("federation.rounds=9", True),
        ("federation.server.lr=0.5", False),
        ("seed=1", False),
        ("data.synthetic.size=64", False),
    ],
)
def test_the_hash_is_that_of_what_changes_a_result(setting: str, same: bool) -> None:
    hashes = {experiment_hash(resolve(TINY, s).experiment) for s in ([], [setting])}
    assert (len(hashes) == 1) is same
