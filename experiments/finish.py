"""What follows the last round: the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bayfed.config import Experiment, experiment_hash, load_experiment
from bayfed.data import load_sites
from bayfed.errors import BayfedError
from bayfed.evaluation.gallery import Gallery, draw_gallery
from bayfed.evaluation.report import Report, write_report
from bayfed.evaluation.table import read_rows
from bayfed.fingerprint import fingerprint
from clients.pools import as_judged
from server import history
from server.checkpoints import latest
from strategies.wire import CODE

_LIBRARIES = ("flwr", "ray", "torch", "timm", "numpy")


def finish_run(run_dir: Path, simulated: bool = False) -> Path:
    """Write the report of the run in ``run_dir`` and return its path.

    Args:
        run_dir: Folder of the run.
        simulated: Whether the factories' images are on this machine, so that heatmaps can be
            drawn; those of real factories never come here.

    Raises:
        BayfedError: a file of the run cannot be read, or the report cannot be written.
    """
    experiment = load_experiment(run_dir / "config.yaml")
    gallery, notes = _gallery(run_dir, experiment) if simulated else (Gallery(), ())
    report = Report(
        experiment=experiment,
        rows=read_rows(run_dir / "results.csv"),
        rounds=history.read(run_dir / "metrics.jsonl"),
        heatmaps=gallery.cases,
        scale=gallery.scale,
        environment=environment(),
        notes=notes,
    )
    path = run_dir / "report.html"
    write_report(path, report)
    return path


def _gallery(run_dir: Path, experiment: Experiment) -> tuple[Gallery, tuple[str, ...]]:
    if not experiment.evaluation.heatmaps:
        return Gallery(), ()
    try:
        snapshot = latest(run_dir / "checkpoints", experiment_hash(experiment))
        if snapshot is None:
            return Gallery(), ()
        holdout = experiment.protocol.holdout
        sites = load_sites(experiment.data, experiment.seed, holdout)
        return draw_gallery(experiment, snapshot, sites, as_judged(experiment)), ()
    except BayfedError as error:
        return Gallery(), (f"The heatmaps could not be drawn: {error}.",)


def environment() -> dict[str, str]:
    """Return what the run was made with: machine, versions and the hash of the code."""
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    found["Python"] = platform.python_version()
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return {**found, "code": fingerprint(*CODE)[:12]}
