"""Serve answers that stay the same while the process lives: compressed once, tagged by their content."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from stream_server.wire.headers import is_known, members

WORTH_PACKING_BYTES = 512
"""Below this size the extra headers of a compressed answer cost more than compression saves."""
_NO_WEIGHT = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asset:
    """The bytes of an answer, plain and, if that is shorter, compressed by gzip.

    Each form has a strong `ETag` of its own, so caches and ranges never mix the two.
    """

    body: bytes
    content_type: str
    tag: str
    packed: bytes | None

    @classmethod
    def of(cls, body: bytes, content_type: str) -> "Asset":
        """Return the asset with this content."""
        packed = gzip.compress(body, mtime=0) if len(body) >= WORTH_PACKING_BYTES else body
        return cls(body, content_type, digest(body), packed if len(packed) < 0.9 * len(body) else None)

    def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        """Return the asset in a form that the client takes, a part of it, or 304 if the client has it."""
        packed = self.packed if _takes_gzip(request) and "Range" not in request.headers else None
        tag = f'"{self.tag}"' if packed is None else f'"{self.tag}-gzip"'
        full = {**headers, "ETag": tag}
        if self.packed is not None:
            full["Vary"] = "Accept-Encoding"
        if is_known(request.headers, tag):
            return web.Response(status=304, headers=full)
        full["Content-Type"] = self.content_type
        full["Accept-Ranges"] = "bytes"
        if packed is not None:
            return web.Response(body=packed, headers=full | {"Content-Encoding": "gzip"})
        if request.method == "GET" and "Range" in request.headers and request.headers.get("If-Range", tag) == tag:
            return self._part(request, full)
        return web.Response(body=self.body, headers=full)

    def _part(self, request: web.Request, headers: dict[str, str]) -> web.Response:
        total = len(self.body)
        try:
            start, stop, _ = request.http_range.indices(total)
        except ValueError:
            start = stop = total
        if start >= stop:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{total}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        return web.Response(status=206, body=self.body[start:stop], headers=headers)


def digest(*parts: bytes) -> str:
    """Return a short name of this content; equal names mean equal content."""
    hashed = hashlib.blake2b(digest_size=9)
    for part in parts:
        hashed.update(len(part).to_bytes(8))
        hashed.update(part)
    return hashed.hexdigest()


def _takes_gzip(request: web.Request) -> bool:
    weights = {}
    for member in members(request.headers, "Accept-Encoding"):
        coding, _, weight = member.partition(";")
        weights[coding.strip().lower()] = _NO_WEIGHT.fullmatch(weight) is None
    return weights.get("gzip", weights.get("*", False))
