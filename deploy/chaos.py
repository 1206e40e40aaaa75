"""What a federation bears: the same run calmly, and while processes are killed and links fail.

    python -m deploy.chaos --out DIR
    python -m deploy.chaos --out DIR --data SITES --weights FILE

Four plants, one SuperLink, all real processes with TLS and node authentication on loopback; each
plant reaches the server over a link that can be cut, slowed and damaged. In the second run two
SuperNodes and the SuperLink are killed with ``kill -9``, one link is cut, one is slowed, and bytes
of one are turned over, each at a round drawn by the seed. Both runs must come to the same number of
rounds, the same accuracy within 0.01, and have every checkpoint; all plants must come back.

Without ``--data`` each plant has a small synthetic site and trains Conv-4 from scratch. There a few
missed updates alone, with no fault, move the AUROC by up to 0.04, so that the bound is wider; with
the folder of the real sites the experiment is ``sites``, whose backbone is frozen.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from bayfed.config import Data, Synthetic, experiment_hash, load_experiment
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import BayfedError, FederationError
from bayfed.evaluation.checkpoint import path_of, read
from bayfed.seeds import stream
from deploy import federation, node
from deploy.background import program_of
from deploy.layout import FederationFolder, NodeFolder
from deploy.links import Link
from deploy.settings import write_settings
from experiments.benchmarks.measure import print_machine, print_table, wide_console
from experiments.options import Overrides
from experiments.processes import ROOT, free_port
from experiments.resolve import find
from server import history

PLANTS = 4
TOLERANCE, TOLERANCE_FROM_SCRATCH = 0.01, 0.05
CUT, SLOW, DELAY = 15.0, 20.0, 0.3
"""Seconds that a link is cut and slowed, and that a piece of data is held back meanwhile."""


@dataclass(frozen=True)
class Plant:
    """A node, and the link between it and the server."""

    folder: NodeFolder
    link: Link


def main(
    out: Annotated[Path, typer.Option(help="Folder of everything; new.")],
    rounds: Annotated[int, typer.Option(help="Of each run.")] = 20,
    seed: Annotated[int, typer.Option(help="Draws when what happens.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Sites of the experiment `sites`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Of its backbone.")] = None,
    settings: Overrides = None,
) -> None:
    """Run the federation calmly and in a storm, and compare."""
    console = wide_console()
    print_machine(console)
    words = [f"federation.rounds={rounds}", "federation.quorum=0.5", "federation.timeout=60",
             "evaluation.heatmaps=0", *(settings or [])]  # fmt: skip
    if weights is not None:
        words.append(f"backbone.weights={weights.resolve()}")
    with ExitStack() as stack:
        server, plants = _build(out.resolve(), data, weights, stack)
        experiment = "three_nodes" if data is None else "sites"
        calm = _run(server, experiment, out / "calm", words)
        console.print(f"calm: {_seconds(calm):.0f} s", highlight=False)
        events = _events(server, plants, rounds, seed)
        brewing = Storm(out / "storm", events, console)
        with brewing:
            storm = _run(server, experiment, out / "storm", words)
        failures = [f"{name}: has not come back" for name in _away(server)]
    failures += [f"{event.name}: has not happened" for event in brewing.waiting]
    most = TOLERANCE_FROM_SCRATCH if data is None else TOLERANCE
    failed = _report(console, calm, storm, rounds, most, failures)
    raise typer.Exit(1 if failed else 0)


def _build(
    out: Path, data: Path | None, weights: Path | None, stack: ExitStack
) -> tuple[FederationFolder, list[Plant]]:
    server = FederationFolder(out / "federation")
    ports = [str(free_port()), str(free_port())]
    _bayfed(
        *("federation", "init", str(server.root), "--host", "127.0.0.1", "--plants", str(PLANTS)),
        *("--port", ports[0], "--control-port", ports[1]),
    )
    _bayfed("federation", "start", str(server.root))
    stack.callback(_stop, "federation", server.root)
    plants = []
    for name, images in _shares(out / "images", data):
        folder = NodeFolder(out / name)
        plants.append(_join(server, folder, images, weights, int(ports[0]), stack))
    return server, plants


def _shares(out: Path, data: Path | None) -> list[tuple[str, Path]]:
    """Write each plant's images, and return what it is called and where they are."""
    if data is None:
        drawn = Data(
            synthetic=Synthetic(products=PLANTS, train_good=16, test_good=12, per_defect=4)
        )
        sites = load_sites(drawn, seed=0)
        for site in sites:
            write_sites([site], out / site.name)
        return [(site.name.replace("_", "-"), out / site.name) for site in sites]
    names = load_experiment(find("sites", Path.cwd())).data.sites
    for number, name in enumerate(names):
        shutil.copytree(data / name, out / f"plant-{number % PLANTS}" / name)
    return [(f"plant-{number}", out / f"plant-{number}") for number in range(PLANTS)]


def _join(
    server: FederationFolder,
    folder: NodeFolder,
    data: Path,
    weights: Path | None,
    port: int,
    stack: ExitStack,
) -> Plant:
    node.create(folder, folder.root.name)
    join, _ = federation.add(server, folder.public, None)
    node.enrol(folder, join, data, weights, load=() if weights is None else ("timm",))
    link = Link(port)
    stack.callback(link.close)
    beyond = folder.settings().model_copy(update={"server": f"127.0.0.1:{link.port}"})
    write_settings(beyond, folder.settings_file)
    _bayfed("node", "start", str(folder.root))
    stack.callback(_stop, "node", folder.root)
    return Plant(folder, link)


