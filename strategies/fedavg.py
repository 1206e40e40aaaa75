"""A federated algorithm as a Flower strategy: messages, checks and the step of the server."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from bayfed.config.updates import Defence
from bayfed.config.updates import Regions as RegionSettings
from bayfed.errors import FederationError
from strategies.algorithm import Algorithm, Received, Reply
from strategies.averaging import Average, Averaging
from strategies.downlink import Downlink
from strategies.local import minus
from strategies.outer import Iterate, Outer, split
from strategies.personal import Residuals
from strategies.privacy.clients import ClientLevel
from strategies.regions import Regions
from strategies.rules import rule_of
from strategies.schema import mismatch
from strategies.server_optimizers import State
from strategies.spread import spread
from strategies.task import Params, norm
from strategies.uplink import Uplink
from strategies.wire import (
    ARRAYS,
    EXTRAS,
    STEPS,
    WEIGHT,
    Cohort,
    Member,
    arrays_of,
    instruction,
    metrics_of,
    pack,
)

PERSONAL, DOWNLINK, REGIONS, ALGORITHM = "personal/", "downlink/", "regions/", "algorithm/"
"""Where the memories of the server's parts stand."""

MEASURED = ("update_norm", "drift", "cosine")
"""What is seen of the updates of a round."""
LONGEST = 1e18
"""Norm of an update from which on it is taken for one that has left the range of numbers: a mean of
such, and its square, are still numbers of 32 bits."""


