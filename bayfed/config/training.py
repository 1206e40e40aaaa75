"""Episodes, the federation that runs them, and what is measured."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from bayfed.config.algorithms import LOCAL, Algorithm, Average
from bayfed.config.privacy import Privacy
from bayfed.config.settings import Count, Positive, Settings
from bayfed.config.updates import Defence, Downlink, Regions, Secure, Uplink

FULL: Literal["full"] = "full"


def _shots(value: object) -> object:
    # No union, whose errors name its members.
    if value == FULL or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("a whole number from 1, or 'full'")


Shots = Annotated[int | Literal["full"], PlainValidator(_shots)]
"""Images of a support; ``full``: every good training image that is not held back."""
Noise = Annotated[float, Field(ge=0, lt=1)]
"""Share of the good training images that is replaced by defects."""


class Episode(Settings):
    """Size of a training episode."""

    shots: Annotated[int, Field(ge=2)] = 5
    normals: Count = 8
    anomalies: Count = 8
    tokens: Count | None = None
    """Seeded subset of the patches used in training; empty = all."""


class Clients(Settings):
    """How sites become clients."""

    partition: Literal["site", "group", "dirichlet", "resample"] = "site"
    number: Count | None = None
    alpha: Positive = 1.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of a site's training images, drawn anew for each client that ``resample`` stands there."""


class Server(Settings):
    """The outer loop on the server."""

    aggregate: Literal["gradient", "parameters"] = "gradient"
    local_steps: Count = 1
    local_lr: Positive = 0.01
    unequal: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How unlike clients are in speed: each takes from 1 - unequal to all of the local steps."""
    optimizer: Literal["sgd", "adam", "yogi"] = "adam"
    lr: Positive = 1e-3
    decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rounds, the last ones, in which the rate falls linearly towards 0."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip: Positive | None = None
    """Largest norm of the aggregated update."""
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What is learned is the mean of the iterates, each round weighing this much less than the one
    after it; 0 = the last iterate."""

    @property
    def is_plain(self) -> bool:
        """Whether a step is the update times the rate, and nothing else."""
        return self.optimizer == "sgd" and not (
            self.momentum or self.decay or self.clip or self.memory
        )


class Diagnostics(Settings):
    """The exact meta-objective and its gradient, on episodes that are frozen."""

    every: Annotated[int, Field(ge=0)] = 0
    """Diagnose every n rounds besides the first and the last; 0 = never."""
    episodes: Count = 32
    """Of a client."""


