"""What a worker process does: compute features, train, measure. Every argument can be pickled.

The training stack is imported where it is used, so that a process that only plans is small.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayfed.config import Experiment, experiment_hash
from bayfed.data import Site, load_sites
from bayfed.data.pasted import pasted_images
from bayfed.episodes import training_pools, without_copies
from experiments.bench.arms import Training, is_unseen
from experiments.parallel.task import use_one_thread
from server.job import Job

if TYPE_CHECKING:
    from bayfed.data.turned import Poses
    from bayfed.evaluation.bench.measure import Drawn, View
    from bayfed.features import Params

VIEWS = 12
"""Sites that a worker keeps open, with their masks."""


def compute_features(experiment: Experiment, site: str, painted: bool) -> None:
    """Fill the store with all that is read of ``site``, so that no two workers compute the same.

    Raises:
        BayfedError: an image, the weights or a setting is at fault.
    """
    from bayfed.evaluation.system import build_system

    use_one_thread()
    found = _site(experiment, site)
    images = list(found.images)
    if painted:
        images += pasted_images(found, experiment.data.pasted, experiment.seed)
    build_system(experiment).store.open(images)


def train(training: Training, folder: Path) -> None:
    """Run ``training`` to its end in a folder of ``folder``, from its last checkpoint if any.

    Raises:
        BayfedError: the run failed.
    """
    from clients.session import close_all
    from experiments.run import train_in_process

    out, start = folder / training.folder, training.start
    if is_trained(training, folder):
        return
    job = Job(
        training.experiment,
        out,
        resume=any(out.glob("checkpoints/*.safetensors")),
        measures=False,
        start=None if start is None else checkpoint_of(start, folder),
    )
    try:
        train_in_process(job)
    finally:
        close_all()
    _prune(training, out)


def checkpoint_of(training: Training, folder: Path) -> Path:
    """Return the file of the parameters after the last round."""
    from bayfed.evaluation.checkpoint import path_of

    return path_of(folder / training.folder / "checkpoints", training.rounds)


def is_trained(training: Training, folder: Path) -> bool:
    """Tell whether ``training`` has been run to its end."""
    outcome = folder / training.folder / "outcome.json"
    if not (outcome.exists() and checkpoint_of(training, folder).exists()):
        return False
    return bool(json.loads(outcome.read_text(encoding="utf-8")).get("status") == "completed")


def _prune(training: Training, out: Path) -> None:
    """Keep the first and the last checkpoint: a bench has hundreds of trainings."""
    from bayfed.evaluation.checkpoint import path_of

    kept = {path_of(out / "checkpoints", number) for number in (0, training.rounds)}
    for path in (out / "checkpoints").glob("*.safetensors"):
        if path not in kept:
            path.unlink()


def measure(
    experiment: Experiment,
    training: Training | None,
    site: str,
    folder: Path,
    scores: bool,
    calibrates: bool,
) -> tuple[Drawn, ...]:
    """Measure ``site`` with the parameters of ``training``, or those of round 0.

    Raises:
        BayfedError: an image, a checkpoint or a setting is at fault.
    """
    from bayfed.evaluation.bench.measure import measure_site
    from bayfed.evaluation.system import build_system
    from bayfed.features import resolve_device

    use_one_thread()
    method = build_system(experiment).method
    theta = _parameters(experiment, training, folder, site)
    device = resolve_device(experiment.device)
    theta = {name: value.to(device) for name, value in theta.items()}
    seen = experiment.model_dump_json(include=_SEEN)
    view = _view(seen, experiment.method.grain, method.poses, site)
    settings, seed = experiment.evaluation, experiment.seed
    return measure_site(method, theta, view, settings, seed, scores, calibrates)


_SEEN = {"data", "protocol", "backbone", "store", "seed", "device", "evaluation"}
"""Settings that decide what is read of a site."""


@lru_cache(maxsize=VIEWS)
def _view(text: str, grain: str, poses: Poses, site: str) -> View:
    from bayfed.evaluation.bench.measure import view_of
    from bayfed.evaluation.supports import support_pictures
    from bayfed.evaluation.system import build_system

    tree: dict[str, Any] = json.loads(text)
    experiment = Experiment.model_validate({**tree, "method": {"grain": grain}})
    pools = training_pools(_site(experiment, site), experiment.protocol, (), experiment.seed)
    pools = without_copies(pools)
    supports = support_pictures(pools, experiment.evaluation, experiment.seed, poses)
    pictures = {image.name: image for image in (*pools.train_good, *pools.testing, *supports)}
    features = build_system(experiment).store.open(tuple(pictures.values()))
    return view_of(pools, features, experiment.backbone.image_size)


def close_views() -> None:
    """Forget the sites that this process keeps open."""
    _view.cache_clear()


def _site(experiment: Experiment, name: str) -> Site:
    data = experiment.data.model_copy(update={"sites": (name,)})
    held = (name,) if is_unseen(experiment, name) else ()
    (site,) = load_sites(data, experiment.seed, held)
    return site


def _parameters(
    experiment: Experiment, training: Training | None, folder: Path, site: str
) -> Params:
    from bayfed.evaluation.checkpoint import read
    from bayfed.evaluation.system import build_system, checked

    method = build_system(experiment).method
    if training is None:
        return method.initial(experiment.seed)
    snapshot = read(checkpoint_of(training, folder), experiment_hash(training.experiment))
    return checked(snapshot, method, experiment.seed).theta_of(site)
