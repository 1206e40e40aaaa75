"""The numbers of the history, as they come, for the tools that researchers watch runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from bayfed.errors import ConfigError

Numbers = Mapping[str, float]


class Tracker(Protocol):
    """Is told the numbers of each round."""

    def log(self, number: int, numbers: Numbers) -> None:
        """Take the numbers of a round."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Event files in a folder of the run.

    Args:
        folder: Of the run.
        first: The round from which earlier events are withdrawn, where a run goes on.
    """

    def __init__(self, folder: Path, first: int) -> None:
        writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=first or None)

    def log(self, number: int, numbers: Numbers) -> None:
        """Take the numbers of a round."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class MLflow:
    """A run of MLflow, where its own environment variables say.

    Args:
        folder: Of the run, whose name becomes the run's.
        settings: Of the experiment, as flat names.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self._mlflow = _module("mlflow", "mlflow")
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params({name: str(value)[:250] for name, value in settings.items()})

    def log(self, number: int, numbers: Numbers) -> None:
        """Take the numbers of a round."""
        self._mlflow.log_metrics(dict(numbers), step=number)

    def close(self) -> None:
        """Write what is left."""
        self._mlflow.end_run()


def trackers(
    names: Sequence[str], folder: Path, settings: Mapping[str, object], first: int = 0
) -> list[Tracker]:
    """Return the trackers that ``names`` asks for.

    Raises:
        ConfigError: one is not installed.
    """
    made: dict[str, Any] = {
        "tensorboard": lambda: TensorBoard(folder, first),
        "mlflow": lambda: MLflow(folder, settings),
    }
    return [made[name]() for name in names]


def numbers_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of the history that has any.

    >>> numbers_of({"round": 3, "loss": 0.5, "slope": None, "clients": []})
    {'loss': 0.5}
    """
    return {
        name: float(value)
        for name, value in line.items()
        if name != "round" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def flat_settings(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return a tree of settings under dotted names.

    >>> flat_settings({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    found: dict[str, object] = {}
    for name, value in tree.items():
        inside = flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else None
        found |= {f"{prefix}{name}": value} if inside is None else inside
    return found


def _module(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"federation.track: {package} is not installed") from error