class Federation(Settings):
    """Rounds, clients and what they run on."""

    backend: Literal["ray", "inprocess", "batched"] = "ray"
    """Of a simulation: workers beside each other, one client after the other, or, in one process as
    well, many clients' losses at once."""
    batch: Count = 16
    """Most clients at once, where they are batched; their episodes and graphs are held together."""
    rounds: Annotated[int, Field(ge=0)] = 10
    episodes: Count = 8
    """Episodes a client contributes to one step."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    quorum: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the sampled clients that must answer well."""
    timeout: Positive = 600.0
    """Seconds after which a message that nobody answered is given up."""
    deadline: Positive | None = None
    """Seconds a round waits for updates; one that comes later, but in time, counts in the round in
    which it comes. Empty: as long as the timeout."""
    workers: Count | None = None
    """Ray actors; empty = one for each core. On a cluster that is joined, one for each of its."""
    gpu_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of a GPU a client occupies."""
    clients: Clients = Clients()
    server: Server = Server()
    algorithm: Algorithm = Average()
    personal: tuple[str, ...] = ()
    """Prefixes of the parameters to which each client adds a residual of its own."""
    uplink: Uplink = Uplink()
    downlink: Downlink = Downlink()
    defence: Defence = Defence()
    secure: Secure | None = None
    regions: Regions = Regions()
    privacy: Privacy = Privacy()
    diagnostics: Diagnostics = Diagnostics()
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Tools that are told the numbers of each round, besides ``metrics.jsonl``."""
    largest_loss: Positive = 1e6
    """A run whose loss is beyond it has diverged, and ends."""

    @field_validator("algorithm", mode="before")
    @classmethod
    def _name_the_default(cls, value: object) -> object:
        # The name decides which settings there are, so it cannot be left to a field's default.
        if isinstance(value, dict) and "name" not in value:
            return {"name": Average().name, **value}
        return value

    @model_validator(mode="after")
    def _factories_are_persons(self) -> Federation:
        if self.personal and self.clients.partition == "dirichlet":
            raise ValueError("personal: a mixture of sites is no factory; choose another partition")
        if self.personal and self.downlink.bits < 32:
            raise ValueError(
                "personal: each client is sent other parameters; set downlink.bits to 32"
            )
        if self.regions.sites:
            self._check_regions()
        if self.deadline is not None and self.deadline > self.timeout:
            raise ValueError("deadline: later than federation.timeout")
        return self

    @model_validator(mode="after")
    def _batched_clients_are_alike(self) -> Federation:
        unlike = {
            f"algorithm.name: {self.algorithm.name}": self.algorithm.name != "average",
            "server.unequal": bool(self.server.unequal),
            "privacy.level: image": self.privacy.level == "image",
        }
        for key in (key for key, used in unlike.items() if used and self.backend == "batched"):
            raise ValueError(f"backend: batched cannot be combined with {key}; use inprocess")
        return self

    @model_validator(mode="after")
    def _no_single_update_is_seen(self) -> Federation:
        if self.secure is None:
            return self
        seen = {
            "personal": bool(self.personal),
            "defence.rule": self.defence.rule != "mean",
            "defence.norm": self.defence.norm is not None,
            "uplink.select": self.uplink.keep < 1 and self.uplink.select == "largest",
            "uplink.bits": self.uplink.bits < 32,
            "regions.sites": bool(self.regions.sites),
        }
        for key in (key for key, needed in seen.items() if needed):
            raise ValueError(f"{key}: needs single updates, which federation.secure hides")
        self._check_noise_fits(self.secure)
        return self

    @model_validator(mode="after")
    def _gradients_may_be_added(self) -> Federation:
        if self.diagnostics.every and self.privacy.level != "none":
            raise ValueError(
                "diagnostics: would tell without noise what federation.privacy is to hide"
            )
        return self

    @model_validator(mode="after")
    def _algorithm_fits(self) -> Federation:
        name, server = self.algorithm.name, self.server
        if name in LOCAL and server.aggregate == "gradient":
            raise ValueError(f"server.aggregate: algorithm {name} needs parameters")
        if name == "clustered" and not server.is_plain:
            raise ValueError(
                "server: algorithm clustered needs optimizer sgd without momentum, decay, clip "
                "and memory"
            )
        if name == "average":
            return self
        # What these would do to each is not in the papers of the algorithms.
        other = {
            "personal": bool(self.personal),
            "regions": bool(self.regions.sites),
            "secure": self.secure is not None,
            "privacy": self.privacy.level != "none",
            "deadline": self.deadline is not None,
            "downlink.bits": self.downlink.bits < 32,
            "defence.rule": name == "scaffold" and self.defence.rule != "mean",
        }
        for key in (key for key, used in other.items() if used):
            raise ValueError(f"{key}: cannot be combined with federation.algorithm.name: {name}")
        return self

    def _check_noise_fits(self, secure: Secure) -> None:
        noise, clip, shares = self.privacy.noise, self.uplink.clip, self.privacy.shares
        if noise is None or clip is None or shares is None:
            return
        least = clip + 6 * noise * clip / math.sqrt(shares)
        if secure.clip < least:
            raise ValueError(
                f"secure.clip: would cut the noise of federation.privacy.added_by: clients; "
                f"at least {least:.3g} is needed"
            )

    def _check_regions(self) -> None:
        if self.clients.partition == "dirichlet":
            raise ValueError("regions: a mixture of sites is in no region")
        if self.personal:
            raise ValueError("regions: cannot be combined with federation.personal")
        if self.downlink.bits < 32:
            raise ValueError("regions: each is sent other parameters; set downlink.bits to 32")
        if self.server.memory:
            raise ValueError("regions: cannot be combined with server.memory")
        if self.privacy.level == "client":
            raise ValueError(
                "regions: cannot be combined with federation.privacy.level: client; "
                "each would need noise of its own"
            )


class Evaluation(Settings):
    """What is measured, and how often."""

    every: Annotated[int, Field(ge=0)] = 0
    """Evaluate every n rounds besides the first and the last; 0 = only these two."""
    shots: Shots = 5
    """With one there is no spread of the support's scores, hence no pooled p-value."""
    draws: Count = 3
    noise: Noise = 0.0
    """Label noise of the images that a support is drawn from; training sees none. The defects leave
    the test, half of which they may be at most."""
    fpr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    calibration: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a site's good training images that no episode sees and whose scores make the pooled
    p-values; with 0 they come from images that training has seen."""
    heatmaps: Annotated[int, Field(ge=0)] = 4
    """Sites shown with heatmaps in the report."""
