"""Bytes of a round against accuracy: one experiment, with its updates in several forms.

    python -m experiments.benchmarks.bandwidth --data DIR --weights FILE --out DIR

Every form trains from the same start on the same episodes; only what travels differs. Two trainings
that differ in a rounding end as far apart as forms do, so that several seeds are worth their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console

from bayfed.data import load_sites
from bayfed.data.files import FileSource
from bayfed.evaluation.summary import TRAINED, draws_by_site, interval_text, last_round
from bayfed.evaluation.table import read_rows
from bayfed.metrics import paired_interval
from experiments.benchmarks.kept import kept_run
from experiments.benchmarks.measure import goal, print_machine, print_table, wide_console
from experiments.options import Overrides
from server import history
from server.job import Job

FORMS = {
    "32 bits": (),
    "16 bits": ("uplink.bits=16",),
    "8 bits": ("uplink.bits=8",),
    "4 bits": ("uplink.bits=4",),
    "2 bits": ("uplink.bits=2",),
    "1 bit": ("uplink.bits=1",),
    "largest 5 %, 8 bits": ("uplink.keep=0.05", "uplink.bits=8"),
    "largest 1 %, 8 bits": ("uplink.keep=0.01", "uplink.bits=8"),
    "drawn 10 %, 8 bits": ("uplink.keep=0.1", "uplink.bits=8", "uplink.select=random"),
    "1 bit up, 8 down": ("uplink.bits=1", "downlink.bits=8"),
    "1 bit up, 4 down": ("uplink.bits=1", "downlink.bits=4"),
    "1 bit up, 2 down": ("uplink.bits=1", "downlink.bits=2"),
    "1 bit up, 1 down": ("uplink.bits=1", "downlink.bits=1"),
    "2 bits up, 1 down": ("uplink.bits=2", "downlink.bits=1"),
    "8 bits up, 1 down": ("uplink.bits=8", "downlink.bits=1"),
    "largest 5 %, 8 bits up, 2 down": ("uplink.keep=0.05", "uplink.bits=8", "downlink.bits=2"),
}
"""What travels, as settings of the federation."""
GOAL_BYTES, GOAL_LOSS, GOAL_SHARE = 50_000, 0.005, 0.02
AIM_DOWN = 4_500
"""Bytes a client and round from the server: for the sites of the reference, 2 % of their files."""


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; those that are done are kept.")],
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "sites",
    settings: Overrides = None,
    forms: Annotated[str, typer.Option(help="Some of the forms, separated by semicolons.")] = "",
    seeds: Annotated[str, typer.Option(help="A training each, separated by commas.")] = "0",
) -> None:
    """Measure accuracy and bytes of every form."""
    console = wide_console()
    print_machine(console)
    chosen = [form.strip() for form in forms.split(";")] if forms else list(FORMS)
    common = [f"data.root={data}", f"backbone.weights={weights}", *(settings or [])]
    jobs = {
        form: [_run(experiment, common, out, form, int(seed)) for seed in seeds.split(",")]
        for form in dict.fromkeys(["32 bits", *chosen])
    }
    reference = _sites(jobs["32 bits"])
    pixels, files = _images(jobs["32 bits"][0])
    shares = (len(reference) / pixels, len(reference) / files)
    rows = [_cells(form, job, reference, shares) for form, job in jobs.items()]
    columns = (
        "AUROC", "difference, 95 %", "kB up", "kB down", "down with evaluations", "% of pixels",
        "% of files",
    )  # fmt: skip
    print_table(console, "kB a client and round; uplink of all rounds", ("form", *columns), rows)
    console.print(f"images: {pixels / 1e6:.0f} MB decoded, {files / 1e6:.0f} MB in files")
    for form, job in jobs.items():
        _print_goals(console, form, job, reference, shares[0])


def _run(experiment: str, common: Sequence[str], out: Path, form: str, seed: int) -> Job:
    words = [f"seed={seed}", *(f"federation.{word}" for word in FORMS[form])]
    folder = out / f"seed-{seed}" / form.replace(" ", "-").replace(",", "").replace("%", "percent")
    return kept_run(experiment, [*common, *words], folder)


def _sites(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Return the draws of every site, those of all trainings together."""
    rows = [row for job in jobs for row in last_round(read_rows(job.results), TRAINED)]
    return draws_by_site(rows)


def _mean(sites: dict[str, list[float]]) -> float:
    return fmean(fmean(draws) for draws in sites.values())


def _bytes(jobs: Sequence[Job]) -> tuple[float, float, float]:
    """Return what a client sends and is sent in a round of training, and sends in all of them."""
    lines = [line for job in jobs for line in history.read(job.history) if line["round"]]
    alone = [line for line in lines if line["mean_image_auroc"] is None]
    up, down = (
        fmean(line[key] / line["replies"] for line in alone) for key in ("bytes_up", "bytes_down")
    )
    return up, down, up * len(lines) / len(jobs)


def _down(jobs: Sequence[Job], clients: int) -> float:
    """Return what a client is sent a round where evaluations are counted with the rounds."""
    lines = [line for job in jobs for line in history.read(job.history)]
    sent: int = sum(line["bytes_down"] for line in lines)
    return sent / clients / sum(bool(line["round"]) for line in lines)


def _images(job: Job) -> tuple[int, int]:
    """Return the bytes of the sites' images: decoded to 8-bit RGB, and as they are stored."""
    pictures = [p for s in load_sites(job.experiment.data, job.experiment.seed) for p in s.images]
    pixels = sum(3 * width * height for width, height in (picture.size() for picture in pictures))
    sources = (picture.source for picture in pictures)
    return pixels, sum(s.path.stat().st_size for s in sources if isinstance(s, FileSource))


def _cells(
    form: str,
    jobs: Sequence[Job],
    reference: dict[str, list[float]],
    shares: tuple[float, float],
) -> tuple[str, ...]:
    found = _sites(jobs)
    up, down, total = _bytes(jobs)
    shown = "" if form == "32 bits" else interval_text(paired_interval(reference, found), digits=4)
    sent = (f"{size / 1000:.1f}" for size in (up, down, _down(jobs, len(found))))
    parts = (f"{100 * share * total:.2f}" for share in shares)
    return form, f"{_mean(found):.4f}", shown, *sent, *parts


def _print_goals(
    console: Console,
    form: str,
    jobs: Sequence[Job],
    reference: dict[str, list[float]],
    share: float,
) -> None:
    up, down, total = _bytes(jobs)
    goals = (
        goal(up / 1000, GOAL_BYTES / 1000, "kB", digits=1),
        goal(down / 1000, AIM_DOWN / 1000, "kB down", digits=1),
        goal(_mean(reference) - _mean(_sites(jobs)), GOAL_LOSS, "AUROC lost", digits=4),
        goal(100 * total * share, 100 * GOAL_SHARE, "% of the pixels", digits=2),
    )
    missed = [text for text in goals if text.endswith("missed")]
    console.print(f"{form}: {'; '.join(missed) or 'all goals reached'}")


if __name__ == "__main__":
    typer.run(main)
