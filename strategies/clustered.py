"""Clustered federation: factories that are alike average among themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from bayfed.evaluation.checkpoint import added, flat, nested
from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.averaging import Average, Averaging
from strategies.local import minus, plus, zeros
from strategies.task import LocalTask, Params

OF, OFFSET = "of", "offset"
Metric = Literal["cosine", "euclidean"]


def clusters(vectors: Mapping[str, Params], number: int, metric: Metric) -> dict[str, int]:
    """Return the cluster of each client, by average linkage, counted from 0 in order of names.

    Args:
        vectors: What is to be alike: updates, or sufficient statistics.
        number: Of clusters, at most.
        metric: Directions are compared, or values.

    >>> ways = {"a": [1.0, 0.1], "b": [-1.0, 0.0], "c": [2.0, 0.0]}
    >>> clusters({k: {"w": torch.tensor(v)} for k, v in ways.items()}, 2, "cosine")
    {'a': 0, 'b': 1, 'c': 0}
    """
    names = sorted(vectors)
    if len(names) < 2:
        return dict.fromkeys(names, 0)
    rows = [torch.cat([t.double().flatten() for t in vectors[name].values()]) for name in names]
    matrix = torch.stack(rows).cpu().numpy()
    if metric == "cosine":  # a client that stands still is like no other
        matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-300)
        metric = "euclidean"
    found = fcluster(linkage(matrix, "average", metric), number, "maxclust").tolist()
    order = {label: i for i, label in enumerate(dict.fromkeys(found))}
    return {name: order[label] for name, label in zip(names, found, strict=True)}


@dataclass(frozen=True)
class Clustered(Algorithm):
    r"""FedAvg for some rounds; then clients are clustered once, and each cluster goes on alone.

    .. math:: \theta_k = \theta + \delta_k, \quad \delta_k \leftarrow \delta_k - \eta (g_k - g)

    g is what the rule makes of all updates, :math:`g_k` of those of cluster k. With plain SGD of
    rate :math:`\eta` as the outer step, :math:`\theta_k` takes the step :math:`-\eta g_k`;
    :math:`\theta` remains the mean for products that took no part, and for clients that did not
    answer when the clusters were formed.

    Source: Briggs et al., Federated Learning with Hierarchical Clustering of Local Updates, 2020,
    Algorithm 1.

    Attributes:
        settings: Of the clients' updates.
        number: Of clusters, at most.
        after: The round whose updates they are formed by.
        rate: eta, the outer step's rate.
        metric: Of the updates.
        known: The cluster of each client where it is known, as from sufficient statistics.
    """

    settings: Averaging
    number: int = 2
    after: int = 1
    rate: float = 1.0
    metric: Metric = "cosine"
    known: Mapping[str, int] | None = None

    def start(self, theta: Params) -> Params:
        """Return the clusters that are known."""
        return self._founded(self.known, theta) if self.known else {}

    def send(self, theta: Params, memory: Params, client: str) -> Sent:
        """Return the meta-parameters of the client's cluster."""
        of = nested(memory).get(OF, {})
        if client not in of:
            return Sent(theta)
        return Sent(added(theta, nested(nested(memory)[OFFSET])[str(int(of[client]))]))

    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return the update of FedAvg."""
        return Average(self.settings).client(task, sent, memory, number)

    def server(self, received: Received, memory: Params) -> tuple[Params, Params]:
        """Return the step of the mean, and remember that of each cluster."""
        updates = {name: reply.tensors for name, reply in received.replies.items()}
        mean, _ = super().server(received, memory)
        if not memory and received.number >= self.after:
            memory = self._founded(clusters(updates, self.number, self.metric), mean)
            return mean, self._moved(received, memory, mean)
        return mean, self._moved(received, memory, mean) if memory else memory

    def _founded(self, of: Mapping[str, int], like: Params) -> Params:
        numbers = {client: torch.tensor(cluster) for client, cluster in of.items()}
        offsets = flat({str(cluster): zeros(like) for cluster in sorted(set(of.values()))})
        return flat({OF: numbers, OFFSET: offsets})

    def _moved(self, received: Received, memory: Params, mean: Params) -> Params:
        parts = nested(memory)
        offsets = nested(parts[OFFSET])
        for cluster, offset in offsets.items():
            own = {
                name: reply
                for name, reply in received.replies.items()
                if name in parts[OF] and str(int(parts[OF][name])) == cluster
            }
            # Who was not heard stays where it is, while theta moves.
            step = zeros(mean)
            if own:
                heard = replace(received, replies=own)
                step = heard.together([reply.tensors for reply in own.values()])
            offsets[cluster] = plus(offset, minus(step, mean), -self.rate)
        return flat({OF: parts[OF], OFFSET: flat(offsets)})
