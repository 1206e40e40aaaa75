"""The section ``bench`` of an experiment file: which systems are compared, and where."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bayfed.config.settings import Count, Settings, refusal
from bayfed.config.training import Noise, Shots

Arm = Literal["none", "prior", "local", "centralised", "federated", "federated+finetune"]
"""What a system has learned before it meets a site's support.

``none``: nothing, its round-0 parameters. ``prior``: the empirical-Bayes prior of one round of
sufficient statistics. ``local``: each factory trains alone. ``centralised``: one client holds
all sites. ``federated``: as the experiment says. ``federated+finetune``: then some rounds on
the own site.
"""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
ProtocolName = Literal["standard", "new-product", "new-defect"]


class Entry(Settings):
    """One system: a preset, and what it changes in the experiment."""

    preset: str | None = None
    """Empty = the system's own name, where it is a preset."""
    arms: tuple[Arm, ...] | None = None
    """Empty = those of the bench that it can have."""
    method: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    episode: dict[str, Any] = {}
    federation: dict[str, Any] = {}


class Bench(Settings):
    """The grid of a bench; the experiment around it is what all systems share."""

    systems: dict[Name, Entry] = {}
    """Empty = the experiment's own method."""
    sweep: dict[str, tuple[int | float | str, ...]] = {}
    """Setting -> values; each value makes one more system of every system."""
    arms: tuple[Arm, ...] = ("none", "federated")
    protocols: tuple[ProtocolName, ...] = ()
    """Empty = the experiment's own."""
    holdouts: tuple[tuple[str, ...], ...] = ()
    """What new-product leaves out in turn; empty = each family."""
    shots: tuple[Shots, ...] = ()
    """Empty = ``evaluation.shots``."""
    noise: tuple[Noise, ...] = ()
    """Empty = ``evaluation.noise``."""
    seeds: Count = 1
    """Replicates: the experiment's seed and those after it."""
    finetune_rounds: Count = 5
    reference: str = "patchcore"
    """System against which every other one is paired, at round 0."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Further comparisons, each ``system/arm`` against ``system/arm``."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes; empty = one for each core."""


def parse_bench(tree: object, origin: str = "bench") -> Bench:
    """Check the section ``bench`` of a file; the error names ``origin`` and the key.

    >>> parse_bench({"seeds": 5}).seeds
    5
    """
    try:
        return Bench.model_validate({} if tree is None else tree)
    except ValidationError as error:
        raise refusal(error, origin, lambda loc: ".".join(["bench", *map(str, loc)])) from None
