"""One SuperLink and three SuperNodes on loopback, each with its own folder of images.

Without ``--data``, three synthetic factories are drawn into a temporary folder first:

    python -m experiments.three_nodes --out runs/three-nodes
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from bayfed.cli.signals import Stopped, listen
from bayfed.config import Data, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import BayfedError
from experiments.deployment import deploy, folders
from experiments.resolve import resolve
from server.job import Job

NODES = 3
log = logging.getLogger("three-nodes")


def main(arguments: list[str] | None = None) -> int:
    """Run the script and return its exit code."""
    listen()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with tempfile.TemporaryDirectory(prefix="bayfed-factories-") as temporary:
            data = options.data or draw(Path(temporary))
            started = time.perf_counter()
            job = three_nodes(options.experiment, options.set or [], options.out, data)
    except BayfedError as error:
        log.error("error: %s", error)
        return 2
    except Stopped as stop:
        log.error("%s", stop)
        return stop.code
    rounds = job.experiment.federation.rounds
    log.info("%d rounds on %d nodes in %.0f s", rounds, NODES, time.perf_counter() - started)
    log.info("results: %s", job.results)
    return 0


def three_nodes(experiment: str, overrides: list[str], out: Path | None, data: Path) -> Job:
    """Run ``experiment`` on three nodes, each with one folder of ``data``.

    The server names no folder that exists: what a node reads is the node's own decision.

    Raises:
        BayfedError: the run failed.
    """
    own = [{"data-dir": str(folder)} for folder in folders(data, NODES)]
    settings = ["data.source=folders", "data.root=/elsewhere", *overrides]
    job = resolve(experiment, settings, out)
    deploy(job, own)
    return job


def draw(root: Path) -> Path:
    """Draw three synthetic factories, each into a folder of its own, and return their parent."""
    settings = Data(synthetic=Synthetic(products=NODES, train_good=16, test_good=6, per_defect=3))
    for site in load_sites(settings, seed=0):
        write_sites([site], root / f"factory-{site.name}")
    return root


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", nargs="?", default="three_nodes")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--data", type=Path, help="folder with one folder for each node")
    return parser


if __name__ == "__main__":
    sys.exit(main())
