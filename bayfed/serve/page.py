"""The operator's page: files of the package, and the form for the token."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from bayfed.serve.refusals import MissingError
from bayfed.serve.service import Service

_TYPES = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    **dict.fromkeys(("api.js", "list.js", "page.js", "upload.js"), "text/javascript"),
}


def page(service: Service) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index(request: Request) -> Response:
        admitted = service.token is None or service.token.admits(request)
        return HTMLResponse(_text("index.html" if admitted else "login.html"))

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _TYPES:
            raise MissingError(f"there is no {name!r}")
        return Response(_text(name), media_type=f"{_TYPES[name]}; charset=utf-8")

    @router.post("/login")
    async def login(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=1) as form:
            given = str(form.get("token", ""))
        if service.token is None or not service.token.matches(given.strip()):
            return HTMLResponse(_text("login.html"), 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            service.token.cookie_name, service.token.cookie, httponly=True, samesite="strict"
        )
        return answer

    return router


def _text(name: str) -> str:
    return (files("bayfed.serve") / "static" / name).read_text(encoding="utf-8")
