"""The commands ``bayfed federation ...`` and ``bayfed node ...``."""

from __future__ import annotations

import typer

from deploy.federation_commands import app as federation_app
from deploy.node_commands import app as node_app

app = typer.Typer()
app.add_typer(federation_app, name="federation")
app.add_typer(node_app, name="node")
