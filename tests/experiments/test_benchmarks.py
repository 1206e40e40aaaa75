"""The benchmarks run at tiny sizes; what they measure is nobody's test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer

from bayfed.config import Data, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.evaluation.table import ResultRow, append_rows
from experiments.benchmarks import (
    episodes,
    features,
    measure,
    memory,
    overhead,
    promises,
    sites_run,
)
from experiments.benchmarks.paper_episode import PaperEpisode
from tests import toys

PARENT = """
import subprocess, sys, time
child = "import time; held = bytearray(b'x' * 60_000_000); print(1, flush=True); time.sleep(0.6)"
started = subprocess.Popen(
    [sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE
)
started.stdout.readline()
time.sleep(0.5)
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_rivals_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    rivals = {name: lambda name=name: calls.append(name) for name in "ab"}
    timed = measure.time_rivals(rivals, repeats=2, warmup=1)
    assert "".join(calls) == "ababab"
    assert [len(sample.values) for sample in timed.values()] == [2, 2]


def test_a_single_measurement_has_no_spread() -> None:
    assert measure.Sample((2.0,)).text() == "2.0 (2.0 to 2.0)"


def test_one_by_one_equals_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    method = episodes.method_of(episodes.IMAGE_GRAIN, 6, grid=1)
    step = episodes.step_of(method, episodes.batch_of(3, 1, 6))
    batched = step()
    monkeypatch.setattr("bayfed.methods.baypranometa.vmap", episodes.loop)
    for one, other in zip(batched, step(), strict=True):
        assert one is other is None or torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_episodes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "PaperEpisode", Quick)
    episodes.main(1, 1, 2, 2, 8, 9, 8, 32)
    said = capsys.readouterr().out
    assert all(name in said for name in (*episodes.PATCH_GRAIN, episodes.PAPER, "one by one"))
    assert "torch threads" in said


class Quick:
    def step(self, *_: object) -> None:
        return None


def test_the_published_episode_moves_the_whole_network() -> None:
    network = PaperEpisode()
    labels = torch.tensor([0.0, 1.0])
    network.step(torch.randn(3, 3, 32, 32), torch.randn(2, 3, 32, 32), labels)
    assert all(p.grad is not None for p in network.parameters())
    first = next(network.parameters()).grad
    assert first is not None
    assert first.isfinite().all()
    assert first.any()


def test_overhead(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.finish.finish_run", lambda *_, **__: None)
    monkeypatch.setattr(overhead, "WARMUP", 0)
    overhead.main(clients=2, rounds=1, episodes=1, width=4, backends="inprocess")
    said = capsys.readouterr().out
    assert "overhead" in said
    assert "reached" in said or "missed" in said


def test_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(
        json.dumps(
            {
                "backbone": {
                    "name": toys.TIMM, "stages": [1], "image_size": 32, "grid": 4,
                    "trainable": "head",
                }
            }
        )
    )  # fmt: skip
    features.main(experiment=str(tiny), images=3, side=32, repeats=1)
    assert "read 16 tokens" in capsys.readouterr().out
    root = tmp_path / "sites"
    write_sites(load_sites(Data(synthetic=Synthetic(products=2, size=32, train_good=2)), 0), root)
    assert len(features.pictures(root, 3)) == 3


def test_memory_of_a_detached_child_is_counted(tmp_path: Path) -> None:
    looks: list[float] = []
    watched = memory.watch(
        [sys.executable, "-c", PARENT], tmp_path / "log", interval=0.1, each=looks.append
    )
    assert watched.code == 0
    assert watched.peak_processes == 2
    assert watched.peak_pss > 60_000_000
    assert looks == sorted(looks)


def test_an_orphan_is_found_by_its_mark() -> None:
    script = PARENT.replace("time.sleep(0.5)", "")
    mark = "orphan-of-a-test"
    environment = {**os.environ, memory.MARK: mark}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    deadline = time.monotonic() + 5.0
    assert len(memory.marked(mark)) == 1
    while memory.marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert memory.marked(mark) == set()


def finished_run(folder: Path) -> None:
    """Leave what a run leaves: two rounds, control and trained."""
    seconds = {"seconds": 2.0, "seconds_compute": 1.5, "seconds_overhead": 0.25}
    folder.mkdir(parents=True)
    lines = [
        {"round": 0, "replies": 0, "bytes_up": 10, "mean_image_auroc": 0.84, **seconds},
        {"round": 1, "replies": 2, "bytes_up": 200_000, "mean_image_auroc": None, **seconds},
        {"round": 2, "replies": 2, "bytes_up": 300_000, "mean_image_auroc": 0.86, **seconds},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shared = {"run": "r", "method": "m", "protocol": "standard", "seed": 0, "draw": 0, "shots": 5}
    append_rows(
        folder / "results.csv",
        [
            ResultRow(arm="none", round=0, image_auroc=0.84, site="a", **shared),
            ResultRow(arm="federated", round=2, image_auroc=0.86, site="a", **shared),
        ],
    )


def test_the_run_on_sites_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(command: list[str], *_: object) -> memory.Watched:
        settings = dict(word.split("=", 1) for word in command if word.startswith("store."))
        block = Path(settings["store.directory"]) / "key" / "block.npy"
        block.parent.mkdir(parents=True)
        block.touch()
        finished_run(Path(command[-1]))
        return memory.Watched(0, 310.0, 3_000_000_000, 7, 0.5)

    monkeypatch.setattr(sites_run, "watch", fake)
    sites_run.main(tmp_path)
    said = capsys.readouterr().out
    assert "310 s, goal at most 300 s: missed" in said
    assert "0.150 MB a client a round, goal at most 1 MB" in said
    assert "3.00 GB of PSS, goal at most 4 GB of PSS: reached" in said
    assert "none 0.8400, federated 0.8600" in said


def test_a_run_that_fails_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(_: list[str], log: Path, *__: object) -> memory.Watched:
        log.write_text("bayfed: error: no site")
        return memory.Watched(2, 1.0, 0, 0, 0.0)

    monkeypatch.setattr(sites_run, "watch", fake)
    with pytest.raises(typer.Exit) as caught:
        sites_run.main(tmp_path)
    assert caught.value.exit_code == 2
    assert "error: no site" in capsys.readouterr().out


def test_the_store_is_timed_from_its_first_block_to_its_last(tmp_path: Path) -> None:
    folder = sites_run.Folder(tmp_path / "store")
    folder.look(1.0)
    assert folder.text() == "no features were stored"
    for now, name in ((2.0, "a"), (5.0, "b")):
        (folder.path / "key").mkdir(parents=True, exist_ok=True)
        (folder.path / "key" / f"{name}.npy").touch()
        folder.look(now)
    folder.look(9.0)
    assert folder.text().startswith("3 s (2 to 5 s of the run, 2 blocks)")


def test_promises_are_measured_on_sites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic = {"products": 3, "size": 32, "train_good": 12, "test_good": 4, "per_defect": 2}
    experiment = toys.experiment(
        data={"synthetic": synthetic},
        store={"directory": tmp_path},
        method={"inner": {"steps": 0}},
    )
    monkeypatch.setattr(promises, "BESIDE", 6)
    monkeypatch.setattr(promises, "settings_of", lambda *_: experiment)
    promises.main(tmp_path, tmp_path, shots=3, draws=2)
    said = capsys.readouterr().out
    assert "3 sites, 3 supports, 6 draws" in said
    assert "defects to review" in said
    assert "epistemic share of good test images: median 0." in said
