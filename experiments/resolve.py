"""The one way from a name and overrides to a job, for ``bayfed run`` and ``flwr run`` alike."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bayfed.config import Experiment, experiment_hash, load_experiment
from bayfed.errors import ConfigError, WeightsError
from bayfed.fingerprint import file_hash
from server import plants
from server.job import Job

_OWN = ("out", "resume", "plants")
BUNDLED = Path(__file__).resolve().parent


def resolve(
    experiment: str,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    resume: bool = False,
    base: Path | None = None,
) -> Job:
    """Return the job that a user asks for.

    Args:
        experiment: a YAML file, or the name of a bundled experiment such as ``demo``.
        overrides: ``key.path=value`` texts, later ones win.
        out: the folder of the run; ``runs/NAME-TIME`` if not given.
        resume: go on from the last checkpoint in ``out``.
        base: the folder that relative paths start from; the current one if not given.

    Raises:
        ConfigError: no such experiment, a wrong setting, or a folder that cannot be used.
        WeightsError: the file of the weights cannot be read, or is another than is stated.
    """
    base = Path.cwd() if base is None else base
    settings = absolute(load_experiment(find(experiment, base), overrides, BUNDLED), base)
    if out is None:
        if resume:
            raise ConfigError("resume: the folder of the run to go on with is needed (out)")
        out = Path("runs") / f"{settings.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    job = Job(settings, (base / out.expanduser()).resolve(), resume)
    check_folder(job)
    return job


def from_run_config(config: Mapping[str, object]) -> Job:
    """Return the job of Flower's run config, whose keys are ``experiment`` and ``set``.

    ``set`` is split like a shell line, so values with spaces or commas are quoted:
    ``set="federation.rounds=3 data.sites='[a, b]' out=/tmp/run resume=true"``. Three words
    are no settings of the experiment: ``out``, ``resume``, and ``plants``, the file that lists who
    may take part.

    Raises:
        ConfigError: as ``resolve``, or the line has an open quote.
    """
    try:
        words = shlex.split(str(config.get("set", "")))
    except ValueError as error:
        raise ConfigError(f"set: {error}") from error
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in _OWN:
            own[key] = value
        else:
            rest.append(word)
    folder = Path(own["out"]) if "out" in own else None
    resume = own.get("resume") == "true"
    job = resolve(str(config.get("experiment", "demo")), rest, folder, resume)
    return replace(job, plants=plants.read(Path(own["plants"]))) if "plants" in own else job


def find(experiment: str, base: Path) -> Path:
    """Return the file of an experiment given as a path or by the name of a bundled one.

    >>> find("nowhere", Path("/"))
    Traceback (most recent call last):
    bayfed.errors.ConfigError: nowhere: neither a file nor one of the bundled experiments ...
    """
    path = base / Path(experiment).expanduser()
    if path.is_file():
        return path
    bundled = BUNDLED / f"{Path(experiment).stem}.yaml"
    if experiment == Path(experiment).stem and bundled.is_file():
        return bundled
    names = ", ".join(sorted(file.stem for file in BUNDLED.glob("*.yaml")))
    raise ConfigError(f"{experiment}: neither a file nor one of the bundled experiments ({names})")


def absolute(experiment: Experiment, base: Path) -> Experiment:
    """Return ``experiment`` with paths that hold in every working directory, and named content.

    Raises:
        WeightsError: the file of the weights cannot be read, or is not the one that is stated.
    """

    def at_base(path: Path | None) -> Path | None:
        return None if path is None else (base / path.expanduser()).resolve()

    data, backbone, store = experiment.data, experiment.backbone, experiment.store
    weights = at_base(backbone.weights)
    pinned = {"weights": weights, "sha256": _content(weights, backbone.sha256)}
    return experiment.model_copy(
        update={
            "data": data.model_copy(update={"root": at_base(data.root)}),
            "backbone": backbone.model_copy(update=pinned),
            "store": store.model_copy(update={"directory": at_base(store.directory)}),
        }
    )


def _content(weights: Path | None, stated: str | None) -> str | None:
    """Return the SHA-256 of the weights, which must be the ``stated`` one if there is one."""
    if weights is None:
        return stated
    try:
        if weights.exists() and not weights.is_file():
            raise WeightsError(f"{weights}: not a regular file (backbone.weights)")
        found = file_hash(weights)
    except OSError as error:
        raise WeightsError(f"{weights}: {error.strerror or error} (backbone.weights)") from error
    if stated not in (None, found):
        raise WeightsError(f"{weights}: sha256 {found}, the experiment states {stated}")
    return found


def check_folder(job: Job) -> None:
    """Check that the run's folder is new or empty, or holds a run if it is to be resumed.

    Raises:
        ConfigError: it is not so.
    """
    if job.out.exists() and not job.out.is_dir():
        raise ConfigError(f"{job.out}: not a folder")
    used = job.results.exists() or any(job.out.glob("checkpoints/*.safetensors"))
    if used and not job.resume:
        raise ConfigError(f"{job.out}: holds a run already; resume it or choose another folder")
    if job.resume and not job.out.is_dir():
        raise ConfigError(f"{job.out}: no run to resume")
    if not used and (strangers := job.strangers()):
        raise ConfigError(f"{job.out}: holds {strangers[0]!r}, no run; choose another folder")
    # Before anything is written: a refused resumption leaves the run as it was.
    config, hashed = job.out / "config.yaml", experiment_hash(job.experiment)
    if used and config.exists() and experiment_hash(load_experiment(config)) != hashed:
        raise ConfigError(f"{config}: the run has other settings; resume it with the same")
