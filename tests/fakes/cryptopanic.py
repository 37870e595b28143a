"""A fake CryptoPanic v2: plans in the path, the token as a parameter, errors with `status` and `info`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

import orjson

from tests.fakes.rss import COINS, DOMAINS, Story, stories
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

CALLS_A_SECOND = 2
FILTERS = ("rising", "hot", "bullish", "bearish", "important", "saved", "lol")


def refused(status: int, info: str) -> Reply:
    """Return an error in the provider's format."""
    return Reply(orjson.dumps({"status": "Incomplete", "info": info}), status)


class FakeCryptoPanic(FakeUpstream):
    """Serve `GET /api/<plan>/v2/posts/` for one plan. `generous` rows have id, links, outlet, coins and votes."""

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        tokens: Collection[str] = ("panic-token",),
        plan: str = "developer",
        generous: bool = True,
    ) -> None:
        super().__init__(wall_ms)
        self.tokens = frozenset(tokens)
        self.plan = plan
        self.generous = generous
        self.over_limit = 0
        self.on("GET", f"/api/{plan}/v2/posts/", self._posts)
        self.on("GET", "*", lambda call: Reply(b"<html><title>404</title></html>", 404, {"Content-Type": "text/html"}))

    def _posts(self, call: Call) -> Reply:
        if sum(each.at > call.at - 1.0 for each in self.calls) > CALLS_A_SECOND:
            self.over_limit += 1
            return refused(429, "Rate limit exceeded")
        if call.query.get("auth_token") not in self.tokens:
            return refused(401, "Token not found")
        chosen = call.query.get("filter")
        if chosen is not None and chosen not in FILTERS:
            return refused(400, "Invalid filter")
        found = stories(self.wall_ms(), 40)
        codes = call.query.get("currencies")
        if codes:
            found = [each for each in found if each.symbol in codes.split(",")]
        if chosen is not None:
            found = [each for each in found if each.number % 3 == 0]
        row = self._generous_row if self.generous else self._row
        echoed = f"{self.url}{call.path}?auth_token={call.query['auth_token']}&page=2"
        body = {"next": echoed, "previous": None, "results": [row(each) for each in found[:20]]}
        return Reply(orjson.dumps(body))

    def _row(self, each: Story) -> Mapping[str, object]:
        published = datetime.fromtimestamp(each.published_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "title": each.title,
            "description": f"{each.title}, in short.",
            "published_at": published,
            "created_at": published,
            "kind": "news",
        }

    def _generous_row(self, each: Story) -> Mapping[str, object]:
        slug = each.title.replace(" ", "-")
        name = next(name for name, symbol in COINS if symbol == each.symbol)
        domain = DOMAINS[each.outlet].removeprefix("www.")
        votes = dict.fromkeys(("negative", "liked", "disliked", "lol", "toxic", "saved", "comments"), 0)
        return {
            **self._row(each),
            "id": 21_000_000 + each.number,
            "slug": slug,
            "source": {"title": each.outlet.title(), "region": "en", "domain": domain, "type": "feed"},
            "original_url": each.url,
            "url": f"https://cryptopanic.com/news/{21_000_000 + each.number}/{slug}",
            "image": None,
            "instruments": [{"code": each.symbol, "title": name, "slug": name.lower(), "market_rank": 1}],
            "votes": {**votes, "positive": each.number % 5, "important": 1 if each.number % 3 == 0 else 0},
            "panic_score": 35,
            "author": None,
        }
