"""Gaussian noise that nobody can take away again, or that a seed repeats."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from bayfed.seeds import Key, stream
from strategies.task import Params


def gaussian(size: int, key: tuple[Key, ...], seed: int | None) -> NDArray[np.float64]:
    r"""Return standard normal numbers, from the operating system where there is no seed.

    .. math:: x_i = \Phi^{-1}((u_i + \tfrac12) / 2^{53})

    :math:`u_i` are 53 bits of its secure source. A generator for simulation is no such source:
    whoever sees enough of its output, or knows the seed, computes the noise and subtracts it. No
    number is further out than 8.3. Numbers of float64 are a grid and not the real line; their
    lowest bits are no part of the promise (Mironov, On Significance of the Least Significant Bits
    for Differential Privacy, 2012), and a sum that is rounded to float32 gives few of them away.

    Args:
        size: How many.
        key: What they are for; used with a seed only.
        seed: Of the experiment, for a run that can be repeated.

    >>> gaussian(2, ("a",), 0).tolist() == gaussian(2, ("a",), 0).tolist()
    True
    """
    if seed is not None:
        return stream(seed, "privacy", *key).standard_normal(size)
    bits = np.frombuffer(os.urandom(8 * size), dtype="<u8") >> np.uint64(11)
    drawn: NDArray[np.float64] = ndtri((bits.astype(np.float64) + 0.5) / 2.0**53)
    return drawn


def noised(
    update: Params, deviation: float, names: frozenset[str], key: tuple[Key, ...], seed: int | None
) -> Params:
    """Return ``update`` with noise of this standard deviation on its tensors in ``names``.

    Raises:
        KeyError: there is no such tensor.
    """
    result = dict(update)
    for name in sorted(names):
        value = update[name]
        drawn = gaussian(value.numel(), (*key, name), seed).reshape(value.shape)
        result[name] = (value.double() + deviation * torch.from_numpy(drawn)).to(value)
    return result
