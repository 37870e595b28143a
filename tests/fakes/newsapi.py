"""A fake NewsAPI: key in a header or parameter, errors with codes, results of the free plan."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

import orjson

from tests.fakes.rss import stories
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

CALLS_IN_12_H = 50
MAX_RESULTS = 100
WITHDRAWN = {
    "source": {"id": None, "name": "[Removed]"},
    "author": None,
    "title": "[Removed]",
    "description": "[Removed]",
    "url": "https://removed.com",
    "urlToImage": None,
    "publishedAt": "1970-01-01T00:00:00Z",
    "content": "[Removed]",
}


def refused(status: int, code: str, message: str) -> Reply:
    """Return an error in the provider's format."""
    return Reply(orjson.dumps({"status": "error", "code": code, "message": message}), status)


class FakeNewsApi(FakeUpstream):
    """Serve `GET /v2/everything`. `used` calls of the half day's limit are used up at the start."""

    def __init__(
        self, wall_ms: Callable[[], int] = wall_clock_ms, *, keys: Collection[str] = ("news-key",), used: int = 0
    ) -> None:
        super().__init__(wall_ms)
        self.keys = frozenset(keys)
        self.used = used
        self.over_limit = 0
        self.on("GET", "/v2/everything", self._everything)

    def _everything(self, call: Call) -> Reply:
        key = call.headers.get("x-api-key") or call.query.get("apiKey")
        if not key:
            return refused(401, "apiKeyMissing", "Your API key is missing.")
        if key not in self.keys:
            return refused(401, "apiKeyInvalid", "Your API key is invalid or incorrect.")
        self.used += 1
        if self.used > CALLS_IN_12_H:
            self.over_limit += 1
            return refused(429, "rateLimited", "You have made too many requests recently.")
        if not any(call.query.get(name) for name in ("q", "sources", "domains")):
            return refused(400, "parametersMissing", "Required parameters are missing.")
        size, page = call.query.get("pageSize", "100"), call.query.get("page", "1")
        if not (size.isdigit() and page.isdigit() and 1 <= int(size) <= MAX_RESULTS and int(page) >= 1):
            return refused(400, "parameterInvalid", "You have included a parameter which is not supported.")
        if int(size) * int(page) > MAX_RESULTS:
            return refused(426, "maximumResultsReached", "You have requested too many results.")
        found = stories(self.wall_ms(), int(size))
        articles: list[object] = [
            {
                "source": {"id": None, "name": each.outlet.title()},
                "author": None,
                "title": each.title,
                "description": f"{each.title}, in short.",
                "url": each.url,
                "urlToImage": None,
                "publishedAt": datetime.fromtimestamp(each.published_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "content": "The first words… [+1234 chars]",
            }
            for each in found
        ]
        body = {"status": "ok", "totalResults": 2345, "articles": [*articles, WITHDRAWN]}
        return Reply(orjson.dumps(body))
