"""The form in which tensors and words travel between server and clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from bayfed.errors import FederationError
from strategies.task import Params

CODE = ("bayfed", "clients", "strategies")
"""The packages that server and clients must hold in the same version."""
ARRAYS, CALIBRATION, METRICS, CONFIG, INFO, ERROR = (
    "arrays",
    "calibration",
    "metrics",
    "config",
    "info",
    "error",
)
WEIGHT = "num-examples"
"""The metric that weighs a reply: episodes."""
MAX_BYTES = 512 * 2**20
"""Largest set of tensors that either side accepts."""
DTYPES = frozenset({"float32", "float64", "int64"})


@dataclass(frozen=True, order=True)
class Member:
    """A client as the server knows it.

    ``client`` is the partition id, which is the same in every run; ``node`` is the
    identity that Flower drew for this run.
    """

    client: int
    name: str
    node: int
    trains: bool = True
    calibrates: bool = True
    """Whether its method needs the sums behind pooled p-values."""


Cohort = Callable[[int], Sequence[Member]]
"""The members that take part in a round."""


def pack(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return ``tensors`` as a record, sorted by name."""
    return ArrayRecord({name: tensors[name].detach().cpu() for name in sorted(tensors)})


def unpack(record: ArrayRecord) -> Params:
    """Return the tensors of ``record``.

    >>> unpack(pack({"w": torch.ones(2)}))
    {'w': tensor([1., 1.])}

    Raises:
        FederationError: the record is too large, or is not made of plain arrays.
    """
    if (size := record.count_bytes()) > MAX_BYTES:
        raise FederationError(f"{size} bytes of tensors, at most {MAX_BYTES} are accepted")
    tensors: Params = {}
    for name, array in record.items():
        if array.dtype not in DTYPES:
            raise FederationError(f"tensor {name!r} has dtype {array.dtype!r}")
        try:
            tensors[name] = torch.from_numpy(array.numpy().copy())
        except (TypeError, ValueError, EOFError) as error:
            raise FederationError(f"tensor {name!r} cannot be read: {error}") from error
    return tensors


def instruction(
    member: Member, kind: str, records: Mapping[str, ArrayRecord], config: ConfigRecord
) -> Message:
    """Return the message that asks ``member`` to do ``kind``.

    ``config`` is copied and completed by the member's partition; the arrays are shared
    between the messages of a round.
    """
    addressed = ConfigRecord({**config, "client": member.client})
    return Message(RecordDict({**records, CONFIG: addressed}), member.node, kind)


def arrays_of(message: Message, key: str = ARRAYS) -> Params:
    """Return the tensors under ``key`` of a message, empty where there are none."""
    record = message.content.array_records.get(key)
    return {} if record is None else unpack(record)


def metrics_of(message: Message) -> dict[str, float]:
    """Return the scalar metrics of a reply."""
    record: Mapping[str, object] = message.content.metric_records.get(METRICS, MetricRecord())
    return {key: value for key, value in record.items() if isinstance(value, int | float)}
