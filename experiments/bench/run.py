"""A bench from start to end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from bayfed.config import Experiment, Shots
from bayfed.data import load_sites
from bayfed.episodes import Pools, draw_of, shortfall, training_pools
from bayfed.errors import BayfedError, ConfigError, FederationError, ProtocolError
from bayfed.evaluation.bench.measure import Drawn
from bayfed.evaluation.bench.rows import rows_of
from bayfed.evaluation.system import build_system
from bayfed.evaluation.table import append_rows, sort_rows
from bayfed.folders import alone_in, make_folder
from experiments.bench import work
from experiments.bench.arms import choose_arms
from experiments.bench.folder import Folder, keys_of
from experiments.bench.plan import Cell, Named, cells, protocols_of
from experiments.bench.report import backbone_text, pairs_of, write_report
from experiments.bench.request import Asked, Request, understand
from experiments.bench.tasks import WORDS, Tasks
from experiments.parallel.board import Board
from experiments.parallel.schedule import Schedule


def run(request: Request, console: Console) -> Path | None:
    """Run the cells that ``request`` asks for and that have no rows yet; return the page.

    Raises:
        BayfedError: a setting is wrong, or a cell could not be measured; the others are kept.
    """
    forget()  # what this process may have read before
    asked = understand(request)
    folder = Folder(asked.out)
    folder.check(asked.resume)
    named = _named(asked)
    pairs_of(asked, named)
    planned = list(cells(asked.name, named, asked.bench))
    short = check_sites(planned)
    make_folder(folder.path)
    with alone_in(folder.path):
        folder.check(asked.resume)  # what another bench has written since
        return _run(asked, folder, named, planned, short, console)


def _run(
    asked: Asked,
    folder: Folder,
    named: Sequence[Named],
    planned: Sequence[Cell],
    short: Sequence[str],
    console: Console,
) -> Path | None:
    """Measure the cells that have no rows yet, and write the report of all."""
    done = keys_of(folder.rows())
    todo = [cell for cell in planned if not cell.is_in(done)]
    folder.claim(asked.systems, {"finetune_rounds": asked.bench.finetune_rounds})
    console.print(
        f"{asked.name}: {len(named)} systems, {len(planned)} cells, "
        f"{len(planned) - len(todo)} of them done, {folder.path}",
        markup=False,
        highlight=False,
    )
    backbones = dict.fromkeys(backbone_text(one.backbone) for one in asked.systems.values())
    for line in (*(f"backbone: {text}" for text in backbones), *short):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    missed = measure(todo, folder, asked.bench.workers or os.cpu_count() or 1, console)
    report = write_report(folder, asked, named, missed, short, console)
    if missed:
        first, reason = next(iter(missed.items()))
        raise FederationError(
            f"{len(missed)} of {len(todo)} cells were not measured, the first: {first}: {reason}"
        )
    return report


def _named(asked: Asked) -> list[Named]:
    """Return the systems as they stand in the table.

    Raises:
        ConfigError: a system cannot be built or have an arm, or two have one name in the table.
    """
    protocols = protocols_of(asked.bench, next(iter(asked.systems.values())))
    arms = choose_arms(asked.systems, asked.bench, protocols, asked.strict)
    named = [
        Named(name, _variant(name, experiment), experiment, arms[name])
        for name, experiment in asked.systems.items()
    ]
    taken: dict[tuple[str, str | None], str] = {}
    for system in named:
        key = (system.experiment.method.name, system.variant)
        other = taken.setdefault(key, system.name)
        if other != system.name:
            raise ConfigError(f"bench.systems: {other} and {system.name} look alike in the table")
    return named


def _variant(name: str, experiment: Experiment) -> str | None:
    """Return what sets a system apart in the table, beside its method."""
    try:
        method = build_system(experiment).method
    except BayfedError as error:
        raise type(error)(f"{name}: {error}") from error
    rest = name.removeprefix(method.name).strip(" -+_.")
    return rest or method.variant


def check_sites(planned: Sequence[Cell]) -> list[str]:
    """Check, before anything is computed, that each site has the images that a cell needs.

    Returns:
        A line for each site that stays below a label noise that was asked for.

    Raises:
        BayfedError: it has not.
    """
    short: dict[str, None] = {}
    sizes: dict[tuple[str, int], Shots] = {}
    for cell in planned:
        for one in (*cell.scored, *cell.calibrating):
            pools, settings = _pools(one.experiment, one.site), one.experiment.evaluation
            number = len(draw_of(pools, settings, one.experiment.seed, 0).support)
            if sizes.setdefault((one.site, number), settings.shots) != settings.shots:
                raise ConfigError(
                    f"bench.shots: at {one.site} a full support has {number} images, so its rows "
                    f"would be those of {number} shots; leave one of the two out"
                )
            line = shortfall(pools, settings.noise, one.experiment.seed)
            short |= {line: None} if line else {}
        for one in cell.scored:
            if not _pools(one.experiment, one.site).testing:
                raise ProtocolError(f"site {one.site}: no test image to score")
    return list(short)


def _pools(experiment: Experiment, site: str) -> Pools:
    read = {"data", "protocol", "seed"}
    return _read_pools(experiment.model_dump_json(include=read), site)


def forget() -> None:
    """Forget the sites that this process keeps open: their files may have changed."""
    _read_pools.cache_clear()
    work.close_views()


@lru_cache(maxsize=1024)
def _read_pools(text: str, name: str) -> Pools:
    experiment = Experiment.model_validate_json(text)
    data = experiment.data.model_copy(update={"sites": (name,)})
    (site,) = load_sites(data, experiment.seed, experiment.protocol.holdout)
    return training_pools(site, experiment.protocol, (), experiment.seed)


def measure(todo: Sequence[Cell], folder: Folder, workers: int, console: Console) -> dict[str, str]:
    """Measure the cells and write their rows; return which could not be, and why."""
    tasks = Tasks(todo, folder.trainings).all
    found: dict[str, tuple[Drawn, ...]] = {}
    waiting = list(todo)

    def finish(key: str, result: Any) -> None:
        if result is None:
            return
        found[key] = result
        for cell in [cell for cell in waiting if _is_whole(cell, found)]:
            waiting.remove(cell)
            append_rows(folder.results, _rows(cell, found))

    try:
        with Board(tasks, WORDS, console) as board:
            schedule = Schedule(tasks, finish, board)
            schedule.run(min(workers, max(1, len(tasks))))
    finally:
        if folder.results.exists():
            sort_rows(folder.results)
    return {cell.title: _reason(cell, schedule.failed) for cell in waiting}


def _is_whole(cell: Cell, found: Mapping[str, Any]) -> bool:
    return all(one.key in found for one in (*cell.scored, *cell.calibrating))


def _rows(cell: Cell, found: Mapping[str, tuple[Drawn, ...]]) -> list[Any]:
    scored = [found[one.key] for one in cell.scored]
    calibrating = [found[one.key] for one in cell.calibrating]
    return rows_of(cell.context, scored, calibrating, cell.fpr)


def _reason(cell: Cell, failed: Mapping[str, str]) -> str:
    keys = [one.key for one in (*cell.scored, *cell.calibrating)]
    return next((failed[key] for key in keys if key in failed), "not reached")
