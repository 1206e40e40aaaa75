"""A Grid that calls the ClientApp in this very process: for tests, benches and studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients.batched import Opened, answered
from clients.local import in_process
from clients.session import Session

_RUN, _SERVER = 1, 1
Answers = Callable[[Message, Context], Message]
"""A ClientApp, or what stands in its place."""


@contextmanager
def flower_identity() -> Iterator[None]:
    """Let this process create messages, which Flower allows to its own processes only."""
    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = _RUN, _RUN, _SERVER
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


class InProcessGrid(Grid):
    """``nodes`` simulated nodes whose messages are answered at once and one after the other."""

    simulated = True

    def __init__(self, app: Answers, nodes: int) -> None:
        self.app, self._run = app, Run.create_empty(run_id=_RUN)
        self._contexts = {
            node: Context(
                run_id=_RUN,
                node_id=node,
                node_config={"partition-id": index, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for index, node in enumerate(range(100, 100 + nodes))
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Set the run, which nothing here depends on."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the identities of the nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer ``messages`` and return their identities."""
        pushed = list(messages)
        identities = [str(uuid4()) for _ in pushed]
        for message, identity in zip(pushed, identities, strict=True):
            message.metadata.__dict__["_message_id"] = identity
        replies = zip(identities, self.replies(pushed), strict=True)
        self._replies |= {identity: reply for identity, reply in replies if reply is not None}
        return identities

    def replies(self, messages: Sequence[Message]) -> list[Message | None]:
        """Return the reply to each of ``messages``."""
        return [self.deliver(message) for message in messages]

    def deliver(self, message: Message) -> Message | None:
        """Return the node's reply, ``None`` for a node that never answers."""
        context = self._contexts[message.metadata.dst_node_id]
        try:
            with in_process():
                return self.app(message, context)
        except Exception as error:
            return Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return and forget the replies to the given messages."""
        found = [self._replies.pop(identity, None) for identity in set(message_ids)]
        return [reply for reply in found if reply is not None]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Answer ``messages`` and return the replies."""
        return self.pull_messages(self.push_messages(messages))


class BatchedGrid(InProcessGrid):
    """Nodes whose instructions to train are answered together, and all others one by one.

    Args:
        app: The ClientApp.
        nodes: How many there are.
        size: Most clients at once.
        opened: Gives a client's learning problem; its factory where nothing else is said.
    """

    def __init__(
        self, app: Answers, nodes: int, size: int, opened: Opened = Session.factory
    ) -> None:
        super().__init__(app, nodes)
        self._size, self._opened = size, opened

    def replies(self, messages: Sequence[Message]) -> list[Message | None]:
        """Return the reply to each of ``messages``."""
        asked = [m for m in messages if m.metadata.message_type == MessageType.TRAIN]
        pairs = [(message, self._contexts[message.metadata.dst_node_id]) for message in asked]
        with in_process():
            found = dict(
                zip(map(id, asked), answered(pairs, self._size, self._opened), strict=True)
            )
        return [found[id(m)] if id(m) in found else self.deliver(m) for m in messages]
