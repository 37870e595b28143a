"""Serve the pages and their files. The chart library comes from its PyPI package and isn't in this repository.

The files are read once. A page names them by their version, a digest of them all (`static/<version>/app.js`), so
browsers keep them forever and a page never gets scripts of another version. Every address in them is relative, because
a proxy may serve them under any path.
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

from stream_server.access.browsers import frame_policy
from stream_server.context import CONTEXT, Context
from stream_server.rest.assets import Asset, digest
from stream_server.rest.endpoints import HTML, Endpoint, Handler, Tag

IMMUTABLE = "public, max-age=31536000, immutable"

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
    """Return the folder of the page: inside the installed package, or at the top of the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "static"
    return inside if inside.is_dir() else package.parent / "static"


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages and their files, as they are sent."""

    version: str
    pages: Mapping[str, Asset]
    """By file name: `index.html`, `docs.html`."""
    files: Mapping[str, Asset]
    """By path within `static/`. Only these can be asked for, whatever path a client spells."""


@functools.cache
def pages() -> Pages:
    """Read and compress the pages and their files, once in the life of the process."""
    folder = static_folder()
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if _is_ours(path, folder)
    }
    found["vendor/lightweight-charts.js"] = (
        Path(litecharts.__file__).parent / "js" / "lightweight-charts.js"
    ).read_bytes()
    version = digest(*(part for name in sorted(found) for part in (name.encode(), found[name])))
    html = {
        name: _versioned(content, version, _modules_of(content, found))
        for name, content in found.items()
        if name.endswith(".html")
    }
    return Pages(
        version,
        {name: Asset.of(content, "text/html; charset=utf-8") for name, content in html.items()},
        {name: Asset.of(content, _content_type(name)) for name, content in found.items()},
    )


def _modules_of(html: bytes, files: Mapping[str, bytes]) -> list[str]:
    """Return all modules that a page imports, also indirectly; a browser would find them one after the other."""
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
    """Put the version into every address of a file, and preload all modules."""
    links = "".join(f'  <link rel="modulepreload" href="static/{name}">\n' for name in modules)
    html = html.replace(b"</head>", links.encode() + b"</head>")
    return re.sub(rb'((?:src|href)="static/)', rb"\g<1>" + version.encode() + b"/", html)


def _content_type(name: str) -> str:
    # The system's type of a script may be one that browsers refuse to run.
    known = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    kind = known.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def serve_page(name: str) -> Handler:
    """Return the handler of a page."""

    async def serve(request: web.Request) -> web.Response:
        return pages().pages[name].answer(request, headers_of(request.app[CONTEXT]))

    return serve


async def favicon(request: web.Request) -> web.Response:
    """Answer with the icon."""
    return pages().files["favicon.svg"].answer(request, {"Cache-Control": "max-age=86400"})


async def static(request: web.Request) -> web.Response:
    """Answer with a file of the pages. A file under its version never changes."""
    files = pages().files
    name = request.match_info["name"]
    version, _, rest = name.partition("/")
    if version == pages().version and rest in files:
        return files[rest].answer(request, {"Cache-Control": IMMUTABLE})
    if name in files:
        return files[name].answer(request, {"Cache-Control": "no-cache"})
    raise web.HTTPNotFound


def _is_ours(path: Path, folder: Path) -> bool:
    """Return whether it is a file of this folder and not a link out of it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


ENDPOINTS = (
    Endpoint(
        path="/",
        handler=serve_page("index.html"),
        summary="The demo page",
        tag=Tag.PAGES,
        answer=str,
        is_public=True,
        media=(HTML,),
        headers=("ETag",),
    ),
    Endpoint(
        path="/docs",
        handler=serve_page("docs.html"),
        summary="This documentation, with requests to try",
        tag=Tag.PAGES,
        answer=str,
        is_public=True,
        media=(HTML,),
        headers=("ETag",),
    ),
    Endpoint(
        path="/favicon.ico",
        handler=favicon,
        summary="The icon of the pages",
        tag=Tag.PAGES,
        is_public=True,
        is_described=False,
    ),
    Endpoint(
        path="/static/{name:.+}",
        handler=static,
        summary="A file of the pages",
        tag=Tag.PAGES,
        is_public=True,
        is_described=False,
    ),
)
