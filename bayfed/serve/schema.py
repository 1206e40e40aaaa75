"""What the service says and takes as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bayfed.inference.inspection import Decision
from bayfed.serve.records import LONGEST_NOTE, Verdict


class _Answer(BaseModel):
    # Infinite log-odds are null: JSON has no infinity.
    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class RegionAnswer(_Answer):
    """A suspicious part of the image, in its pixels."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


class Item(_Answer):
    """An image and what is known of it."""

    id: int
    received: Annotated[str, Field(description="UTC")]
    name: str
    source: Literal["upload", "watch"]
    digest: Annotated[str, Field(description="SHA-256 of the image file")]
    revision: Annotated[str, Field(description="of the product file that scored it")]
    ms: float
    error: Annotated[str | None, Field(description="why the image could not be scored")]
    score: Annotated[float | None, Field(description="nats per dimension; larger = less normal")]
    log_odds: float | None
    p_value: float | None
    epistemic: Annotated[
        float | None, Field(description="share of the score's variance from the few supports")
    ]
    threshold: Annotated[float | None, Field(description="score above which a part is defective")]
    decision: Decision | None
    leaning: Annotated[
        Verdict | None, Field(description="the decision, or for a review the threshold's side")
    ]
    regions: list[RegionAnswer]
    verdict: Annotated[Verdict | None, Field(description="what a person says")]
    note: str
    reviewed: str | None
    learned: Annotated[str | None, Field(description="when it was added to the model")]


class RejectedAnswer(_Answer):
    """An image that was not scored and is not kept."""

    name: str
    error: str


class Scored(_Answer):
    """Answer to ``POST /score``; every item in it is on the disk."""

    items: list[Item]
    rejected: list[RejectedAnswer]


class Review(BaseModel):
    """A person's word on an item."""

    verdict: Verdict
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""


class RateAnswer(_Answer):
    """A rate, its 95 % limits, and the judged parts behind it."""

    median: float
    low: float
    high: float
    wrong: int
    of: int
    checked: int


class Learned(_Answer):
    """Answer to ``POST /learn``."""

    revision: str
    threshold: float


class EventAnswer(_Answer):
    """Something that a person did."""

    at: str
    kind: str
    item: int | None
    text: str


class Status(_Answer):
    """The state of the service."""

    product: str
    revision: str
    fpr: Annotated[float, Field(description="false-alarm rate that was asked for")]
    promise: Annotated[str, Field(description="what the threshold promises, and by what")]
    threshold: float
    scored: int
    ok: int
    defect: int
    to_review: int
    reviewed: int
    unreadable: int
    learnable: Annotated[int, Field(description="confirmed goods that the model does not hold")]
    false_alarms: RateAnswer | None
    escapes: RateAnswer | None
    waiting: Annotated[int, Field(description="images in the queue")]
    watching: str | None


class Health(BaseModel):
    """Answer to ``GET /healthz``."""

    status: Literal["ok", "failing"]
    product: str
    revision: str
    waiting: int


class Problem(BaseModel):
    """Answer to a request that failed."""

    error: str
