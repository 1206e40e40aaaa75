"""The small problem in pfl-research's simulator, in the environment of `make rivals`.

python -m experiments.rivals.pfl_small PROBLEM ANSWER
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from experiments.rivals.small import Small, network


def run(problem: Small) -> dict[str, Any]:
    """Return the seconds of every round and the parameters after the last."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(problem.hidden)

        def loss(self, inputs: Any, classes: Any, **_: Any) -> Any:
            return torch.nn.functional.cross_entropy(self.network(inputs), classes.long())

        def metrics(self, inputs: Any, classes: Any, **_: Any) -> Any:
            return {"loss": Weighted(float(self.loss(inputs, classes)), 1)}

    ended = [time.perf_counter()]

    class Clock(TrainingProcessCallback):  # type: ignore[misc]
        def after_central_iteration(self, *_: Any, **__: Any) -> tuple[bool, Any]:
            ended.append(time.perf_counter())
            return False, Metrics()

    data = {str(client): list(problem.data(client)) for client in range(problem.clients)}
    users = FederatedDataset.from_slices(data, get_user_sampler("minimize_reuse", list(data)))
    module = Model()
    module.network.load_state_dict({k: torch.tensor(v) for k, v in problem.start().items()})
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(problem.rounds, 10**9, problem.clients, None),
        SimulatedBackend(users, users),
        model,
        NNTrainHyperParams(
            local_batch_size=problem.batch, local_num_epochs=1, local_learning_rate=problem.rate
        ),
        NNEvalHyperParams(local_batch_size=None),
        [Clock()],
        send_metrics_to_platform=False,
    )
    state = {k: v.tolist() for k, v in module.network.state_dict().items()}
    return {"seconds": [b - a for a, b in pairwise(ended)], "params": state}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = run(Small.read(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
