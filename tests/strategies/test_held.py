from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message

from bayfed.config import Experiment, experiment_hash
from bayfed.errors import FederationError
from bayfed.evaluation.checkpoint import digest
from clients.app import app
from experiments.inprocess import InProcessGrid, flower_identity
from server import checkpoints, history
from server.job import Job
from strategies.downlink import Downlink
from strategies.held import Held, given
from strategies.task import Params
from strategies.wire import ARRAYS, CHANGE, HELD, Member, config_of, instruction, pack
from tests import fakes

OWN = {"w": torch.arange(3.0), "b": torch.zeros(2)}
A = Member(0, "a", 7, initial=digest(OWN))


class Other(fakes.ToyFactory):
    """Client 1 makes other parameters of round 0 than the server, as other hardware might."""

    def initial(self) -> Params:
        own = super().initial()
        return own | {"w": own["w"] + 1e-7} if self.client == 1 else own


class Watched(InProcessGrid):
    """Counts what the messages to each client carry, by their kind."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__(app, fakes.SITES)
        self.seen: Counter[tuple[int, str, str]] = Counter()
        self.wrong = wrong

    def deliver(self, message: Message) -> Message | None:
        client = int(str(config_of(message)["client"]))
        for key in {ARRAYS, HELD, CHANGE} & message.content.keys():
            self.seen[client, message.metadata.message_type, key] += 1
        if self.wrong and HELD in message.content:
            message.content[HELD] = named(self.wrong)
        return super().deliver(message)

    def of(self, client: int, key: str) -> int:
        return sum(n for (c, _, k), n in self.seen.items() if (c, k) == (client, key))


def named(digest_: str) -> ArrayRecord:
    return pack({"sha256": torch.tensor(list(bytes.fromhex(digest_)), dtype=torch.uint8)})


def played(
    folder: Path,
    grid: InProcessGrid | None = None,
    experiment: Experiment | None = None,
    **job: Path,
) -> tuple[Params, list[dict[str, object]]]:
    asked = Job(experiment or of(), folder, **job)
    fakes.play(asked, grid)
    last = checkpoints.latest(folder / "checkpoints", experiment_hash(asked.experiment))
    assert last is not None
    return last.theta, history.read(asked.history)


def of(bits: int = 4) -> Experiment:
    return fakes.experiment(downlink={"bits": bits})


def test_who_makes_the_first_parameters_itself_is_not_sent_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    grid = Watched()
    played(tmp_path, grid)
    assert grid.seen[0, "train", HELD] == 1
    assert grid.seen[0, "train", CHANGE] == 3
    assert grid.seen[0, "train", ARRAYS] == 0
    # Evaluations after rounds 0, 2 and 4, two calibrations each: new parameters are sent once.
    assert grid.of(0, ARRAYS) == grid.seen[0, "query.calibrate", ARRAYS] == 2
    assert grid.seen[0, "evaluate", HELD] == 3
    # Site 3 does not train, and is calibrated with nobody.
    assert (grid.seen[3, "evaluate", HELD], grid.seen[3, "evaluate", ARRAYS]) == (1, 2)


def test_with_all_bits_everything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    grid = Watched()
    played(tmp_path, grid, of(32))
    assert grid.of(0, HELD) == 0
    assert grid.of(0, ARRAYS) == 4 + 3 * 3


def test_who_makes_others_is_sent_them_once_and_the_run_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    same, lines = played(tmp_path / "same")
    fakes.install(monkeypatch, Other)
    grid = Watched()
    found, others = played(tmp_path / "other", grid)
    assert grid.seen[1, "query.calibrate", ARRAYS] == 3
    assert grid.seen[1, "train", HELD] == 1  # those that it was calibrated with
    assert all(torch.equal(found[name], same[name]) for name in same)
    assert [line["loss"] for line in others] == [line["loss"] for line in lines]


def test_a_run_from_a_checkpoint_starts_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    first, _ = played(tmp_path / "first")
    start, grid = checkpoints.path_of(tmp_path / "first" / "checkpoints", 4), Watched()
    played(tmp_path / "second", grid, start=start)
    assert grid.seen[0, "query.calibrate", ARRAYS] == 3
    assert grid.seen[0, "train", HELD] == 1
    snapshot = checkpoints.read(
        tmp_path / "second" / "checkpoints" / "round-00000.safetensors", None
    )
    assert all(torch.equal(snapshot.theta[name], first[name]) for name in first)


def test_who_was_never_evaluated_is_sent_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch, Other)
    grid = Watched()
    job = Job(of(), tmp_path, measures=False)
    fakes.play(job, grid)
    assert (grid.seen[0, "train", HELD], grid.seen[0, "train", ARRAYS]) == (1, 0)
    assert (grid.seen[1, "train", HELD], grid.seen[1, "train", ARRAYS]) == (0, 1)


def test_a_server_that_names_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    with pytest.raises(FederationError, match="names by their digest are not here"):
        played(tmp_path, Watched(wrong="00" * 32))


@pytest.mark.parametrize("wrong", [b"", b"\x00"])
def test_a_digest_that_is_none_is_refused(wrong: bytes) -> None:
    with flower_identity():
        message = instruction(A, "train", {HELD: named(wrong.hex())}, ConfigRecord({}))
    with pytest.raises(FederationError, match="are not here"):
        given(message, {}, lambda: OWN)


def test_nothing_is_made_where_it_was_kept() -> None:
    def fail() -> Params:
        raise AssertionError

    with flower_identity():
        message = instruction(A, "train", {HELD: named(digest(OWN))}, ConfigRecord({}))
    assert given(message, OWN, fail) is OWN


def test_a_node_that_starts_anew_holds_nothing_but_what_it_tells() -> None:
    held, later = Held(), pack({name: value + 1 for name, value in OWN.items()})
    assert set(held.records(A, pack(OWN))) == {HELD}
    assert set(held.records(replace(A, initial="x" * 64), pack(OWN))) == {ARRAYS}
    held.answered([A], later)
    assert set(held.records(A, later)) == {HELD}
    assert set(held.records(replace(A, node=8), later)) == {ARRAYS}
    assert set(held.records(A, pack({"w": torch.ones(1)}))) == {ARRAYS}


def test_a_node_that_starts_anew_is_sent_no_change() -> None:
    server = Downlink(8)
    for number, node, expected in ((1, 7, HELD), (2, 7, CHANGE), (3, 8, ARRAYS), (4, 8, CHANGE)):
        value = server.prepare({name: v * number for name, v in OWN.items()}, number)
        assert set(server.records(replace(A, node=node), pack(value))) == {expected}
        server.answered({"a"})


@pytest.mark.parametrize(
    ("bits", "told"), [(32, ""), (8, digest(fakes.ToyFactory(0, 0, 1).initial()))]
)
def test_only_who_is_to_be_spared_tells_what_it_makes(
    bits: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch)
    found: list[str] = []

    class Describes(Watched):
        def deliver(self, message: Message) -> Message | None:
            reply = super().deliver(message)
            if reply is not None and message.metadata.message_type == "query.describe":
                found.append(str(config_of(reply, "info").get("initial", "")))
            return reply

    played(tmp_path, Describes(), of(bits))
    assert set(found) == {told}
