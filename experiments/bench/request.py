"""What a user asks of a bench, as settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bayfed.config import Bench, Experiment, Skew, build_systems, choose, load_bench
from bayfed.errors import ConfigError
from experiments.resolve import BUNDLED, absolute, find

DEFAULT = "bench"
"""The bundled file that is taken where none is named."""


@dataclass(frozen=True)
class Request:
    """The words of the command; empty = as the file has it.

    Attributes:
        experiment: A YAML file, or a bundled name.
        methods: Systems, by their name in the file or as presets.
        data: Folder of sites.
        sites: Names of sites.
        shots: Good images of a support, several in turn, or ``full``.
        seeds: Replicates.
        draws: Supports a site in each replicate.
        protocols: Names of protocols.
        backbone: Name of the backbone.
        weights: Local file of its weights.
        arms: What the systems have learned before.
        workers: Processes.
        settings: Texts ``key=value``.
        out: Folder of the bench.
        resume: Whether to go on with what is in it.
        noise: Shares of train/good that defects replace, several in turn.
    """

    experiment: str | None = None
    methods: tuple[str, ...] = ()
    data: Path | None = None
    sites: tuple[str, ...] = ()
    shots: tuple[str, ...] = ()
    seeds: int | None = None
    draws: int | None = None
    protocols: tuple[str, ...] = ()
    backbone: str | None = None
    weights: Path | None = None
    arms: tuple[str, ...] = ()
    workers: int | None = None
    settings: tuple[str, ...] = ()
    out: Path | None = None
    resume: bool = False
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request understood.

    Attributes:
        name: Of the bench.
        bench: The grid.
        systems: An experiment each.
        out: Folder.
        resume: Whether to go on with what is in it.
        strict: Whether the arms were named by the user, and none of them may be dropped.
    """

    name: str
    bench: Bench
    systems: dict[str, Experiment]
    out: Path
    resume: bool
    strict: bool


def understand(request: Request, base: Path | None = None) -> Asked:
    """Return the settings of ``request``; relative paths start from ``base``.

    Raises:
        ConfigError: no such file or system, or a wrong setting.
    """
    base = Path.cwd() if base is None else base
    path = find(request.experiment or DEFAULT, base)
    experiment, bench, tree = load_bench(path, _overrides(request), BUNDLED)
    if request.sites:
        # Of the file's families, those who stay away need not be in the folder.
        families = experiment.data.families.items()
        taking_part = {key: [n for n in names if n in request.sites] for key, names in families}
        tree = {**tree, "data": {**(tree.get("data") or {}), "families": taking_part}}
    if request.methods:
        bench = _without_absent_pairs(choose(bench, request.methods))
    found = build_systems(tree, bench, str(path))
    _check_reach(request, experiment.method.name, found)
    if any(one.data.skew != Skew() for one in found.values()):
        raise ConfigError("data.skew: a bench measures sites as they are; use bayfed run")
    systems = {name: absolute(one, base) for name, one in found.items()}
    if request.out is None and request.resume:
        raise ConfigError("resume: the folder of the bench to go on with is needed (--out)")
    out = request.out or Path("runs") / f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = (base / out.expanduser()).resolve()
    return Asked(experiment.name, bench, systems, folder, request.resume, bool(request.arms))


def _check_reach(request: Request, method: str, systems: Mapping[str, Experiment]) -> None:
    """Check that ``--set method...`` changes a system: those of another method do not read it.

    Raises:
        ConfigError: it changes none.
    """
    if any(one.method.name == method for one in systems.values()):
        return
    for text in request.settings:
        key = text.partition("=")[0].strip()
        if key.startswith("method.") and not key.startswith("method.refine"):
            name = next(iter(systems)).partition(" ")[0]
            raise ConfigError(
                f"{key}: of {method}, and no system here is of that method; "
                f"set bench.systems.{name}.{key}"
            )


def _without_absent_pairs(bench: Bench) -> Bench:
    """Drop comparisons in the file with systems that the user has left out."""
    chosen = tuple(
        pair
        for pair in bench.pairs
        if all(side.partition("/")[0].partition(" ")[0] in bench.systems for side in pair)
    )
    return bench.model_copy(update={"pairs": chosen})


def _overrides(request: Request) -> list[str]:
    """Return the options as texts ``key=value``; what ``--set`` says comes last."""
    texts = []
    if request.data is not None:
        texts += ["data.source=folders", f"data.root={_quoted(request.data)}"]
        if request.experiment is None:
            texts += ["data.sites=[]", "data.families={}"]
    values = {
        "data.sites": _listed(request.sites),
        "backbone.name": request.backbone,
        "backbone.weights": _quoted(request.weights),
        "evaluation.draws": request.draws,
        "bench.shots": _listed(request.shots),
        "bench.noise": _listed(request.noise),
        "bench.seeds": request.seeds,
        "bench.protocols": _listed(request.protocols),
        "bench.arms": _listed(request.arms),
        "bench.workers": request.workers,
    }
    texts += [f"{key}={value}" for key, value in values.items() if value is not None]
    return [*texts, *request.settings]


def _listed(names: tuple[str, ...]) -> str | None:
    return f"[{', '.join(names)}]" if names else None


def _quoted(path: Path | None) -> str | None:
    return None if path is None else "'" + str(path).replace("'", "''") + "'"
