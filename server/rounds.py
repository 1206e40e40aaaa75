"""The rounds of a run: statistics, control, training, evaluation, checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from torch import Tensor

from bayfed.config import experiment_hash
from bayfed.errors import CheckpointError, ConfigError, FederationError
from bayfed.evaluation.calibrate import implausible
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.fingerprint import fingerprint
from bayfed.seeds import stream
from server import checkpoints, divergence, history, phase, results, sums
from server.admission import Admission
from server.attendance import Attendance
from server.checkpoints import Snapshot
from server.diagnosis import NAMES, apart, diagnosed, unlikely
from server.exchange import Exchange, Replies, base_config
from server.job import Job
from server.ledger import line_of
from server.measured import Measured
from server.memories import Memories, remind
from server.privacy import Guard
from server.problem import Problem
from server.results import SITES, Rows
from server.roster import check_held_out, check_rule, enrol_simulated, sample
from server.secure import SecureSums, Summed
from server.tracking import Tracker, flat_settings, numbers_of, trackers
from server.verdict import Refusal
from server.workers import workers
from strategies.averaging import Averaging
from strategies.build import algorithm_of
from strategies.downlink import Downlink
from strategies.fedavg import MEASURED, MetaFedAvg
from strategies.outer import Outer
from strategies.privacy.clients import ClientLevel
from strategies.regions import Regions
from strategies.schema import mismatch
from strategies.secure.averaging import mean
from strategies.server_optimizers import ServerOptimizer
from strategies.task import Params
from strategies.uplink import Uplink
from strategies.wire import (
    CALIBRATION,
    CODE,
    Member,
    arrays_of,
    instruction,
    pack,
)

log = logging.getLogger("bayfed.server")
STATISTICS, MEASURING = "query.statistics", "measuring"
STAGES = 2
"""Exchanges of a calibration: the spread of the scores, then their histogram."""


class Federation:
    """A run: its members, its strategy and its files.

    Every random choice is a function of (seed, round) and every sum runs over clients in
    the order of their partitions, so a resumed run equals an uninterrupted one.
    """

    def __init__(self, grid: Grid, job: Job, problem: Problem) -> None:
        self.grid, self.job, self.problem = grid, job, problem
        self.experiment = job.experiment
        self.settings = job.experiment.federation
        self.memories = Memories(job.memories)
        tell = partial(phase.write, job.phase)
        self.exchange = Exchange(grid, self.settings.timeout, tell, self.memories.take)
        self.identity = experiment_hash(self.experiment)
        self.text, self.code = self.experiment.model_dump_json(), fingerprint(*CODE)
        self.called = ""
        self.members: list[Member] = []
        self.asked: list[Member] = []
        self.silent: dict[str, int] = {}
        self.attendance = Attendance(self.settings.defence.quarantine)
        self.measuring: dict[str, Attendance] = {}
        self.privacy = Guard(self.experiment)
        self.trackers: list[Tracker] = []
        self.apart: dict[str, float] = {}
        self.line: dict[str, Any] = {}
        self.rows = Rows()
        self.admission: Admission | None = None
        self.strategy = self._strategy()
        self.held = self.strategy.downlink.held
        hides = self.settings.secure is not None
        self.secure = SecureSums(self.exchange, self.settings) if hides else None

    def run(self) -> Snapshot:
        """Return the server after the last round.

        Raises:
            BayfedError: the run cannot go on; its folder holds the last sound checkpoint.
        """
        if self.exchange.simulated:
            self.problem.check_settings(self.experiment)
        resumed = self._resume()
        if not self.exchange.simulated:
            self.called = self.job.called(new=resumed is None)
        remembered = self.memories.restore(0 if resumed is None else resumed.round)
        self.members = self._enrol()
        remind(self.exchange, self.config(0), self.members, remembered)
        check_held_out(self.members, self.experiment.protocol.holdout)
        log.info("%d clients: %s", len(self.members), ", ".join(m.name for m in self.members))
        self.privacy.enrol(self.members)
        check_rule(self.settings.defence, len(self._cohort(1)))
        self.trackers = trackers(
            self.settings.track,
            self.job.out,
            flat_settings(self.experiment.model_dump(mode="json")),
            0 if resumed is None else resumed.round + 1,
        )
        try:
            snapshot = resumed or self._start()
            while self._is_to_come(snapshot.round + 1):
                snapshot = self._round(snapshot)
        finally:
            for tracker in self.trackers:
                tracker.close()
        return snapshot

    def _enrol(self) -> list[Member]:
        config, quorum = self.config(0), self.settings.quorum
        if self.exchange.simulated:
            clients = len(self.problem.client_specs(self.experiment))
            return enrol_simulated(self.exchange, config, clients, quorum)
        self.admission = Admission(
            self.exchange, self.job.plants, self._fits, self.settings.deadline, self.line
        )
        return self.admission.enrol(config, quorum)

    def _fits(self, member: Member) -> str | None:
        """Return why a plant cannot take part, ``None`` where it can."""
        try:
            if self.strategy.regions and member.trains:
                self.strategy.regions.of(member.name)
        except ConfigError as error:
            return str(error)
        return None

    def config(self, number: int) -> ConfigRecord:
        """Return what every instruction of a round carries."""
        return base_config(self.text, self.code, number, self.called)

    def _strategy(self) -> MetaFedAvg:
        server = self.settings.server
        rates = self.problem.lr_scales(self.experiment)
        optimizer = ServerOptimizer(
            server.optimizer,
            server.lr,
            server.momentum,
            rates,
            self.settings.rounds,
            server.decay,
        )
        outer = Outer(optimizer, server.clip, server.memory)
        return MetaFedAvg(
            Averaging.of(self.experiment),
            outer,
            lambda _: self.asked,
            lambda _: self.members,
            self.settings.personal,
            Uplink.of(self.experiment),
            Downlink(self.settings.downlink.bits, rates, self.experiment.seed),
            self.settings.defence,
            Regions(self.settings.regions, outer),
            ClientLevel.of(self.experiment),
            algorithm_of(self.experiment),
            self._steps,
        )

    def _steps(self, name: str) -> int | None:
        """Return how many local steps a client takes, ``None`` where all take as many."""
        server = self.settings.server
        if not server.unequal:
            return None
        slow = stream(self.experiment.seed, "speed", name).uniform()
        return max(1, round(server.local_steps * (1 - server.unequal * slow)))

    def _cohort(self, number: int) -> list[Member]:
        hidden = self.privacy.cohort(self.members, number)
        if hidden is not None:
            return hidden
        return sample(self.members, self.settings.fraction, self.experiment.seed, number)

    def _resume(self) -> Snapshot | None:
        folder = self.job.out / "checkpoints"
        if not self.job.resume:
            if any(folder.glob("*.safetensors")) or self.job.results.exists():
                raise ConfigError(
                    f"{self.job.out}: holds a run already; resume it or choose another"
                )
            return None
        snapshot = checkpoints.latest(folder, self.identity)
        round_ = -1 if snapshot is None else snapshot.round
        history.cut(self.job.history, 0 if snapshot is None else snapshot.history)
        results.cut(self.job.results, round_)
        if snapshot is not None:
            self.strategy.restore(snapshot.theta, snapshot.optimizer, snapshot.personal)
            self.line = history.read(self.job.history)[-1]
            if self.job.measures:
                history.check_rounds(self.line, self.settings.rounds)
            self.attendance = Attendance(self.settings.defence.quarantine, self.line)
            kept = self.line.get(MEASURING) or {}
            self.measuring = {kind: Attendance(line=own) for kind, own in kept.items()}
            self.privacy = Guard(self.experiment, self.line)
            self.rows = Rows(self.line.get(SITES))
            log.info("resumed after round %d", snapshot.round)
        return snapshot

    def _start(self) -> Snapshot:
        started = self.exchange.clock.now()
        statistics, exchanges = self._statistics()
        theta = self.problem.initial_parameters(self.experiment, statistics or None)
        theta = self._started(theta)
        self.strategy.restore(theta)
        snapshot = Snapshot(0, self.strategy.theta, self.strategy.memory, statistics=statistics)
        diagnosis, asked = self._diagnose(0)
        measured = self._evaluate(0, CONTROL) if self.job.measures else None
        if measured is not None:
            snapshot = replace(snapshot, calibration=measured.calibration)
            exchanges += measured.exchanges
        exchanges += asked
        return self._record(snapshot, None, measured, exchanges, started, diagnosis | self.apart)

    def _started(self, theta: Params) -> Params:
        """Return the parameters of the checkpoint that the job starts from, if it names one.

        Who goes on alone goes on with its own part of them.
        """
        if self.job.start is None:
            return theta
        alone = self.members[0].name if len(self.members) == 1 else ""
        started = checkpoints.read(self.job.start, None).theta_of(alone)
        if reason := mismatch(started, theta):
            raise CheckpointError(f"{self.job.start}: {reason}")
        return started

    def _round(self, before: Snapshot) -> Snapshot:
        started, number = self.exchange.clock.now(), before.round + 1
        trained, training = self._train(number)
        diagnosis, asked = self._diagnose(number)
        measured = self._evaluate(number, TRAINED) if self._is_due(number) else None
        snapshot = replace(
            before,
            round=number,
            theta=self.strategy.theta,
            optimizer=self.strategy.memory,
            personal=self.strategy.residuals.learned,
            calibration={} if measured is None else measured.calibration,
        )
        exchanges = [*training, *asked, *(measured.exchanges if measured else ())]
        return self._record(snapshot, trained, measured, exchanges, started, diagnosis)

    def _is_due(self, number: int) -> bool:
        if not self.job.measures:
            return False
        every = self.experiment.evaluation.every
        last = not self._is_to_come(number + 1)
        return last or (every > 0 and number % every == 0)

    def _is_to_come(self, number: int) -> bool:
        return number <= self.settings.rounds and self.privacy.allows(number)

    def _train(self, number: int) -> tuple[Replies, list[Replies]]:
        config, arrays = self.config(number), pack(self.strategy.shared.value)
        self.memories.number = number
        away: set[int] = set()
        if self.admission is not None:
            self.members, away = self.admission.refresh(config, number)
        self.asked, missing = self._asked(number, away)
        messages = self.strategy.configure_train(number, arrays, config, self.grid)
        if not messages and not self.exchange.busy:
            reasons = "; ".join(f"{name} {why}" for name, why in missing.items())
            raise FederationError(f"round {number}: no client takes part in training {reasons}")
        asked = list(zip(self.asked, messages, strict=True))
        summed = None
        if self.secure is None:
            deadline = self.settings.deadline or self.settings.timeout
            replies = self.exchange.ask_until(deadline, number, asked, self.strategy.refusal)
        else:
            summed = self.secure.total(f"round {number}", asked, config)
            replies = summed.replies
        born = {member: (number, reply) for member, reply in replies.good.items()}
        for member, reason in self.strategy.outliers(born | replies.late).items():
            replies.refuse(member, reason)
        replies.gone |= {member.name for member in self.members if member.client in away}
        self.privacy.note(replies)
        self._check_silence(replies)
        divergence.check_losses(replies, self.settings.largest_loss)
        self.attendance.note(number, replies, self.asked)
        replies.refused |= missing
        replies.require(self.settings.quorum)
        if summed is None:
            self._aggregate(number, replies)
        else:
            self._take(number, summed)
        moved = {**self.strategy.shared.value, **self.strategy.residuals.learned}
        divergence.check_finite(number, moved)
        return replies, [replies] if summed is None else summed.exchanges

    def _asked(self, number: int, away: set[int]) -> tuple[list[Member], dict[str, str]]:
        """Return who is asked in a round, and who of the sample is not and why."""
        cohort = self._cohort(number)
        missing = {member.name: "the node is away" for member in cohort if member.client in away}
        missing |= self.attendance.resting(number, cohort) | self.privacy.over(cohort)
        busy = self.exchange.busy
        return [m for m in cohort if m.name not in missing and m.client not in busy], missing

    def _aggregate(self, number: int, replies: Replies) -> None:
        late = [(reply, born) for _, (born, reply) in sorted(replies.late.items())]
        born = [number] * len(replies.good) + [born for _, born in late]
        messages = [*replies.good.values(), *(reply for reply, _ in late)]
        self.strategy.aggregate_train(number, messages, born)

    def _take(self, number: int, summed: Summed) -> None:
        payload, summed.replies.means = mean(summed.total, self.strategy.settings.most)
        self.strategy.take(number, payload, [member.name for member in summed.replies.good])

    def _check_silence(self, replies: Replies) -> None:
        # In a simulation a worker that died stays dead; with a deadline the silent may be slow.
        if not self.exchange.simulated or self.settings.deadline is not None:
            return
        self.silent = {name: self.silent.get(name, 0) + 1 for name in replies.silent}
        lost = sorted(name for name, rounds in self.silent.items() if rounds > 1)
        if lost:
            raise FederationError(f"{replies.phase}: no reply twice in a row from {lost[0]}")

    def _statistics(self) -> tuple[dict[str, Tensor], list[Replies]]:
        pools = self.experiment.method.pools_statistics and self.job.start is None
        compares = bool(self.settings.diagnostics.every) and self.secure is None
        if not (pools or compares):
            return {}, []
        asked: list[tuple[Member, Mapping[str, ArrayRecord]]]
        asked = [(member, {}) for member in self.members if member.trains]
        found = self._query(STATISTICS, "statistics", 0, asked, self.privacy.unlikely)
        if compares:
            replies = found.exchanges[-1].good.values()
            self.apart = apart([arrays_of(reply) for reply in replies])
        if not pools:
            return {}, found.exchanges
        return self.privacy.released(found.tensors, found.clients), found.exchanges

    def _diagnose(self, number: int) -> tuple[dict[str, float], list[Replies]]:
        """Return what is known of the meta-objective after a round, where it is due."""
        every, last = self.settings.diagnostics.every, not self._is_to_come(number + 1)
        if not every or (number % every and not last):
            return {}, []
        theta, members = pack(self.strategy.shared.value), [m for m in self.members if m.trains]
        asked = [(member, self.held.records(member, theta)) for member in members]
        judge = unlikely(self.strategy.shared.value, self.experiment.method.rates)
        found = self._query("query.diagnose", f"diagnosis of round {number}", number, asked, judge)
        self.held.answered(found.exchanges[-1].good, theta)
        return diagnosed(found), found.exchanges

    def _evaluate(self, number: int, arm: str) -> Measured:
        config, arrays = self.config(number), pack(self.strategy.theta)
        calibration, exchanges = self._calibrate(number, arrays)
        messages = self.strategy.configure_evaluate(number, arrays, config, self.grid)
        shared = pack(calibration)
        for message in messages:
            message.content[CALIBRATION] = shared
        asked = list(zip(self.members, messages, strict=True))
        name = f"evaluation of round {number}"
        replies = self._heard("evaluate", name, number, asked, self.rows.refusal)
        if asked:
            replies.require(self.settings.quorum)
        self.held.answered(replies.good, arrays)
        rows = self.rows.collect(replies, self.job.out.name, arm, number)
        return Measured(calibration, rows, [*exchanges, replies])

    def _calibrate(
        self, number: int, arrays: ArrayRecord
    ) -> tuple[dict[str, Tensor], list[Replies]]:
        pooled: dict[str, Tensor] = {}
        exchanges: list[Replies] = []
        theta = self.strategy.evaluated(arrays)
        members = [member for member in self.members if member.trains]
        for stage in range(STAGES if members else 0):
            name, shared = f"calibration {stage + 1} of round {number}", pack(pooled)
            asked = [(m, {**self.held.records(m, theta(m)), CALIBRATION: shared}) for m in members]
            found = self._query("query.calibrate", name, number, asked, implausible)
            self.held.answered(found.exchanges[-1].good, arrays)
            pooled |= found.tensors
            exchanges += found.exchanges
        return pooled, exchanges

    def _query(
        self,
        kind: str,
        name: str,
        number: int,
        asked: Iterable[tuple[Member, Mapping[str, ArrayRecord]]],
        unlikely: sums.Unlikely,
    ) -> sums.Total:
        """Return the sum over those who are asked and whose part is not unlikely."""
        config = self.config(number)
        messages = [(m, instruction(m, kind, records, config)) for m, records in asked]
        if self.secure is not None and messages:
            summed = self.secure.total(name, messages, config)
            return sums.Total(summed.total.exact, len(summed.replies.good), summed.exchanges)
        replies = self._heard(kind, name, number, messages, sums.refusal(unlikely))
        sums.agree(replies)
        if messages:
            replies.require(self.settings.quorum)
        return sums.total(replies, self.privacy.bounded if kind == STATISTICS else dict)

    def _heard(
        self,
        kind: str,
        name: str,
        number: int,
        asked: Sequence[tuple[Member, Message]],
        refusal: Refusal,
    ) -> Replies:
        """Return what is answered beside the training.

        On a network a node that says nothing to one kind of question rests from that kind.
        """
        if self.exchange.simulated:
            return self.exchange.ask(name, asked, refusal)
        attendance = self.measuring.setdefault(kind, Attendance())
        resting = attendance.resting(number, [member for member, _ in asked])
        awake = [(member, message) for member, message in asked if member.name not in resting]
        replies = self.exchange.ask(name, awake, refusal)
        attendance.note(number, replies, [member for member, _ in awake])
        replies.refused |= resting
        return replies

    def _record(
        self,
        snapshot: Snapshot,
        trained: Replies | None,
        measured: Measured | None,
        exchanges: Sequence[Replies],
        started: float,
        diagnosis: Mapping[str, float],
    ) -> Snapshot:
        if measured is not None:
            results.append(self.job.results, measured.rows)
        line = line_of(
            snapshot.round,
            trained,
            exchanges,
            workers(self.exchange, self.settings, len(self.members)),
        )
        line[history.AUROC] = None if measured is None else results.mean_auroc(measured.rows)
        line |= dict.fromkeys(MEASURED) if trained is None else self.strategy.measured()
        line |= {name: diagnosis.get(name) for name in NAMES}
        line |= self.attendance.line() | self.privacy.line(snapshot.round)
        if self.admission is not None:
            line |= self.admission.line() | {SITES: self.rows.owners}
            line[MEASURING] = {kind: one.line() for kind, one in self.measuring.items()}
            line["refused"] = self.admission.refused | line["refused"]
            self.admission.refused = {}
        line["seconds"] = self.exchange.clock.now() - started
        history.append(self.job.history, line)
        for tracker in self.trackers:
            tracker.log(snapshot.round, numbers_of(line))
        snapshot = replace(snapshot, history=snapshot.history + 1)
        checkpoints.write(self.job.out / "checkpoints", snapshot, self.identity)
        return snapshot


def run_rounds(grid: Grid, job: Job, problem: Problem) -> Snapshot:
    """Run ``job`` on the nodes behind ``grid`` and return the server after the last round.

    Raises:
        BayfedError: a round could not be completed, or a file of the run cannot be used.
    """
    return Federation(grid, job, problem).run()
