"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as often as needed."),
]
"""Settings of an experiment, as of ``bayfed run``."""
