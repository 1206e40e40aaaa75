"""Episodes, the pools they are drawn from, and the protocols that keep pools apart.

What only names images is here; tensors are in ``episode`` and ``sampler``, so that a process
which plans a run need not load torch.
"""

from bayfed.episodes.copies import refuse_known, training_pictures, without_copies
from bayfed.episodes.draws import Draw, draw_of, draws_of
from bayfed.episodes.held_back import calibration_normals, held_back, seen_pools
from bayfed.episodes.noise import contaminate, noise_of, shortfall
from bayfed.episodes.pools import Pools, draw_support
from bayfed.episodes.protocols import (
    check_families,
    check_holdout,
    is_held_out,
    training_pools,
    unseen_pools,
)

__all__ = [
    "Draw",
    "Pools",
    "calibration_normals",
    "check_families",
    "check_holdout",
    "contaminate",
    "draw_of",
    "draw_support",
    "draws_of",
    "held_back",
    "is_held_out",
    "noise_of",
    "refuse_known",
    "seen_pools",
    "shortfall",
    "training_pictures",
    "training_pools",
    "unseen_pools",
    "without_copies",
]
