"""The paper's theory on a small smooth problem in float64, or on real sites.

python -m experiments.study.theory --out DIR
python -m experiments.study.theory --data DIR --weights FILE --out DIR

Verdicts, numbers, tables and figures of each check.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from bayfed.config import load_experiment
from bayfed.errors import BayfedError, ConfigError
from experiments.options import Overrides
from experiments.resolve import BUNDLED, absolute, find
from experiments.study.checks import clients, deterministic, stochastic
from experiments.study.figures import draw
from experiments.study.floors import drift, first_order
from experiments.study.frozen import freeze
from experiments.study.inner import inner
from experiments.study.known import Known
from experiments.study.outcome import Check, summary, verdict, write_marks
from experiments.study.sites import Sites
from experiments.study.smooth import Problem
from experiments.study.subject import Subject

Ask = Callable[[], Check]
Shared = Callable[[Subject], Check]
SHARED: dict[str, Shared] = {
    "deterministic": deterministic,
    "stochastic": stochastic,
    "clients": clients,
    "first_order": first_order,
    "drift": drift,
}
ALONE: dict[str, Callable[[Known], Check]] = {"inner": inner}
"""Of the smooth problem."""


def main(
    out: Annotated[Path, typer.Option(help="Folder of the tables, figures and summary.")],
    only: Annotated[list[str] | None, typer.Option(help="Single checks.")] = None,
    seed: Annotated[int, typer.Option(help="Of episodes and draws.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Folder of real sites to check on.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of their backbone.")] = None,
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "theory",
    directions: Annotated[int, typer.Option(min=2, help="Channels left of theirs.")] = 16,
    settings: Overrides = None,
) -> None:
    """Run the checks; a failed one is reported, and the exit status is 1."""
    torch.set_num_threads(1)
    console = Console()
    known = [*SHARED, *(ALONE if data is None else ())]
    try:
        if unknown := set(only or []) - set(known):
            raise ConfigError(f"--only: no check is called {sorted(unknown)[0]!r}")
        if data is None:
            if weights is not None or settings:
                raise ConfigError("--weights and --set are about real sites, which --data names")
            title, asks = _smooth(seed)
        else:
            words = [*(settings or []), f"seed={seed}", f"data.root={data}"]
            words += [] if weights is None else [f"backbone.weights={weights}"]
            title, asks = _sites(experiment, words, directions)
    except BayfedError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    out.mkdir(parents=True, exist_ok=True)
    found = [_done(name, asks[name], out, console) for name in only or known]
    (out / "summary.md").write_text(summary(found, title), encoding="utf-8")
    if any(check.passed is False for check in found):
        raise typer.Exit(1)


def _smooth(seed: int) -> tuple[str, dict[str, Ask]]:
    subject = Known(Problem(clients=4, seed=seed))
    alone = {name: partial(check, subject) for name, check in ALONE.items()}
    return subject.title, _shared(subject) | alone


def _shared(subject: Subject) -> dict[str, Ask]:
    return {name: partial(check, subject) for name, check in SHARED.items()}


def _sites(name: str, words: list[str], directions: int) -> tuple[str, dict[str, Ask]]:
    base = Path.cwd()
    settings = absolute(load_experiment(find(name, base), words, BUNDLED), base)
    frozen = freeze(settings, directions)
    number = sum(len(batch) for batch in frozen.episodes.values())
    title = (
        f"Theory checks on {len(frozen.episodes)} real sites ({settings.name}, seed "
        f"{settings.seed}): {number} frozen episodes, {directions} principal directions "
        f"({frozen.kept:.0%} of the variance), float64"
    )
    return title, _shared(Sites(frozen, title))


def _done(name: str, ask: Ask, out: Path, console: Console) -> Check:
    started = time.perf_counter()
    check = ask()
    path = out / f"{name}.csv"
    if check.marks:
        write_marks(path, check.abscissa, check.marks)
        draw(path)
    numbers = "; ".join(f"{key} {value}" for key, value in check.numbers.items())
    seconds = time.perf_counter() - started
    console.print(f"{verdict(check)} {name} ({seconds:.0f} s): {numbers}", soft_wrap=True)
    return check


if __name__ == "__main__":
    typer.run(main)
