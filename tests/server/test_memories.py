from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from safetensors.torch import save

from bayfed.errors import CheckpointError, FederationError
from bayfed.fingerprint import fingerprint
from experiments.inprocess import InProcessGrid, flower_identity
from server import checkpoints, history
from server.exchange import base_config
from server.job import Job
from server.memories import Memories
from server.roster import sample
from strategies.wire import (
    ARRAYS,
    CODE,
    CONFIG,
    ERROR,
    MEMORY,
    Member,
    config_of,
    instruction,
    pack,
)
from tests import fakes

LOCAL = {
    "aggregate": "parameters",
    "local_steps": 3,
    "local_lr": 0.2,
    "optimizer": "sgd",
    "lr": 0.5,
}
REMEMBERING: dict[str, dict[str, Any]] = {
    "scaffold": {"algorithm": {"name": "scaffold"}},
    "ditto": {"algorithm": {"name": "ditto", "rate": 0.1}},
    "pfedme": {"algorithm": {"name": "pfedme", "steps": 4, "rate": 0.2}},
    "private": {"algorithm": {"name": "private", "prefixes": ["w"]}},
    "error feedback": {"uplink": {"bits": 2}},
    "ditto with error feedback": {
        "algorithm": {"name": "ditto", "rate": 0.1},
        "uplink": {"bits": 4, "keep": 0.5},
        "fraction": 0.5,
    },
    "error feedback under secure sums": {
        "uplink": {"bits": 32, "keep": 0.5, "select": "random"},
        "secure": {"clip": 10.0},
    },
}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


class Interrupted(InProcessGrid):
    """Is interrupted at the first message of a kind and a round."""

    def __init__(self, kind: str, at: int) -> None:
        super().__init__(fakes.app, fakes.SITES)
        self.meant = (kind, at)

    def deliver(self, message: Message) -> Message | None:
        self.look(message)
        return super().deliver(message)

    def look(self, message: Message) -> None:
        config = message.content.config_records[CONFIG]
        if (message.metadata.message_type, config["round"]) == self.meant:
            raise KeyboardInterrupt


def job_of(folder: Path, resume: bool = False, **settings: Any) -> Job:
    federation = {"rounds": 6, "server": LOCAL, **settings}
    return Job(fakes.experiment(**federation), folder, resume)


def written(job: Job) -> tuple[dict[str, bytes], list[dict[str, Any]], list[str]]:
    """Return all numbers that a run leaves."""
    folders = [job.out / "checkpoints", job.memories]
    files = {path.name: path.read_bytes() for folder in folders for path in folder.glob("*")}
    lines = [history.without_times(line) for line in history.read(job.history)]
    if job.experiment.federation.secure is not None:  # its keys and nonces are never the same
        lines = [{k: v for k, v in line.items() if "bytes" not in k} for line in lines]
    rows = job.results.read_text().replace(job.out.name, "").splitlines()
    return files, lines, rows


def interrupted(job: Job, kind: str, at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        fakes.play(job, Interrupted(kind, at))


@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize("kind", ["train", "evaluate"])  # the second is before its checkpoint
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    tmp_path: Path, name: str, kind: str
) -> None:
    settings = REMEMBERING[name]
    whole, cut = job_of(tmp_path / "whole", **settings), job_of(tmp_path / "cut", **settings)
    fakes.play(whole)
    interrupted(cut, kind, at=4)
    fakes.play(job_of(cut.out, resume=True, **settings))
    assert written(cut) == written(whole)


def test_without_its_memories_a_resumed_run_is_another(tmp_path: Path) -> None:
    settings = REMEMBERING["scaffold"]
    whole, cut = job_of(tmp_path / "whole", **settings), job_of(tmp_path / "cut", **settings)
    fakes.play(whole)
    interrupted(cut, "train", at=4)
    shutil.rmtree(cut.memories)
    fakes.play(job_of(cut.out, resume=True, **settings))
    assert written(cut)[0] != written(whole)[0]


def test_of_each_client_the_last_two_rounds_are_kept(tmp_path: Path) -> None:
    job = job_of(tmp_path / "run", **REMEMBERING["scaffold"])
    fakes.play(job)
    names = [f"{client:05d}-{number:06d}.safetensors" for client in range(3) for number in (5, 6)]
    assert sorted(path.name for path in job.memories.iterdir()) == names


def test_what_needs_no_memory_writes_none(tmp_path: Path) -> None:
    job = job_of(tmp_path / "run")
    fakes.play(job)
    assert not job.memories.exists()


def test_a_round_that_lies_too_far_back_is_refused(tmp_path: Path) -> None:
    settings = REMEMBERING["ditto"]
    job = job_of(tmp_path / "run", **settings)
    fakes.play(job)
    for number in (4, 5, 6):
        checkpoints.path_of(job.out / "checkpoints", number).unlink()
    message = r"what client 0 remembered after round 3 is not kept"
    with pytest.raises(CheckpointError, match=message):
        fakes.play(job_of(job.out, resume=True, **settings))


