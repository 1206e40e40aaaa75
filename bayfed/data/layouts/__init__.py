"""Published layouts of inspection data, one module each."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bayfed.data.layouts import folder, ksdd2, mvtec, visa
from bayfed.data.site import Site
from bayfed.errors import ConfigError, DataError

__all__ = ["LAYOUTS", "Layout", "find_layout"]


class Layout(Protocol):
    """How the sites of a data set lie on disk."""

    def names(self, root: Path) -> tuple[str, ...]:
        """Return the names of the sites under ``root``; none = another layout."""

    def read(self, root: Path, name: str, seed: int) -> Site:
        """Return one site; ``seed`` splits what the layout does not."""


LAYOUTS: dict[str, Layout] = {"visa": visa, "ksdd2": ksdd2, "mvtec": mvtec, "folder": folder}
"""In the order in which they are tried, the most particular first."""


def find_layout(root: Path, layout: str) -> tuple[str, tuple[str, ...]]:
    """Return the layout of ``root`` and the names of its sites.

    Raises:
        ConfigError: the layout is unknown.
        DataError: the folder does not exist or holds no site of the layout.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(f"data.layout: unknown layout {layout!r} (auto, {', '.join(LAYOUTS)})")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for name in LAYOUTS if layout == "auto" else (layout,):
        sites = LAYOUTS[name].names(root)
        if sites:
            return name, sites
    tried = ", ".join(LAYOUTS) if layout == "auto" else layout
    raise DataError(f"{root}: no site found (layouts tried: {tried})")
