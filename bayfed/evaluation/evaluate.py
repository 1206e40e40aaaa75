"""Evaluating a finished run again: other sites, other draws, another number of shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayfed.config import Experiment, experiment_hash, load_experiment, parse_experiment
from bayfed.data import Site, load_sites
from bayfed.episodes import Pools, draw_of, is_held_out
from bayfed.episodes.protocols import PROTOCOLS
from bayfed.errors import CheckpointError, ConfigError, ProtocolError
from bayfed.evaluation.admission import Training, admit, training_of
from bayfed.evaluation.checkpoint import Snapshot, path_of, paths_in, read
from bayfed.evaluation.site import evaluate_site
from bayfed.evaluation.summary import CONTROL, TRAINED
from bayfed.evaluation.supports import support_pictures
from bayfed.evaluation.system import System, build_system, checked
from bayfed.evaluation.table import KEY, ResultRow, append_rows, read_rows, untimed
from bayfed.features import StoredFeatures
from bayfed.folders import made_folder


@dataclass(frozen=True)
class Request:
    """What to evaluate; ``None`` = as in the run.

    Attributes:
        run: Folder of the run.
        data: Folder of sites; None = the run's own data.
        sites: Names; empty = all sites of ``data``, or those that the run evaluated.
        layout: How ``data`` is laid out.
        shots: Images of a support.
        draws: Supports a site.
        protocol: Which images may be used for what.
        weights: Local file of the backbone's weights.
        round: Checkpoint; None = the newest.
        out: Folder whose ``results.csv`` receives the rows; None = ``run``.
    """

    run: Path
    data: Path | None = None
    sites: tuple[str, ...] = ()
    layout: str = "auto"
    shots: int | None = None
    draws: int | None = None
    protocol: str | None = None
    weights: Path | None = None
    round: int | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """The rows that were added to the table ``results``, and what the reader must know."""

    rows: list[ResultRow]
    results: Path
    notes: tuple[str, ...] = ()


def evaluate_run(request: Request) -> Evaluated:
    """Evaluate the trained parameters of a run, and those of its round 0 as the control.

    Supports are drawn as in the run, so its own sites under its own settings give its own
    numbers again; those of a mixture or of a resampled site are drawn from all good images of a
    site, of which the run's client had a share, and of ``data.skew`` only the defects that were
    taken for good are heeded, which are not scored. The rows are added to the table; one that is
    there already must have the same numbers.

    Raises:
        CheckpointError: the run's files are damaged or do not belong together.
        ConfigError: a setting is wrong, or a site does not exist.
        DataError: an image or a folder cannot be used.
        ProtocolError: training has seen what would be scored, or a site has too few images.
        WeightsError: the weights do not fit the backbone.
    """
    stated = load_experiment(request.run / "config.yaml")
    snapshots = _snapshots(request, experiment_hash(stated))
    training = training_of(request.run, stated)
    experiment = _changed(stated, request)
    protocol = _protocol(request, stated)
    pools = [admit(site, protocol, training) for site in _sites(experiment, stated, request)]
    _check_images(pools, experiment)
    same_shots = experiment.evaluation.shots == stated.evaluation.shots
    context = _context(experiment, protocol, training, request.run)
    results = (request.out or request.run) / "results.csv"
    with made_folder(results.parent):
        rows = [
            ResultRow(**context, **row)
            for row in _measure(experiment, snapshots, pools, same_shots, request.data is None)
        ]
        _refuse_changes(results, rows)
    append_rows(results, rows)
    return Evaluated(rows, results, _notes(request, stated, same_shots, snapshots, training))


def _snapshots(request: Request, identity: str) -> list[Snapshot]:
    folder = request.run / "checkpoints"
    found = paths_in(folder)
    if not found:
        raise CheckpointError(f"{folder}: no checkpoint")
    last = found[0] if request.round is None else path_of(folder, request.round)
    wanted = dict.fromkeys((path_of(folder, 0), last))
    for path in wanted:
        if not path.exists():
            raise CheckpointError(f"{path}: there is no such checkpoint")
    return [read(path, identity) for path in wanted]


def _protocol(request: Request, stated: Experiment) -> str:
    name = request.protocol or stated.protocol.name
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: {name!r} is none of {', '.join(PROTOCOLS)}")
    return name


def _changed(stated: Experiment, request: Request) -> Experiment:
    tree = stated.model_dump()
    if request.data is not None:
        tree["data"] = {"source": "folders", "root": request.data, "layout": request.layout}
    if request.weights is not None:
        tree["backbone"]["weights"] = request.weights
    evaluation = {"shots": request.shots, "draws": request.draws}
    tree["evaluation"] |= {key: value for key, value in evaluation.items() if value is not None}
    return parse_experiment(tree, "evaluate")


def _sites(experiment: Experiment, stated: Experiment, request: Request) -> list[Site]:
    own = request.data is None
    held_out = stated.protocol.holdout if own else ()
    families = {n: f for f, names in stated.data.families.items() for n in names}
    sites = {site.name: site for site in load_sites(experiment.data, experiment.seed, held_out)}
    unknown = [name for name in request.sites if name not in sites]
    if unknown:
        raise ConfigError(f"sites: no site {unknown[0]!r} (there are: {', '.join(sites)})")
    chosen = [sites[name] for name in dict.fromkeys(request.sites or sites)]
    if own and held_out and not request.sites:
        chosen = [s for s in chosen if is_held_out(s.name, s.family, stated.protocol)]
    return [_with_family(site, families) for site in chosen]


def _with_family(site: Site, families: dict[str, str]) -> Site:
    family = families.get(site.name, site.family)
    return Site(site.name, family, site.train_good, site.test_good, site.defects)


def _check_images(pools: Sequence[Pools], experiment: Experiment) -> None:
    for site in pools:
        draw_of(site, experiment.evaluation, experiment.seed, 0)
        if not site.testing:
            raise ProtocolError(f"site {site.site}: no test image to score")


def _measure(
    experiment: Experiment,
    snapshots: Sequence[Snapshot],
    pools: Sequence[Pools],
    calibrated: bool,
    own: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of every site under every snapshot, without what they have in common.

    A factory's own part of the meta-parameters is for the run's ``own`` sites: elsewhere, a
    site of the same name may be another one.
    """
    system = build_system(experiment)
    method = system.method
    learned = [checked(snapshot, method, experiment.seed) for snapshot in snapshots]
    for site in pools:
        features = _features(system, site, experiment)
        for snapshot in learned:
            theta = snapshot.theta_of(site.site if own else "")
            rows = evaluate_site(
                method,
                theta,
                site,
                features,
                experiment.evaluation,
                experiment.seed,
                snapshot.calibration if calibrated else {},
                experiment.backbone.image_size,
            )
            arm = CONTROL if snapshot.round == 0 else TRAINED
            shared = {"arm": arm, "round": snapshot.round, "variant": method.variant}
            yield from (shared | row for row in rows)