def test_a_client_that_had_not_trained_by_then_has_nothing_to_remember(tmp_path: Path) -> None:
    memories = Memories(tmp_path)
    (tmp_path / "00001-000004.safetensors").write_bytes(save({}, {"first": "4"}))
    assert memories.restore(3) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    settings = REMEMBERING["ditto"]
    job = job_of(tmp_path / "run", **settings)
    interrupted(job, "train", at=4)
    damaged = job.memories / "00002-000003.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"00002-000003\.safetensors: not a readable memory"):
        fakes.play(job_of(job.out, resume=True, **settings))


class Plants(Interrupted):
    """Real nodes, each with a folder for its state, or without one."""

    simulated = False

    def __init__(self, home: Path | None, kind: str = "", at: int = 0) -> None:
        super().__init__(kind, at)
        for node, context in self._contexts.items():
            if home is not None:
                folder = home / str(node)
                folder.mkdir(parents=True, exist_ok=True)
                context.node_config["state-dir"] = str(folder)

    def deliver(self, message: Message) -> Message | None:
        self.look(message)
        return self.app(message, self._contexts[message.metadata.dst_node_id])


PLANT: dict[str, Any] = {"fraction": 0.5, **REMEMBERING["ditto"], "uplink": {"bits": 2}}


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_real_node_goes_on_with_what_is_in_its_own_folder(tmp_path: Path, kind: str) -> None:
    whole, cut = job_of(tmp_path / "whole", **PLANT), job_of(tmp_path / "cut", **PLANT)
    fakes.play(whole, Plants(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        fakes.play(cut, Plants(tmp_path / "b", kind, 4))
    fakes.play(job_of(cut.out, resume=True, **PLANT), Plants(tmp_path / "b"))
    assert written(cut) == written(whole)
    assert not cut.memories.exists()
    kept = [len(list(folder.iterdir())) for folder in (tmp_path / "b").iterdir()]
    assert sorted(kept) == [0, 2, 2, 2]  # the fourth only evaluates


def test_a_real_node_without_a_folder_begins_with_nothing(tmp_path: Path) -> None:
    whole, cut = job_of(tmp_path / "whole", **PLANT), job_of(tmp_path / "cut", **PLANT)
    fakes.play(whole, Plants(None))
    with pytest.raises(KeyboardInterrupt):
        fakes.play(cut, Plants(None, "train", 4))
    fakes.play(job_of(cut.out, resume=True, **PLANT), Plants(None))
    assert written(cut)[0] != written(whole)[0]


def test_a_real_node_takes_nothing_from_one_run_to_the_next(tmp_path: Path) -> None:
    before = job_of(tmp_path / "before", **PLANT, rounds=1)
    after, alone = job_of(tmp_path / "after", **PLANT), job_of(tmp_path / "alone", **PLANT)
    seed = next(seed for seed in range(1, 9) if cohort(seed, 1) != cohort(0, 1))
    other = before.experiment.model_copy(update={"seed": seed})
    fakes.play(replace(before, experiment=other), Plants(tmp_path / "home"))
    fakes.play(after, Plants(tmp_path / "home"))
    fakes.play(alone, Plants(tmp_path / "fresh"))
    assert written(after) == written(alone)


def test_a_damaged_file_of_a_real_node_is_named(tmp_path: Path) -> None:
    job = job_of(tmp_path / "run", **REMEMBERING["ditto"])
    with pytest.raises(KeyboardInterrupt):
        fakes.play(job, Plants(tmp_path / "home", "train", 4))
    damaged = next((tmp_path / "home").rglob("memory-1-000003.safetensors"))
    damaged.write_bytes(b"?")
    with pytest.raises(FederationError, match=r"site1: memory-1-000003\.safetensors: not a read"):
        fakes.play(job_of(job.out, resume=True, **REMEMBERING["ditto"]), Plants(tmp_path / "home"))


def cohort(seed: int, number: int) -> list[Member]:
    return sample([Member(c, f"site{c}", 0) for c in range(3)], PLANT["fraction"], seed, number)


def test_a_real_node_hands_no_memory_over_and_takes_none(tmp_path: Path) -> None:
    del tmp_path
    settings = job_of(Path(), **REMEMBERING["ditto"]).experiment
    config = base_config(settings.model_dump_json(), fingerprint(*CODE), 1)
    node = {"partition-id": 1, "num-partitions": fakes.SITES}
    context = Context(1, 100, node, RecordDict(), {})
    theta = pack({"w": torch.zeros(3), "b": torch.zeros(2)})
    member = Member(1, "site1", 100)
    with flower_identity():
        trained = fakes.app(instruction(member, "train", {ARRAYS: theta}, config), context)
        told = instruction(member, "query.remember", {MEMORY: theta}, config)
        refused = fakes.app(told, context)
    assert ARRAYS in trained.content
    assert MEMORY not in trained.content
    assert config_of(refused, ERROR)["message"] == "this node takes no memory from the server"
