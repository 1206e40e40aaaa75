"""The outer loop's step: where an optimiser stands, and the mean of where it has been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from strategies.server_optimizers import ServerOptimizer, State
from strategies.task import Params, clipped

ITERATE = "x/"


@dataclass(frozen=True)
class Iterate:
    """Where an optimiser stands.

    Attributes:
        value: What the next update moves.
        state: What the optimiser remembers.
        mean: The mean of the values so far; {} where none is kept.
    """

    value: Params
    state: State
    mean: Params = field(default_factory=dict)

    @property
    def learned(self) -> Params:
        """What is evaluated: the mean where there is one, else the value."""
        return self.mean or self.value

    @property
    def memory(self) -> State:
        """What :meth:`resumed` needs beside what was learned."""
        value = {f"{ITERATE}{name}": tensor for name, tensor in self.value.items()}
        return self.state | value if self.mean else self.state

    @classmethod
    def resumed(cls, learned: Params, memory: Mapping[str, Tensor]) -> Iterate:
        """Return the iterate with this :attr:`learned` and :attr:`memory`."""
        value, state = split(memory, ITERATE)
        return cls(value, state, learned) if value else cls(learned, state)


def split(tensors: Mapping[str, Tensor], prefix: str) -> tuple[State, State]:
    """Return the tensors under ``prefix``, without it, and the others.

    >>> split({"x/a": 1, "m/a": 2}, "x/")
    ({'a': 1}, {'m/a': 2})
    """
    under = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    return under, {name: t for name, t in tensors.items() if not name.startswith(prefix)}


@dataclass(frozen=True)
class Outer:
    r"""A clipped step of an optimiser, and a mean of the iterates.

    .. math::
        \bar x_t = \frac{1 - \beta}{1 - \beta^t} \sum_{s=1}^{t} \beta^{t-s} x_s

    :math:`x_s` is the iterate after step s and :math:`\beta` the memory. Few tasks and few
    episodes a step make a step noisy; the noise of the last ones is averaged out of the mean.

    Sources: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the
    weights are those of Kingma and Ba, Adam, 2015, section 3.

    Attributes:
        optimizer: Its rule and rate.
        clip: Largest norm of an update.
        memory: 0 = no mean is kept.

    >>> import torch
    >>> outer = Outer(ServerOptimizer("sgd", lr=1.0), memory=0.5)
    >>> at = outer.start({"w": torch.tensor([3.0])})
    >>> for _ in range(2):
    ...     at = outer.step(at, {"w": torch.tensor([1.0])})
    >>> at.value["w"].item(), round(at.learned["w"].item(), 4)  # (2 / 2 + 1) / (1 / 2 + 1)
    (1.0, 1.3333)
    """

    optimizer: ServerOptimizer
    clip: float | None = None
    memory: float = 0.0

    def start(self, value: Params) -> Iterate:
        """Return the iterate before the first step."""
        mean = {name: tensor.clone() for name, tensor in value.items()} if self.memory else {}
        return Iterate(value, self.optimizer.initial(value), mean)

    def step(self, at: Iterate, update: Params) -> Iterate:
        """Return the iterate after one step along ``-update``."""
        value, state = self.optimizer.step(at.value, clipped(update, self.clip), at.state)
        share = (1 - self.memory) / (1 - self.memory ** int(state["t"]))
        mean = {name: past + share * (value[name] - past) for name, past in at.mean.items()}
        return Iterate(value, state, mean)
