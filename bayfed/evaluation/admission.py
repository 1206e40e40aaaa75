"""Which sites a finished run may honestly be evaluated on, and with which images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bayfed.config import Experiment
from bayfed.config import Protocol as ProtocolSettings
from bayfed.data import Site, load_sites, site_names
from bayfed.episodes import (
    Pools,
    as_trained_on,
    give_away,
    is_held_out,
    refuse_known,
    training_pictures,
    training_pools,
    unseen_pools,
    without_copies,
)
from bayfed.errors import BayfedError, CheckpointError, ProtocolError
from bayfed.evaluation.table import read_rows


@dataclass(frozen=True)
class Training:
    """What the training of a run has seen.

    Attributes:
        protocol: The run's protocol.
        seed: The run's seed.
        sites: Training sites and their families.
        images: The training sites whose files are at hand, by name.
        noise: Share of their good training images that were defects.
    """

    protocol: ProtocolSettings
    seed: int
    sites: Mapping[str, str]
    images: Mapping[str, Site] = field(default_factory=dict)
    noise: float = 0.0

    @property
    def label(self) -> str:
        """The column ``train_sites`` of a results table."""
        return "+".join(sorted(self.sites))

    @cached_property
    def pictures(self) -> dict[str, str]:
        """Digest -> place of every training image whose file is at hand."""
        sites = self.images.values()
        pools = [training_pools(s, self.protocol, (), self.seed) for s in sites]
        if self.noise:
            pools = [as_trained_on(without_copies(p), self.noise, self.seed) for p in pools]
        return training_pictures(pools)

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """The training sites whose files are not at hand, so that no copy of them is noticed."""
        return tuple(sorted(set(self.sites) - set(self.images)))


def training_of(run: Path, experiment: Experiment) -> Training:
    """Return what the run in folder ``run`` has trained on, by its settings and its records.

    The settings tell where the run's own data can still be read. A federation of real
    factories leaves the names in the table of results and in the history instead.

    Raises:
        CheckpointError: nothing tells which sites took part, or a record is damaged.
    """
    data, protocol = experiment.data, experiment.protocol
    listed = {name: family for family, names in data.families.items() for name in names}
    try:
        known = dict(site_names(data, experiment.seed))
        images = load_sites(data, experiment.seed, protocol.holdout)
    except BayfedError:
        known, images = {}, ()
    names = {n for n, family in known.items() if not is_held_out(n, family, protocol)}
    names |= _from_results(run / "results.csv")
    resampled = experiment.federation.clients.partition == "resample"
    if not (known and resampled):  # whose clients are no sites
        names |= _from_history(run / "metrics.jsonl")
    if not names:
        raise CheckpointError(f"{run}: nothing tells which sites took part in training")
    sites = {name: known.get(name) or listed.get(name, name) for name in names}
    at_hand = {site.name: site for site in images if site.name in names}
    return Training(protocol, experiment.seed, sites, at_hand, data.skew.noise)


def admit(site: Site, protocol: str, training: Training) -> Pools:
    """Return the pools of ``site`` under ``protocol``.

    ``new-product`` scores sites whose name and family training has not met; ``standard``
    also scores the test split of a training site, if training kept away from it;
    ``new-defect`` scores the type of defect that the run kept back.

    Raises:
        ProtocolError: training has seen what would be scored.
    """
    seen = site.name in training.sites
    if protocol == "new-product":
        _refuse_known(site, training)
        return _checked(unseen_pools(site), training)
    if protocol == "new-defect":
        return _kept_back(site, training)
    if seen and training.protocol.name != "standard":
        raise ProtocolError(
            f"site {site.name}: its test defects were used in training under "
            f"{training.protocol.name}, so it cannot be evaluated under standard"
        )
    return _checked(unseen_pools(site), training)


def _refuse_known(site: Site, training: Training) -> None:
    if site.name in training.sites:
        raise ProtocolError(
            f"site {site.name}: took part in training, so it is no new product to this run"
        )
    if site.family in training.sites.values():
        raise ProtocolError(
            f"site {site.name}: its family {site.family!r} took part in training, "
            "so it is no new product to this run"
        )


def _kept_back(site: Site, training: Training) -> Pools:
    if training.protocol.name != "new-defect":
        raise ProtocolError(
            f"new-defect: this run was trained under {training.protocol.name} "
            "and kept no type of defect back"
        )
    if site.name not in training.sites:
        raise ProtocolError(
            f"site {site.name}: took no part in training, evaluate it under new-product"
        )
    pools = training_pools(site, training.protocol, (), training.seed)
    return _checked(pools, training)


def _checked(pools: Pools, training: Training) -> Pools:
    """Compare what is scored with the training images by content, which names cannot show."""
    pools = without_copies(pools)
    if pools.site in training.sites:
        pools, _ = give_away(pools, training.noise, training.seed)
    refuse_known(pools, training.pictures, unseen=pools.site not in training.sites)
    return pools


def _from_results(path: Path) -> set[str]:
    rows = read_rows(path) if path.exists() else []
    return _names(row.train_sites for row in rows)


def _from_history(path: Path) -> set[str]:
    """Return the names of the clients that trained; one with several sites joins them by +."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        clients = [client["name"] for line in lines for client in line.get("clients") or ()]
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a history of rounds") from error
    return _names(str(name) for name in clients if not str(name).startswith("mixture_"))


def _names(texts: Iterable[str | None]) -> set[str]:
    return {name for text in texts for name in (text or "").split("+") if name}
