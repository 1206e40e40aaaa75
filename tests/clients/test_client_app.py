from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from bayfed.config import Data
from bayfed.fingerprint import fingerprint
from clients import session
from clients.app import app
from clients.local import in_process
from experiments.inprocess import flower_identity
from strategies.wire import (
    ARRAYS,
    CALIBRATION,
    CODE,
    CONFIG,
    ERROR,
    INFO,
    WEIGHT,
    arrays_of,
    metrics_of,
    pack,
    unpack,
)
from tests import fakes

THETA = {"w": torch.zeros(3), "b": torch.zeros(2)}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fakes.install(monkeypatch)
    with flower_identity():
        yield


def context(**node_config: Any) -> Context:
    config = {"partition-id": 1, "num-partitions": 4, **node_config}
    return Context(1, 7, config, RecordDict(), {})


def ask(
    kind: str, arrays: dict[str, ArrayRecord] | None = None, real: bool = False, **config: Any
) -> RecordDict:
    standard = {
        "experiment": fakes.experiment().model_dump_json(),
        "fingerprint": fingerprint(*CODE),
        "round": 1,
        "client": 1,
    }
    content = RecordDict({CONFIG: ConfigRecord({**standard, **config}), **(arrays or {})})
    message = Message(content, 7, kind)
    if real:
        return app(message, context()).content
    with in_process():
        return app(message, context()).content


def error(content: RecordDict) -> str:
    record = content.config_records[ERROR]
    assert not content.array_records
    return f"{record['name']}: {record['message']}"


def test_a_train_reply_holds_named_tensors_and_numbers() -> None:
    content = ask("train", {ARRAYS: pack(THETA)})
    with flower_identity():
        reply = Message(content, 7, "train")
    assert {k: v.shape for k, v in arrays_of(reply).items()} == {"w": (3,), "b": (2,)}
    metrics = metrics_of(reply)
    assert metrics[WEIGHT] == 8
    assert metrics["partition"] == 1
    expected = float(torch.cat(list(arrays_of(reply).values())).norm())
    assert metrics["update_norm"] == pytest.approx(expected, rel=1e-5)
    assert content[INFO]["name"] == "site1"


def test_the_same_message_gives_the_same_reply() -> None:
    first, second = (ask("train", {ARRAYS: pack(THETA)})[ARRAYS] for _ in range(2))
    assert first == second
    other = ask("train", {ARRAYS: pack(THETA)}, round=2)[ARRAYS]
    assert first != other


def test_an_evaluate_reply_holds_rows_and_no_tensor() -> None:
    bins = pack({"bins": torch.ones(5, dtype=torch.int64)})
    content = ask("evaluate", {ARRAYS: pack(THETA), CALIBRATION: bins})
    rows = json.loads(str(content[INFO]["rows"]))
    assert [row["draw"] for row in rows] == [0, 1]
    assert not content.array_records


def test_queries_reply_with_sums() -> None:
    assert unpack(ask("query.statistics")[ARRAYS]).keys() == {"n", "sum"}
    stage = ask("query.calibrate", {ARRAYS: pack(THETA)})[ARRAYS]
    assert unpack(stage).keys() == {"sum", "count"}
    second = ask("query.calibrate", {ARRAYS: pack(THETA), CALIBRATION: stage})[ARRAYS]
    assert unpack(second).keys() == {"bins"}
    described = ask("query.describe")[INFO]
    assert described["trains"] is True
    assert described["partitions"] == 4
    assert json.loads(str(described["describe"]))["train_good"] == 10


def test_a_simulated_node_plays_the_client_that_is_asked_for() -> None:
    assert ask("query.describe", client=2)[INFO]["name"] == "site2"


def test_a_real_node_is_itself() -> None:
    assert ask("query.describe", real=True, client=-1)[INFO]["name"] == "site1"
    assert "this node is client 1" in error(ask("query.describe", real=True, client=2))


def test_other_code_is_refused() -> None:
    assert "code differs" in error(ask("train", fingerprint="0" * 64))
    assert "the server none" in error(ask("train", fingerprint=5))


def test_a_client_that_raises_says_who_it_is_and_why() -> None:
    broken = fakes.experiment().model_copy(update={"name": "unreadable-1"})
    reply = ask("query.describe", experiment=broken.model_dump_json())
    assert error(reply) == "client 1: site1/broken.png: cannot be read"


def test_an_error_of_the_program_is_one_line_with_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("two\nlines")

    ask("query.describe")
    monkeypatch.setattr(fakes.ToyFactory, "loss", fail)
    assert error(ask("train", {ARRAYS: pack(THETA)})) == "site1: ValueError: two lines"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"experiment": '{"nonsense": 1}'}, "not valid at 'nonsense'"),
        ({"experiment": "no json"}, "not valid"),
        ({"experiment": 3}, "no experiment"),
        ({"experiment": "x" * (1 << 21)}, "no experiment"),
        ({"round": -1}, "no round"),
        ({"round": "1"}, "no round"),
    ],
)
def test_a_malformed_message_is_refused(config: dict[str, Any], reason: str) -> None:
    assert reason in error(ask("train", {ARRAYS: pack(THETA)}, **config))


def test_a_path_named_by_the_server_is_refused_by_a_real_node() -> None:
    data = {"data": {"source": "folders", "root": "/etc"}}
    text = json.dumps({**fakes.experiment().model_dump(mode="json"), **data})
    assert "data.root" in error(ask("query.describe", real=True, experiment=text))


def test_a_factory_is_opened_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "KEPT", 2)
    opened: list[int] = []
    original = fakes.ToyFactory.open

    def count(experiment: Any, partition: int) -> Any:
        opened.append(partition)
        return original(experiment, partition)

    monkeypatch.setattr(fakes.ToyFactory, "open", count)
    for client in (0, 0, 1, 0, 2, 0, 1):
        ask("query.describe", client=client)
    assert opened == [0, 1, 2, 1]
    assert len(session._open) == 2


def test_a_node_without_a_number_says_so() -> None:
    message = Message(RecordDict({CONFIG: ConfigRecord({"client": -1})}), 7, "train")
    content = app(message, Context(1, 7, {}, RecordDict(), {})).content
    assert content.config_records[ERROR]["name"] == "node 7"


@pytest.mark.parametrize("real", [True, False])
def test_a_plant_reads_itself_why_it_has_not_answered(
    caplog: pytest.LogCaptureFixture, real: bool
) -> None:
    ask("train", real=real, fingerprint="other")
    assert ("code differs" in caplog.text) == real


def test_a_failure_does_not_tell_where_a_node_keeps_its_files(tmp_path: Path) -> None:
    data = Data(source="folders", root=Path("sites"))
    asked = fakes.experiment().model_copy(update={"data": data})
    config = ConfigRecord(
        {
            "experiment": asked.model_dump_json(),
            "fingerprint": fingerprint(*CODE),
            "round": 1,
            "client": 1,
        }
    )
    message = Message(RecordDict({CONFIG: config}), 7, "query.describe")
    gone = tmp_path / "gone"
    said = str(app(message, context(**{"data-dir": str(gone)})).content[ERROR]["message"])
    assert "data-dir" in said
    assert str(tmp_path) not in said
