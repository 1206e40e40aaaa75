"""Many small factories in a feature space, drawn from one law: what noise costs beside numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.func import grad, vmap

from bayfed.config import BayPrAnoMeta as Settings
from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Encoder
from bayfed.features.tail import IdentityTail
from bayfed.methods import BayPrAnoMeta
from bayfed.seeds import stream
from strategies.outer import Outer
from strategies.privacy.clients import ClientLevel
from strategies.rules import weighted_mean
from strategies.server_optimizers import ServerOptimizer, moved_of
from strategies.task import Params, norm

DIM, SHOTS, GOOD, BAD = 16, 5, 8, 8
TESTS, QUERIES = 40, 60
SPREAD = 3.0
"""How far a defect lies from normal, in standard deviations of the narrow directions."""
RATES = {"head": 0.0, "prior": 5.0, "score": 5.0}


class _NoTrunk:
    """Stands where features are computed, of which there are none here."""

    fingerprint, dtype, batch = "crowd", torch.float32, 1

    def __call__(self, images: Tensor) -> Tensor:
        return images


@dataclass(frozen=True)
class Crowd:
    """Factories with normal features :math:`N(m_f, S_f)`, all :math:`S_f` alike in shape.

    A wide half of the directions, the same for all, tells nothing of defects, and the narrow half
    does: what a prior can learn, and what five images do not show.
    """

    seed: int = 0

    def episodes(self, factories: range, round_: int) -> EpisodeBatch:
        """Return one episode of each factory."""
        drawn = [self._episode(f, round_, GOOD, BAD) for f in factories]
        support, query = (np.stack([one[i] for one in drawn]) for i in (0, 1))
        labels = torch.tensor([0.0] * GOOD + [1.0] * BAD).expand(len(drawn), -1)
        masks = labels[..., None].to(torch.uint8)
        tokens = [torch.from_numpy(x.astype(np.float32))[:, :, None] for x in (support, query)]
        return EpisodeBatch(tokens[0], tokens[1], labels, masks)

    def tests(self) -> list[tuple[Tensor, Tensor, NDArray[np.float64]]]:
        """Return supports, queries and labels of factories that nobody trains on."""
        found = []
        for factory in range(1_000_000, 1_000_000 + TESTS):
            support, query = self._episode(factory, 0, QUERIES, QUERIES)
            labels = np.repeat([0.0, 1.0], QUERIES)
            tensors = (torch.from_numpy(x.astype(np.float32))[:, None] for x in (support, query))
            found.append((*tensors, labels))
        return found  # type: ignore[return-value]

    def _episode(
        self, factory: int, round_: int, good: int, bad: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        own, random = (
            stream(self.seed, "factory", factory),
            stream(self.seed, "crowd", factory, round_),
        )
        scale = np.exp(np.linspace(1.2, -1.2, DIM) + 0.3 * own.standard_normal(DIM))
        mean = 2.0 * own.standard_normal(DIM)
        normal = mean + scale * random.standard_normal((SHOTS + good + bad, DIM))
        away = random.standard_normal((bad, DIM))
        away[:, : DIM // 2] = 0
        away *= SPREAD * np.exp(-0.6) / np.linalg.norm(away, axis=1, keepdims=True)
        query = normal[SHOTS:]
        query[good:] += away
        return normal[:SHOTS], query


def method() -> BayPrAnoMeta:
    """Return the method at the image grain, whose prior is what is learned."""
    settings = Settings.model_validate(
        {
            "grain": "image", "inner": {"steps": 0}, "prior": {"covariance": "full"},
            "loss": {"contrastive": 0.0, "dense": 0.0}, "rates": RATES,
        }
    )  # fmt: skip
    return BayPrAnoMeta(settings, Encoder(_NoTrunk(), IdentityTail(DIM), 1, 32))


def auroc(of: BayPrAnoMeta, params: Params, crowd: Crowd) -> list[float]:
    """Return the AUROC of each factory that nobody trained on, with five shots."""
    return [
        float(roc_auc_score(labels, of.score(of.adapt(params, support), query).image.numpy()))
        for support, query, labels in crowd.tests()
    ]


def train(
    clients: int, rounds: int, private: ClientLevel | None, crowd: Crowd
) -> tuple[list[float], list[float]]:
    """Return AUROC at round 0 and after ``rounds`` rounds of ``clients`` factories."""
    of = method()
    start = of.initial(crowd.seed)
    outer = Outer(ServerOptimizer("adam", 0.02, 0.0, RATES, rounds, 0.0))
    at, everyone = outer.start(start), frozenset(moved_of(start, RATES))
    each = partial(per_client, of)
    for number in range(1, rounds + 1):
        updates = each(at.value, crowd.episodes(range(clients), number))
        if private is None:
            mean = weighted_mean(updates, [1.0] * clients)
        else:
            mean = private.mean(updates, clients, everyone, number)
        at = outer.step(at, mean)
    return auroc(of, start, crowd), auroc(of, at.learned, crowd)


def per_client(of: BayPrAnoMeta, params: Params, batch: EpisodeBatch) -> list[Params]:
    """Return the gradient of each episode's loss, each that of one client."""

    def loss(params: Params, *parts: Tensor) -> Tensor:
        support, query, labels, masks = parts
        fit = of.fits(params, support[None])
        losses, _ = vmap(partial(of.episode_loss, params))(
            fit, query[None], labels[None], masks[None]
        )
        return losses.mean()

    of_each: Callable[..., Params] = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))
    found = of_each(params, batch.support, batch.query, batch.labels, batch.masks)
    return [{name: value[c] for name, value in found.items()} for c in range(len(batch))]


def usual_norm(clients: int, crowd: Crowd) -> float:
    """Return the median norm of a client's update at round 0, on which a clip can be set."""
    of = method()
    updates = per_client(of, of.initial(crowd.seed), crowd.episodes(range(clients), 0))
    return float(np.median([norm(moved_of(update, RATES)) for update in updates]))


def gain(before: list[float], after: list[float]) -> float:
    """Return the mean difference."""
    return fmean(b - a for a, b in zip(before, after, strict=True))
