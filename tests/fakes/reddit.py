"""A fake of Reddit's three hosts: tokens, listings for clients with a token, and a feed that usually refuses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from urllib.parse import parse_qs

import orjson

from tests.fakes.rss import Story, stories
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

BLOCKED = b"<!doctype html><html><head><title>Blocked</title></head><body><h1>whoa there, pardner!</h1></body></html>"
PAGE = {"Content-Type": "text/html; charset=UTF-8"}
CALLS_A_MINUTE = 100
LISTINGS = ("new", "hot", "top")


class FakeReddit(FakeUpstream):
    """Serve `POST /api/v1/access_token`, `GET /r/CryptoCurrency/{new,hot,top}` and `…/new/.rss`.

    `application` is the client's id and secret. Tokens are valid for `lasts_s`; `revoke` ends them at once. Listings
    without a token are blocked. `feed_open` lets the feed answer.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        application: tuple[str, str] = ("reddit-id", "reddit-secret"),
        lasts_s: int = 86_400,
    ) -> None:
        super().__init__(wall_ms)
        self.login = b64encode(":".join(application).encode()).decode()
        self.lasts_s = lasts_s
        self.tokens: dict[str, int] = {}
        """Expiry of each token, in Unix ms."""
        self.issued = 0
        self.feed_open = True
        self.over_limit = 0
        self.on("POST", "/api/v1/access_token", self._token)
        for listing in LISTINGS:
            self.on("GET", f"/r/CryptoCurrency/{listing}", self._listing)
            self.on("GET", f"/r/CryptoCurrency/{listing}/.rss", self._feed)
        self.on("GET", "*", lambda call: Reply(BLOCKED, 403, PAGE))

    def revoke(self) -> None:
        """Make every issued token invalid."""
        self.tokens.clear()

    def _token(self, call: Call) -> Reply:
        if call.headers.get("authorization") != f"Basic {self.login}":
            return Reply(b'{"message": "Unauthorized", "error": 401}', 401)
        if parse_qs(call.body.decode()).get("grant_type") != ["client_credentials"]:
            return Reply(b'{"error": "unsupported_grant_type"}')
        self.issued += 1
        token = f"reddit-token-{self.issued}"
        self.tokens[token] = self.wall_ms() + self.lasts_s * 1000
        body = {"access_token": token, "token_type": "bearer", "expires_in": self.lasts_s, "scope": "*"}
        return Reply(orjson.dumps(body))

    def _listing(self, call: Call) -> Reply:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if not token:
            return Reply(BLOCKED, 403, PAGE)
        if scheme.lower() != "bearer" or self.tokens.get(token, 0) <= self.wall_ms():
            return Reply(b'{"message": "Unauthorized", "error": 401}', 401)
        used = sum(each.at > call.at - 60.0 and each.method == "GET" for each in self.calls)
        allowance = {
            "x-ratelimit-used": str(min(used, CALLS_A_MINUTE)),
            "x-ratelimit-remaining": f"{max(0, CALLS_A_MINUTE - used)}.0",
            "x-ratelimit-reset": "60",
        }
        if used > CALLS_A_MINUTE:
            self.over_limit += 1
            return Reply(b'{"message": "Too Many Requests", "error": 429}', 429, allowance)
        limit = min(100, int(call.query.get("limit", "25")))
        pinned = _post(stories(self.wall_ms(), 1)[0], stickied=True)
        posts = [pinned, *(_post(each) for each in stories(self.wall_ms(), limit))]
        listing = {"after": posts[-1]["name"], "before": None, "dist": len(posts), "modhash": ""}
        children = [{"kind": "t3", "data": post} for post in posts]
        return Reply(orjson.dumps({"kind": "Listing", "data": {**listing, "children": children}}), 200, allowance)

    def _feed(self, call: Call) -> Reply:
        if not self.feed_open:
            return Reply(BLOCKED, 429, PAGE)
        entries = "".join(_entry(each) for each in stories(self.wall_ms(), 25))
        body = f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>new</title>{entries}</feed>'
        return Reply(body.encode(), 200, {"Content-Type": "application/atom+xml; charset=UTF-8"})


def _place(each: Story) -> str:
    return f"/r/CryptoCurrency/comments/{each.number:x}/story/"


def _post(each: Story, stickied: bool = False) -> dict[str, object]:
    return {
        "id": f"{each.number:x}",
        "name": f"t3_{each.number:x}",
        "subreddit": "CryptoCurrency",
        "title": "Daily discussion" if stickied else each.title,
        "author": "someone",
        "score": each.number % 900 - 20,
        "upvote_ratio": 0.93,
        "num_comments": each.number % 200,
        "created_utc": each.published_ms / 1000,
        "permalink": _place(each),
        "url": each.url,
        "selftext": "",
        "is_self": False,
        "over_18": False,
        "stickied": stickied,
        "link_flair_text": "GENERAL-NEWS",
    }


def _entry(each: Story) -> str:
    when = datetime.fromtimestamp(each.published_ms / 1000, UTC).isoformat()
    content = escape(f"<p>submitted by <a href='{each.url}'>/u/someone</a></p>")
    return (
        f"<entry><author><name>/u/someone</name></author><id>t3_{each.number:x}</id><title>{escape(each.title)}</title>"
        f'<link href="https://www.reddit.com{_place(each)}"/><published>{when}</published><updated>{when}</updated>'
        f'<content type="html">{content}</content></entry>'
    )
