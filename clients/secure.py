"""A client's part in secure sums: its secret, and its answers to the steps of an attempt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from bayfed.config import Experiment
from bayfed.errors import ConfigError, FederationError
from bayfed.seeds import stream
from clients.local import simulated
from clients.session import Session
from strategies.secure import secret
from strategies.secure.client import Client
from strategies.secure.fixed import Bounded
from strategies.secure.journal import Journal
from strategies.secure.payload import Coding, Summand, to_record
from strategies.secure.records import Agreed, Attempt, Delivered, Following, Form, Hello, Mailbox
from strategies.secure.steps import COUNT, JOURNAL, MASKED, of_content, to_content
from strategies.task import Params
from strategies.wire import ARRAYS, pack

Step = Callable[[Client, Attempt, Message], Form]


def check_open(session: Session, context: Context) -> None:
    """Check that what is asked for may leave this node in the clear.

    Raises:
        ConfigError: the node has a secret, so that it adds to secure sums only.
    """
    if session.experiment.federation.secure is None and "secret" in context.node_config:
        raise ConfigError(
            "federation.secure: this node has a secret in its --node-config, "
            "so it takes part in runs with secure sums only"
        )


def hello(session: Session, context: Context) -> RecordDict:
    """Return the public key of this client."""
    client = _client(session, context)
    return to_content(Hello(client.public, client.latest))


def share(session: Session, context: Context, message: Message) -> RecordDict:
    """Return the shares of an attempt's secrets."""
    return to_content(_client(session, context).share(of_content(message.content, Attempt)))


def confirm(session: Session, context: Context, message: Message) -> RecordDict:
    """Return for each peer a tag over those who are said to have delivered."""
    content = message.content
    attempt, delivered = of_content(content, Attempt), of_content(content, Delivered)
    return to_content(_client(session, context).confirm(attempt, delivered))


def unmask(session: Session, context: Context, message: Message) -> RecordDict:
    """Return one share for each client who has shared, and what the next attempt begins with."""
    content, client = message.content, _client(session, context)
    revealed = client.reveal(
        of_content(content, Attempt),
        of_content(content, Delivered),
        of_content(content, Agreed),
        of_content(content, Mailbox),
    )
    try:
        following = of_content(content, Following)
        return to_content(revealed, client.share(following))
    except FederationError:  # none is meant, or it is told where the shares are asked for
        return to_content(revealed)


def added(session: Session, context: Context, message: Message, tensors: Params) -> RecordDict:
    """Return ``tensors`` whose sum over clients is asked for, masked where the run asks for that.

    Raises:
        BayfedError: they must not leave like that.
    """
    if session.experiment.federation.secure is not None:
        return masked(session, context, message, Summand(exact=tensors))
    check_open(session, context)
    return RecordDict({ARRAYS: pack(tensors)})


def masked(session: Session, context: Context, message: Message, summand: Summand) -> RecordDict:
    """Return ``summand`` under the masks of the attempt in ``message``.

    Raises:
        FederationError: the attempt is not one that this client takes part in.
    """
    attempt, mail = of_content(message.content, Attempt), of_content(message.content, Mailbox)
    random = stream(session.experiment.seed, "quantise", session.round, session.client)
    counted = Summand(summand.grid, {**summand.exact, COUNT: torch.tensor(1)})
    blocks = coding(session.experiment, attempt).encode(counted, random)
    data, tags = _client(session, context).mask(attempt, mail, list(blocks.values()))
    content = to_content(tags)
    content[MASKED] = to_record(dict(zip(blocks, data, strict=True)))
    return content


def coding(experiment: Experiment, attempt: Attempt) -> Coding:
    """Return how the cohort of ``attempt`` codes what it adds.

    Raises:
        FederationError: the experiment has no secure sums.
    """
    settings = experiment.federation.secure
    if settings is None:
        raise FederationError("federation.secure is not set in this run")
    return Coding(Bounded(settings.clip, settings.bits), len(attempt.keys))


def _client(session: Session, context: Context) -> Client:
    node = {key: str(value) for key, value in context.node_config.items()}
    number, seed = session.client, session.experiment.seed
    if "secret" in node:
        own = secret.read(Path(node["secret"]))
    elif simulated():
        own = secret.simulated(seed, number)
    else:
        raise ConfigError("secret: this node has none in its --node-config")
    peers = secret.read_peers(Path(node["peers"])) if "peers" in node else None
    folder = Path(node["state-dir"]) if "state-dir" in node else None
    if JOURNAL not in context.state:
        context.state[JOURNAL] = ConfigRecord()
    state = context.state.config_records[JOURNAL]
    return Client(number, own, Journal(state, number, folder), peers)
