"""The small problem in Flower's plain simulation: its Ray backend, one client an actor.

python -m experiments.rivals.flower_small PROBLEM ANSWER
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from experiments.rivals.small import Small, network

PROBLEM = "BAYFED_SMALL_PROBLEM"
client = ClientApp()


@lru_cache(maxsize=1)
def _problem() -> Small:
    torch.set_num_threads(1)
    return Small.read(Path(os.environ[PROBLEM]))


@lru_cache(maxsize=4096)
def _data(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, classes = _problem().data(number)
    return torch.from_numpy(inputs), torch.from_numpy(classes)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Take the local steps of a round, as Flower's own examples do."""
    problem = _problem()
    inputs, classes = _data(int(context.node_config["partition-id"]))
    model = network(problem.hidden)
    arrays: Any = message.content["arrays"]
    model.load_state_dict(arrays.to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.rate)
    for part in zip(*(torch.split(x, problem.batch) for x in (inputs, classes)), strict=True):
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(model(part[0]), part[1])
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(inputs), "loss": float(value.detach())})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


class Timed(FedAvg):
    """FedAvg that notes when each round ended."""

    ended: list[float]

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Average the replies."""
        found = super().aggregate_train(server_round, replies)
        self.ended.append(time.perf_counter())
        return found


def main(problem: Path, answer: Path) -> None:
    """Run it, and write the seconds of every round but the first, and the parameters."""
    os.environ[PROBLEM] = str(problem)
    small, server = Small.read(problem), ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        del context
        strategy = Timed(fraction_evaluate=0.0, min_available_nodes=small.clients)
        strategy.ended = []
        start = ArrayRecord({k: torch.from_numpy(v) for k, v in small.start().items()})
        result = strategy.start(grid, start, small.rounds)
        params = {k: v.tolist() for k, v in result.arrays.to_torch_state_dict().items()}
        seconds = [b - a for a, b in pairwise(strategy.ended)]
        answer.write_text(json.dumps({"seconds": seconds, "params": params}), encoding="utf-8")

    one: dict[str, Any] = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, client, small.clients, backend_config=one)


if __name__ == "__main__":
    # By its name, which an actor can import, where `__main__` is another module.
    from experiments.rivals import flower_small

    flower_small.main(Path(sys.argv[1]), Path(sys.argv[2]))
