"""The way of an update from a client's local steps to the server: client half and server half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.config import Experiment
from bayfed.config.updates import Uplink as Settings
from bayfed.errors import FederationError
from bayfed.seeds import stream
from strategies.coding import Bytes, Vector, coded_sizes, gaps, indices, quantise, restore
from strategies.flat import cut, flat, sizes
from strategies.schema import mismatch
from strategies.server_optimizers import moved_of
from strategies.task import Params, clipped

BYTES, VALUES, GAPS, ERROR = "bytes", "values", "gaps", "error"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Uplink:
    r"""Clips, thins and quantises an update; what is lost comes with the next one.

    .. math:: v = g \min(1, C / \lVert g \rVert) + e, \quad \hat v = Q(v), \quad
              e \leftarrow v - \hat v

    g is the client's update and C its largest norm; Q keeps a share of the coordinates of every
    tensor and rounds them to a grid; the error e is 0 at first and stays with the client. The
    server receives :math:`\hat v`. Parameters that the server does not move are not sent.

    Coordinates drawn alike by all clients of a round cost no indices, and are the same in every
    summand. Without feedback they are divided by the share, so that their mean is v.

    Source: Karimireddy et al., Error Feedback Fixes SignSGD and Other Gradient Compression Schemes,
    2019, Algorithm 2; Stich et al., Sparsified SGD with Memory, 2018.

    Attributes:
        settings: Clip, share, bits and feedback.
        rates: Learning-rate multipliers by prefix of a parameter's name; with 0 it is not moved.
        seed: Of the experiment.

    >>> uplink = Uplink(Settings(keep=0.5, bits=32))
    >>> sent, memory = uplink.send({"w": torch.tensor([3.0, 1.0])}, {}, 1, "a")
    >>> uplink.receive(sent, {"w": torch.zeros(2)}, 1)
    {'w': tensor([3., 0.])}
    >>> memory
    {'error': tensor([0., 1.])}
    """

    settings: Settings = field(default_factory=Settings)
    rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of(cls, experiment: Experiment) -> Uplink:
        """Return the uplink that ``experiment`` asks for."""
        return cls(experiment.federation.uplink, experiment.method.rates, experiment.seed)

    def moved(self, theta: Params) -> Params:
        """Return those of ``theta`` that the server moves, sorted by name."""
        return moved_of(theta, self.rates)

    def send(
        self, update: Params, memory: Params, number: int, client: str
    ) -> tuple[Params, Params]:
        """Return what leaves the client, and what it keeps for its next update.

        Args:
            update: g, all parameters.
            memory: What this returned the last time; {} at first.
            number: Of the round.
            client: Its name, the key of its random stream.
        """
        moved = clipped(self.moved(update), self.settings.clip)
        if not self.settings.lossy:
            return moved, {}
        vector = flat(moved)
        if (error := memory.get(ERROR)) is not None and error.numel() == vector.size:
            vector = vector + error.numpy()
        payload = self._encoded(vector, sizes(moved), number, client)
        if not self.settings.feedback:
            return payload, {}
        lost = vector - self._decoded(payload, sizes(moved), number)
        return payload, {ERROR: torch.from_numpy(lost)}

    def receive(self, payload: Params, theta: Params, number: int) -> Params:
        """Return the update behind ``payload``, with 0 for parameters that are not moved.

        Args:
            payload: What :meth:`send` gave.
            theta: The meta-parameters, whose names, shapes and types an update has.
            number: Of the round.

        Raises:
            FederationError: ``payload`` is not such.
        """
        moved = self.moved(theta)
        if self.settings.lossy:
            try:
                vector = self._decoded(payload, sizes(moved), number)
            except ValueError as error:
                raise FederationError(f"the update cannot be read: {error}") from error
            payload = cut(vector, moved)
        if reason := mismatch(payload, moved):
            raise FederationError(reason)
        zeros = {k: torch.zeros_like(value) for k, value in theta.items() if k not in moved}
        return {name: (payload | zeros)[name] for name in theta}

    def _encoded(self, vector: Vector, lengths: list[int], number: int, client: str) -> Params:
        keep, bits = self.settings.keep, self.settings.bits
        counts = [ceil(keep * size) for size in lengths]
        between: list[Bytes] = []
        if keep < 1 and self.settings.select == "largest":
            chosen = _largest(vector, lengths, counts)
            between.append(gaps(chosen))
            vector = vector[chosen]
        elif keep < 1:
            vector = vector[self._drawn(lengths, counts, number)] * self._gain(lengths, counts)
        if bits == 32:
            payload = {VALUES: torch.from_numpy(vector)}
            return payload | ({GAPS: torch.from_numpy(between[0])} if between else {})
        random = stream(self.seed, "uplink", number, client)
        codes, scales = quantise(vector, counts, bits, random)
        # One array: each costs Flower a header and a request of its own.
        parts = [codes, scales.astype("<f4").view(np.uint8), *between]
        return {BYTES: torch.from_numpy(np.concatenate(parts))}

    def _decoded(self, payload: Params, lengths: list[int], number: int) -> Vector:
        keep, bits = self.settings.keep, self.settings.bits
        counts = [ceil(keep * size) for size in lengths]
        indexed = keep < 1 and self.settings.select == "largest"
        if bits == 32:
            _check_names(payload, {VALUES, GAPS} if indexed else {VALUES})
            values, rest = payload[VALUES].numpy(), _bytes(payload[GAPS]) if indexed else None
            if values.dtype != np.float32 or values.shape != (sum(counts),):
                raise ValueError(f"{values.size} {values.dtype} values, {sum(counts)} are expected")
        else:
            _check_names(payload, {BYTES})
            received = _bytes(payload[BYTES])
            codes, scales = coded_sizes(counts, bits)
            size = codes + 4 * scales
            values = restore(received[:codes], _floats(received[codes:size]), counts, bits)
            rest = received[size:]
            if rest.size and not indexed:
                raise ValueError(f"{rest.size} bytes too many")
        if keep == 1:
            return values
        full = np.zeros(sum(lengths), dtype=np.float32)
        if rest is not None and indexed:
            full[indices(rest, sum(counts), full.size)] = values
        else:
            full[self._drawn(lengths, counts, number)] = values
        return full

    def _gain(self, lengths: list[int], counts: list[int]) -> Vector:
        of_parts = [
            1.0 if self.settings.feedback else s / c for s, c in zip(lengths, counts, strict=True)
        ]
        return np.repeat(np.array(of_parts, dtype=np.float32), counts)

    def _drawn(self, lengths: list[int], counts: list[int], number: int) -> Indices:
        random = stream(self.seed, "uplink", number)
        firsts = np.cumsum([0, *lengths[:-1]])
        drawn = (
            first + np.sort(random.permutation(size)[:count])
            for first, size, count in zip(firsts, lengths, counts, strict=True)
        )
        return np.concatenate([np.zeros(0, dtype=np.int64), *drawn])


def _largest(vector: Vector, lengths: list[int], counts: list[int]) -> Indices:
    """Return the indices of the largest of each part, rising; of equal ones the first."""
    found, first = [np.zeros(0, dtype=np.int64)], 0
    for size, count in zip(lengths, counts, strict=True):
        order = np.argsort(-np.abs(vector[first : first + size]), kind="stable")
        found.append(first + np.sort(order[:count]))
        first += size
    return np.concatenate(found)


def _check_names(payload: Params, names: set[str]) -> None:
    if payload.keys() != names:
        raise ValueError(f"arrays called {' and '.join(sorted(names))} are expected")


def _bytes(tensor: Tensor) -> Bytes:
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        raise ValueError("bytes are expected")
    found: Bytes = tensor.numpy()
    return found


def _floats(received: Bytes) -> Vector:
    if received.size % 4:
        raise ValueError(f"{received.size} bytes are no numbers")
    return np.frombuffer(received.tobytes(), dtype="<f4").astype(np.float32)
