"""The paper's theory on a small smooth problem, or on real sites: verdicts, tables and figures.

python -m experiments.study.theory --out DIR
python -m experiments.study.theory --data DIR --weights FILE --out DIR
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from bayfed.config import load_experiment
from bayfed.errors import BayfedError, ConfigError
from experiments.options import Overrides
from experiments.resolve import absolute, find
from experiments.study import checks
from experiments.study.figures import draw
from experiments.study.outcome import Check, summary, verdict, write_marks

CHECKS = {
    "deterministic": checks.deterministic,
    "stochastic": checks.stochastic,
    "clients": checks.clients,
    "first_order": checks.first_order,
    "drift": checks.drift,
    "inner": checks.inner,
}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the tables, figures and summary.")],
    only: Annotated[list[str] | None, typer.Option(help="Single checks.")] = None,
    seed: Annotated[int, typer.Option(help="Of the problem.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder of real sites to check on.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of the backbone.")] = None,
    settings: Overrides = None,
) -> None:
    """Run the checks; a failed one is reported, and the exit status is 1."""
    torch.set_num_threads(1)
    console, found = Console(), list[Check]()
    try:
        title, known = _checks(seed, data, weights, settings or [], console)
        if unknown := set(only or []) - known.keys():
            raise ConfigError(f"--only: no check is called {sorted(unknown)[0]!r}")
    except BayfedError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    out.mkdir(parents=True, exist_ok=True)
    for name in only or known:
        started = time.perf_counter()
        check = known[name]()
        found.append(check)
        path = out / f"{name}.csv"
        write_marks(path, check.abscissa, check.marks)
        draw(path)
        numbers = "; ".join(f"{key} {value}" for key, value in check.numbers.items())
        seconds = time.perf_counter() - started
        console.print(f"{verdict(check)} {name} ({seconds:.0f} s): {numbers}", soft_wrap=True)
    (out / "summary.md").write_text(summary(found, title), encoding="utf-8")
    if not all(check.passed for check in found if check.applies):
        raise typer.Exit(1)


def _checks(
    seed: int, data: Path | None, weights: Path | None, settings: list[str], console: Console
) -> tuple[str, Mapping[str, Callable[[], Check]]]:
    """Return what is checked, and the checks by name."""
    if data is None:
        if weights is not None or settings:
            raise ConfigError("--weights and --set are about real sites, which --data names")
        smooth = {name: partial(check, seed) for name, check in CHECKS.items()}
        return "Theory checks on a small smooth problem, float64", smooth
    from experiments.study import site_checks
    from experiments.study.frozen import Frozen

    started, base = time.perf_counter(), Path.cwd()
    asked = [*settings, f"seed={seed}", f"data.root={data}"]
    asked += [] if weights is None else [f"backbone.weights={weights}"]
    experiment = absolute(load_experiment(find("theory_sites", base), asked), base)
    ground = site_checks.ground(Frozen.of(experiment))
    console.print(
        f"{len(ground.frozen.names)} factories ({time.perf_counter() - started:.0f} s): "
        f"L {ground.steepest:.3f}, eta {ground.rate:.4f}, Delta {ground.delta:.4f}",
        soft_wrap=True,
    )
    on_sites = {name: partial(check, ground) for name, check in site_checks.CHECKS.items()}
    return f"Theory checks on the sites of {data.name}, float32", on_sites


if __name__ == "__main__":
    typer.run(main)
