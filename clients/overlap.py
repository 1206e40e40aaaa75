"""Pictures that two sites of a simulation share: no client can see them, its maker can."""

from __future__ import annotations

from bayfed.config import Experiment
from bayfed.data import load_sites
from bayfed.episodes import (
    as_trained_on,
    is_held_out,
    refuse_known,
    training_pictures,
    training_pools,
    without_copies,
)


def check_pictures(experiment: Experiment) -> None:
    """Check that no picture is scored at one site and trained on at another.

    Nor may the good images of a held-out site be trained on elsewhere. Real factories show
    their pictures to nobody, so that among them only each one's own are compared.

    Raises:
        DataError: a folder or a file cannot be read.
        ProtocolError: two sites share such a picture.
    """
    protocol, seed = experiment.protocol, experiment.seed
    sites = load_sites(experiment.data, seed, protocol.holdout)
    unseen = {s.name for s in sites if is_held_out(s.name, s.family, protocol)}
    pools = [without_copies(training_pools(site, protocol, (), seed)) for site in sites]
    noise = experiment.data.skew.noise
    pools = [p if p.site in unseen else as_trained_on(p, noise, seed) for p in pools]
    known = training_pictures(site for site in pools if site.site not in unseen)
    for site in pools:
        refuse_known(site, known, unseen=site.site in unseen)
