"""What single clients add to the shared meta-parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bayfed.errors import ConfigError
from bayfed.evaluation.checkpoint import added, flat, nested
from strategies.outer import Iterate, Outer
from strategies.task import Params


class Residuals:
    r"""A residual for each client, trained together with the shared parameters.

    .. math:: \min_{\theta, \delta_1 \ldots \delta_C} \sum_c n_c f_c(\theta + \delta_c)

    :math:`\theta` are the shared meta-parameters; :math:`f_c` is the loss of client c, :math:`n_c`
    its weight in episodes and :math:`\delta_c` its residual, 0 at first, for the parameters that
    have one. The update that a client returns for :math:`\theta + \delta_c` serves both:
    :math:`\theta` steps along the mean over the clients, :math:`\delta_c` along the client's own.
    A server that sees each update could follow each residual; so it keeps them, and a client needs
    no memory between rounds.

    Source: Agarwal, Langford and Wei, Federated Residual Learning, 2020.

    Args:
        prefixes: Of the names of the parameters that have one.
        outer: Moves a residual.
    """

    def __init__(self, prefixes: Sequence[str], outer: Outer) -> None:
        self._prefixes, self._outer = tuple(prefixes), outer
        self._zero: Params = {}
        self._of: dict[str, Iterate] = {}

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def restore(self, theta: Params, learned: Params, memory: Params) -> None:
        """Go on with :attr:`learned` and :attr:`memory`, from zeros where they are empty.

        Raises:
            ConfigError: no parameter of ``theta`` has one of the prefixes.
        """
        for prefix in self._prefixes:
            if not any(name.startswith(prefix) for name in theta):
                raise ConfigError(f"federation.personal: no parameter is called {prefix!r}")
        chosen = [name for name in theta if name.startswith(self._prefixes)]
        self._zero = {name: torch.zeros_like(theta[name]) for name in chosen}
        kept = nested(learned)
        self._of = {c: Iterate.resumed(kept[c], own) for c, own in nested(memory).items()}

    def step(self, client: str, update: Params) -> None:
        """Take the step of a client along its own ``-update``."""
        before = self._of.get(client) or self._outer.start(self._zero)
        self._of[client] = self._outer.step(before, {name: update[name] for name in self._zero})

    def trained(self, theta: Params, client: str) -> Params:
        r"""Return :math:`\theta + \delta_c`, which the client's next update is to start from."""
        return added(theta, self._of[client].value) if client in self._of else theta

    def evaluated(self, theta: Params, client: str) -> Params:
        r"""Return :math:`\theta + \delta_c` with the residual that was learned."""
        return added(theta, self._of[client].learned) if client in self._of else theta

    @property
    def learned(self) -> Params:
        """The learned residuals under names ``client/parameter``."""
        return flat({client: at.learned for client, at in self._of.items()})

    @property
    def memory(self) -> Params:
        """What goes on from them needs besides, under names ``client/...``."""
        return flat({client: at.memory for client, at in self._of.items()})
