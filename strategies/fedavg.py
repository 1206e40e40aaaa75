"""Federated averaging of meta-parameters: client half and server half."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from bayfed.config import Experiment
from bayfed.config.updates import Defence
from bayfed.config.updates import Regions as RegionSettings
from bayfed.errors import FederationError
from strategies.downlink import Downlink
from strategies.local import Report, mean_of, minus, plus, sampled, scaled, zeros
from strategies.outer import Iterate, Outer, split
from strategies.personal import Residuals
from strategies.privacy.clients import ClientLevel
from strategies.regions import Regions
from strategies.rules import rule_of
from strategies.server_optimizers import State
from strategies.task import LocalTask, Params, norm
from strategies.uplink import Uplink
from strategies.wire import ARRAYS, WEIGHT, Cohort, Member, arrays_of, instruction, metrics_of, pack

PERSONAL, DOWNLINK, REGIONS = "personal/", "downlink/", "regions/"
"""Where the memories of the server's parts stand."""


@dataclass(frozen=True)
class Averaging:
    """The parameters of federated averaging, with their symbols in the papers.

    References:
        McMahan et al., Communication-Efficient Learning, 2017, Algorithm 1 (E, B, eta);
        Reddi et al., Adaptive Federated Optimization, 2021, Algorithm 1 (K, eta_l, eta).
    """

    aggregate: Literal["gradient", "parameters"] = "gradient"
    local_steps: int = 1
    """K: local steps (parameters), or batches averaged (gradient)."""
    local_lr: float = 0.01
    """eta_l: learning rate of a local step."""
    episodes: int = 1
    """B: episodes of one batch."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning-rate multipliers of the server by prefix; what it does not move stays here too."""

    @property
    def most(self) -> int:
        """K B, the largest weight of an update."""
        return self.local_steps * self.episodes

    @classmethod
    def of(cls, experiment: Experiment) -> Averaging:
        """Return the parameters that ``experiment`` asks for."""
        server = experiment.federation.server
        return cls(
            aggregate=server.aggregate,
            local_steps=server.local_steps,
            local_lr=server.local_lr,
            episodes=experiment.federation.episodes,
            rates=experiment.method.rates,
        )


@dataclass(frozen=True)
class Update:
    """What a client returns: its update g_c, its weight n_c in episodes, and metrics."""

    tensors: Params
    episodes: int
    metrics: dict[str, float]


def local_update(task: LocalTask, theta: Params, settings: Averaging, number: int) -> Update:
    """Return the client half of a round.

    - gradient:   g_c = 1/K sum_k grad f_c(theta; xi_k)
    - parameters: theta_c = theta; K times theta_c <- theta_c - eta_l grad f_c(theta_c; xi_k);
      g_c = theta - theta_c

    f_c is the client's loss on a batch xi_k of B episodes; n_c = K B.
    """
    current = theta
    total, gradient_at = zeros(theta), sampled(task, settings.rates, number)
    reports: list[Report] = []
    for step in range(settings.local_steps):
        gradient, report = gradient_at(current, step)
        reports.append(report)
        if settings.aggregate == "parameters":
            gradient = scaled(gradient, settings.local_lr)
            current = minus(current, gradient)
        total = plus(total, gradient)
    if settings.aggregate == "gradient":
        total = {name: value / settings.local_steps for name, value in total.items()}
    return Update(total, settings.local_steps * settings.episodes, mean_of(reports))


