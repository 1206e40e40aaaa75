"""Client updates a second of four simulators on one small problem.

    make rivals
    python -m experiments.benchmarks.simulators --clients 100

Flower's plain simulation with a client an actor, bayfed in one process, bayfed with clients in
batches, and pfl-research's simulator where `make rivals` has been. What they learn is compared.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from flwr.app import ConfigRecord, Context, Message, RecordDict
from torch import Tensor

from bayfed.config import Experiment, experiment_hash, parse_experiment
from bayfed.errors import BayfedError
from clients.app import answer, trained
from clients.session import Session
from experiments.benchmarks.measure import (
    Sample,
    goal,
    print_machine,
    print_table,
    wide_console,
)
from experiments.inprocess import BatchedGrid, InProcessGrid, flower_identity
from experiments.processes import OFFLINE
from experiments.rivals import call
from experiments.rivals.small import Small, loss
from server import checkpoints, history
from server.app import serve
from server.job import Job
from strategies.task import Params
from strategies.wire import INFO

GOAL = 5.0
"""Batched clients against Flower's plain simulation, in client updates a second."""
WARMUP = 2
FLOWER = "Flower, an actor a client"


@dataclass(frozen=True)
class Batch:
    """Examples of a step."""

    inputs: Tensor
    classes: Tensor


class SmallTask:
    """The small problem as one client of bayfed sees it."""

    trains = True

    def __init__(self, problem: Small, client: int) -> None:
        self.name, self._start = f"client{client:05d}", problem.start
        inputs, classes = problem.data(client)
        size = problem.batch
        parts = zip(
            *(torch.split(torch.from_numpy(part), size) for part in (inputs, classes)), strict=True
        )
        self._batches = [Batch(*part) for part in parts]

    def initial(self) -> Params:
        """Return the parameters of round 0."""
        return {name: torch.from_numpy(value) for name, value in self._start().items()}

    def batch(self, round: int, step: int) -> Batch:  # noqa: A002
        """Return the examples of a step, the same in every round."""
        del round
        return self._batches[step]

    def loss(self, params: Params, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return their loss."""
        return loss(params, batch.inputs, batch.classes), {}


def main(
    clients: Annotated[int, typer.Option(help="Clients, all of which train in a round.")] = 100,
    steps: Annotated[int, typer.Option(help="Local steps.")] = 4,
    hidden: Annotated[int, typer.Option(help="Units of the network.")] = 32,
    rounds: Annotated[int, typer.Option(help="Rounds, two of which are not measured.")] = 12,
    sizes: Annotated[str, typer.Option(help="Clients at once, separated by commas.")] = "16,64",
    repeats: Annotated[int, typer.Option(help="Turns, in which load meets all alike.")] = 1,
) -> None:
    """Measure the four."""
    console, problem = wide_console(), Small(clients, steps, hidden=hidden, rounds=rounds)
    print_machine(console)
    batches = [int(size) for size in sizes.split(",")]
    seconds: dict[str, list[float]] = {}
    params: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name, found in _turn(problem, batches):
            seconds.setdefault(name, []).extend(found["seconds"][WARMUP:])
            params[name] = found["params"]
    rates = {name: Sample(tuple(clients / s for s in some)) for name, some in seconds.items()}
    rows = [
        (name, rate.text(0), f"{rate.median / rates[FLOWER].median:.1f}", _apart(params, name))
        for name, rate in rates.items()
    ]
    size = sum(value.size for value in problem.start().values())
    title = f"{clients} clients, {steps} local steps, {size} parameters"
    headings = ("simulator", "client updates/s", "times Flower's", "largest difference")
    print_table(console, title, headings, rows)
    best = max(rate.median for name, rate in rates.items() if "batches" in name)
    console.print(goal(best / rates[FLOWER].median, GOAL, "times", at_least=True, digits=1))


def _turn(problem: Small, sizes: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (FLOWER, _called(problem, Path(sys.executable), "flower_small")),
        ("bayfed, in one process", bayfed(problem, None)),
        *((f"bayfed, batches of {size}", bayfed(problem, size)) for size in sizes),
    ]
    if call.is_there():
        found.append(("pfl-research", _called(problem, call.PYTHON, "pfl_small")))
    return found


def _apart(params: dict[str, dict[str, Any]], name: str) -> str:
    """Return how far the learned parameters are from those of Flower, which adds in its order."""
    pairs = [(np.array(params[name][key]), np.array(v)) for key, v in params[FLOWER].items()]
    return f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}"


def bayfed(problem: Small, size: int | None) -> dict[str, Any]:
    """Return the seconds of every round and the parameters after the last."""
    asked, tasks = experiment(problem), [SmallTask(problem, c) for c in range(problem.clients)]

    def opened(session: Session) -> Any:
        return tasks[session.client]

    def app(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train":
            return answer(message, context, lambda s, m: trained(s, opened(s), m, context))
        says = ConfigRecord({"trains": True, "held_out": []})
        return answer(message, context, lambda *_: RecordDict({INFO: says}))

    names = SimpleNamespace(
        client_specs=lambda _: tasks,
        initial_parameters=lambda *_: {k: torch.from_numpy(v) for k, v in problem.start().items()},
        lr_scales=lambda _: {},
        check_settings=lambda _: None,
    )
    with tempfile.TemporaryDirectory(prefix="bayfed-benchmark-") as folder, flower_identity():
        job = Job(asked, Path(folder) / "run", measures=False)
        grid = (
            InProcessGrid(app, problem.clients)
            if size is None
            else BatchedGrid(app, problem.clients, size, opened)
        )
        serve(grid, job, names)
        last = checkpoints.latest(job.out / "checkpoints", experiment_hash(asked))
        lines = history.read(job.history)[1:]
    if last is None:
        raise BayfedError("the run left no checkpoint")
    params = {name: value.tolist() for name, value in last.theta.items()}
    return {"seconds": [line["seconds"] for line in lines], "params": params}


def experiment(problem: Small) -> Experiment:
    """Return the settings of FedAvg on the small problem."""
    server = {
        "aggregate": "parameters", "local_steps": problem.steps, "local_lr": problem.rate,
        "optimizer": "sgd", "lr": 1.0,
    }  # fmt: skip
    federation = {
        "backend": "inprocess", "rounds": problem.rounds, "episodes": problem.batch,
        "server": server,
    }  # fmt: skip
    return parse_experiment({"name": "small", "federation": federation, "method": {"rates": {}}})


def _called(problem: Small, python: Path, name: str) -> dict[str, Any]:
    """Return what another program says.

    Raises:
        BayfedError: it failed.
    """
    command = [str(python), "-W", "ignore", "-m", f"experiments.rivals.{name}"]
    environment = {**OFFLINE, "PYTHONPATH": str(call.ROOT), "OMP_NUM_THREADS": "1"}
    return call.answer_of(command, problem, name, environment)


if __name__ == "__main__":
    typer.run(main)
