"""The apps on nodes with a folder each, in this process: only the transport is not Flower's."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message

from bayfed.config import Data, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import BayfedError
from bayfed.evaluation.admission import training_of
from bayfed.evaluation.table import read_rows
from clients import factory as problem
from clients.app import app
from experiments.inprocess import InProcessGrid, flower_identity
from server.app import serve
from server.job import Job
from tests import toys

BOLT, FABRIC, METAL = "bolt_00", "fabric_00", "metal_00"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("clients.session._open", OrderedDict())
    with flower_identity():
        yield


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders, each of one product."""
    root = tmp_path_factory.mktemp("sites")
    settings = Synthetic(products=3, size=32, train_good=8, test_good=3, per_defect=1)
    for site in load_sites(Data(synthetic=settings), seed=0):
        write_sites([site], root / site.name)
    return root


class Nodes(InProcessGrid):
    """Nodes that know nothing but their own folder."""

    simulated = False

    def __init__(self, folders: list[Path], store: Path) -> None:
        super().__init__(app, len(folders))
        for context, folder in zip(self._contexts.values(), folders, strict=True):
            context.node_config |= {"data-dir": str(folder), "store-dir": str(store)}

    def deliver(self, message: Message) -> Message | None:
        return self.app(message, self._contexts[message.metadata.dst_node_id])


def play(folders: list[Path], out: Path, holdout: list[str]) -> Job:
    experiment = toys.experiment(
        data={"source": "folders", "root": "/server", "pasted": {"per_site": 4}},
        protocol={"name": "new-product", "holdout": holdout},
        federation={"rounds": 1},
    )
    job = Job(experiment, out / "run")
    serve(Nodes(folders, out / "store"), job, problem)
    return job


def trained(job: Job) -> set[str]:
    last = json.loads(job.history.read_text().splitlines()[-1])
    return {client["name"] for client in last["clients"]}


def scored(job: Job) -> set[str]:
    return {row.site for row in read_rows(job.results)}


def test_a_node_whose_site_is_held_out_only_evaluates(sites: Path, tmp_path: Path) -> None:
    job = play([sites / BOLT, sites / FABRIC, sites / METAL], tmp_path, [FABRIC])
    assert trained(job) == {BOLT, METAL}
    assert scored(job) == {FABRIC}
    assert set(training_of(job.out, job.experiment).sites) == {BOLT, METAL}


def test_a_node_with_a_held_out_site_trains_on_its_others(sites: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for name in (BOLT, FABRIC):
        shutil.copytree(sites / name, both, dirs_exist_ok=True)
    job = play([both, sites / METAL], tmp_path, [FABRIC])
    assert trained(job) == {BOLT, METAL}
    assert scored(job) == {FABRIC}


@pytest.mark.parametrize(
    ("holdout", "reason"),
    [
        (["fabrik_00"], "protocol.holdout: nobody has a site or family called 'fabrik_00'"),
        ([BOLT, METAL], "protocol.holdout: no site is left to train on"),
    ],
)
def test_what_no_node_can_see_the_server_checks(
    sites: Path, tmp_path: Path, holdout: list[str], reason: str
) -> None:
    with pytest.raises(BayfedError, match=f"^{reason}$"):
        play([sites / BOLT, sites / METAL], tmp_path, holdout)


def test_nodes_make_the_first_parameters_themselves(sites: Path, tmp_path: Path) -> None:
    experiment = toys.experiment(
        data={"source": "folders", "root": "/server", "pasted": {"per_site": 4}},
        federation={"rounds": 1, "downlink": {"bits": 8}},
    )
    job = Job(experiment, tmp_path / "run", measures=False)
    serve(Nodes([sites / BOLT, sites / METAL], tmp_path / "store"), job, problem)
    last = json.loads(job.history.read_text().splitlines()[-1])
    assert last["replies"] == 2
    assert last["bytes_down"] < 2 * 200 < last["bytes_up"]


def test_a_node_says_with_how_many_threads_it_computes(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("clients.session.torch.set_num_threads", asked.append)
    nodes = Nodes([sites / BOLT, sites / FABRIC], tmp_path / "store")
    for context, threads in zip(nodes._contexts.values(), (3, -1), strict=True):
        context.node_config["threads"] = threads
    experiment = toys.experiment(
        data={"source": "folders", "root": "/server", "pasted": {"per_site": 4}},
        federation={"rounds": 0},
    )
    serve(nodes, Job(experiment, tmp_path / "run"), problem)
    assert set(asked) == {3, 1}
