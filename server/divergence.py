"""When a training has left the range of numbers and is to end."""

from __future__ import annotations

from statistics import median_low

import torch

from bayfed.errors import DivergedError
from server.exchange import Replies
from strategies.task import Params
from strategies.wire import metrics_of


def check_losses(replies: Replies, bound: float) -> None:
    """Check the losses that clients report, and refuse whose alone is beyond ``bound``.

    Raises:
        DivergedError: that of most of them is.
    """
    losses = {m: metrics_of(reply).get("loss", 0.0) for m, reply in replies.good.items()}
    if losses and (middle := median_low(losses.values())) > bound:
        raise DivergedError(
            f"{replies.phase}: the median loss is {middle:.3g}, "
            f"federation.largest_loss is {bound:g}"
        )
    for member, loss in losses.items():
        if loss > bound:
            replies.refuse(member, f"the loss is {loss:.3g}, federation.largest_loss {bound:g}")


def check_finite(number: int, moved: Params) -> None:
    """Check the parameters after round ``number``.

    Raises:
        DivergedError: one is no longer finite.
    """
    if not all(bool(torch.isfinite(value).all()) for value in moved.values()):
        raise DivergedError(f"round {number}: the parameters are no longer finite; lower server.lr")
