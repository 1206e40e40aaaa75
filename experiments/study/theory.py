"""The paper's theory on a small smooth problem in float64: verdicts, numbers, tables and figures.

python -m experiments.study.theory --out DIR
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

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
) -> None:
    """Run the checks; a failed one is reported, and the exit status is 1."""
    torch.set_num_threads(1)
    console, found = Console(), list[Check]()
    if unknown := set(only or []) - CHECKS.keys():
        console.print(f"--only: no check is called {sorted(unknown)[0]!r}")
        raise typer.Exit(2)
    out.mkdir(parents=True, exist_ok=True)
    for name in only or CHECKS:
        started = time.perf_counter()
        check = CHECKS[name](seed)
        found.append(check)
        path = out / f"{name}.csv"
        write_marks(path, check.abscissa, check.marks)
        draw(path)
        numbers = "; ".join(f"{key} {value}" for key, value in check.numbers.items())
        seconds = time.perf_counter() - started
        console.print(f"{verdict(check)} {name} ({seconds:.0f} s): {numbers}", soft_wrap=True)
    title = "Theory checks on a small smooth problem, float64"
    (out / "summary.md").write_text(summary(found, title), encoding="utf-8")
    if not all(check.passed for check in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
