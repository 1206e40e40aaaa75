"""What episode would have given this gradient? Pictures and features rebuilt from an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bayfed.episodes.episode import EpisodeBatch
from bayfed.features import Params
from bayfed.seeds import torch_stream
from experiments.attacks.plant import Plant
from strategies.local import gradient_of
from strategies.server_optimizers import moved_of

Inputs = tuple[Tensor, Tensor, float]
"""Supports and queries, (k, ...) and (q, ...), and the cosine of gradients that was reached."""


@dataclass(frozen=True)
class Attempt:
    """How an inversion goes about it.

    Attributes:
        steps: Of Adam.
        rate: Its learning rate.
        smooth: Weight of the total variation of pictures.
        spread: Standard deviation of the start.
    """

    steps: int = 300
    rate: float = 0.1
    smooth: float = 1e-3
    spread: float = 0.1


def gradients(plant: Plant, params: Params, batch: EpisodeBatch, graph: bool = False) -> Tensor:
    """Return the gradient of what the server moves, as one vector."""
    rates = plant.experiment.method.rates
    found, _ = gradient_of(plant.method.loss, params, rates, batch, graph)
    return torch.cat([tensor.flatten() for tensor in moved_of(found, rates).values()])


def noised(target: Tensor, clip: float, noise: float, seed: int) -> Tensor:
    """Return ``target`` clipped, with noise of this multiple of the clip."""
    clipped = target * min(1.0, clip / float(target.norm()))
    drawn = torch.randn(target.shape, generator=torch_stream(seed, "noise of a gradient"))
    return clipped + noise * clip * drawn


def invert(
    plant: Plant,
    params: Params,
    like: EpisodeBatch,
    target: Tensor,
    attempt: Attempt,
    decode: Callable[[Tensor], Tensor],
    seed: int,
) -> Inputs:
    r"""Return supports and queries whose gradient points where ``target`` does, and how well.

    .. math:: \min_x 1 - \cos(\nabla f(\theta; x), g) + \alpha \operatorname{TV}(x)

    Labels, masks and sizes are given to the attacker.

    Source: Geiping et al., Inverting Gradients, 2020, equation 4.

    Args:
        plant: Whose method is attacked.
        params: The parameters at which the gradient was taken.
        like: An episode with the sizes, labels and masks of the one that is sought.
        target: The gradient.
        attempt: How.
        decode: From free numbers to what the encoder takes.
        seed: Of the start.
    """
    generator = torch_stream(seed, "start of an inversion")
    shapes = like.support.shape[1:], like.query.shape[1:]
    free = [
        (attempt.spread * torch.randn(shape, generator=generator)).requires_grad_()
        for shape in shapes
    ]
    optimizer = torch.optim.Adam(free, attempt.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, attempt.steps)
    for _ in range(attempt.steps):
        optimizer.zero_grad()
        support, query = (decode(one) for one in free)
        found = gradients(
            plant, params, replace(like, support=support[None], query=query[None]), graph=True
        )
        cosine = F.cosine_similarity(found, target, dim=0)
        loss = 1 - cosine
        if attempt.smooth:
            loss = loss + attempt.smooth * (_variation(free[0]) + _variation(free[1]))
        torch.autograd.backward(loss)
        for one in free:
            if one.grad is not None:
                one.grad.nan_to_num_().sign_()
        optimizer.step()
        schedule.step()
    support, query = (decode(one).detach() for one in free)
    return support, query, float(cosine.detach())


def _variation(pictures: Tensor) -> Tensor:
    return pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean()


def matched(cost: NDArray[np.float64]) -> float:
    """Return the mean cost of the best pairing of what was found and what there was."""
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def psnr(found: Tensor, true: Tensor) -> float:
    """Return the mean PSNR in dB of ``(n, 3, h, w)`` pictures of 0 to 255, in the best order."""
    errors = (found.double()[:, None] - true.double()[None]).square().flatten(2).mean(-1)
    return -matched(-(10 * torch.log10(255.0**2 / errors.clamp_min(1e-9))).numpy())


def constant_psnr(true: Tensor) -> float:
    """Return the PSNR of the best picture of one colour, chosen for each picture by an oracle."""
    flatly = true.double().mean((-1, -2), keepdim=True).expand(true.shape)
    errors = (flatly - true.double()).square().flatten(1).mean(-1)
    return float((10 * torch.log10(255.0**2 / errors.clamp_min(1e-9))).mean())


def likeness(found: Tensor, true: Tensor, public: Tensor) -> float:
    """Return the mean cosine of images' mean tokens about a ``public`` mean, in the best order."""
    a, b = (F.normalize(x.mean(1) - public, dim=-1) for x in (found, true.float()))
    return -matched(-(a @ b.mT).numpy())


def constant_likeness(true: Tensor, public: Tensor) -> float:
    """Return the mean cosine of the best single vector, chosen by an oracle."""
    b = F.normalize(true.float().mean(1) - public, dim=-1)
    return float((b @ F.normalize(b.mean(0), dim=0)).mean())
