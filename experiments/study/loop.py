"""An algorithm's two halves over tasks in this process, without Flower."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bayfed.seeds import stream
from strategies.algorithm import Algorithm, Received, Reply, Sent
from strategies.outer import Iterate, Outer
from strategies.rules import Rule, weighted_mean
from strategies.spread import spread
from strategies.task import LocalTask, Params, norm


class Exact(Protocol):
    """An objective whose value and gradient are known."""

    def value(self, theta: Params) -> float:
        """Return F."""

    def gradient(self, theta: Params) -> Params:
        """Return its gradient."""


@dataclass(frozen=True)
class Point:
    r"""What was seen in a round, before its step.

    Attributes:
        round: Its number, the first being 1.
        theta: :math:`\theta`, from which it started.
        value: F there.
        slope: :math:`\lVert \nabla F \rVert^2` there.
        step: :math:`\lVert g \rVert`, the norm of the pseudo-gradient.
        drift: :math:`\operatorname{mean}_c \lVert g_c - \bar g \rVert^2` over the updates.
        cosine: The mean cosine between two clients' updates; nan for one client.
        loss: The mean of what the clients reported.
    """

    round: int
    theta: Params
    value: float
    slope: float
    step: float
    drift: float
    cosine: float
    loss: float


@dataclass(frozen=True)
class Course:
    """A run.

    Attributes:
        points: One a round, or of every n-th.
        theta: Where it ended.
        memories: What each client remembers.
        memory: What the server remembers.
        diverged: Whether it was stopped because F was no number or beyond the bound.
    """

    points: list[Point]
    theta: Params
    memories: dict[str, Params] = field(default_factory=dict)
    memory: Params = field(default_factory=dict)
    diverged: bool = False


def run(
    algorithm: Algorithm, outer: Outer, tasks: Mapping[str, LocalTask], theta: Params, rounds: int,
    exact: Exact, *, fraction: float = 1.0, seed: int = 0, rule: Rule = weighted_mean,
    steps: Mapping[str, int] | None = None, bound: float = 1e12,
    until: Callable[[Point], bool] | None = None, every: int = 1,
) -> Course:  # fmt: skip
    """Return the course of ``algorithm`` over ``tasks``; equal arguments give equal bits.

    Args:
        algorithm: Its two halves.
        outer: The server's step.
        tasks: By the client's name.
        theta: Where it starts.
        rounds: At most so many.
        exact: F.
        fraction: Of the clients, sampled each round.
        seed: Of the sampling.
        rule: From updates to one.
        steps: Local steps of single clients.
        bound: Of F, beyond which a run counts as diverged.
        until: Ends a run early, at a point.
        every: F is looked at in every n-th round, the first being one of them.
    """
    at, memory = outer.start(theta), algorithm.start(theta)
    memories: dict[str, Params] = {name: {} for name in tasks}
    points: list[Point] = []
    for number in range(1, rounds + 1):
        looked = (number - 1) % every == 0
        value = exact.value(at.value) if looked else math.nan
        if looked and not (math.isfinite(value) and value <= bound):
            return Course(points, at.value, memories, memory, diverged=True)
        replies: dict[str, Reply] = {}
        for name in _sampled(list(tasks), fraction, seed, number):
            sent = algorithm.send(at.value, memory, name)
            sent = Sent(sent.theta, sent.extras, (steps or {}).get(name, sent.steps))
            reply = algorithm.client(tasks[name], sent, memories[name], number)
            replies[name], memories[name] = reply
        received = Received(number, replies, len(tasks), rule, steps or {})
        pseudo, memory = algorithm.server(received, memory)
        if looked:
            points.append(_point(at, value, pseudo, received, exact))
        at = outer.step(at, pseudo)
        if looked and until is not None and until(points[-1]):
            break
    diverged = not math.isfinite(exact.value(at.value))
    return Course(points, at.value, memories, memory, diverged)


def _point(at: Iterate, value: float, pseudo: Params, received: Received, exact: Exact) -> Point:
    drift, cosine = spread([reply.tensors for reply in received.replies.values()])
    losses = [reply.metrics["loss"] for reply in received.replies.values()]
    pairs = zip(received.weights, losses, strict=True)
    loss = sum(weight * loss for weight, loss in pairs) / sum(received.weights)
    slope = norm(exact.gradient(at.value)) ** 2
    step = norm(pseudo)
    return Point(received.number, at.value, value, slope, step, drift, cosine, loss)


def _sampled(names: list[str], fraction: float, seed: int, number: int) -> list[str]:
    if fraction == 1:
        return names
    size = max(1, round(fraction * len(names)))
    chosen = stream(seed, "study", "cohort", number).choice(len(names), size, replace=False)
    return [names[i] for i in sorted(chosen.tolist())]