class MetaFedAvg(FedAvg):
    """The server half: g = sum_c n_c g_c / sum_c n_c, clipped, then one optimiser step.

    Another rule than the mean can make g of the clients' updates g_c; n_c are their episodes.

    The loop, the quorum and the checkpoints belong to the server; the clients of a
    round are named by ``cohort``, so that no global random state takes part.

    References:
        Reddi et al., Adaptive Federated Optimization, 2021, Algorithm 1.

    Args:
        settings: Of the averaging.
        outer: The server's step.
        cohort: Who trains in a round.
        everyone: Who is evaluated in a round.
        personal: Prefixes of the parameters with a residual for each client.
        uplink: The form in which updates arrive.
        downlink: That in which the parameters of a round leave.
        defence: How they are taken.
        regions: Servers between the clients and this one.
        private: How they are averaged where no client is to be told from the mean.
    """

    def __init__(
        self,
        settings: Averaging,
        outer: Outer,
        cohort: Cohort,
        everyone: Cohort,
        personal: Sequence[str] = (),
        uplink: Uplink | None = None,
        downlink: Downlink | None = None,
        defence: Defence | None = None,
        regions: Regions | None = None,
        private: ClientLevel | None = None,
    ) -> None:
        super().__init__(weighted_by_key=WEIGHT)
        self.uplink, self.downlink = uplink or Uplink(), downlink or Downlink()
        self.defence, self.private = defence or Defence(), private
        self.settings, self.outer = settings, outer
        self.cohort, self.everyone = cohort, everyone
        self.residuals = Residuals(personal, outer)
        self.regions = regions or Regions(RegionSettings(), outer)
        self.shared = outer.start({})
        self.update_norm = 0.0

    @property
    def theta(self) -> Params:
        """The shared meta-parameters that were learned so far."""
        return self.shared.learned

    def restore(
        self, theta: Params, memory: State | None = None, personal: Params | None = None
    ) -> None:
        """Start from ``theta``, or go on where a run is resumed.

        Args:
            theta: The shared meta-parameters.
            memory: What :attr:`memory` was.
            personal: The residuals that were learned.

        Raises:
            ConfigError: there is no parameter that could have a residual.
        """
        own, state = split(memory or {}, PERSONAL)
        sent, state = split(state, DOWNLINK)
        regional, state = split(state, REGIONS)
        self.shared = self.outer.start(theta) if memory is None else Iterate.resumed(theta, state)
        self.residuals.restore(theta, personal or {}, own)
        self.downlink.restore(sent)
        self.regions.restore(theta, regional)

    @property
    def memory(self) -> State:
        """What going on needs beside what was learned."""
        own = {f"{PERSONAL}{name}": tensor for name, tensor in self.residuals.memory.items()}
        sent = {f"{DOWNLINK}{name}": tensor for name, tensor in self.downlink.memory.items()}
        regional = {f"{REGIONS}{name}": tensor for name, tensor in self.regions.memory.items()}
        return self.shared.memory | own | sent | regional

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002
    ) -> list[Message]:
        """Return one message for each sampled client."""
        if self.regions:
            regional = {region: pack(value) for region, value in self.regions.values.items()}
            return [
                instruction(m, "train", {ARRAYS: regional[self.regions.of(m.name)]}, config)
                for m in self.cohort(server_round)
            ]
        value = self.downlink.prepare(self.shared.value, server_round)
        shared = arrays if value is self.shared.value else pack(value)
        full = _each(shared, value, self.residuals.trained)
        return [
            instruction(m, "train", self.downlink.records(m, full(m)), config)
            for m in self.cohort(server_round)
        ]

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002
    ) -> list[Message]:
        """Return one message for each client."""
        learned = self.evaluated(arrays)
        members = self.everyone(server_round)
        return [instruction(m, "evaluate", {ARRAYS: learned(m)}, config) for m in members]

    def evaluated(self, arrays: ArrayRecord) -> Callable[[Member], ArrayRecord]:
        """Return what a member is evaluated with; ``arrays`` is for those without a residual."""
        return _each(arrays, self.shared.learned, self.residuals.evaluated)

    def refusal(self, server_round: int, reply: Message) -> str | None:
        """Return why the update in ``reply`` must not be averaged, or ``None``."""
        try:
            self._update(server_round, reply)
        except FederationError as error:
            return str(error)
        metrics = metrics_of(reply)
        episodes, most = metrics.get(WEIGHT, 0), self.settings.most
        if not 0 < episodes <= most:
            return f"{WEIGHT} is {episodes}, between 1 and {most} is expected"
        if not math.isfinite(metrics.get("loss", math.nan)):
            return "the loss is not finite"
        return None

    def outliers(self, server_round: int, replies: Mapping[Member, Message]) -> dict[Member, str]:
        """Return whose update is too long beside those of the others, and how long it is."""
        if self.defence.norm is None or not replies:
            return {}
        lengths = {m: norm(self._update(server_round, reply)) for m, reply in replies.items()}
        usual = median(lengths.values())
        return {
            member: f"the update's norm is {length:.3g}, {self.defence.norm:g} times the median "
            f"{usual:.3g} is allowed"
            for member, length in lengths.items()
            if length > self.defence.norm * usual
        }

    def _update(self, server_round: int, reply: Message) -> Params:
        return self.uplink.receive(arrays_of(reply), self.shared.value, server_round)

    def aggregate_train(
        self,
        server_round: int,
        replies: Iterable[Message],
        born: Sequence[int] | None = None,
    ) -> tuple[ArrayRecord, MetricRecord]:
        r"""Take one step along what the rule makes of the replies, in the order given.

        An update that was asked for :math:`\tau` rounds ago weighs :math:`(1 + \tau)^{-1/2}` of
        what it would weigh in time (Nguyen et al., FedBuff, 2022, section 5). A client's residual
        takes its own.

        Args:
            server_round: The number of the round.
            replies: To average.
            born: The rounds in which they were asked for; all of them this one where empty.

        Raises:
            FederationError: there is no reply.
        """
        replies = list(replies)
        if not replies:
            raise FederationError("no reply to average")
        reports = [metrics_of(reply) for reply in replies]
        born = [server_round] * len(replies) if born is None else born
        weights = [
            report[WEIGHT] / math.sqrt(1 + server_round - number)
            for report, number in zip(reports, born, strict=True)
        ]
        updates = [self._update(number, reply) for number, reply in zip(born, replies, strict=True)]
        rule = rule_of(self.defence)
        names = {member.client: member.name for member in self.everyone(server_round)}
        senders = [names[int(report["partition"])] for report in reports]
        if self.regions:
            before = self.shared.value
            self.shared = self.regions.step(server_round, senders, updates, weights, rule)
            mean = minus(before, self.shared.value)
        else:
            mean = (
                rule(updates, weights)
                if self.private is None
                else self.private.mean(updates, *self._released(server_round))
            )
            self.shared = self.outer.step(self.shared, mean)
        self.update_norm = norm(mean)
        self.downlink.answered(
            {name for name, number in zip(senders, born, strict=True) if number == server_round}
        )
        if self.residuals:
            for sender, update in zip(senders, updates, strict=True):
                self.residuals.step(sender, update)
        loss = sum(w * r["loss"] for w, r in zip(weights, reports, strict=True)) / sum(weights)
        return pack(self.shared.value), MetricRecord(
            {"loss": loss, "update_norm": self.update_norm}
        )

    def take(self, server_round: int, payload: Params, senders: Sequence[str]) -> None:
        """Take one step along the mean of what ``senders`` sent, of which only that is known.

        Raises:
            FederationError: ``payload`` is no update.
        """
        mean = self.uplink.receive(payload, self.shared.value, server_round)
        if self.private is not None:
            total = {name: len(senders) * value for name, value in mean.items()}
            mean = self.private.noised_mean(total, *self._released(server_round))
        self.update_norm = norm(mean)
        self.shared = self.outer.step(self.shared, mean)
        self.downlink.answered(set(senders))

    def _released(self, server_round: int) -> tuple[int, frozenset[str], int]:
        """Return how many clients there are, which tensors are noised, and the round."""
        population = sum(member.trains for member in self.everyone(server_round))
        return population, frozenset(self.uplink.moved(self.shared.value)), server_round


def _each(
    arrays: ArrayRecord, theta: Params, personal: Callable[[Params, str], Params]
) -> Callable[[Member], ArrayRecord]:
    """Return what each member is sent: ``arrays`` of ``theta``, or what is personal instead."""

    def of(member: Member) -> ArrayRecord:
        own = personal(theta, member.name)
        return arrays if own is theta else pack(own)

    return of
