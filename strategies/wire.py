"""The form in which tensors and words travel between server and clients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from bayfed.errors import FederationError
from strategies.task import Params

CODE = ("bayfed", "clients", "strategies")
"""The packages that server and clients must hold in the same version."""
ARRAYS, CHANGE, HELD, EXTRAS, CALIBRATION, MEMORY, METRICS, CONFIG, INFO, ERROR = (
    "arrays",
    "change",
    "held",
    "extras",
    "calibration",
    "memory",
    "metrics",
    "config",
    "info",
    "error",
)
STEPS = "steps"
"""The instruction's word on local steps."""
WEIGHT = "num-examples"
"""The metric that weighs a reply: episodes."""
MAX_BYTES = 512 * 2**20
"""Largest set of tensors that either side accepts."""
MAX_LAYOUT, MAX_TENSORS = 2**20, 10_000
"""Longest accepted layout, in characters, and the most tensors in a record."""
DTYPES = frozenset({"float32", "float64", "int64", "uint8"})


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
    held_out: tuple[str, ...] = ()
    """The names in ``protocol.holdout`` that it knows."""
    initial: str = ""
    """Digest of the parameters of round 0 as it makes them; empty = it has not told."""


Cohort = Callable[[int], Sequence[Member]]
"""The members that take part in a round."""


def pack(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return ``tensors`` as a record of one flat array for each dtype, named by its layout.

    A layout lists names and shapes. Flower moves each array in several requests on each of
    three hops, so that twenty small arrays cost ten times as much as two.

    >>> list(pack({"b": torch.ones(2), "a": torch.zeros(2, 3)}))
    ['[["a",2,3],["b",2]]']
    """
    record = ArrayRecord()
    for dtype in sorted({tensor.dtype for tensor in tensors.values()}, key=str):
        chosen = {name: tensors[name] for name in sorted(tensors) if tensors[name].dtype == dtype}
        layout = [[name, *tensor.shape] for name, tensor in chosen.items()]
        flat = torch.cat([tensor.detach().cpu().reshape(-1) for tensor in chosen.values()])
        record[json.dumps(layout, separators=(",", ":"))] = Array(flat.numpy())
    return record


def unpack(record: ArrayRecord) -> Params:
    """Return the tensors of ``record``, sorted by name.

    >>> unpack(pack({"w": torch.ones(2)}))
    {'w': tensor([1., 1.])}

    Raises:
        FederationError: the record is too large, or is not made of plain arrays and layouts.
    """
    if (size := record.count_bytes()) > MAX_BYTES:
        raise FederationError(f"{size} bytes of tensors, at most {MAX_BYTES} are accepted")
    tensors: Params = {}
    for layout, array in record.items():
        try:
            found = _parts(layout, array)
        except Exception as error:  # a stranger's bytes: NumPy and torch raise what they like
            raise FederationError(f"tensors {layout[:60]!r} cannot be read: {error}") from error
        if twice := tensors.keys() & found.keys():
            raise FederationError(f"tensor {min(twice)!r} is there twice")
        tensors |= found
        if len(tensors) > MAX_TENSORS:
            raise FederationError(f"more than {MAX_TENSORS} tensors")
    return dict(sorted(tensors.items()))


def _parts(layout: str, array: Array) -> Params:
    """Cut a flat array into the tensors that its layout names."""
    shapes, values = _shapes(layout), array.numpy()
    sizes = [math.prod(shape) for shape in shapes.values()]
    if values.dtype.name not in DTYPES or values.shape != (sum(sizes),):
        raise ValueError(f"an array of {values.dtype} {values.shape} is not expected")
    parts = torch.split(torch.from_numpy(values), sizes)
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(shape).clone() for (name, shape), part in named}


def _shapes(layout: str) -> dict[str, tuple[int, ...]]:
    if len(layout) > MAX_LAYOUT:
        raise ValueError(f"a layout of {len(layout)} characters, at most {MAX_LAYOUT} are accepted")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, *shape in json.loads(layout):
        if type(name) is not str or any(type(size) is not int or size < 0 for size in shape):
            raise ValueError("a name and the sizes of a tensor are expected")
        if name in shapes:
            raise ValueError(f"{name!r} is there twice")
        shapes[name] = tuple(shape)
    return shapes


def instruction(
    member: Member, kind: str, records: Mapping[str, ArrayRecord], config: ConfigRecord
) -> Message:
    """Return the message that asks ``member`` to do ``kind``.

    ``config`` is copied and completed by the member's partition; the arrays are shared
    between the messages of a round.
    """
    addressed = ConfigRecord({**config, "client": member.client})
    return Message(RecordDict({**records, CONFIG: addressed}), member.node, kind)


def config_of(message: Message, key: str = CONFIG) -> ConfigRecord:
    """Return the words under ``key`` of a message, none where there are none.

    Flower's own views of a content, such as ``config_records``, copy all of it.
    """
    record = message.content.get(key)
    return record if isinstance(record, ConfigRecord) else ConfigRecord()


def steps_of(message: Message) -> int | None:
    """Return how many local steps a message asks of this client, ``None`` if it says nothing."""
    steps = config_of(message).get(STEPS)
    return steps if isinstance(steps, int) and steps > 0 else None


def arrays_of(message: Message, key: str = ARRAYS) -> Params:
    """Return the tensors under ``key`` of a message, empty where there are none."""
    record = message.content.get(key)
    return unpack(record) if isinstance(record, ArrayRecord) else {}


def metrics_of(message: Message) -> dict[str, float]:
    """Return the scalar metrics of a reply."""
    record = message.content.get(METRICS)
    if not isinstance(record, MetricRecord):
        return {}
    return {key: value for key, value in record.items() if isinstance(value, int | float)}
