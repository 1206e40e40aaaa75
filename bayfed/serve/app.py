"""The web application: routes behind their guards, and one answer to every error."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

import bayfed
from bayfed.errors import BayfedError
from bayfed.serve.answers import refusal
from bayfed.serve.api import routes
from bayfed.serve.guards import LOOPBACK, Guard
from bayfed.serve.metrics import Metrics
from bayfed.serve.page import page
from bayfed.serve.service import Service
from bayfed.serve.uploads import BodyLimit


def create_app(service: Service) -> FastAPI:
    """Return the application of an open service.

    The interactive pages of FastAPI are left out, because they load scripts from elsewhere.
    """
    metrics = Metrics(service)
    app = FastAPI(
        title=f"bayfed: {service.worker.model.product.name}",
        version=bayfed.__version__,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(routes(service, metrics))
    app.include_router(page(service))
    app.add_middleware(BodyLimit, limit=service.settings.limits.body)
    app.add_middleware(Guard, token=service.token, hosts={*LOOPBACK, service.settings.host})

    def refuse(_: Request, error: Exception) -> Response:
        answer = _answer(error)
        metrics.refused.labels(str(answer.status_code)).inc()
        return answer

    for kind in (BayfedError, HTTPException, RequestValidationError, FormParserError):
        app.add_exception_handler(kind, refuse)
    return app


def _answer(error: Exception) -> JSONResponse:
    if isinstance(error, BayfedError):
        return refusal(error)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)
    if isinstance(error, FormParserError):
        return JSONResponse({"error": f"damaged form: {error}"}, 400)
    raise error
