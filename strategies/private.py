"""Parameters that stay at the client, around any algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bayfed.errors import ConfigError
from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.outer import split
from strategies.task import LocalTask, Params

OWN, BASE = "private/", "base/"


@dataclass(frozen=True)
class Private(Algorithm):
    r"""Each client keeps values of its own for some parameters; only the others are averaged.

    .. math:: p_c \leftarrow p_c - \rho\, g_c^{(p)}, \quad g_c^{(p)} \text{ is not sent}

    :math:`p_c` are the client's private parameters, which start from the first that it was sent;
    :math:`g_c^{(p)}` is their part of the update. With private normalisation this is FedBN, with a
    private head FedPer, with a private body LG-FedAvg.

    Sources: Li et al., FedBN, 2021, Algorithm 1; Arivazhagan et al., Federated Learning with
    Personalization Layers, 2019, Algorithms 1 and 2; Liang et al., Think Locally, Act Globally,
    2020, Algorithm 1.

    Attributes:
        base: What is done with the parameters.
        prefixes: Of the names of the private ones.
        rate: rho, 1 where an update is theta - theta_c, a learning rate where it is a gradient.
    """

    base: Algorithm
    prefixes: Sequence[str]
    rate: float = 1.0

    def start(self, theta: Params) -> Params:
        """Return what the base starts from.

        Raises:
            ConfigError: a prefix is that of no parameter.
        """
        for prefix in self.prefixes:
            if not any(name.startswith(prefix) for name in theta):
                known = ", ".join(sorted({name.split(".")[0] for name in theta}))
                raise ConfigError(
                    f"federation.algorithm.prefixes: no parameter is called {prefix!r}; "
                    f"their names begin with {known}"
                )
        return self.base.start(theta)

    def send(self, theta: Params, memory: Params, client: str) -> Sent:
        """Return what the base sends."""
        return self.base.send(theta, memory, client)

    def extras(self, theta: Params) -> Params:
        """Return those of the base."""
        return self.base.extras(theta)

    def personal(self, theta: Params, memory: Params) -> Params:
        """Return the shared parameters with the client's own."""
        own, _ = split(memory, OWN)
        return theta | own

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return the base's reply with 0 for private parameters, and remember these."""
        own, rest = split(memory, OWN)
        kept, _ = split(rest, BASE)
        theta = sent.theta | own
        reply, kept = self.base.client(task, replace(sent, theta=theta), kept, number)
        private = [name for name in theta if name.startswith(tuple(self.prefixes))]
        after = {f"{BASE}{name}": tensor for name, tensor in kept.items()}
        for name in private:
            after[f"{OWN}{name}"] = theta[name] - self.rate * reply.tensors[name]
        shared = reply.tensors | {name: torch.zeros_like(theta[name]) for name in private}
        return replace(reply, tensors=shared), after

    def server(self, received: Received, memory: Params) -> tuple[Params, Params]:
        """Return what the base makes of the shared parameters."""
        return self.base.server(received, memory)