class MetaFedAvg(FedAvg):
    """What an algorithm makes of the updates, clipped, then one optimiser step.

    Without another algorithm that is g = sum_c n_c g_c / sum_c n_c, or what another rule than the
    mean makes of the clients' updates g_c; n_c are their weights.

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
        algorithm: Its two halves; the mean without one.
        steps: How many local steps a client takes; those of the settings without it.
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
        algorithm: Algorithm | None = None,
        steps: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        super().__init__(weighted_by_key=WEIGHT)
        self.uplink, self.downlink = uplink or Uplink(), downlink or Downlink()
        self.defence, self.private = defence or Defence(), private
        self.settings, self.outer = settings, outer
        self.algorithm, self.steps = algorithm or Average(settings), steps
        self.state: Params = {}
        self._decoded: dict[int, tuple[Message, Params]] = {}
        self.spread: tuple[float, float] | None = None
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
        kept, state = split(state, ALGORITHM)
        self.state = self.algorithm.start(theta) if memory is None else kept
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
        kept = {f"{ALGORITHM}{name}": tensor for name, tensor in self.state.items()}
        return self.shared.memory | own | sent | regional | kept

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
                self._asked(m, {ARRAYS: regional[self.regions.of(m.name)]}, config)
                for m in self.cohort(server_round)
            ]
        value = self.downlink.prepare(self.shared.value, server_round)
        shared = arrays if value is self.shared.value else pack(value)
        packed, messages = _Packed(value, shared), []
        for member in self.cohort(server_round):
            sent = self.algorithm.send(value, self.state, member.name)
            theta = self.residuals.trained(sent.theta, member.name)
            records = self.downlink.records(member, packed(theta))
            if sent.extras:
                records[EXTRAS] = packed(sent.extras)
            messages.append(self._asked(member, records, config))
        return messages

    def _asked(
        self, member: Member, records: Mapping[str, ArrayRecord], config: ConfigRecord
    ) -> Message:
        steps = self.steps(member.name)
        asked = config if steps is None else ConfigRecord({**config, STEPS: steps})
        return instruction(member, "train", records, asked)

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
        return [
            instruction(m, "evaluate", self.downlink.held.records(m, learned(m)), config)
            for m in members
        ]

    def evaluated(self, arrays: ArrayRecord) -> Callable[[Member], ArrayRecord]:
        """Return what a member is evaluated with; ``arrays`` is for those without a residual."""
        theta = self.shared.learned
        packed = _Packed(theta, arrays)

        def of(member: Member) -> ArrayRecord:
            sent = self.algorithm.send(theta, self.state, member.name)
            return packed(self.residuals.evaluated(sent.theta, member.name))

        return of

    def refusal(self, server_round: int, reply: Message) -> str | None:
        """Return why the update in ``reply`` must not be averaged, or ``None``."""
        try:
            update = self._update(server_round, reply)
            extras = arrays_of(reply, EXTRAS)
        except FederationError as error:
            return str(error)
        if reason := mismatch(extras, self.algorithm.extras(self.shared.value)):
            return f"extras: {reason}"
        for what, tensors in (("update", update), ("extras", extras)):
            if tensors and (length := norm(tensors)) > LONGEST:
                return f"the norm of the {what} is {length:.3g}, which is out of range"
        metrics = metrics_of(reply)
        episodes, most = metrics.get(WEIGHT, 0), self.settings.most
        if not 0 < episodes <= most:
            return f"{WEIGHT} is {episodes}, between 1 and {most} is expected"
        if not math.isfinite(metrics.get("loss", math.nan)):
            return "the loss is not finite"
        return None

    def outliers(self, replies: Mapping[Member, tuple[int, Message]]) -> dict[Member, str]:
        """Return whose update is too long beside those of the others, and how long it is.

        Args:
            replies: With the rounds in which they were asked for.
        """
        if self.defence.norm is None or not replies:
            return {}
        lengths = {m: norm(self._update(born, reply)) for m, (born, reply) in replies.items()}
        usual = median(lengths.values())
        return {
            member: f"the update's norm is {length:.3g}, {self.defence.norm:g} times the median "
            f"{usual:.3g} is allowed"
            for member, length in lengths.items()
            if length > self.defence.norm * usual
        }

    def _update(self, server_round: int, reply: Message) -> Params:
        # Judged, measured and averaged: but decoded once.
        known = self._decoded.get(id(reply))
        if known is None or known[0] is not reply:
            update = self.uplink.receive(arrays_of(reply), self.shared.value, server_round)
            known = self._decoded[id(reply)] = reply, update
        return known[1]

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
        self._decoded = {}
        rule = rule_of(self.defence)
        names = {member.client: member.name for member in self.everyone(server_round)}
        senders = [names[int(report["partition"])] for report in reports]
        if self.regions:
            before = self.shared.value
            self.shared = self.regions.step(server_round, senders, updates, weights, rule)
            mean = minus(before, self.shared.value)
        else:
            if self.private is not None:
                mean = self.private.mean(updates, *self._released(server_round))
            else:
                extras = [arrays_of(reply, EXTRAS) for reply in replies]
                parts = zip(updates, weights, reports, extras, strict=True)
                sent = dict(zip(senders, (Reply(*part) for part in parts), strict=True))
                asked = {name: steps for name in sent if (steps := self.steps(name)) is not None}
                clients = self._population(server_round)
                received = Received(server_round, sent, clients, rule, asked)
                mean, self.state = self.algorithm.server(received, self.state)
            self.shared = self.outer.step(self.shared, mean)
        self.update_norm, self.spread = norm(mean), spread(updates)
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

    def measured(self) -> dict[str, float]:
        """Return what is seen of the updates of the last round.

        Drift and cosine are those of :func:`~strategies.spread.spread`, nan where single
        updates are not seen, the cosine also where there is only one.
        """
        # The last digits of a sum depend on where in memory its terms are.
        drift, cosine = (float(f"{x:.9g}") for x in self.spread or (math.nan, math.nan))
        return dict(zip(MEASURED, (self.update_norm, drift, cosine), strict=True))

    def take(self, server_round: int, payload: Params, senders: Sequence[str]) -> None:
        """Take one step along the mean of what ``senders`` sent, of which only that is known.

        Raises:
            FederationError: ``payload`` is no update.
        """
        mean = self.uplink.receive(payload, self.shared.value, server_round)
        if self.private is not None:
            total = {name: len(senders) * value for name, value in mean.items()}
            mean = self.private.noised_mean(total, *self._released(server_round))
        self.update_norm, self.spread = norm(mean), None
        self.shared = self.outer.step(self.shared, mean)
        self.downlink.answered(set(senders))

    def _released(self, server_round: int) -> tuple[int, frozenset[str], int]:
        """Return how many clients there are, which tensors are noised, and the round."""
        moved = frozenset(self.uplink.moved(self.shared.value))
        return self._population(server_round), moved, server_round

    def _population(self, server_round: int) -> int:
        return sum(member.trains for member in self.everyone(server_round))


class _Packed:
    """Tensors as records, each set packed once: most clients are sent the same."""

    def __init__(self, theta: Params, arrays: ArrayRecord) -> None:
        self._of = {id(theta): (theta, arrays)}

    def __call__(self, tensors: Params) -> ArrayRecord:
        if id(tensors) not in self._of:
            self._of[id(tensors)] = (tensors, pack(tensors))
        return self._of[id(tensors)][1]
