"""Differential privacy of what a run makes public, and what it cannot be combined with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, Positive, Settings

if TYPE_CHECKING:
    from bayfed.config.training import Federation

LEVEL, IMAGE = "federation.privacy.level: client", "federation.privacy.level: image"


class Privacy(Settings):
    """Whose part in the parameters is hidden, and by how much noise."""

    level: Literal["none", "client", "image"] = "none"
    """A client as a whole, or one good image of it."""
    noise: Positive | None = None
    """z: the noise's standard deviation, as a multiple of the clipping norm."""
    clip: Positive | None = None
    """C of an episode's gradient, where images are hidden; that of a client is ``uplink.clip``."""
    adjacency: Literal["replace-one", "add-or-remove"] = "replace-one"
    """Which federations are not to be told apart. It decides how clients are drawn where
    ``fraction`` is below 1: a fixed number of them, or each on its own."""
    added_by: Literal["server", "clients"] = "server"
    """Who adds the noise; a server that is not trusted must see nothing but sums of shares."""
    shares: Count | None = None
    """Updates of a round that bear the noise together, where clients add it; fewer end the run."""
    features: Positive | None = None
    """Largest norm of an embedding in the statistics of empirical Bayes."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    epsilon: Positive | None = None
    """The run ends before this is passed."""
    reproducible: bool = False
    """Draw noise and clients from the seed: for research, since who knows the seed knows the
    noise."""

    @model_validator(mode="after")
    def _complete(self) -> Privacy:
        if self.level == "none":
            # Who has asked for protection and forgotten the level must not go without.
            asked = ("noise", "epsilon", "features", "shares")
            for key in (key for key in asked if getattr(self, key) is not None):
                raise ValueError(f"{key}: hides nothing without federation.privacy.level")
        if self.level != "none" and self.noise is None:
            raise ValueError(f"noise: needed by federation.privacy.level: {self.level}")
        if (self.level == "image") != (self.clip is not None):
            raise ValueError("clip: is that of level: image, which needs it")
        if self.level == "image" and self.adjacency != "replace-one":
            raise ValueError("adjacency: level: image is about an image that is replaced")
        if self.level == "image" and self.added_by != "server":
            raise ValueError("added_by: with level: image every client adds noise of its own")
        if self.level == "image" and self.features is not None:
            raise ValueError("features: is that of level: client")
        if (self.added_by == "clients") != (self.shares is not None):
            raise ValueError("shares: is that of added_by: clients, which needs it")
        return self


def check_privacy(federation: Federation, pools_statistics: bool) -> None:
    """Check what the promise of ``federation.privacy`` cannot be combined with.

    Raises:
        ValueError: naming both keys.
    """
    privacy = federation.privacy
    if privacy.level == "client":
        _check_clients(federation)
        if pools_statistics and privacy.features is None:
            raise ValueError(
                f"federation.privacy.features: needed by method.prior.init with {LEVEL}"
            )
    if privacy.level == "image":
        if federation.server.aggregate != "gradient":
            raise ValueError(f"federation.server.aggregate: must be gradient with {IMAGE}")
        if pools_statistics:
            raise ValueError(
                f"method.prior.init: empirical-bayes sums images without noise; {IMAGE} does not"
            )


def _check_clients(federation: Federation) -> None:
    uplink, defence = federation.uplink, federation.defence
    if uplink.clip is None:
        raise ValueError(f"federation.uplink.clip: needed by {LEVEL}")
    shared = federation.privacy.added_by == "clients"
    impossible = {
        "federation.defence.rule": (
            defence.rule != "mean",
            "its result has no known sensitivity",
        ),
        "federation.defence.norm": (
            defence.norm is not None,
            "one client's norm would decide which others count",
        ),
        "federation.personal": (
            bool(federation.personal),
            "a residual follows its client's update without noise",
        ),
        "federation.deadline": (
            federation.deadline is not None,
            "a late update counts in a round for which it was not drawn",
        ),
        "federation.uplink.keep": (
            shared and uplink.keep < 1,
            "privacy.added_by: clients needs every share of the noise whole",
        ),
        "federation.uplink.bits": (
            shared and uplink.bits < 32,
            "privacy.added_by: clients needs every share of the noise whole",
        ),
    }
    for key, (present, why) in impossible.items():
        if present:
            raise ValueError(f"{key}: cannot be combined with {LEVEL}; {why}")
