"""What follows the last round: the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bayfed.config import load_experiment
from bayfed.evaluation.report import Report, write_report
from bayfed.evaluation.table import read_rows
from bayfed.fingerprint import fingerprint
from server import history
from strategies.wire import CODE

REPORT = "report.html"
_LIBRARIES = ("flwr", "ray", "torch", "timm", "numpy")


def finish_run(run_dir: Path) -> Path:
    """Write the report of the run in ``run_dir`` and return its path.

    Raises:
        BayfedError: a file of the run cannot be read, or the report cannot be written.
    """
    report = Report(
        experiment=load_experiment(run_dir / "config.yaml"),
        rows=read_rows(run_dir / "results.csv"),
        rounds=history.read(run_dir / "metrics.jsonl"),
        environment=environment(),
    )
    path = run_dir / REPORT
    write_report(path, report)
    return path


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
