"""Regional servers between the plants and the global one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bayfed.config.updates import Regions as Settings
from bayfed.errors import ConfigError
from bayfed.evaluation.checkpoint import flat, nested
from strategies.outer import Iterate, Outer
from strategies.rules import Rule, weighted_mean
from strategies.server_optimizers import State
from strategies.task import Params


class Regions:
    r"""Plants report to a region every round, the regions to the global server every few.

    .. math:: \theta_r \leftarrow \mathrm{step}(\theta_r, g_r), \quad
              \theta = \sum_r n_r \theta_r / \sum_r n_r

    The second holds every :math:`\kappa` rounds. :math:`g_r` is what the rule makes of the updates
    of region r, and :math:`n_r` the episodes behind them since the regions last met. Then each goes
    on from :math:`\theta`, and from the mean of what their optimisers remember. Between two
    meetings nothing travels over the long way.

    Source: Liu et al., Client-Edge-Cloud Hierarchical Federated Learning, 2020, Algorithm 1.

    Args:
        settings: Which sites a region holds, and kappa.
        outer: The step of a region.
    """

    def __init__(self, settings: Settings, outer: Outer) -> None:
        self._of = {site: region for region, sites in settings.sites.items() for site in sites}
        self._names, self._every, self._outer = sorted(settings.sites), settings.every, outer
        self._at: dict[str, Iterate] = {}
        self._weights: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def of(self, client: str) -> str:
        """Return the region of a client.

        Raises:
            ConfigError: its sites are in none, or in several.
        """
        found = {self._of.get(site) for site in client.split("+")}
        region = next(iter(found))
        if len(found) != 1 or region is None:
            raise ConfigError(f"federation.regions.sites: {client} is not in one region")
        return region

    def restore(self, theta: Params, memory: Params) -> None:
        """Go on with :attr:`memory`, or start all regions from ``theta``."""
        kept = nested(memory)
        self._at, self._weights = {}, {}
        for region in self._names:
            own = kept.get(region, {})
            self._weights[region] = float(own.pop("weight", torch.tensor(0.0)))
            start = self._outer.start(theta)
            self._at[region] = Iterate.resumed({}, own) if own else start

    @property
    def memory(self) -> State:
        """What :meth:`restore` needs, under names ``region/...``."""
        return flat(
            {
                region: {
                    **at.state,
                    **{f"x/{name}": tensor for name, tensor in at.value.items()},
                    "weight": torch.tensor(self._weights[region], dtype=torch.float64),
                }
                for region, at in self._at.items()
            }
        )

    @property
    def values(self) -> dict[str, Params]:
        """What the clients of each region train from."""
        return {region: at.value for region, at in self._at.items()}

    def step(
        self, number: int, senders: Sequence[str], updates: Sequence[Params],
        weights: Sequence[float], rule: Rule,
    ) -> Iterate:  # fmt: skip
        """Let each region step, let them meet if it is time, and return their mean."""
        for region in self._names:
            mine = [i for i, sender in enumerate(senders) if self.of(sender) == region]
            if mine:
                own = [weights[i] for i in mine]
                update = rule([updates[i] for i in mine], own)
                self._at[region] = self._outer.step(self._at[region], update)
                self._weights[region] += sum(own)
        mean = self._mean()
        if number % self._every == 0:
            self._at = dict.fromkeys(self._names, mean)
            self._weights = dict.fromkeys(self._names, 0.0)
        return mean

    def _mean(self) -> Iterate:
        heard = [region for region in self._names if self._weights[region]] or self._names
        weights = [self._weights[region] or 1.0 for region in heard]
        at = [self._at[region] for region in heard]
        state = weighted_mean([_real(iterate.state) for iterate in at], weights)
        counts = _whole(at, "t")
        return Iterate(
            weighted_mean([iterate.value for iterate in at], weights), {**state, **counts}
        )


def _real(state: Mapping[str, torch.Tensor]) -> Params:
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _whole(at: Sequence[Iterate], name: str) -> Params:
    return {name: torch.stack([iterate.state[name] for iterate in at]).max()}
