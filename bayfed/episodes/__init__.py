"""Episodes, the pools they are drawn from, and the protocols that keep pools apart.

What only names images is here; tensors are in ``episode`` and ``sampler``, so that a process
which plans a run need not load torch.
"""

from bayfed.episodes.copies import refuse_known, training_pictures, without_copies
from bayfed.episodes.held_back import calibration_normals, held_back, seen_pools
from bayfed.episodes.pools import Pools, draw_support, draw_supports
from bayfed.episodes.protocols import (
    check_families,
    check_holdout,
    is_held_out,
    training_pools,
    unseen_pools,
)

__all__ = [
    "Pools",
    "calibration_normals",
    "check_families",
    "check_holdout",
    "draw_support",
    "draw_supports",
    "held_back",
    "is_held_out",
    "refuse_known",
    "seen_pools",
    "training_pictures",
    "training_pools",
    "unseen_pools",
    "without_copies",
]
