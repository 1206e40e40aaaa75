"""The commands of a plant's administrator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# What a command needs is loaded by the command: every other ``bayfed`` loads this file, too.
if TYPE_CHECKING:
    from deploy.layout import NodeFolder

app = typer.Typer(help="A plant's node in a federation.", no_args_is_help=True)
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the node.")]
_STARTUP = 45.0


def _folder(path: Path) -> NodeFolder:
    from deploy.layout import NodeFolder

    return NodeFolder(path.expanduser().resolve())


@app.command()
def key(
    directory: Directory,
    name: Annotated[str | None, typer.Option(help="The plant's; otherwise the folder's.")] = None,
) -> None:
    """Make the plant's key; the private part never leaves its folder."""
    from deploy import node

    folder = _folder(directory)
    public = node.create(folder, name or folder.root.name)
    typer.echo(f"hand over: {directory / folder.public.name}")
    typer.echo(f"sha256 of the key: {public.digest}")


@app.command()
def enrol(
    directory: Directory,
    join: Annotated[Path, typer.Argument(metavar="JOIN", help="What came back for the key.")],
    data: Annotated[Path, typer.Option(help="Folder of the plant's images.")],
    weights: Annotated[Path | None, typer.Option(help="Weights (safetensors).")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder for features.")] = None,
    load: Annotated[
        list[str] | None, typer.Option(help="A library to hold loaded: timm for a backbone.")
    ] = None,
    authority: Annotated[
        str | None, typer.Option(help="SHA-256 of the authority, as its administrator told it.")
    ] = None,
) -> None:
    """Write the node's settings: what it dials, and what is the plant's own decision."""
    from deploy import node, trust

    folder = _folder(directory)
    found = node.enrol(folder, join, data, weights, store, tuple(load or ()), authority)
    typer.echo(f"{found.name}: plant {found.partition} of {found.plants}, dials {found.server}")
    typer.echo(f"settings: {directory / folder.settings_file.name}")
    own = trust.installed()
    if own != found.app:
        typer.echo(
            f"the server runs another app, {found.app[:12]}; this node trusts what is installed "
            f"here, {own[:12]}: install the same version",
            err=True,
        )


@app.command()
def start(
    directory: Directory,
    foreground: Annotated[bool, typer.Option(help="Stay, as systemd wants it.")] = False,
) -> None:
    """Start the SuperNode and its SuperExec, and keep them running."""
    from deploy import background, node, preflight, rejoin

    folder = _folder(directory)
    background.clear(folder)
    preflight.check_own(folder)
    if foreground:
        background.supervise(folder, node.programs(folder))
        return
    try:
        preflight.check_server(folder)
    except preflight.UnreachableError as error:
        typer.echo(f"{error}: the node will go on trying", err=True)
    log = folder.log(node.SUPERNODE)
    size = log.stat().st_size if log.exists() else 0
    words = ["node", "start", str(folder.root), "--foreground"]
    connected = background.detach(
        folder, words, lambda: rejoin.number(folder, size) is not None, _STARTUP
    )
    typer.echo("connected" if connected else f"started, not connected yet, see {log}")


@app.command()
def stop(directory: Directory) -> None:
    """Stop all programs of the node."""
    from deploy import background

    typer.echo("stopped" if background.stop(_folder(directory)) else "it was not running")


@app.command()
def status(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the node's programs and the apps that it trusts."""
    from deploy import background, trust

    folder = _folder(directory)
    settings, programs = folder.settings(), background.statuses(folder)
    running = background.supervisor_of(folder) is not None
    trusted = trust.read(folder.trusted)
    facts = {
        "name": settings.name,
        "server": settings.server,
        "running": running,
        "trusted": trusted,
    }
    head = f"{settings.name}: {'running' if running else 'not running'}, dials {settings.server}"
    background.tell(programs, facts, head, [f"trusted: {', '.join(trusted)}"], as_json)


@app.command()
def unit(
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Folder to write it to.")] = Path(),
    user: Annotated[str, typer.Option(help="Who runs the node.")] = "bayfed",
) -> None:
    """Write a systemd unit that keeps the node running."""
    from deploy.units import node_unit

    typer.echo(f"{node_unit(_folder(directory), user).write(out)}")


@app.command("trust")
def trust_command(
    directory: Directory,
    app_hash: Annotated[str, typer.Argument(metavar="HASH", help="Of an app that may run here.")],
) -> None:
    """Let one more app run on this node, from its next start on."""
    from deploy import trust

    folder = _folder(directory)
    folder.settings()
    trust.trust(folder.trusted, app_hash)
    typer.echo(f"trusted: {', '.join(trust.read(folder.trusted))}")


@app.command()
def secret(directory: Directory) -> None:
    """Make the secret behind secure sums; from its next start on the node sends nothing else."""
    from strategies.secure.secret import make

    folder = _folder(directory)
    number = folder.settings().partition
    public = make(folder.sums_secret)
    typer.echo(f"public key of plant {number}: {public.hex()}")
    typer.echo(
        f"tell the other plants; {directory / folder.peers.name} is to hold the keys of all, as in "
        f'{{"{number}": "{public.hex()}", ...}}'
    )
