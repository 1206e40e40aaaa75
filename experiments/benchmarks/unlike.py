"""What unlike plants gain from a federation, and what they cost the others.

    python -m experiments.benchmarks.unlike --data DIR --weights FILE --out DIR

Every second site becomes another plant: with another camera, a lower resolution, fewer images, or a
backbone that computes in bfloat16. All else is equal, the names of the images included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from bayfed.config import load_experiment
from bayfed.data import Site, load_sites
from bayfed.evaluation.summary import CONTROL, TRAINED, draws_by_site, interval_text, last_round
from bayfed.evaluation.table import ResultRow, read_rows
from bayfed.metrics import paired_interval
from experiments.benchmarks.kept import kept_run
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.benchmarks.plants import CHANGES, compute_elsewhere, write
from experiments.options import Overrides
from experiments.resolve import find
from experiments.run import train_in_process
from server.job import Job

ALIKE, HARDWARE = "all alike", "bfloat16"
Draws = dict[str, list[float]]


@dataclass(frozen=True)
class Found:
    """What came out for one kind of unlikeness: image AUROCs of every site, over all seeds.

    Attributes:
        control: Untrained.
        trained: In the federation.
        alone: Of the unlike plants, each trained by itself; {} where that was not asked for.
    """

    control: Draws
    trained: Draws
    alone: Draws


def main(
    data: Annotated[Path, typer.Option(help="Folder of the sites.")],
    weights: Annotated[Path, typer.Option(help="Weights of the backbone.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; those that are done are kept.")],
    experiment: Annotated[str, typer.Option(help="YAML file or bundled name.")] = "sites",
    kinds: Annotated[str, typer.Option(help="Some of the kinds, separated by semicolons.")] = "",
    seeds: Annotated[str, typer.Option(help="A training each, separated by commas.")] = "0",
    alone: Annotated[bool, typer.Option(help="Whether unlike plants also train alone.")] = True,
    settings: Overrides = None,
) -> None:
    """Measure every kind of unlikeness."""
    console = wide_console()
    print_machine(console)
    words = ["device=cpu", f"backbone.weights={weights.resolve()}", *(settings or [])]
    base = load_experiment(find(experiment, Path.cwd()), [*words, f"data.root={data.resolve()}"])
    sites = load_sites(base.data, base.seed)
    names = [site.name for site in sites]
    unlike, others = names[::2], names[1::2]
    chosen = [kind.strip() for kind in kinds.split(";")] if kinds else [*CHANGES, HARDWARE]
    study = _Study(experiment, words, out.resolve(), sites, unlike)
    found = {
        kind: study.found(kind, [int(seed) for seed in seeds.split(",")], alone)
        for kind in dict.fromkeys([ALIKE, *chosen])
    }
    headings = ("kind", "untrained", "trained", "gain", "over alone", "over all alike")
    for title, group in (("the unlike plants", unlike), ("the others", others)):
        rows = [_cells(kind, one, found[ALIKE], group) for kind, one in found.items()]
        print_table(console, f"AUROC of {title}: {', '.join(group)}", headings, rows)


@dataclass(frozen=True)
class _Study:
    experiment: str
    words: Sequence[str]
    out: Path
    sites: Sequence[Site]
    unlike: Sequence[str]

    def found(self, kind: str, seeds: Sequence[int], alone: bool) -> Found:
        """Return what came out for ``kind``."""
        folder = self.out / "data" / (ALIKE if kind == HARDWARE else kind).replace(" ", "-")
        folder.parent.mkdir(parents=True, exist_ok=True)
        write(self.sites, folder, CHANGES.get(kind, lambda site: site), self.unlike)
        jobs = [self._job(kind, folder, seed) for seed in seeds]
        pairs = [(seed, site) for seed in seeds for site in self.unlike if alone]
        single = [self._job(kind, folder, seed, site) for seed, site in pairs]
        return Found(_draws(jobs, CONTROL), _draws(jobs, TRAINED), _draws(single, TRAINED))

    def _job(self, kind: str, folder: Path, seed: int, site: str = "") -> Job:
        words = [*self.words, f"data.root={folder}", f"seed={seed}"]
        words += [f"data.sites=[{site}]", "data.families={}"] if site else []
        run = self.out / f"seed-{seed}" / kind.replace(" ", "-") / (site or "federated")
        if kind != HARDWARE:
            return kept_run(self.experiment, words, run, train_in_process)
        words.append(f"store.directory={self.out / 'elsewhere'}")
        return kept_run(self.experiment, words, run, partial(_play_elsewhere, unlike=self.unlike))


def _play_elsewhere(job: Job, unlike: Sequence[str]) -> None:
    data = job.experiment.data
    sites = [s for s in load_sites(data, job.experiment.seed) if s.name in unlike]
    apart = compute_elsewhere(job.experiment, sites)
    typer.echo(f"{job.out}: features differ by {max(apart):.2e} of their spread at most")
    train_in_process(job)


def _draws(jobs: Sequence[Job], arm: str) -> Draws:
    rows: chain[ResultRow] = chain.from_iterable(
        last_round(read_rows(job.results), arm) for job in jobs
    )
    return draws_by_site(rows)


def _cells(kind: str, found: Found, alike: Found, group: Sequence[str]) -> tuple[str, ...]:
    control, trained, reference = (
        {site: draws[site] for site in group}
        for draws in (found.control, found.trained, alike.trained)
    )
    own = {site: found.alone[site] for site in group if site in found.alone}
    means = (f"{fmean(map(fmean, draws.values())):.4f}" for draws in (control, trained))
    return (kind, *means, *(_gain(before, trained) for before in (control, own, reference)))


def _gain(before: Draws, after: Draws) -> str:
    if not before:
        return ""
    found = paired_interval(before, after)
    return f"{found.mean:+.4f} ({interval_text(found, digits=4)})"


if __name__ == "__main__":
    typer.run(main)
