"""The command ``bayfed``: thin commands, and one line for every mistake of a user."""

from __future__ import annotations

import io
import os
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import bayfed
from bayfed.cli.signals import Stopped, listen
from bayfed.errors import BayfedError, ConfigError

FEDERATION = "experiments.cli"
"""Module with the federation commands, which the library does not depend on."""
DEPLOYMENT = "deploy.cli"
"""Module with the commands of separate machines."""
_LOCAL = {
    "sites": "bayfed.cli.sites:sites_command",
    "synthesise": "bayfed.cli.sites:synthesise_command",
    "evaluate": "bayfed.cli.evaluate:evaluate_command",
    "fit": "bayfed.cli.product:fit_command",
    "score": "bayfed.cli.product:score_command",
    "inspect": "bayfed.cli.product:inspect_command",
    "calibrate": "bayfed.cli.product:calibrate_command",
    "update": "bayfed.cli.product:update_command",
    "drift": "bayfed.cli.product:drift_command",
    "explain": "bayfed.cli.product:explain_command",
    "export": "bayfed.cli.export:export_command",
    "serve": "bayfed.cli.serve:serve_command",
}
_STUBS = {
    "run": "Meta-train over several factories (needs the federation app).",
    "bench": "Compare systems on many sites (needs the federation app).",
    "federation": "The server of a federation of plants (needs the federation app).",
    "node": "A plant's node in a federation (needs the federation app).",
}
_TRAINING = (
    "jinja2", "matplotlib", "safetensors", "scipy", "sklearn", "timm", "torch", "torchvision",
    "zuko",
)  # fmt: skip
"""Modules of the extra ``train``: an install that only scores has none of them."""
_TRACEBACK = "BAYFED_TRACEBACK"
_EXIT = 2


def build() -> typer.Typer:
    """Return the app with all commands that can run here."""
    app = typer.Typer(
        name="bayfed",
        help="Federated Bayesian meta-learning of few-shot anomaly detectors.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name, place in _LOCAL.items():
        module, _, function = place.partition(":")
        if find_spec(module) is not None:
            app.command(name)(getattr(import_module(module), function))
    _attach_federation(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bayfed {bayfed.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
    traceback: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    if traceback:
        os.environ[_TRACEBACK] = "1"


def _attach_federation(app: typer.Typer) -> None:
    missing = missing_federation()
    if missing is None:
        for module in (FEDERATION, DEPLOYMENT):
            app.add_typer(import_module(module).app)
        return
    for name, text in _STUBS.items():
        anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, help=text, context_settings=anything)(_stub(name, missing))


def _stub(name: str, missing: str) -> Any:
    def command(_: typer.Context) -> NoReturn:
        raise ConfigError(f"{name}: {missing}")

    return command


def missing_federation() -> str | None:
    """Return what is missing for the federation commands, ``None`` if they can run.

    The app lies beside the library in a checkout; an installed library looks for it in
    the current folder.
    """
    for folder in (Path(bayfed.__file__).resolve().parents[1], Path.cwd()):
        if (folder / "experiments" / "cli.py").is_file() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    if find_spec("experiments") is None or find_spec(FEDERATION) is None:
        return (
            "the federation app is not here, run the command in a checkout of bayfed "
            "after: pip install -e '.[federation]'"
        )
    if find_spec("flwr") is None:
        return "Flower is not installed, run: pip install 'bayfed[federation]'"
    return None


def _mistake(error: BayfedError | ModuleNotFoundError) -> str | None:
    """Return what to tell a user; None where the mistake is not the user's."""
    if isinstance(error, BayfedError):
        return " ".join(str(error).split())
    module = (error.name or "").partition(".")[0]
    if module not in _TRAINING:
        return None
    return f"{module} is missing, run: pip install 'bayfed[train]'"


def main() -> None:
    """Run the command; a mistake of the user is one line on standard error and exit code 2.

    So is a signal, whose exit code is 128 and its number.
    """
    listen()
    if not sys.warnoptions:  # torch and others speak to programmers, whatever a thread may do
        warnings.simplefilter("ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        build()()
    except (BayfedError, ModuleNotFoundError) as error:
        if os.environ.get(_TRACEBACK) or not (text := _mistake(error)):
            raise
        typer.echo(f"bayfed: error: {text}", err=True)
        sys.exit(_EXIT)
    except Stopped as stop:
        typer.echo(f"bayfed: {stop}", err=True)
        sys.exit(stop.code)
