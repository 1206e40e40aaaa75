"""The routes that programs and the page use."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from bayfed.errors import BayfedError
from bayfed.serve.answers import refusal
from bayfed.serve.export import csv_lines
from bayfed.serve.metrics import Metrics
from bayfed.serve.rates import rates
from bayfed.serve.records import Record
from bayfed.serve.refusals import RefusedError, UnreadableError
from bayfed.serve.schema import (
    EventAnswer,
    Health,
    Item,
    Learned,
    Problem,
    RejectedAnswer,
    Review,
    Scored,
    Status,
)
from bayfed.serve.service import Service
from bayfed.serve.uploads import Rejected, read_jobs

_BINARY = {"type": "string", "format": "binary"}
_IMAGES: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": _BINARY}},
            }
        },
        **{f"image/{kind}": {"schema": _BINARY} for kind in ("png", "jpeg", "bmp", "tiff")},
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in (
        (413, "above a limit"),
        (422, "no image in it could be read"),
        (503, "the queue is full; Retry-After says when to come back"),
        (507, "the disk is full: nothing was recorded, nothing was lost"),
    )
}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
_SVG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/svg+xml": {}}}}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def routes(service: Service, metrics: Metrics) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter()
    router.include_router(_scoring(service, metrics))
    router.include_router(_reviewing(service))
    router.include_router(_watching(service, metrics))
    return router


def _scoring(service: Service, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["scoring"])

    @router.post(
        "/score",
        response_model=Scored,
        responses=_PROBLEMS,
        openapi_extra={
            "requestBody": _IMAGES,
            "parameters": [
                {"name": "name", "in": "query", "schema": {"type": "string"},
                 "description": "name of a raw image"}
            ],
        },
    )  # fmt: skip
    async def score(request: Request) -> Response | Scored:
        """Score one image as raw body, or several as files of a multipart form.

        An image that cannot be read is listed under ``rejected``; the others are scored.
        """
        service.worker.check_room(1)
        jobs, rejected = await read_jobs(request, service.settings.limits)
        started = time.perf_counter()
        waiting = [asyncio.wrap_future(answer) for answer in service.worker.submit(jobs)]
        items = []
        for job, answer in zip(
            jobs, await asyncio.gather(*waiting, return_exceptions=True), strict=True
        ):
            if isinstance(answer, Record):
                items.append(item_of(answer))
            elif isinstance(answer, BayfedError) and not isinstance(answer, RefusedError):
                rejected.append(Rejected(job.name, str(answer)))
            else:
                raise answer
        metrics.seconds.observe(time.perf_counter() - started)
        if not items:
            return refusal(UnreadableError(rejected[0].error), rejected)
        return Scored(items=items, rejected=[RejectedAnswer.model_validate(r) for r in rejected])

    return router


def _reviewing(service: Service) -> APIRouter:
    router = APIRouter(tags=["reviewing"])
    history = service.history

    @router.get("/items")
    def items(
        view: Annotated[
            Literal["newest", "review", "check", "reviewed"],
            Query(
                description="review: the most uncertain first; check: parts called ok, at random"
            ),
        ] = "newest",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> list[Item]:
        """List items."""
        return [item_of(record) for record in history.items(view, limit)]

    @router.get("/items/{item}")
    def item(item: int) -> Item:
        """Return an item."""
        return item_of(history.get(item))

    @router.get("/items/{item}/picture.jpg", response_class=Response, responses=_JPEG)
    def picture(item: int, small: bool = False) -> Response:
        """Return the picture."""
        return Response(service.pictures.picture(item, small), 200, _FOREVER, "image/jpeg")

    @router.get("/items/{item}/overlay.jpg", response_class=Response, responses=_JPEG)
    def overlay(item: int, small: bool = False) -> Response:
        """Return the surprise over the picture."""
        return Response(service.pictures.overlay(item, small), 200, _FOREVER, "image/jpeg")

    @router.get("/items/{item}/legend.svg", response_class=Response, responses=_SVG)
    def legend(item: int) -> Response:
        """Return the colour scale of the overlay, with the threshold."""
        return Response(service.pictures.legend(item), 200, _FOREVER, "image/svg+xml")

    @router.post("/items/{item}/review", responses={507: _PROBLEMS[507]})
    def review(item: int, review: Review) -> Item:
        """Say whether a part is good; the last word counts."""
        return item_of(history.review(item, review.verdict, review.note))

    @router.post("/learn")
    async def learn() -> Learned:
        """Add the confirmed good parts to the model; the product file before is kept."""
        model = await asyncio.wrap_future(service.worker.alone(service.learn))
        return Learned(revision=model.revision, threshold=model.product.threshold)

    @router.get("/events")
    def events(limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[EventAnswer]:
        """List what people did, the latest first."""
        return [EventAnswer.model_validate(event) for event in history.events(limit)]

    @router.get("/export.csv", response_class=PlainTextResponse)
    def export() -> StreamingResponse:
        """Return all items as CSV."""
        name = f"{Path(service.settings.product).stem}.csv".encode("ascii", "replace").decode()
        headers = {"Content-Disposition": f'attachment; filename="{name.replace(chr(34), "_")}"'}
        lines = csv_lines(history.every())
        return StreamingResponse(lines, 200, headers, "text/csv; charset=utf-8")

    return router


def _watching(service: Service, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["watching"])

    @router.get("/status")
    def status() -> Status:
        """Return counts, rates and the model in use."""
        return status_of(service)

    @router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    def healthz() -> Response:
        """Say whether images are scored."""
        worker = service.worker
        health = Health(
            status="ok" if worker.alive else "failing",
            product=worker.model.product.name,
            revision=worker.model.revision,
            waiting=worker.depth,
        )
        return JSONResponse(health.model_dump(), 200 if worker.alive else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    def prometheus() -> Response:
        """Return numbers for Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    return router


def item_of(record: Record) -> Item:
    """Return a record as JSON has it."""
    return Item.model_validate(record)


def status_of(service: Service) -> Status:
    """Return the state of a service."""
    model, tallies = service.worker.model, service.history.tallies()
    found = rates(tallies)

    def number(decision: str | None = None, *, judged: bool | None = None) -> int:
        return sum(
            count
            for (said, verdict), count in tallies.items()
            if decision in (None, said) and judged in (None, bool(verdict))
        )

    return Status.model_validate(
        {
            "product": model.product.name,
            "revision": model.revision,
            "fpr": model.product.fpr,
            "promise": model.product.promise,
            "threshold": model.product.threshold,
            "scored": number() - number(""),
            "ok": number("ok"),
            "defect": number("defect"),
            "to_review": number("review", judged=False),
            "reviewed": number(judged=True),
            "unreadable": number(""),
            "learnable": service.learning.count(),
            "false_alarms": found.false_alarms,
            "escapes": found.escapes,
            "waiting": service.worker.depth,
            "watching": None if service.settings.watch is None else str(service.settings.watch),
        }
    )
