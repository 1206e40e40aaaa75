"""Episodes, the pools they are drawn from, and the protocols that keep pools apart."""

from bayfed.episodes.episode import UNKNOWN, EpisodeBatch, stack
from bayfed.episodes.pools import Pools, drop_copies, refuse_copies
from bayfed.episodes.protocols import check_holdout, is_held_out, training_pools, unseen_pools
from bayfed.episodes.sampler import EpisodeSampler, draw_support

__all__ = [
    "UNKNOWN",
    "EpisodeBatch",
    "EpisodeSampler",
    "Pools",
    "check_holdout",
    "draw_support",
    "drop_copies",
    "is_held_out",
    "refuse_copies",
    "stack",
    "training_pools",
    "unseen_pools",
]
