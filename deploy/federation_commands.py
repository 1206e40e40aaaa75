"""The commands of the server's administrator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bayfed.errors import FederationError
from experiments.options import Overrides

# What a command needs is loaded by the command: every other ``bayfed`` loads this file, too.
if TYPE_CHECKING:
    from deploy.layout import FederationFolder

app = typer.Typer(help="The server of a federation of plants.", no_args_is_help=True)
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the federation.")]
_STARTUP = 60.0


def _folder(path: Path) -> FederationFolder:
    from deploy.layout import FederationFolder

    return FederationFolder(path.expanduser().resolve())


@app.command()
def init(
    directory: Directory,
    host: Annotated[
        list[str], typer.Option(help="Name or address that plants dial; more may follow.")
    ],
    port: Annotated[int, typer.Option(help="Port that plants dial.")] = 9092,
    control_port: Annotated[
        int, typer.Option(help="Port on loopback, the administrator's.")
    ] = 9093,
    listen: Annotated[
        str, typer.Option(help="Address to listen on; all of this machine's if not given.")
    ] = "",
    plants: Annotated[int, typer.Option(min=1, help="How many there will be.")] = 3,
    name: Annotated[str, typer.Option(help="Name of the federation.")] = "federation",
    days: Annotated[int, typer.Option(min=1, help="Life of the server's certificate.")] = 180,
    ca_days: Annotated[int, typer.Option(min=1, help="Life of the authority.")] = 1095,
) -> None:
    """Make a federation: its authority, the server's certificate and its settings."""
    from deploy import certificates, federation
    from deploy.settings import FederationSettings, checked

    loopback = host[0] in certificates.LOOPBACK
    settings = checked(
        FederationSettings,
        name=name,
        hosts=tuple(host),
        listen=listen or ("127.0.0.1" if loopback else "0.0.0.0"),
        port=port,
        control_port=control_port,
        plants=plants,
    )
    authority = federation.create(_folder(directory), settings, days, ca_days)
    typer.echo(f"{directory}: plants dial {settings.address}")
    typer.echo(f"sha256 of the authority: {authority}")


@app.command()
def renew(
    directory: Directory,
    days: Annotated[int, typer.Option(min=1, help="Life of the new certificate.")] = 180,
) -> None:
    """Replace the server's certificate; start the federation anew to use it."""
    from deploy import federation

    federation.renew(_folder(directory), days)
    typer.echo(f"the server's certificate is valid for {days} days")


@app.command()
def start(
    directory: Directory,
    foreground: Annotated[bool, typer.Option(help="Stay, as systemd wants it.")] = False,
) -> None:
    """Start the SuperLink and the gate, and keep them running."""
    from deploy import background, federation

    folder = _folder(directory)
    background.clear(folder)
    if foreground:
        background.supervise(folder, federation.programs(folder))
        return
    federation.programs(folder)  # here, a mistake is still seen by who has made it
    words = ["federation", "start", str(folder.root), "--foreground"]
    if not background.detach(folder, words, lambda: federation.is_up(folder), _STARTUP):
        raise FederationError(f"it does not answer after {_STARTUP:g} s, see {folder.logs}")
    typer.echo(f"plants can reach it at {folder.settings().address}")


@app.command()
def stop(directory: Directory) -> None:
    """Stop all programs of the server."""
    from deploy import background

    typer.echo("stopped" if background.stop(_folder(directory)) else "it was not running")


@app.command("node-add")
def node_add(
    directory: Directory,
    public: Annotated[Path, typer.Argument(metavar="NODE.PUB", help="The plant's public key.")],
    name: Annotated[str | None, typer.Option(help="Otherwise what the plant calls itself.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the join file.")] = None,
) -> None:
    """Let a plant in: register its key and write the join file that it gets back."""
    from deploy import federation

    path, member = federation.add(_folder(directory), public, name)
    if out is not None:
        out.write_bytes(path.read_bytes())
    typer.echo(f"{member.name}: plant {member.partition}, sha256 of its key {member.key}")
    typer.echo(f"hand over: {out or path}")


@app.command("node-remove")
def node_remove(
    directory: Directory, name: Annotated[str, typer.Argument(help="The plant's name.")]
) -> None:
    """Shut a plant out: its key is no longer accepted."""
    from deploy import federation

    federation.remove(_folder(directory), name)
    typer.echo(f"{name}: its key is no longer accepted")


@app.command()
def status(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show programs, plants and how long the certificate is valid."""
    from deploy import background, certificates, federation

    folder = _folder(directory)
    settings, programs = folder.settings(), background.statuses(folder)
    running = background.supervisor_of(folder) is not None
    states = federation.states(folder) if running else {}
    plants = {m.name: states.get(m.node, "unknown") for m in federation.members(folder)}
    days = certificates.days_left(certificates.load(folder.server.certificate))
    facts = {
        "address": settings.address,
        "running": running,
        "plants": plants,
        "certificate_days": days,
    }
    head = f"{settings.address}: {'running' if running else 'not running'}"
    lines = [f"plant {name}: {state}" for name, state in plants.items()]
    valid = f"is valid for {days} days" if days >= 0 else "has expired"
    lines.append(f"the server's certificate {valid}")
    background.tell(programs, facts, head, lines, as_json)


@app.command()
def unit(
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Folder to write it to.")] = Path(),
    user: Annotated[str, typer.Option(help="Who runs the server.")] = "bayfed",
) -> None:
    """Write a systemd unit that keeps the server running."""
    from deploy.units import server_unit

    typer.echo(f"{server_unit(_folder(directory), user).write(out)}")


@app.command()
def run(
    directory: Directory,
    experiment: Annotated[str, typer.Argument(help="A YAML file, or a bundled name.")],
    settings: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
    attempts: Annotated[
        int, typer.Option(min=1, help="How often the run may lose its server.")
    ] = 5,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the SuperLink and for plants.")
    ] = 60.0,
) -> None:
    """Train over the plants; where the server dies, go on from the last checkpoint."""
    from deploy import running
    from experiments.progress import follow
    from experiments.resolve import resolve
    from experiments.run import show

    folder, console = _folder(directory), Console()
    fresh = folder.root / "runs" / f"{Path(experiment).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    target = out if out is not None or resume else fresh
    job = resolve(experiment, [*running.SETTINGS, *(settings or ())], target, resume)

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    tell(f"{job.experiment.name}: {job.out}")
    with follow(job, console):
        running.run(folder, job, tell, attempts, patience)
    show(job, console)
