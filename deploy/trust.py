"""Which apps a node runs: the one that is installed here, and those its administrator names."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bayfed.errors import ConfigError, FederationError
from bayfed.evaluation.atomic import write_atomic
from experiments.bundle import content_hash
from experiments.processes import ROOT, stage

INSTALLED = "installed"
"""Stands for the app that is installed on this machine, whichever that is at the start."""
_HASH = re.compile(r"[0-9a-f]{64}")


def installed() -> str:
    """Return the hash of the app that is installed here.

    Raises:
        FederationError: this is an installation without the app, or Flower cannot bundle it.
    """
    # In a process of its own, for what Flower loads to make a bundle would stay in this one.
    command = [sys.executable, "-m", "deploy.trust"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or "no reason given").split("\n")[-1]
        raise FederationError(f"the app cannot be bundled: {said[:300]}")
    return done.stdout.strip()


def main() -> None:
    """Print the hash of the app that is installed here."""
    from flwr.cli.build import build_fab_from_disk

    with tempfile.TemporaryDirectory(prefix="bayfed-app-") as folder:
        stage(Path(folder) / "app")
        sys.stdout.write(content_hash(build_fab_from_disk(Path(folder) / "app")) + "\n")


def trusted(path: Path, own: str) -> list[str]:
    """Return the hashes in the file at ``path``, with ``own`` for the app installed here.

    Raises:
        ConfigError: it cannot be read, or a line is no hash.
    """
    return sorted({own if word == INSTALLED else word for word in read(path)})


def read(path: Path) -> list[str]:
    """Return the lines of the file at ``path`` that say something.

    Raises:
        ConfigError: it cannot be read, or a line is no hash.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    words = [line for line in lines if line and not line.startswith("#")]
    for word in words:
        try:
            check(word)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return words


def trust(path: Path, word: str) -> None:
    """Add a hash to the file at ``path``.

    Raises:
        ConfigError: it is none, or the file cannot be read or written.
    """
    words = read(path)
    check(word)
    if word not in words:
        try:
            write_atomic(path, "".join(f"{line}\n" for line in [*words, word]).encode())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error


def check(word: str) -> None:
    """Check that ``word`` names an app.

    >>> check("abc")
    Traceback (most recent call last):
    bayfed.errors.ConfigError: 'abc': the 64 hexadecimal digits of an app's hash are expected

    Raises:
        ConfigError: it does not.
    """
    if word != INSTALLED and not _HASH.fullmatch(word):
        raise ConfigError(f"{word[:80]!r}: the 64 hexadecimal digits of an app's hash are expected")


if __name__ == "__main__":
    main()
