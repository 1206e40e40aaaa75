"""All parts of the service, opened and closed in order."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bayfed.errors import ConfigError
from bayfed.folders import make_folder
from bayfed.serve.database import Database
from bayfed.serve.guards import LOOPBACK, SHORTEST_TOKEN, Token
from bayfed.serve.history import History
from bayfed.serve.learning import Learning, revision_of
from bayfed.serve.originals import Originals
from bayfed.serve.pictures import Pictures
from bayfed.serve.product import Load
from bayfed.serve.retention import Retention
from bayfed.serve.uploads import Limits
from bayfed.serve.watch import Watch
from bayfed.serve.worker import CAPACITY, Model, Worker


@dataclass(frozen=True)
class Settings:
    """What is served, and to whom.

    Attributes:
        data: Folder of the history and the images; beside the product file if None.
        watch: Folder whose images are scored as they come.
        token: Needed unless ``host`` is this machine alone.
        days: After which pictures and maps go; None = never.
        capacity: Images that may wait.
    """

    product: Path
    data: Path | None = None
    watch: Path | None = None
    host: str = LOOPBACK[0]
    token: str | None = None
    days: float | None = None
    limits: Limits = field(default_factory=Limits)
    capacity: int = CAPACITY

    def __post_init__(self) -> None:
        if self.token is None and self.host not in LOOPBACK:
            raise ConfigError(f"host {self.host}: others than this machine need a token (--token)")
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(f"token: needs {SHORTEST_TOKEN} characters at least")
        if self.watch is not None and not self.watch.is_dir():
            raise ConfigError(f"{self.watch}: no folder that could be watched")

    @property
    def folder(self) -> Path:
        """Where history and images are kept.

        >>> Settings(Path("line/nut.bayfed")).folder
        PosixPath('line/nut.data')
        """
        return self.data or self.product.with_suffix(".data")


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes work with."""

    settings: Settings
    history: History
    worker: Worker
    learning: Learning
    pictures: Pictures
    token: Token | None

    def learn(self) -> Model:
        """Take the confirmed good parts into the model in use; for the worker's thread.

        Raises:
            BayfedError: there are none, or they cannot be added; the model is as before.
        """
        self.worker.model = self.learning.learn()
        return self.worker.model


@contextmanager
def open_service(settings: Settings, load: Load) -> Iterator[Service]:
    """Load the product, open the history, and score until the body ends.

    Raises:
        ConfigError: the data folder cannot be used, or another service uses it.
        DataError: the history cannot be opened.
        BayfedError: the product cannot be loaded.
    """
    product = load(settings.product)
    model = Model(product, revision_of(settings.product))
    make_folder(settings.folder)
    with ExitStack() as stack:
        stack.enter_context(_locked(settings.folder))
        database = Database(settings.folder / "history.sqlite")
        stack.callback(database.close)
        history, originals = History(database), Originals(settings.folder / "images")
        originals.sweep()
        learning = Learning(settings.product, load, database, originals)
        learning.settle()
        worker = Worker(model, history, originals, settings.capacity)
        worker.start()
        stack.callback(worker.stop)
        if settings.watch is not None:
            watch = Watch(settings.watch, worker, history, database)
            watch.start()
            stack.callback(watch.stop)
        if settings.days is not None:
            retention = Retention(settings.days, worker, database, originals)
            retention.start()
            stack.callback(retention.stop)
        token = None if settings.token is None else Token(settings.token)
        pictures = Pictures(history, originals)
        yield Service(settings, history, worker, learning, pictures, token)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends: there is one writer."""
    try:
        file = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another service is using it") from None
        yield
