"""Where a detector's meta-parameters come from: a finished run, or a backbone alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from bayfed.config import (
    BayPrAnoMeta,
    Experiment,
    experiment_hash,
    load_experiment,
    product_experiment,
)
from bayfed.config import Method as MethodSettings
from bayfed.errors import CheckpointError, ConfigError, WeightsError
from bayfed.evaluation.checkpoint import Snapshot, paths_in, read
from bayfed.evaluation.system import checked
from bayfed.features import Encoder, Params, build_encoder, resolve_device
from bayfed.features.tiles import TiledTail
from bayfed.features.weights import inspect_weights
from bayfed.methods import Method, Refined, build_method
from bayfed.methods.base import KeptMethod

BACKBONE = "backbone"
"""Where meta-parameters come from that no run has trained."""


@dataclass(frozen=True)
class Source:
    """Settings and meta-parameters that a product is fitted with.

    Attributes:
        experiment: The settings.
        snapshot: The run's last checkpoint; None = round-0 parameters.
        name: Where they come from.
        shots: Images of a support in the run's pooled calibration.
        site: Of the factory whose own part of the meta-parameters is used; empty = nobody's.
    """

    experiment: Experiment
    snapshot: Snapshot | None = None
    name: str = BACKBONE
    shots: int = 0
    site: str = ""

    @property
    def pooled(self) -> Mapping[str, Tensor]:
        """The run's pooled calibration; {} where there is none."""
        return self.snapshot.calibration if self.snapshot else {}

    def params(self, method: Method) -> Params:
        """Return the meta-parameters.

        Raises:
            CheckpointError: those of the run are not those of its settings.
        """
        seed = self.experiment.seed
        if self.snapshot is None:
            return method.initial(seed)
        return checked(self.snapshot, method, seed).theta_of(self.site)


class System(NamedTuple):
    """The method of a product and the encoder before it."""

    method: KeptMethod
    encoder: Encoder


def from_run(run: Path, weights: Path | None = None, site: str = "") -> Source:
    """Return what a finished run has learned: settings, last checkpoint, pooled calibration.

    Args:
        run: Its folder.
        weights: The backbone's weights, where they lie elsewhere than in the run.
        site: Of a factory that took part with parameters of its own, to go on with these.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged or of other settings.
        ConfigError: the run's settings cannot be read, its method makes no product, or no
            factory of this site has parameters of its own.
    """
    run = Path(run)
    experiment = load_experiment(run / "config.yaml")
    if not isinstance(experiment.method, BayPrAnoMeta):
        name = experiment.method.name
        raise ConfigError(f"{run}: a product is fitted by baypranometa, this run trained {name}")
    found = paths_in(run / "checkpoints")
    if not found:
        raise CheckpointError(f"{run / 'checkpoints'}: no checkpoint")
    identity = experiment_hash(experiment)
    snapshot = read(found[0], identity)
    if site and site not in snapshot.owners:
        known = ", ".join(snapshot.owners) or "none has"
        raise ConfigError(f"{run}: {site!r} has no parameters of its own (who has: {known})")
    shots = experiment.evaluation.shots
    whose = f" of {site}" if site else ""
    return Source(
        with_weights(experiment, weights),
        snapshot,
        f"{run.resolve().name} round {snapshot.round}{whose} ({identity[:12]})",
        shots if isinstance(shots, int) else 0,
        site,
    )


def from_backbone(name: str, weights: Path | str | None = None) -> Source:
    """Return the bundled settings on a pretrained backbone, at round-0 parameters.

    Args:
        name: Of a timm model, such as ``mobilenetv2_100``.
        weights: Local safetensors file.

    Raises:
        WeightsError: no weights are given, or the file cannot be read.
    """
    if weights is None:
        raise WeightsError(f"backbone {name}: a local file of its weights is needed (--weights)")
    file = Path(weights).expanduser().resolve()
    return Source(product_experiment(name, file, inspect_weights(file).sha256))


def with_weights(experiment: Experiment, weights: Path | str | None) -> Experiment:
    """Return ``experiment`` with its backbone's weights in another place."""
    if weights is None:
        return experiment
    file = Path(weights).expanduser().resolve()
    backbone = experiment.backbone.model_copy(update={"weights": file})
    return experiment.model_copy(update={"backbone": backbone})


def build(experiment: Experiment, tiles: int = 1) -> System:
    """Build encoder and method, for pictures that are seen in ``tiles`` x ``tiles`` parts.

    An image's score is the mean of its highest tokens, as many as a single tile has, wherever
    they lie: what is seen in one tile is not diluted by the others.

    Raises:
        ConfigError: the settings do not fit each other, or the device is not there.
        WeightsError: the weights are not there, or others than the settings state.
    """
    encoder = build_encoder(experiment, resolve_device(experiment.device))
    settings = experiment.method
    if tiles > 1:
        if encoder.grid == 1:
            raise ConfigError("tiles: the image grain has no map that tiles could refine")
        views = tuple(view._replace(tail=TiledTail(view.tail)) for view in encoder.views)
        encoder = replace(encoder, tail=TiledTail(encoder.tail), views=views)
        settings = _finer(settings, tiles**2)
    method = build_method(settings, encoder)
    kept = method.inside if isinstance(method, Refined) else method
    if not isinstance(kept, KeptMethod):
        raise ConfigError(f"method.name: a detector of {settings.name} cannot be kept")
    return System(kept, encoder)


def _finer(settings: MethodSettings, parts: int) -> MethodSettings:
    if not isinstance(settings, BayPrAnoMeta):
        raise ConfigError(f"method.name: {settings.name} makes no product")
    wide = settings.wide.model_copy(update={"top_k": settings.wide.top_k / parts})
    return settings.model_copy(update={"top_k": settings.top_k / parts, "wide": wide})
