"""What a client adds to a sum: tensors on a grid, and tensors that add up exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from bayfed.errors import FederationError
from strategies.secure.client import Block
from strategies.secure.fixed import Bounded, Reals, Wide
from strategies.secure.ring import Bytes, Ring, Vector
from strategies.task import Params
from strategies.wire import MAX_BYTES

GRID, EXACT = "grid", "exact"
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
Layout = str
"""JSON of the kind of a block, and of name, dtype and sizes of each of its tensors."""


@dataclass(frozen=True)
class Summand:
    """Tensors that are added over clients.

    Attributes:
        grid: In [-C, C], rounded to a grid.
        exact: Of a wide range, and 16 bytes a number.
    """

    grid: Params = field(default_factory=dict)
    exact: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Coding:
    """How a cohort codes what it adds.

    Attributes:
        grid: Of the tensors that are rounded.
        cohort: How many clients may take part.
    """

    grid: Bounded
    cohort: int

    def encode(self, summand: Summand, random: np.random.Generator) -> dict[Layout, Block]:
        """Return ``summand`` as blocks under their layouts, in the order of these.

        Raises:
            FederationError: a number is not finite, or there is no room for it.
        """
        blocks: dict[Layout, Block] = {}
        if summand.grid:
            values = _flat(summand.grid)
            if not np.isfinite(values).all():
                raise FederationError("what is to be added holds NaN or Inf")
            vector = self.grid.encode(values, random)
            blocks[_layout(GRID, summand.grid)] = Block(self.grid.ring(self.cohort), vector)
        if summand.exact:
            numbers = [v for _, t in sorted(summand.exact.items()) for v in t.reshape(-1).tolist()]
            blocks[_layout(EXACT, summand.exact)] = Block(Wide.ring, Wide().encode(numbers))
        return dict(sorted(blocks.items()))

    def decode(self, totals: Mapping[Layout, Vector], summands: int) -> Summand:
        """Return the sum of so many summands, tensors of the grid in float64.

        Raises:
            FederationError: a layout does not fit its block.
        """
        sums: dict[str, Params] = {GRID: {}, EXACT: {}}
        for layout, total in totals.items():
            kind, shapes = parse(layout)
            if kind == GRID:
                found = torch.from_numpy(self.grid.decode(total, summands))
                sums[kind] = _parts(found, {n: (torch.float64, s) for n, (_, s) in shapes.items()})
            else:
                sums[kind] = _parts(Wide().decode(total), shapes)
        return Summand(sums[GRID], sums[EXACT])

    def ring(self, layout: Layout) -> Ring:
        """Return what a block is added modulo.

        Raises:
            FederationError: the layout cannot be read.
        """
        return self.grid.ring(self.cohort) if parse(layout)[0] == GRID else Wide.ring


def to_record(masked: Mapping[Layout, Bytes]) -> ArrayRecord:
    """Return masked blocks as they travel."""
    return ArrayRecord({layout: Array(data) for layout, data in masked.items()})


def of_record(record: ArrayRecord | None, coding: Coding) -> dict[Layout, Bytes]:
    """Return the masked blocks of a reply.

    Raises:
        FederationError: there are none, or they do not fit their layouts.
    """
    if not record:
        raise FederationError("the reply holds no masked vector")
    if (size := record.count_bytes()) > MAX_BYTES:
        raise FederationError(f"{size} bytes of tensors, at most {MAX_BYTES} are accepted")
    blocks: dict[Layout, Bytes] = {}
    for layout, array in record.items():
        shapes, width = parse(layout)[1], coding.ring(layout).width
        expected = width * sum(math.prod(shape) for _, shape in shapes.values())
        try:
            data = array.numpy()
        except (TypeError, ValueError, EOFError) as error:
            raise FederationError("a masked vector cannot be read") from error
        if data.dtype != np.uint8 or data.shape != (expected,):
            raise FederationError(
                f"a masked vector of {data.dtype} {data.shape}, {expected} bytes are expected"
            )
        blocks[layout] = data
    return blocks


def parse(layout: Layout) -> tuple[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]]:
    """Return the kind of a block, and dtype and shape of its tensors by name.

    >>> parse('["grid",[["w","float32",2,3]]]')
    ('grid', {'w': (torch.float32, (2, 3))})

    Raises:
        FederationError: it is no layout.
    """
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    try:
        kind, items = json.loads(layout)
        for name, dtype, *shape in items:
            if type(name) is not str or any(type(n) is not int or n < 0 for n in shape):
                raise ValueError(name)
            shapes[name] = _DTYPES[dtype], tuple(shape)
        if kind not in (GRID, EXACT) or len(shapes) != len(items):
            raise ValueError(kind)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FederationError(f"{layout[:60]!r} is no layout of a masked vector") from error
    return kind, shapes


def _layout(kind: str, tensors: Params) -> Layout:
    items = [[n, str(t.dtype).removeprefix("torch."), *t.shape] for n, t in sorted(tensors.items())]
    return json.dumps([kind, items], separators=(",", ":"))


def _flat(tensors: Params) -> Reals:
    parts = [t.detach().cpu().double().reshape(-1) for _, t in sorted(tensors.items())]
    return torch.cat(parts).numpy()


def _parts(
    values: Tensor | Sequence[float | int],
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
) -> Params:
    tensors: Params = {}
    start = 0
    for name, (dtype, shape) in shapes.items():
        end = start + math.prod(shape)
        tensors[name] = torch.as_tensor(values[start:end], dtype=dtype).reshape(shape)
        start = end
    return tensors