def _features(system: System, pools: Pools, experiment: Experiment) -> StoredFeatures:
    """Compute what the draws and the test need, and no other feature of the site."""
    poses = system.method.poses
    pictures = support_pictures(pools, experiment.evaluation, experiment.seed, poses)
    return system.store.open((*pictures, *pools.testing))


def _context(
    experiment: Experiment, protocol: str, training: Training, run: Path
) -> dict[str, Any]:
    return {
        "run": run.resolve().name,
        "method": experiment.method.name,
        "grain": experiment.method.grain,
        "protocol": protocol,
        "backbone": experiment.backbone.name,
        "train_sites": training.label,
        "seed": experiment.seed,
    }


def _refuse_changes(results: Path, rows: Sequence[ResultRow]) -> None:
    """Check that no row of the table would be replaced by one with other numbers."""
    old = {_key(row): untimed(row) for row in read_rows(results)} if results.exists() else {}
    for row in rows:
        if old.get(_key(row), untimed(row)) != untimed(row):
            raise ProtocolError(
                f"{results}: site {row.site} is there already with other numbers; "
                "write to another folder (--out)"
            )


def _key(row: ResultRow) -> tuple[object, ...]:
    return tuple(getattr(row, column) for column in KEY)


def _notes(
    request: Request,
    stated: Experiment,
    same_shots: bool,
    snapshots: Sequence[Snapshot],
    training: Training,
) -> tuple[str, ...]:
    notes = []
    if training.out_of_reach:
        count = len(training.out_of_reach)
        notes.append(
            f"The images of {count} training site{'s' * (count > 1)} are not at hand: copies of "
            "them among the pictures scored here would not be noticed."
        )
    if request.data is None and stated.data.skew.camera:
        notes.append("Sites are scored as they are, not behind the cameras of data.skew.")
    instead = "P-values of the model's own law" if stated.method.has_law else "No p-values"
    if not same_shots:
        notes.append(
            f"{instead}: the pooled calibration was made at {stated.evaluation.shots} shots "
            "and holds for no other number."
        )
    else:
        notes += [
            f"{instead} at round {snapshot.round}: the run made no calibration there."
            for snapshot in snapshots
            if not snapshot.calibration
        ]
    return tuple(notes)
