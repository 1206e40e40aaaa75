"""The one schema of an experiment, read from YAML and changed by ``key=value``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bayfed.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

_HARMLESS = {
    "name": True,
    "store": {"directory"},
    "federation": {"backend", "rounds", "timeout", "workers", "gpu_share"},
    "evaluation": {"heatmaps"},
}
"""Settings that may change between a run and its resumption: they do not change a number."""


class Settings(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Synthetic(Settings):
    """Procedural factories: one product and one camera each."""

    products: Count = 16
    size: Annotated[int, Field(ge=32, le=512)] = 64
    train_good: Count = 40
    test_good: Count = 24
    per_defect: Count = 12
    kinds: tuple[str, ...] = ()
    """Defect kinds at the training factories; empty = all."""
    held_out_kinds: tuple[str, ...] = ()
    """Defect kinds at the factories named by ``protocol.holdout``; empty = ``kinds``."""


class Pasted(Settings):
    """Synthetic defects painted on training normals, so that a site without defects can train."""

    per_site: Annotated[int, Field(ge=0)] = 0
    kinds: tuple[str, ...] = ()


class Data(Settings):
    """Where the sites come from."""

    source: Literal["synthetic", "folders"] = "synthetic"
    root: Path | None = None
    layout: Literal["auto", "mvtec", "visa", "ksdd2", "folder"] = "auto"
    sites: tuple[str, ...] = ()
    families: dict[str, tuple[str, ...]] = {}
    synthetic: Synthetic = Synthetic()
    pasted: Pasted = Pasted()

    @model_validator(mode="after")
    def _root_is_given(self) -> Data:
        if self.source == "folders" and self.root is None:
            raise ValueError("data.root is needed when data.source is folders")
        return self


class Protocol(Settings):
    """Which images may be used for what (``bayfed.episodes.protocols``)."""

    name: Literal["standard", "new-product", "new-defect"] = "standard"
    holdout: tuple[str, ...] = ()
    """Sites or families that take no part in training (new-product)."""

    @model_validator(mode="after")
    def _holdout_fits(self) -> Protocol:
        if (self.name == "new-product") != bool(self.holdout):
            raise ValueError(
                "protocol.holdout names the unseen sites of new-product, and only of it"
            )
        return self


class Backbone(Settings):
    """The encoder: a frozen trunk whose outputs are stored, and a trainable tail."""

    name: str = "conv4"
    weights: Path | None = None
    pretrained: bool = False
    """Ask timm's hub for weights; never done when ``weights`` names a file."""
    stages: tuple[int, ...] = (1, 2)
    image_size: Annotated[int, Field(ge=32, le=1024)] = 64
    grid: Count = 16
    smoothing: Annotated[int, Field(ge=1)] = 3
    trainable: Literal["head", "adapters", "all"] = "all"
    width: Count = 32
    """Channels of Conv-4; other backbones ignore it."""

    @model_validator(mode="after")
    def _maps_can_be_stacked(self) -> Backbone:
        if list(self.stages) != sorted(set(self.stages)) or min(self.stages, default=0) < 0:
            raise ValueError("backbone.stages must be distinct, ascending and not negative")
        if self.smoothing % 2 == 0:
            raise ValueError("backbone.smoothing must be odd")
        return self


class Store(Settings):
    """Where trunk outputs are kept between rounds and runs."""

    directory: Path | None = None
    dtype: Literal["float16", "float32"] = "float16"


class Inner(Settings):
    """The inner loop: adaptation of the head to one product's support."""

    steps: Annotated[int, Field(ge=0)] = 3
    lr: NonNegative = 0.05
    """Inner rate at round 0; it is a meta-parameter."""
    order: Literal["exact", "first"] = "exact"
    """``first`` ignores how the inner gradient depends on the meta-parameters."""
    objective: Literal["leave-one-out", "predictive"] = "leave-one-out"
    """Whose likelihood is raised: an image's under the others, or the support's under itself."""
    volume: bool = True
    """Count the head's log volume, without which shrinking everything raises the likelihood."""


class Prior(Settings):
    """The Normal-Inverse-Wishart prior at round 0."""

    init: Literal["fixed", "empirical-bayes"] = "fixed"
    covariance: Literal["isotropic", "diagonal", "full"] = "diagonal"
    kappa: Positive = 0.01
    extra_dof: Positive = 2.0
    """nu0 - (d - 1) > 0."""
    scale: Positive = 1.0
    """Psi0 = scale * I; with empirical Bayes, observations the pooled covariance is worth."""
    effective: Positive = 32.0
    """Effective observations an image contributes at the patch grain."""