def _bayfed(*words: str) -> None:
    command = [sys.executable, "-m", "deploy.background", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise FederationError(f"bayfed {' '.join(words[:2])}: {said[-1] if said else 'failed'}")


def _stop(what: str, folder: Path) -> None:
    with suppress(FederationError):
        _bayfed(what, "stop", str(folder))


def _run(server: FederationFolder, experiment: str, out: Path, words: Sequence[str]) -> Path:
    options = [option for word in words for option in ("--set", word)]
    _bayfed("federation", "run", str(server.root), experiment, "--out", str(out), *options)
    return out


@dataclass(frozen=True)
class Event:
    """What happens once so many rounds are completed."""

    after: int
    name: str
    happen: Callable[[], object]


def _events(
    server: FederationFolder, plants: Sequence[Plant], rounds: int, seed: int
) -> list[Event]:
    """Return what happens, in the order of time; the last rounds are left alone."""
    a, b, c, d = plants
    happenings: dict[str, Callable[[], object]] = {
        f"kill -9 SuperNode of {a.folder.root.name}": lambda: _kill(a.folder, node.SUPERNODE),
        f"kill -9 SuperNode of {b.folder.root.name}": lambda: _kill(b.folder, node.SUPERNODE),
        "kill -9 SuperLink": lambda: _kill(server, federation.SUPERLINK),
        f"link of {c.folder.root.name} cut for {CUT:g} s": lambda: _for(CUT, c.link, c.link.cut),
        f"link of {d.folder.root.name} slowed for {SLOW:g} s": lambda: _for(
            SLOW, d.link, lambda: setattr(d.link, "delay", DELAY)
        ),
        f"bytes of {d.folder.root.name} turned over": lambda: d.link.damage(3),
    }
    random = stream(seed, "chaos")
    drawn = random.choice(rounds - 3, len(happenings), replace=rounds - 3 < len(happenings)) + 1
    found = [Event(int(n), *item) for n, item in zip(drawn, happenings.items(), strict=True)]
    return sorted(found, key=lambda event: event.after)


def _kill(folder: FederationFolder | NodeFolder, program: str) -> None:
    process = program_of(folder, program)
    if process is None:
        return
    family = [process, *process.children(recursive=True)]
    for member in family:
        with suppress(psutil.Error):
            member.send_signal(signal.SIGKILL)


def _for(seconds: float, link: Link, begin: Callable[[], object]) -> None:
    begin()
    threading.Timer(seconds, link.mend).start()


class Storm:
    """Lets events happen while a run goes on.

    Attributes:
        waiting: Those that have not happened.
    """

    def __init__(self, run: Path, events: Sequence[Event], console: Console) -> None:
        self._history, self._console = run / "metrics.jsonl", console
        self.waiting = list(events)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10.0)

    def _watch(self) -> None:
        waiting, random, began = self.waiting, stream(0, "moment"), time.monotonic()
        while waiting and not self._over.wait(0.2):
            if self._completed() >= waiting[0].after:
                self._over.wait(float(random.uniform(0.0, 4.0)))  # anywhere in a round
                event = waiting.pop(0)
                event.happen()
                seconds, number = time.monotonic() - began, self._completed() + 1
                line = f"{seconds:5.0f} s, round {number}: {event.name}"
                self._console.print(line, highlight=False)

    def _completed(self) -> int:
        with suppress(BayfedError, OSError):
            return max((int(line["round"]) for line in history.read(self._history)), default=-1)
        return -1


def _away(server: FederationFolder, patience: float = 120.0) -> list[str]:
    """Return the plants that have not come back."""
    deadline = time.monotonic() + patience
    while True:
        states = federation.states(server)
        away = [m.name for m in federation.members(server) if states.get(m.node) != "online"]
        if not away or time.monotonic() > deadline:
            return away
        time.sleep(1.0)


def _seconds(run: Path) -> float:
    return sum(float(line["seconds"]) for line in history.read(run / "metrics.jsonl"))


def _auroc(run: Path) -> float:
    return float(history.read(run / "metrics.jsonl")[-1]["mean_image_auroc"])


def _lost(run: Path, rounds: int) -> list[int]:
    """Return the rounds whose checkpoint is not there, or cannot be read."""
    identity, lost = experiment_hash(load_experiment(run / "config.yaml")), []
    for number in range(rounds + 1):
        try:
            read(path_of(run / "checkpoints", number), identity)
        except BayfedError:
            lost.append(number)
    return lost


def _report(
    console: Console, calm: Path, storm: Path, rounds: int, most: float, before: Sequence[str]
) -> bool:
    rows, failures = [], list(before)
    for run in (calm, storm):
        lines = history.read(run / "metrics.jsonl")
        numbers, lost = [line["round"] for line in lines], _lost(run, rounds)
        missed = sum(len(line["refused"]) for line in lines)
        rows.append(
            (run.name, str(numbers[-1]), f"{_auroc(run):.4f}", str(len(lost)), str(missed),
             f"{_seconds(run):.0f}")
        )  # fmt: skip
        if numbers != list(range(rounds + 1)):
            failures.append(f"{run.name}: rounds {numbers}")
        if lost:
            failures.append(f"{run.name}: no checkpoint of {lost}")
    if abs(_auroc(calm) - _auroc(storm)) > most:
        failures.append(f"AUROC differs by {_auroc(storm) - _auroc(calm):+.4f}")
    headings = ("run", "rounds", "AUROC", "lost checkpoints", "updates missed", "s in rounds")
    print_table(console, "four plants", headings, rows)
    console.print(
        json.dumps(failures) if failures else "all rounds, checkpoints and plants, same accuracy"
    )
    return bool(failures)


if __name__ == "__main__":
    typer.run(main)
