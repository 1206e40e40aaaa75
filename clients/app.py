"""The Flower ClientApp of one factory: images and features stay here."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bayfed.errors import BayfedError, FederationError, one_line
from bayfed.evaluation.checkpoint import digest
from clients import diagnosis, secure
from clients.local import LocalPaths, simulated
from clients.memory import DOWNLINK, OWN, SHOWN, UPLINK, Memory
from clients.session import Session, identity, read
from strategies.algorithm import Reply, Sent
from strategies.averaging import Averaging
from strategies.build import algorithm_of
from strategies.downlink import receive
from strategies.held import given
from strategies.privacy.clients import ClientLevel
from strategies.privacy.images import ImageLevel
from strategies.secure.averaging import summand
from strategies.task import Params, norm
from strategies.uplink import Uplink
from strategies.wire import (
    ARRAYS,
    CALIBRATION,
    ERROR,
    EXTRAS,
    INFO,
    MEMORY,
    METRICS,
    WEIGHT,
    arrays_of,
    pack,
    steps_of,
)

if TYPE_CHECKING:
    from clients.factory import Factory

log = logging.getLogger("bayfed.client")
app = ClientApp()
Work = Callable[[Session, Message], RecordDict]


def answer(message: Message, context: Context, work: Work, spent: float = 0.0) -> Message:
    """Return the reply of ``work``; a failure becomes a reply that names the client.

    Args:
        message: What is asked.
        context: Of the node.
        work: Computes the content of the reply.
        spent: Seconds that were computed for it before.
    """
    started, session = time.perf_counter() - spent, None
    try:
        session = read(message, context)
        content = work(session, message)
    except Exception as error:
        if not simulated():  # the plant is to read it, too
            log.warning("%s", one_line(error))
        log.debug("client failed", exc_info=True)
        return Message(_failure(error, session, message, context), reply_to=message)
    metrics = {"partition": session.client, "seconds": time.perf_counter() - started}
    known: Any = content  # Flower's own views of it copy all of it
    content[METRICS] = MetricRecord({**known.get(METRICS, {}), **metrics})
    content[INFO] = ConfigRecord({**known.get(INFO, {}), "name": session.name()})
    return Message(content, reply_to=message)


def _failure(
    error: Exception, session: Session | None, message: Message, context: Context
) -> RecordDict:
    if session is None:
        try:
            name = f"client {identity(message, context)}"
        except BayfedError:
            name = f"node {context.node_id}"
    else:
        name = session.name()
    # Where this machine keeps its files is nobody else's business.
    said = LocalPaths.of(context.node_config).hidden(one_line(error))
    return RecordDict({ERROR: ConfigRecord({"name": name, "message": said[:500]})})


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Open the factory and say what it holds, in numbers."""

    def work(session: Session, _: Message) -> RecordDict:
        factory = session.factory()
        info: dict[str, str | int | bool | list[str]] = {
            "trains": factory.trains,
            "held_out": list(factory.held_out),
            "describe": json.dumps(factory.describe()),
            "simulated": simulated(),
            "partitions": int(context.node_config.get("num-partitions", 0)),
        }
        if session.experiment.federation.downlink.lossy:
            info["initial"] = digest(factory.initial())
        return RecordDict({INFO: ConfigRecord({**info})})

    return answer(message, context, work)


@app.query("keys")
def keys(message: Message, context: Context) -> Message:
    """Return the public key that secure sums know this client by."""
    return answer(message, context, lambda session, _: secure.hello(session, context))


@app.query("shares")
def shares(message: Message, context: Context) -> Message:
    """Begin an attempt at a secure sum."""
    return answer(message, context, lambda session, m: secure.share(session, context, m))


@app.query("confirm")
def confirm(message: Message, context: Context) -> Message:
    """Tell the others whose vectors are said to be there."""
    return answer(message, context, lambda session, m: secure.confirm(session, context, m))


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Return the shares that unmask a sum."""
    return answer(message, context, lambda session, m: secure.unmask(session, context, m))


@app.query("statistics")
def statistics(message: Message, context: Context) -> Message:
    """Return the additive sums of empirical Bayes."""
    return answer(
        message,
        context,
        lambda session, message: secure.added(
            session, context, message, session.factory().statistics()
        ),
    )


@app.query("calibrate")
def calibrate(message: Message, context: Context) -> Message:
    """Return one stage of the additive sums behind pooled p-values."""

    def work(session: Session, message: Message) -> RecordDict:
        pooled = arrays_of(message, CALIBRATION)
        theta = evaluated(session, message, context)
        sums = session.factory().calibrate(theta, pooled)
        return secure.added(session, context, message, sums)

    return answer(message, context, work)


@app.query("diagnose")
def diagnose(message: Message, context: Context) -> Message:
    """Return the additive sums behind the exact meta-objective and its gradient."""

    def work(session: Session, message: Message) -> RecordDict:
        experiment, theta = session.experiment, shown(session, message, context)
        found = diagnosis.diagnose(
            session.factory(), theta, experiment.method.rates, experiment.federation
        )
        return secure.added(session, context, message, found)

    return answer(message, context, work)


@app.query("remember")
def remember(message: Message, context: Context) -> Message:
    """Take up what this client remembered when the run was interrupted."""

    def work(session: Session, message: Message) -> RecordDict:
        if not simulated():
            raise FederationError("this node takes no memory from the server")
        Memory.of(session, context).restore(arrays_of(message, MEMORY))
        return RecordDict()

    return answer(message, context, work)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the update of one round."""
    return answer(
        message,
        context,
        lambda session, message: trained(session, session.factory(), message, context),
    )


