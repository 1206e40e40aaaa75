"""From token scores to an image's score, and from scores to log-odds."""

from __future__ import annotations

import torch
from torch import Tensor

from bayfed.config import top_count
from bayfed.features import Params


def top_mean(tokens: Tensor, fraction: float) -> Tensor:
    """Average the highest ``fraction`` of the tokens: ``(..., t)`` to ``(...)``.

    >>> top_mean(torch.tensor([[1.0, 5.0, 3.0, 0.0]]), 0.5).tolist()
    [4.0]
    """
    count = top_count(fraction, tokens.shape[-1])
    return tokens.topk(count, dim=-1).values.mean(-1)


def initial_log_odds(prefix: str, bias: float = -1.0) -> Params:
    """Return gain and bias of :func:`log_odds` at round 0.

    >>> initial_log_odds("score")
    {'score.log_gain': tensor(0.), 'score.bias': tensor(-1.)}
    """
    return {f"{prefix}.log_gain": torch.tensor(0.0), f"{prefix}.bias": torch.tensor(bias)}


def log_odds(params: Params, prefix: str, score: Tensor, reference: Tensor | float = 0.0) -> Tensor:
    r"""Turn scores above a reference into log-odds of a defect, by a learned gain and bias.

    .. math:: l = e^{g} (s - s_0) + b

    Args:
        params: ``prefix.log_gain`` :math:`g` and ``prefix.bias`` :math:`b`.
        prefix: Of the parameters' names.
        score: :math:`s`, any shape.
        reference: :math:`s_0`.

    >>> log_odds(initial_log_odds("score"), "score", torch.tensor([3.0]), 1.5).tolist()
    [0.5]
    """
    return params[f"{prefix}.log_gain"].exp() * (score - reference) + params[f"{prefix}.bias"]
