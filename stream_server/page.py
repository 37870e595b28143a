"""The demo page and its files. The chart library comes from its PyPI package, so none of it lies in this repository."""

from pathlib import Path

import litecharts
from aiohttp import web

from stream_server.browsers import frame_policy
from stream_server.context import CONTEXT, Context

POLICY = (
    "default-src 'self'",
    "connect-src 'self' ws: wss:",
    # The one <style> element that Lightweight Charts 5.1 puts into the page, by its hash.
    "style-src 'self' 'sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY='",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
)


def headers_of(context: Context) -> dict[str, str]:
    """Return the headers of a page; those of every answer come on top."""
    policy = "; ".join([*POLICY, frame_policy(context.settings.frame_ancestors)])
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


def static_folder() -> Path:
    """Where the page lies: inside the installed package, or at the top of the source tree."""
    here = Path(__file__).resolve().parent
    inside = here / "static"
    return inside if inside.is_dir() else here.parent / "static"


def add_routes(app: web.Application) -> None:
    """Mount `/` and `/static`."""
    folder = static_folder()
    headers = headers_of(app[CONTEXT])
    # Known by name: no path that a client can spell leads anywhere else, and what is missing is missed like any path.
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _is_ours(path, folder)}
    chart = Path(litecharts.__file__).parent / "js" / "lightweight-charts.js"

    async def index(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / "index.html", headers=headers)

    async def favicon(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / "favicon.svg", headers={"Cache-Control": "max-age=86400"})

    async def chart_library(request: web.Request) -> web.FileResponse:
        return web.FileResponse(chart, headers={"Cache-Control": "max-age=86400"})

    async def static(request: web.Request) -> web.FileResponse:
        path = files.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    app.router.add_get("/", index)
    app.router.add_get("/favicon.ico", favicon)
    app.router.add_get("/static/vendor/lightweight-charts.js", chart_library)
    app.router.add_get("/static/{name:.+}", static)


def _is_ours(path: Path, folder: Path) -> bool:
    """Whether it is a file of this folder, and no link out of it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
