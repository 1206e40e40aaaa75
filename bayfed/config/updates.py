"""What becomes of an update between a client's local steps and the server's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, Positive, Settings

Share = Annotated[float, Field(gt=0, le=1)]
Bits = Literal[1, 2, 4, 8, 16, 32]


class Uplink(Settings):
    """What a client makes of its update before it leaves."""

    clip: Positive | None = None
    """Largest norm of a client's update."""
    keep: Share = 1.0
    """Share of the coordinates of every tensor that is sent."""
    select: Literal["largest", "random"] = "largest"
    """Which ones: the client's largest, or those that all clients draw alike in a round."""
    bits: Bits = 32
    """Of a coordinate; below 32 rounded at random to a uniform grid, without bias."""
    feedback: bool = True
    """Whether what was left out or rounded away is added to the client's next update."""

    @property
    def lossy(self) -> bool:
        """Whether less is sent than there is."""
        return self.keep < 1 or self.bits < 32

    @model_validator(mode="after")
    def _signs_need_feedback(self) -> Uplink:
        if self.bits == 1 and not self.feedback:
            raise ValueError("bits: signs alone are biased; set feedback to true")
        return self


class Secure(Settings):
    """Sums of which the server learns nothing but the sum."""

    clip: Positive
    """Largest norm of an update, and of each coordinate the largest size."""
    bits: Annotated[int, Field(ge=8, le=32)] = 20
    """Of a coordinate, which is rounded at random to a grid over [-clip, clip], without bias."""


class Downlink(Settings):
    """What the server makes of the meta-parameters before it sends them."""

    bits: Bits = 32
    """Of a coordinate of what has changed since the client was last sent some; below 32, parameters
    that a client has already are not sent to it again, but named by their digest."""

    @property
    def lossy(self) -> bool:
        """Whether less is sent than there is."""
        return self.bits < 32


class Defence(Settings):
    """How the server takes updates that may be wrong or hostile."""

    rule: Literal["mean", "median", "trimmed_mean", "multi_krum"] = "mean"
    hostile: Count = 1
    """Clients of a round that ``trimmed_mean`` and ``multi_krum`` bear."""
    norm: Annotated[float, Field(gt=1)] | None = None
    """An update is refused that is longer than this many times the median of the round's."""
    quarantine: Annotated[int, Field(ge=0)] = 0
    """Rounds in which a client is not asked after its update was refused."""


class Regions(Settings):
    """Regional servers between the plants and the global one."""

    sites: dict[Annotated[str, Field(pattern=r"^[^/]+$")], tuple[str, ...]] = {}
    """Region -> the sites of its plants; empty = no regions."""
    every: Count = 5
    """Rounds between two meetings of the regions."""

    @model_validator(mode="after")
    def _one_region_a_site(self) -> Regions:
        every = [site for sites in self.sites.values() for site in sites]
        for site in every:
            if every.count(site) > 1:
                raise ValueError(f"sites: {site} is in two regions")
        return self
