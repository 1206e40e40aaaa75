"""The published episode: a full-gradient ResNet-18, as a rival of the frozen trunk.

ResNet-18 -> global average pool -> Linear 128 -> ReLU -> LayerNorm; one first-order SGD step of
the linear map on the support's negative log density under its own predictive; the posterior
recomputed behind it; the gradient of the whole network for the query's log-odds.

Source: arXiv 2601.19992.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayfed.methods.losses import balanced_cross_entropy
from bayfed.normality import (
    NIW,
    StudentT,
    posterior,
    predictive,
    safe_cholesky,
    sufficient_statistics,
)

DIM = 128
INNER_RATE = 5e-4
KAPPA = 0.01
ANOMALY_DOF, ANOMALY_SCALE = 2.0, 100.0


class PaperEpisode(nn.Module):
    """The network and the outer loss of one episode; batch-norm statistics stay frozen."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.backbone: nn.Module = timm.create_model(
                "resnet18", pretrained=False, num_classes=0
            )
            self.linear = nn.Linear(self.backbone.num_features, DIM)  # type: ignore[arg-type]
        self.eval()

    def forward(self, support: Tensor, query: Tensor, labels: Tensor) -> Tensor:
        """Return the outer loss of ``(k, 3, s, s)`` support and ``(q, 3, s, s)`` query images."""
        features, others = self.backbone(support), self.backbone(query)
        head = self.linear.weight, self.linear.bias
        inner = -_law(_embed(features, *head)).log_prob(_embed(features, *head)).mean()
        # A first-order step: the inner gradient is a constant to the outer one.
        steps = torch.autograd.grad(inner, head, retain_graph=True)
        adapted = tuple(h - INNER_RATE * g for h, g in zip(head, steps, strict=True))
        embedded = _embed(others, *adapted)
        normal = _law(_embed(features, *adapted)).log_prob(embedded)
        logits = _anomaly(embedded).log_prob(embedded) - normal
        return balanced_cross_entropy(logits, labels, 0.5)

    def step(self, support: Tensor, query: Tensor, labels: Tensor) -> None:
        """Compute the gradient of the whole network, and drop it."""
        self.zero_grad()
        self(support, query, labels).backward()


def _embed(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(F.relu(F.linear(features, weight, bias)), (DIM,))


def _law(embedded: Tensor) -> StudentT:
    eye = torch.eye(DIM)
    prior = NIW(torch.zeros(DIM), torch.tensor(KAPPA), torch.tensor(DIM + 2.0), eye)
    return predictive(posterior(prior, sufficient_statistics(embedded)))


def _anomaly(like: Tensor) -> StudentT:
    scale = safe_cholesky(ANOMALY_SCALE * torch.eye(DIM))
    return StudentT(like.new_zeros(DIM), scale, like.new_tensor(ANOMALY_DOF))
