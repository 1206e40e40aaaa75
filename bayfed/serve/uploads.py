"""Images in the body of a request, read within limits and checked before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bayfed.data.files import MAX_BYTES, header_of
from bayfed.errors import DataError
from bayfed.serve.answers import refusal
from bayfed.serve.records import LONGEST_NAME, Source, cleaned
from bayfed.serve.refusals import TooLargeError, UnreadableError
from bayfed.serve.worker import Job


@dataclass(frozen=True)
class Limits:
    """What a request may hold.

    Attributes:
        body: Bytes of a request.
        images: Number of images in it.
    """

    body: int = 2 * MAX_BYTES
    images: int = 32


class Rejected(NamedTuple):
    """An image that is not scored, and why."""

    name: str
    error: str


class BodyLimit:
    """Breaks a request off as soon as its body is above the limit, announced or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = TooLargeError(f"a request may hold {self._limit >> 20} MB")
        if not announced.isdigit() or int(announced) > self._limit:
            await refusal(too_large)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise too_large
            return message

        await self._app(scope, counted, send)


async def read_jobs(request: Request, limits: Limits) -> tuple[list[Job], list[Rejected]]:
    """Return the images of a request, multipart or one raw body, and those that are none.

    Raises:
        TooLargeError: the images are too many, or one of them is too large.
        UnreadableError: there is none.
    """
    files = await _files(request, limits)
    if not files:
        raise UnreadableError("the request holds no image")
    jobs, rejected = [], []
    for given, data in files:
        name = cleaned(given, LONGEST_NAME) or "upload"
        if len(data) > MAX_BYTES:
            raise TooLargeError(f"{name}: an image may have {MAX_BYTES >> 20} MB")
        try:
            header = await run_in_threadpool(header_of, data, Path(name))
        except DataError as error:
            rejected.append(Rejected(name, str(error)))
        else:
            jobs.append(Job(name, data, Source.UPLOAD, header.size))
    return jobs, rejected


async def _files(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    if not request.headers.get("content-type", "").startswith("multipart/"):
        body = await request.body()
        return [(request.query_params.get("name", ""), body)] if body else []
    try:
        async with request.form(max_files=limits.images, max_fields=16) as form:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(upload.filename or "", await upload.read()) for upload in uploads]
    except HTTPException as error:
        if "Too many files" in error.detail:
            raise TooLargeError(f"a request may hold {limits.images} images") from None
        raise
