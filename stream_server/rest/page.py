"""The demo page and its files. The chart library comes from its PyPI package, so none of it lies in this repository.

The files are read once. A page names them by their version, a digest of them all (`static/<version>/app.js`), so a
browser keeps them for good and a page never meets scripts of another version. Every address in them is relative: the
service may stand under any path of a proxy.
"""

import functools
import mimetypes
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import litecharts
from aiohttp import web
from aiohttp.typedefs import Handler

from stream_server.access.browsers import frame_policy
from stream_server.context import CONTEXT, Context
from stream_server.rest.assets import Asset, digest

FOR_GOOD = "public, max-age=31536000, immutable"

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
    package = Path(__file__).resolve().parents[1]
    inside = package / "static"
    return inside if inside.is_dir() else package.parent / "static"


@dataclass(frozen=True, slots=True)
class Front:
    """The pages and their files, as they are sent."""

    version: str
    pages: Mapping[str, Asset]
    """By file name: `index.html`, `docs.html`."""
    files: Mapping[str, Asset]
    """By path within `static/`. No path that a client can spell leads anywhere else."""


@functools.cache
def front() -> Front:
    """Read and compress the pages and their files; a change of them takes a new start."""
    folder = static_folder()
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if _is_ours(path, folder)
    }
    found["vendor/lightweight-charts.js"] = (
        Path(litecharts.__file__).parent / "js" / "lightweight-charts.js"
    ).read_bytes()
    version = digest(*(part for name in sorted(found) for part in (name.encode(), found[name])))
    pages = {
        name: _versioned(content, version, _modules_of(content, found))
        for name, content in found.items()
        if name.endswith(".html")
    }
    return Front(
        version,
        {name: Asset.of(content, "text/html; charset=utf-8") for name, content in pages.items()},
        {name: Asset.of(content, _content_type(name)) for name, content in found.items()},
    )


def _modules_of(html: bytes, files: Mapping[str, bytes]) -> list[str]:
    """Return the modules that a page imports by way of others, which a browser would find one after the other."""
    named = re.findall(rb'src="static/([^"]+)" type="module"', html)
    pending = [name.decode() for name in named]
    found: dict[str, None] = {}
    while pending:
        name = pending.pop()
        for imported in re.findall(rb'^import .*? from "([^"]+)";$', files[name], re.MULTILINE | re.DOTALL):
            module = posixpath.normpath(posixpath.join(posixpath.dirname(name), imported.decode()))
            if module not in found:
                found[module] = None
                pending.append(module)
    return list(found)


def _versioned(html: bytes, version: str, modules: Iterable[str]) -> bytes:
    """Name the version in every address of a file, and all modules before the first of them has been read."""
    links = "".join(f'  <link rel="modulepreload" href="static/{name}">\n' for name in modules)
    html = html.replace(b"</head>", links.encode() + b"</head>")
    return re.sub(rb'((?:src|href)="static/)', rb"\g<1>" + version.encode() + b"/", html)


def _content_type(name: str) -> str:
    # What a system has to say of a script is not always what browsers take for one.
    known = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    kind = known.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def add_routes(app: web.Application) -> None:
    """Mount `/` and `/static`."""
    icon = front().files["favicon.svg"]

    async def favicon(request: web.Request) -> web.Response:
        return icon.answer(request, {"Cache-Control": "max-age=86400"})

    async def static(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        version, _, rest = name.partition("/")
        if version == front().version and rest in front().files:
            return front().files[rest].answer(request, {"Cache-Control": FOR_GOOD})
        if name in front().files:
            return front().files[name].answer(request, {"Cache-Control": "no-cache"})
        raise web.HTTPNotFound

    app.router.add_get("/", serving("index.html", app[CONTEXT]))
    app.router.add_get("/favicon.ico", favicon)
    app.router.add_get("/static/{name:.+}", static)


def serving(name: str, context: Context) -> Handler:
    """Return the handler of a page."""
    page = front().pages[name]
    headers = headers_of(context)

    async def serve(request: web.Request) -> web.Response:
        return page.answer(request, headers)

    return serve


def _is_ours(path: Path, folder: Path) -> bool:
    """Whether it is a file of this folder, and no link out of it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
