"""A federated algorithm as a pair: what a client does in a round, and what the server makes of it.

Neither half knows Flower: a Flower app, a study and a test run the same two functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strategies.rules import Rule, weighted_mean
from strategies.task import LocalTask, Params


@dataclass(frozen=True)
class Sent:
    """What a client is sent.

    Attributes:
        theta: The meta-parameters it starts from.
        extras: Further tensors of the algorithm.
        steps: Local steps asked of this client; None = those of the settings.
    """

    theta: Params
    extras: Params = field(default_factory=dict)
    steps: int | None = None


@dataclass(frozen=True)
class Reply:
    """What a client returns.

    Attributes:
        tensors: Its update g_c, a gradient or theta - theta_c.
        weight: n_c, in episodes.
        metrics: The means over its local steps.
        extras: Further tensors of the algorithm.
    """

    tensors: Params
    weight: float
    metrics: dict[str, float]
    extras: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """The replies of a round in the order in which they are added.

    Attributes:
        number: Of the round, the first being 1.
        replies: By the name of the client.
        clients: How many there are, sampled or not.
        rule: From updates and weights to one update.
        steps: Local steps that were asked of single clients; the others took those of the settings.
    """

    number: int
    replies: Mapping[str, Reply]
    clients: int
    rule: Rule = weighted_mean
    steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def weights(self) -> list[float]:
        """The weights n_c."""
        return [reply.weight for reply in self.replies.values()]

    def together(self, updates: Sequence[Params]) -> Params:
        """Return what the rule makes of ``updates``, one of each reply."""
        return self.rule(updates, self.weights)


class Algorithm(ABC):
    r"""The two halves of a federated algorithm, and what each remembers as named tensors.

    .. math:: (g_c, m_c) \leftarrow \mathrm{client}(f_c, \theta, m_c), \quad
              (g, m) \leftarrow \mathrm{server}(g_1 \ldots g_n, m), \quad
              \theta \leftarrow \mathrm{outer}(\theta, g)

    :math:`f_c` is the task of client c, :math:`m_c` and :math:`m` what the client and the server
    remember; the outer step is an :class:`~strategies.outer.Outer`, which sees g as a gradient.
    Without a server half of its own an algorithm takes what the rule makes of the updates.
    """

    @abstractmethod
    def client(
        self, task: LocalTask, sent: Sent, memory: Params, number: int
    ) -> tuple[Reply, Params]:
        """Return a client's reply, and what it remembers from now on.

        Args:
            task: The client's learning problem.
            sent: From the server.
            memory: What this returned the last time; {} at first.
            number: Of the round.
        """

    def start(self, theta: Params) -> Params:  # noqa: ARG002
        """Return what the server remembers before the first round."""
        return {}

    def send(self, theta: Params, memory: Params, client: str) -> Sent:  # noqa: ARG002
        """Return what ``client`` is sent."""
        return Sent(theta)

    def extras(self, theta: Params) -> Params:  # noqa: ARG002
        """Return tensors of the names, shapes and types that the extras of a reply must have."""
        return {}

    def personal(self, theta: Params, memory: Params) -> Params:  # noqa: ARG002
        """Return what a client that remembers ``memory`` works with when it is sent ``theta``."""
        return theta

    def server(self, received: Received, memory: Params) -> tuple[Params, Params]:
        """Return the pseudo-gradient, and what the server remembers from now on."""
        return received.together([r.tensors for r in received.replies.values()]), memory
