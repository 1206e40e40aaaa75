"""Episodes, the pools they are drawn from, and the protocols that keep pools apart.

What only names images is here; tensors are in ``episode`` and ``sampler``, so that a process
which plans a run need not load torch.
"""

from bayfed.episodes.copies import refuse_known, training_pictures, without_copies
from bayfed.episodes.cuts import cut, cut_images, spared_kinds, without_kinds
from bayfed.episodes.draws import Draw, draw_of, draws_of
from bayfed.episodes.held_back import calibration_normals, held_back, seen_pools
from bayfed.episodes.noise import (
    as_trained_on,
    contaminate,
    give_away,
    mislabelled,
    noise_of,
    shortfall,
    taken_for_good,
)
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
    "as_trained_on",
    "calibration_normals",
    "check_families",
    "check_holdout",
    "contaminate",
    "cut",
    "cut_images",
    "draw_of",
    "draw_support",
    "draws_of",
    "give_away",
    "held_back",
    "is_held_out",
    "mislabelled",
    "noise_of",
    "refuse_known",
    "seen_pools",
    "shortfall",
    "spared_kinds",
    "taken_for_good",
    "training_pictures",
    "training_pools",
    "unseen_pools",
    "without_copies",
    "without_kinds",
]