def trained(session: Session, factory: Factory, message: Message, context: Context) -> RecordDict:
    """Return the update of one round of ``factory`` as it leaves the client."""
    asked = received(session, message, context, factory.initial)
    return leaving(asked, factory.name, computed(asked, factory))


@dataclass(frozen=True)
class Asked:
    """What a client is asked to compute in a round.

    Attributes:
        session: Of the message.
        message: It.
        context: Of the node.
        sent: What it sends.
        memory: What the client keeps.
    """

    session: Session
    message: Message
    context: Context
    sent: Sent
    memory: Memory


def received(
    session: Session, message: Message, context: Context, initial: Callable[[], Params]
) -> Asked:
    """Return what comes before the update of a client: what it has been sent.

    ``initial`` makes the parameters of round 0.
    """
    secure.check_open(session, context)
    experiment, memory = session.experiment, Memory.of(session, context, trains=True)
    bits, rates = experiment.federation.downlink.bits, experiment.method.rates
    held = memory[SHOWN], initial
    theta, memory[DOWNLINK] = receive(message, memory[DOWNLINK], bits, rates, session.round, held)
    sent = Sent(theta, arrays_of(message, EXTRAS), steps_of(message))
    return Asked(session, message, context, sent, memory)


def computed(asked: Asked, factory: Factory) -> Reply:
    """Return the update of a client."""
    experiment, number, memory = asked.session.experiment, asked.session.round, asked.memory
    images = ImageLevel.of(experiment)
    if images is not None:
        return images.update(factory, asked.sent.theta, Averaging.of(experiment), number)
    algorithm = algorithm_of(experiment)
    update, memory[OWN] = algorithm.client(factory, asked.sent, memory[OWN], number)
    return update


def leaving(asked: Asked, name: str, update: Reply) -> RecordDict:
    """Return what comes after the update of the client called ``name``: the form it leaves in.

    Who is only played hands a copy of its memory over, so that the run can be resumed.
    """
    content = _formed(asked, name, update)
    asked.memory.commit()
    if simulated() and (lasting := asked.memory.lasting):
        content[MEMORY] = pack(lasting)
    return content


def _formed(asked: Asked, name: str, update: Reply) -> RecordDict:
    session, memory, number = asked.session, asked.memory, asked.session.round
    experiment = session.experiment
    settings, uplink = Averaging.of(experiment), Uplink.of(experiment)
    private, hidden = ClientLevel.of(experiment), experiment.federation.secure
    sent, memory[UPLINK] = uplink.send(update.tensors, memory[UPLINK], number, name)
    if private is not None:
        sent = private.share(sent, frozenset(sent), number, name)
    if hidden is not None:
        clip = None if private is not None and private.shares else hidden.clip
        part = summand(sent, int(update.weight), update.metrics, clip, settings.most)
        return secure.masked(session, asked.context, asked.message, part)
    # Where the client adds noise, the norm of what is under it would go past the noise.
    told = sent if private is not None and private.shares else update.tensors
    metrics = {**update.metrics, WEIGHT: int(update.weight), "update_norm": norm(told)}
    content = RecordDict({ARRAYS: pack(sent), METRICS: MetricRecord({**metrics})})
    if update.extras:
        content[EXTRAS] = pack(update.extras)
    return content


def evaluated(session: Session, message: Message, context: Context) -> Params:
    """Return what the client works with where the server sent the parameters in ``message``."""
    theta, own = shown(session, message, context), Memory.of(session, context)[OWN]
    return algorithm_of(session.experiment).personal(theta, own)


def shown(session: Session, message: Message, context: Context) -> Params:
    """Return the parameters that ``message`` is about; where they may come again, keep them."""
    memory = Memory.of(session, context)
    theta = given(message, memory[SHOWN], session.factory().initial)
    if session.experiment.federation.downlink.lossy:
        memory[SHOWN] = theta
        memory.commit()
    return theta


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return rows of results, each a site and a draw; never a score of an image."""

    def work(session: Session, message: Message) -> RecordDict:
        calibration = arrays_of(message, CALIBRATION)
        theta = evaluated(session, message, context)
        rows = session.factory().evaluate(theta, calibration)
        return RecordDict(
            {
                METRICS: MetricRecord({WEIGHT: max(1, len(rows))}),
                INFO: ConfigRecord({"rows": json.dumps(rows)}),
            }
        )

    return answer(message, context, work)