class Loss(Settings):
    """The outer loss."""

    class_prior: Annotated[float, Field(gt=0, lt=1)] = 0.5
    contrastive: NonNegative = 0.1
    temperature: Positive = 0.07
    dense: NonNegative = 0.0
    """Weight of the token-level log-odds where masks exist."""


class Method(Settings):
    """The system that is meta-trained."""

    name: Literal["baypranometa"] = "baypranometa"
    grain: Literal["image", "patch"] = "patch"
    embedding: Annotated[int, Field(ge=2)] | None = None
    """Output dimension of the head; empty = as many as the trunk has, starting at the identity."""
    normalise: bool = False
    """LayerNorm on the embeddings (the paper's head)."""
    top_k: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Fraction of the patches whose mean surprise is the image score."""
    inner: Inner = Inner()
    prior: Prior = Prior()
    loss: Loss = Loss()
    rates: dict[str, NonNegative] = {}
    """Multiplier of the server's learning rate for parameters whose name starts with the key."""


class Episode(Settings):
    """Size of a training episode."""

    shots: Annotated[int, Field(ge=2)] = 5
    normals: Count = 8
    anomalies: Count = 8
    tokens: Count | None = None
    """Seeded subset of the patches used in training; empty = all."""


class Clients(Settings):
    """How sites become clients."""

    partition: Literal["site", "group", "dirichlet"] = "site"
    number: Count | None = None
    alpha: Positive = 1.0


class Server(Settings):
    """The outer loop on the server."""

    aggregate: Literal["gradient", "parameters"] = "gradient"
    local_steps: Count = 1
    local_lr: Positive = 0.01
    optimizer: Literal["sgd", "adam", "yogi"] = "adam"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip: Positive | None = None
    """Largest norm of the aggregated update."""


class Federation(Settings):
    """Rounds, clients and what they run on."""

    backend: Literal["ray", "inprocess"] = "ray"
    rounds: Annotated[int, Field(ge=0)] = 10
    episodes: Count = 8
    """Episodes a client contributes to one step."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    quorum: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the sampled clients that must answer well."""
    timeout: Positive = 600.0
    """Seconds a round may take."""
    workers: Count | None = None
    """Ray actors; empty = one for each core."""
    gpu_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of a GPU a client occupies."""
    clients: Clients = Clients()
    server: Server = Server()


class Evaluation(Settings):
    """What is measured, and how often."""

    every: Annotated[int, Field(ge=0)] = 0
    """Evaluate every n rounds besides the first and the last; 0 = only these two."""
    shots: Annotated[int, Field(ge=2)] = 5
    draws: Count = 3
    fpr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    heatmaps: Annotated[int, Field(ge=0)] = 4
    """Sites shown with heatmaps in the report."""


class Experiment(Settings):
    """Everything that defines a run."""

    name: str = "experiment"
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: Data = Data()
    protocol: Protocol = Protocol()
    backbone: Backbone = Backbone()
    store: Store = Store()
    method: Method = Method()
    episode: Episode = Episode()
    federation: Federation = Federation()
    evaluation: Evaluation = Evaluation()


def top_count(fraction: float, tokens: int) -> int:
    """Return how many of ``tokens`` patches the fraction ``fraction`` means, at least one.

    >>> top_count(0.01, 784)
    8
    """
    return max(1, math.ceil(fraction * tokens))


def _assign(tree: dict[str, Any], text: str) -> None:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise ConfigError(f"setting {text!r} is not of the form key=value")
    *path, last = key.strip().split(".")
    node = tree
    for part in path:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"setting {key!r}: {part!r} is a value, not a group")
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"setting {key!r}: {value!r} is not a YAML value") from error


def parse_experiment(tree: dict[str, Any], origin: str = "settings") -> Experiment:
    """Validate ``tree``; the error names ``origin`` and the key.

    >>> parse_experiment({"seed": 3}).seed
    3
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{origin}: unknown setting {key!r}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{origin}: {f'{key}: ' if key else ''}{message}") from None


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file and apply ``key.path=value`` overrides.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:  # also no UTF-8, or a date out of range
        raise ConfigError(f"{path}: not a YAML file") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a mapping of settings is expected")
    for text in overrides:
        _assign(tree, text)
    return parse_experiment(tree, str(path))


def dump_experiment(experiment: Experiment) -> str:
    """Return the YAML text of ``experiment``, every setting spelled out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def experiment_hash(experiment: Experiment) -> str:
    """Return a hash of every setting that changes a result.

    >>> a = Experiment.model_validate({"federation": {"workers": 1}})
    >>> experiment_hash(a) == experiment_hash(Experiment())
    True
    """
    tree = experiment.model_dump(mode="json", exclude=_HARMLESS)  # type: ignore[arg-type]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
