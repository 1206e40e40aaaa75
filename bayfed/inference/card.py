"""What an exported detector says of itself beside its graph, as JSON in the file's metadata."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field, ValidationError

from bayfed.config.settings import Settings
from bayfed.errors import ProductError
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.frame import Box, Frame
from bayfed.inference.inspection import Decision

SCHEMA = 1
KEY = "bayfed.export"
"""Under which the card stands in the metadata."""
UNIT = "nats per dimension"
INPUT = "image"
"""Name of the graph's input: ``(H, W, 3)`` uint8 RGB, as decoded."""
SCORE, ODDS, P_VALUE, EPISTEMIC, DECISION, HEATMAP = (
    "score", "log_odds", "p_value", "epistemic", "decision", "heatmap",
)  # fmt: skip
DECISIONS = tuple(Decision)
"""What the graph's numbers of decisions mean."""
_NEEDED = frozenset({SCORE, ODDS, EPISTEMIC, DECISION})
Text = Annotated[str, Field(max_length=4096)]
Colours = Annotated[str, Field(pattern="^([0-9a-f]{6}){2,1024}$")]


class Part(Settings):
    """The inspected part of an image, and its tiles."""

    roi: tuple[int, int, int, int] | None
    tiles: int


class Limit(Settings):
    """The threshold, and what it promises."""

    kind: Text
    fpr: float
    value: float
    promise: Text


class Scale(Settings):
    """The one colour scale of all maps: surprise at its ends, and its colours in hexadecimal."""

    low: float
    high: float
    colours: Colours


class Origin(Settings):
    """Where the detector comes from."""

    source: Text
    fitted: Text
    updated: Text
    images: int
    backbone: Text
    weights: Text
    version: Text
    """Of bayfed, when it was exported."""


class Card(Settings):
    """All that a row and a picture need and the graph does not give."""

    schema_version: Annotated[int, Field(ge=1)]
    name: Text
    unit: Text = UNIT
    outputs: tuple[Text, ...]
    decisions: tuple[Decision, ...] = DECISIONS
    part: Part
    shape: tuple[int, int]
    """Height and width of the network's input."""
    threshold: Limit
    scale: Scale
    dark: float
    """Surprise below which a map is drawn dark; outside the inspected part maps have it."""
    origin: Origin

    @property
    def frame(self) -> Frame:
        """The inspected part and its tiles."""
        return Frame(Box(*self.part.roi) if self.part.roi else None, self.part.tiles)

    @property
    def colours(self) -> ColourScale:
        """The colour scale."""
        scale = self.scale
        palette = bytes.fromhex(scale.colours)
        return ColourScale(scale.low, scale.high, self.threshold.value, palette)


def facts(card: Card, size: int) -> dict[str, str]:
    """Return what a user wants to know of an export, by name.

    Args:
        card: Of the file.
        size: Of the file, in bytes.
    """
    origin, limit, frame = card.origin, card.threshold, card.frame
    height, width = card.shape
    found = {
        "fitted to": f"{origin.images} good images, {origin.updated or origin.fitted}",
        "with": f"{origin.source}, exported by bayfed {origin.version}",
        "backbone": f"{origin.backbone}, weights {origin.weights[:12] or 'none'}",
        "input": f"{width} x {height} pixels, of pictures of any size",
        "threshold": f"{limit.value:.3f} {card.unit} ({limit.kind})",
        "false alarms": limit.promise,
        "file": f"{size / 1e6:.1f} MB, backbone included",
    }
    if frame.roi or frame.tiles > 1:
        part = "the whole image" if frame.roi is None else f"region {','.join(map(str, frame.roi))}"
        found["inspected"] = f"{part} in {frame.tiles} x {frame.tiles} tiles"
    return found


def read_card(text: str | None, place: object) -> Card:
    """Return the card that a file's metadata holds.

    Raises:
        ProductError: there is none, it is damaged, or of a newer version.
    """
    if text is None:
        raise ProductError(f"{place}: not written by bayfed export, it says nothing of a detector")
    try:
        tree = json.loads(text)
        version = tree.get("schema_version") if isinstance(tree, dict) else None
    except (ValueError, RecursionError):
        raise ProductError(f"{place}: damaged metadata (no JSON)") from None
    if isinstance(version, int) and version > SCHEMA:
        raise ProductError(
            f"{place}: schema {version} of a newer bayfed, this one reads up to {SCHEMA}"
        )
    try:
        card = Card.model_validate(tree)
        card.frame, card.colours  # noqa: B018  # they check what they are made of
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ProductError(f"{place}: damaged metadata ({key}: {first['msg']})") from None
    except Exception as error:
        raise ProductError(f"{place}: damaged metadata ({error})") from None
    if not set(card.outputs) >= _NEEDED:
        raise ProductError(f"{place}: damaged metadata (outputs: some are missing)")
    return card
