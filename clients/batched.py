"""Clients of one simulation that train together: their losses are computed under one vmap."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict

from bayfed.config import Experiment
from bayfed.data.turned import Poses
from bayfed.episodes.episode import EpisodeBatch
from bayfed.errors import ConfigError, one_line
from bayfed.features import Encoder
from bayfed.methods import TrainableMethod
from clients.app import Asked, answer, leaving, received
from clients.session import Session, read
from strategies.algorithm import Reply, Sent
from strategies.averaging import Average, Averaging
from strategies.build import algorithm_of
from strategies.task import Params
from strategies.together import together

Opened = Callable[[Session], Any]
"""Gives the learning problem of a session's client."""


@dataclass
class _Turn:
    """One client's part of a round, as far as it has come."""

    message: Message
    context: Context
    asked: Asked | None = None
    task: Any = None
    update: Reply | None = None
    error: Exception | None = None
    seconds: float = 0.0

    def begin(self, opened: Opened) -> None:
        """Do what comes before the update."""
        started = time.perf_counter()
        try:
            session = read(self.message, self.context)
            self.task = opened(session)
            self.asked = received(session, self.message, self.context, self.task.initial)
        except Exception as error:
            self.error = error
        self.seconds += time.perf_counter() - started

    def end(self) -> Message:
        """Do what comes after it."""
        return answer(self.message, self.context, self._content, self.seconds)

    def _content(self, session: Session, message: Message) -> RecordDict:
        del session, message
        if self.error is not None or self.asked is None or self.update is None:
            raise self.error or RuntimeError("no update")
        return leaving(self.asked, self.task.name, self.update)


def answered(
    asked: Sequence[tuple[Message, Context]], size: int, opened: Opened = Session.factory
) -> list[Message]:
    """Return the replies to instructions to train, as :func:`clients.app.train` gives them.

    Args:
        asked: The messages of a round and the contexts of their nodes.
        size: Most clients at once.
        opened: Gives a client's learning problem.
    """
    turns = [_Turn(message, context) for message, context in asked]
    for first in range(0, len(turns), size):
        chunk = turns[first : first + size]
        for turn in chunk:
            turn.begin(opened)
        _update([turn for turn in chunk if turn.error is None])
    return [turn.end() for turn in turns]


def _update(turns: Sequence[_Turn]) -> None:
    """Compute the updates of some clients; where that fails, each has its own, or its own error."""
    begun = [(turn, turn.asked) for turn in turns if turn.asked is not None]
    if not begun:
        return
    started, session = time.perf_counter(), begun[0][1].session
    algorithm = algorithm_of(session.experiment)
    sent = [asked.sent for _, asked in begun]
    try:
        updates = together(algorithm, [turn.task for turn, _ in begun], sent, session.round)
    except Exception as error:
        if len(begun) == 1:
            begun[0][0].error = error
        else:
            for turn in turns:
                _update([turn])
        return
    seconds = (time.perf_counter() - started) / len(begun)
    for (turn, _), update in zip(begun, updates, strict=True):
        turn.update, turn.seconds = update, turn.seconds + seconds


def check_batched(experiment: Experiment, method: TrainableMethod, encoder: Encoder) -> None:
    """Check on an empty picture that the loss of ``method`` can be computed for many clients.

    Raises:
        ConfigError: it cannot.
    """
    probe = _Probe(method, _empty(experiment, method.poses, encoder))
    sent = Sent(method.initial(experiment.seed))
    rates = experiment.method.rates
    try:
        together(Average(Averaging(rates=rates)), [probe, probe], [sent, sent], 0)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"federation.backend: the loss of method {method.name} cannot be batched "
            f"({one_line(error)[:200]}); use inprocess"
        ) from error


@dataclass(frozen=True)
class _Probe:
    """A client that draws one episode."""

    method: TrainableMethod
    episode: EpisodeBatch
    name: str = "probe"

    def batch(self, round: int, step: int) -> EpisodeBatch:  # noqa: A002
        """Return it."""
        del round, step
        return self.episode

    def loss(self, params: Params, batch: EpisodeBatch) -> tuple[torch.Tensor, Params]:
        """Return its loss."""
        return self.method.loss(params, batch)


def _empty(experiment: Experiment, poses: Poses, encoder: Encoder) -> EpisodeBatch:
    """Return an episode of black pictures."""
    size, episode = encoder.image_size, experiment.episode
    stored = encoder.trunk(torch.zeros(1, 3, size, size, dtype=torch.uint8))[0]
    good, bad = episode.normals, episode.anomalies
    labels = torch.tensor([0.0] * good + [1.0] * bad)
    return EpisodeBatch(
        stored.expand(1, episode.shots * len(poses), *stored.shape),
        stored.expand(1, good + bad, *stored.shape),
        labels[None],
        torch.zeros(1, good + bad, encoder.grid**2, dtype=torch.uint8),
    )
