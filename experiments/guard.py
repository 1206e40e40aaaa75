"""Waits for the runner to end, however it ends, and takes down what it has left behind.

A runner that is killed takes nobody down itself, and Flower's simulation would go on without it.
"""

from __future__ import annotations

import shutil
import sys

from experiments.processes import end_all


def main() -> None:
    """Read standard input, which closes with the runner; then end all processes of a mark."""
    mark, folder = sys.argv[1:]
    sys.stdin.buffer.read()
    end_all(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
