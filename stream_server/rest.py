"""REST: one envelope for every answer and every error; the same values as on the streams."""

import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from aiohttp import web

from feeds import topics
from feeds.candles import CandleSeries, State
from feeds.intervals import INTERVALS
from feeds.market import candle_data
from feeds.model import Candle, Pair
from feeds.providers import binance
from feeds.symbols import UnknownSymbolError
from orchestrator.dedupe import Recent
from orchestrator.errors import BadQuery, NotFound, ProviderError, RateLimited
from orchestrator.limiter import TokenBucket
from stream_server import __version__
from stream_server.context import CONTEXT, Context
from stream_server.history import TopicHistory
from stream_server.refusals import Refusal
from stream_server.session import resolve, split_topics

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CandleKey = tuple[str, str, int, int | None, int | None]

DEFAULT_CANDLES = 500
MAX_CANDLES = 1000
HISTORY_KEPT_S = 2.0
TEXTS_KEPT = 64
HISTORY_ASKS_PER_S = 10.0
"""Questions to Binance that clients may cause: 2 of its 6000 weights a minute each, so a fifth of the budget."""


@dataclass(slots=True)
class Answer:
    """The data of one answer and what the envelope says of it. `data` is JSON text; ages are in milliseconds.

    `version` names the data where that is known without reading it; equal versions mean equal data.
    """

    data: bytes
    source: str
    age_ms: int
    stale: bool = False
    cached: bool = True
    attempts: list[dict[str, object]] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)
    version: str = ""


# --- parameters ---


class Parameters:
    """Reads query parameters, and refuses with all that are wrong at once."""

    def __init__(self, request: web.Request) -> None:
        self.query = request.query
        self.problems: dict[str, tuple[str, str]] = {}

    def wrong(self, name: str, message: str, code: str = "bad_parameter") -> None:
        """Note a problem with one parameter."""
        self.problems[name] = (code, message)

    def text(self, name: str, default: str = "") -> str:
        """A text; refused if it is given twice."""
        values = self.query.getall(name, [])
        if len(values) > 1:
            self.wrong(name, f"{name} is given {len(values)} times")
        return values[0].strip() if values else default

    def whole(self, name: str, low: int, high: int, default: int | None) -> int | None:
        """A whole number within bounds."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 16):
            self.wrong(name, f"{name} {text[:40]!r} is not a whole number")
            return default
        number = int(text)
        if not low <= number <= high:
            self.wrong(name, f"{name} {number} is not from {low} to {high}")
            return default
        return number

    def max_age_ms(self) -> float | None:
        """`max_age` in seconds, as milliseconds."""
        text = self.text("max_age")
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self.wrong("max_age", f"max_age {text[:40]!r} is not a number of seconds")
            return None
        return seconds * 1000

    def check(self) -> None:
        """Raise one Refusal for all problems."""
        if not self.problems:
            return
        codes = {code for code, _ in self.problems.values()}
        code = codes.pop() if len(codes) == 1 else "bad_parameter"
        details: dict[str, object] = {name: message for name, (_, message) in self.problems.items()}
        raise Refusal(code, "; ".join(str(message) for message in details.values()), details=details)


# --- answers ---


def respond(request: web.Request, context: Context, answer: Answer, max_age_ms: float | None = None) -> web.Response:
    """Wrap an answer. 503 if it is older than the client allows, 304 if the client has it."""
    if max_age_ms is not None and answer.age_ms > max_age_ms:
        message = f"the newest answer is {answer.age_ms / 1000:.1f} s old, older than max_age allows"
        raise Refusal("too_old", message, status=503, details={"age_ms": answer.age_ms}, retry_after_s=1)
    version = answer.version or hashlib.blake2b(answer.data, digest_size=9).hexdigest()
    etag = f'W/"{version}{"-stale" if answer.stale else ""}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers=headers)
    body = {
        "success": True,
        "data": orjson.Fragment(answer.data),
        "source": answer.source,
        "timestamp": iso_time(context.clock.wall_ms()),
        "latency_ms": round((time.perf_counter() - request[STARTED]) * 1000, 2),
        "cached": answer.cached,
        "age_ms": answer.age_ms,
        "stale": answer.stale,
        "attempts": answer.attempts,
        "position": context.hub.position,
        **answer.extra,
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)


def refused(refusal: Refusal, now_ms: int) -> web.Response:
    """The envelope of an error."""
    error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
    headers = {"Cache-Control": "no-store"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    body = {"success": False, "error": error, "timestamp": iso_time(now_ms)}
    return web.Response(
        status=refusal.status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


def iso_time(ms: int) -> str:
    """Unix milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


STARTED = web.RequestKey("started", float)


@web.middleware
async def envelope_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves in the envelope, none with a traceback; answers may be read by allowed origins."""
    request[STARTED] = time.perf_counter()
    context = request.app[CONTEXT]
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = refused(refusal, context.clock.wall_ms())
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = refused(_refusal_of(error, request), context.clock.wall_ms())
        if response.status == 405:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionResetError:
        raise  # the client has gone: nobody to answer
    except Exception:
        log.exception("request_crashed", extra={"path": request.path})
        response = refused(Refusal("internal", "a fault of ours", status=500), context.clock.wall_ms())
    if not response.prepared:
        context.allow_origin(request, response)
        response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _refusal_of(error: web.HTTPException, request: web.Request) -> Refusal:
    # Where only a preflight would be answered, there is nothing behind it.
    only_preflight = isinstance(error, web.HTTPMethodNotAllowed) and error.allowed_methods == {"OPTIONS"}
    if error.status == 404 or only_preflight:
        return Refusal("not_found", f"no such path: {request.path[:200]}", status=404)
    if error.status == 405:
        return Refusal("method_not_allowed", f"{request.path[:200]} does not take {request.method}", status=405)
    return Refusal("bad_request", (error.text or error.reason).strip()[:200], status=error.status)


# --- prices ---


async def market_price(request: web.Request) -> web.Response:
    """`GET /api/market/price?symbols=BTC,ETH`: last prices, all of them without `symbols`."""
    context = request.app[CONTEXT]
    parameters = Parameters(request)
    names = split_topics(parameters.text("symbols"))
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    if names:
        bases = _bases(context, names)
        held = [context.hub.topics.get(topics.price(base)) for base in bases]
        found = [topic for topic in held if topic is not None and topic.event is not None]
    else:
        bases = []
        found = [topic for topic in context.hub.snapshot(["price.*"]) if topic.event is not None]
        found.sort(key=lambda topic: topic.name)
    if not found:
        wanted = ", ".join(bases[:20]) or "any symbol"
        message = f"no source has given a price of {wanted} yet{_troubles(context)}"
        raise Refusal("unavailable", message, status=503, retry_after_s=5)
    answer = _answer_of_topics(context, found)
    answer.data = request.app[TEXTS].of(
        ("price", *bases), answer.version, lambda: orjson.dumps([_price_row(topic) for topic in found])
    )
    missing = sorted(set(bases) - {topics.base_of(topic.name) or "" for topic in found})
    if missing:
        answer.extra["missing"] = missing
    return respond(request, context, answer, max_age_ms)


def _troubles(context: Context) -> str:
    """Why there is nothing, as far as the feeds know."""
    causes = [str(feed["last_error"]) for feed in context.supervisor.report() if feed.get("last_error")]
    return f" ({'; '.join(causes)})" if causes else ""


def _price_row(topic: TopicHistory) -> dict[str, object]:
    event = topic.event
    assert event is not None  # noqa: S101 - the caller has looked
    stamps = {"ts": event.ts, "received": event.received, "source": event.source, "stale": topic.stale}
    return {**event.data, **stamps}


def _bases(context: Context, names: Sequence[str]) -> list[str]:
    bases: dict[str, None] = {}
    unknown: dict[str, object] = {}
    for name in names:
        try:
            bases[context.symbols.base_of(name)] = None
        except UnknownSymbolError as error:
            unknown[name[:40]] = str(error)
    if unknown:
        message = "; ".join(str(problem) for problem in unknown.values())
        raise Refusal("unknown_symbol", message, status=404, details=unknown)
    return list(bases)


def _answer_of_topics(context: Context, held: Sequence[TopicHistory]) -> Answer:
    """What the envelope says of these topics; the data is for the caller to put in.

    Any update of any of them gives the newest id, so that with their number it names their content.
    """
    now_ms = context.clock.wall_ms()
    sources = sorted({topic.event.source for topic in held if topic.event is not None})
    newest = max((topic.last.seq for topic in held if topic.last is not None), default=0)
    stale = sum(1 for topic in held if topic.stale)
    return Answer(
        b"[]",
        source=",".join(sources),
        age_ms=max((topic.age_ms(now_ms) for topic in held), default=0),
        stale=stale > 0,
        version=f"{context.hub.epoch}-{newest}.{len(held)}.{stale}",
    )


class Texts:
    """The JSON text of the last answers to the `size` most recent questions, for as long as their version holds."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: dict[tuple[object, ...], tuple[str, bytes]] = {}

    def of(self, question: tuple[object, ...], version: str, make: Callable[[], bytes]) -> bytes:
        """The kept text, or a new one."""
        kept = self.kept.pop(question, None)
        if kept is None or kept[0] != version:
            kept = (version, make())
        self.kept[question] = kept
        if len(self.kept) > self.size:
            del self.kept[next(iter(self.kept))]
        return kept[1]


TEXTS: web.AppKey[Texts] = web.AppKey("texts", Texts)


# --- candles ---


class CandleDesk:
    """Answers questions for candles: from the series that are kept, else from the exchange, shared and rate limited."""

    def __init__(self, context: Context, texts: Texts) -> None:
        self.context = context
        self.texts = texts
        self.recent: Recent[CandleKey, tuple[list[Candle], int]] = Recent(HISTORY_KEPT_S, 256, context.clock)
        self.bucket = TokenBucket(HISTORY_ASKS_PER_S, 3 * HISTORY_ASKS_PER_S, context.clock)

    async def ohlc(self, request: web.Request) -> web.Response:
        """`GET /api/market/ohlc?symbol=BTC&interval=1h&limit&start&end`, ascending; times in Unix ms."""
        parameters = Parameters(request)
        symbol = parameters.text("symbol")
        if not symbol:
            parameters.wrong("symbol", "symbol is missing, as in ?symbol=BTC&interval=1h")
        interval = parameters.text("interval", "1h")
        if interval not in INTERVALS:
            message = f"interval {interval[:40]!r} is not one of {', '.join(INTERVALS)}"
            parameters.wrong("interval", message, "invalid_interval")
        limit = parameters.whole("limit", 1, MAX_CANDLES, DEFAULT_CANDLES) or DEFAULT_CANDLES
        start = parameters.whole("start", 0, 10**14, None)
        end = parameters.whole("end", 0, 10**14, None)
        if start is not None and end is not None and start > end:
            parameters.wrong("start", f"start {start} is after end {end}")
        max_age_ms = parameters.max_age_ms()
        parameters.check()
        base = _bases(self.context, [symbol])[0]
        pair = self.context.symbols.by_base.get(base)
        if pair is None:
            message = f"the list of markets has not been received yet{_troubles(self.context)}"
            raise Refusal("unavailable", message, status=503, retry_after_s=5)
        answer = await self._answer(pair, interval, limit, start, end)
        return respond(request, self.context, answer, max_age_ms)

    async def _answer(self, pair: Pair, interval: str, limit: int, start: int | None, end: int | None) -> Answer:
        series = self.context.market.series.get((pair.symbol, interval))
        topic = self.context.hub.topics.get(topics.ohlcv(pair.base, interval))
        rows = _select(series, limit, start, end) if series is not None else []
        kept = topic if series is not None and topic is not None and topic.event is not None else None
        if series is not None and kept is not None and not kept.stale and _covers(series, rows, limit, start):
            return self._from_series(pair, interval, rows, kept)
        try:
            return await self._from_exchange(pair, interval, limit, start, end)
        except (BadQuery, NotFound) as error:
            raise Refusal("bad_parameter", f"the exchange refuses this question: {error.reason}") from None
        except (ProviderError, Refusal) as error:
            # Old but honest beats nothing: the envelope says how old. A tape has nothing newer to be asked for.
            if rows and kept is not None:
                answer = self._from_series(pair, interval, rows, kept)
                answer.stale = answer.stale or self.context.mode == "live"
                answer.attempts = _attempts(error)
                return answer
            if isinstance(error, Refusal):
                raise
            wait_s = error.retry_after_s if isinstance(error, RateLimited) else None
            raise Refusal(
                "unavailable",
                f"no source can give these candles: {error}",
                status=503,
                details={"attempts": _attempts(error)},
                retry_after_s=wait_s if wait_s is not None else 5,
            ) from None

    def _from_series(self, pair: Pair, interval: str, rows: Sequence[Candle], topic: TopicHistory) -> Answer:
        answer = _answer_of_topics(self.context, [topic])
        if rows:
            answer.version += f".{rows[0].open_time}.{len(rows)}"
        question = ("ohlc", pair.symbol, interval, len(rows), rows[0].open_time if rows else 0)
        answer.data = self.texts.of(question, answer.version, lambda: _candles_json(rows, pair))
        return answer

    async def _from_exchange(self, pair: Pair, interval: str, limit: int, start: int | None, end: int | None) -> Answer:
        key = (pair.symbol, interval, limit, start, end)
        cached = self.recent.fresh(key) is not None
        asked = cached or key in self.recent.in_flight

        async def ask() -> tuple[list[Candle], int]:
            rows = await self.context.feed.history(pair, interval, limit, start, end)
            return rows, self.context.clock.wall_ms()

        if not asked and not self.bucket.take():
            wait_s = self.bucket.wait_s()
            message = "too many questions for candles that are not kept here; subscribe to them instead"
            raise Refusal("rate_limited", message, status=429, retry_after_s=wait_s)
        rows, received_ms = await self.recent.get(key, ask)
        return Answer(
            _candles_json(rows, pair),
            source=binance.NAME,
            age_ms=max(0, self.context.clock.wall_ms() - received_ms),
            cached=cached,
            attempts=[] if cached else [{"provider": binance.NAME, "outcome": "ok"}],
        )


def _attempts(error: ProviderError | Refusal) -> list[dict[str, object]]:
    if isinstance(error, Refusal):
        return []
    return [{"provider": error.provider, "outcome": error.outcome}]


def _covers(series: CandleSeries, rows: Sequence[Candle], limit: int, start: int | None) -> bool:
    """Whether a kept series holds all that is asked for."""
    if not series.closed or series.missing_from() is not None:
        return False
    return series.closed[0].open_time <= start if start is not None else len(rows) >= limit


def _select(series: CandleSeries, limit: int, start: int | None, end: int | None) -> list[Candle]:
    rows = [*series.closed, *([series.live] if series.live is not None else [])]
    rows = [row for row in rows if (start is None or row.open_time >= start) and (end is None or row.open_time <= end)]
    return rows[:limit] if start is not None else rows[-limit:]


def _candles_json(rows: Sequence[Candle], pair: Pair) -> bytes:
    return orjson.dumps([candle_data(row, pair, State.CLOSED if row.closed else State.LIVE) for row in rows])


# --- the hub ---


async def snapshot(request: web.Request) -> web.Response:
    """`GET /api/snapshot?topics=price.BTC,ohlcv.>`: the last message of each topic, byte for byte.

    All topics without `topics`.
    """
    context = request.app[CONTEXT]
    parameters = Parameters(request)
    wanted = split_topics(parameters.text("topics")) or [">"]
    max_age_ms = parameters.max_age_ms()
    selectors, bad = resolve(wanted, context.symbols)
    if bad:
        parameters.wrong("topics", "; ".join(bad.values()), "unknown_topic")
    parameters.check()
    held = context.hub.snapshot(selectors)
    answer = _answer_of_topics(context, held)
    answer.data = request.app[TEXTS].of(
        ("snapshot", *selectors),
        answer.version,
        lambda: b"[%b]" % b",".join([topic.last.json for topic in held if topic.last is not None]),
    )
    answer.extra["stale_topics"] = [topic.name for topic in held if topic.stale]
    return respond(request, context, answer, max_age_ms)


async def list_topics(request: web.Request) -> web.Response:
    """`GET /api/topics`: what can be subscribed, and what has a value."""
    context = request.app[CONTEXT]
    now_ms = context.clock.wall_ms()
    held = [
        {
            "topic": topic.name,
            "kind": "mixed" if topic.name.startswith("ohlcv.") else "state",
            "id": topic.last.cursor,
            "source": topic.event.source if topic.event is not None else None,
            "age_ms": topic.age_ms(now_ms),
            "ttl_s": topic.ttl_s,
            "stale": topic.stale,
            "events": topic.events,
            "held_log_events": len(topic.ring),
        }
        for topic in sorted(context.hub.topics.values(), key=lambda topic: topic.name)
        if topic.last is not None
    ]
    data = {
        "templates": ["price.<SYM>", "ohlcv.<SYM>.<interval>", "status"],
        "patterns": ["price.*", "ohlcv.*.1m", "ohlcv.BTC.>", ">"],
        "symbols": sorted(context.symbols.by_base),
        "intervals": list(INTERVALS),
        "topics": held,
    }
    return respond(request, context, Answer(orjson.dumps(data), source="stream_server", age_ms=0, cached=False))


def status_report(context: Context) -> dict[str, object]:
    """How the service does, readable by a person: in `/api/status` and on the topic `status`."""
    hub = context.hub
    now_ms = context.clock.wall_ms()
    return {
        "server": {
            "version": __version__,
            "mode": context.mode,
            "started": iso_time(context.started_ms),
            "now": iso_time(now_ms),
            "draining": context.draining,
        },
        "clients": {
            **context.clients.count(),
            "limit": context.settings.max_connections,
            "accepted": context.clients.accepted,
            "refused": context.clients.refused,
            "behind": len(hub.behind),
            "paced": sum(1 for outbox in hub.behind if outbox.paced),
            "held_bytes": sum(outbox.held_bytes for outbox in hub.behind),
            "held_bytes_most": max((outbox.held_bytes for outbox in hub.behind), default=0),
            "held_bytes_limit": context.settings.outbox_bytes,
            "buffered_bytes": sum(outbox.pipe.buffered() for outbox in hub.behind),
            "cut_as_too_slow": hub.cut,
            "values_conflated": hub.conflated,
        },
        "hub": {
            "epoch": hub.epoch,
            "position": hub.position,
            "topics": sum(1 for topic in hub.topics.values() if topic.last is not None),
            "stale_topics": sum(1 for topic in hub.topics.values() if topic.stale),
            "groups": len(hub.groups.by_key),
            "messages_delivered": hub.delivered,
        },
        "readiness": context.feed.readiness(),
        "feeds": context.supervisor.report(),
    }


async def status(request: web.Request) -> web.Response:
    """`GET /api/status`."""
    context = request.app[CONTEXT]
    data = orjson.dumps(status_report(context))
    return respond(request, context, Answer(data, source="stream_server", age_ms=0, cached=False))


# --- probes ---


async def live(request: web.Request) -> web.Response:
    """`GET /health/live`: the process answers."""
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """`GET /health/ready`: 200 once every category has a first value or a known failure, and not while draining."""
    context = request.app[CONTEXT]
    categories = context.feed.readiness()
    is_ready = not context.draining and all(word is not None for word in categories.values())
    state = "draining" if context.draining else "ready" if is_ready else "starting"
    headers = {} if is_ready else {"Retry-After": "1"}
    body = {"status": state, "categories": categories}
    return web.json_response(body, status=200 if is_ready else 503, headers=headers)


async def preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends."""
    headers = {
        "Access-Control-Allow-Methods": "GET, OPTIONS",
        "Access-Control-Allow-Headers": "Last-Event-ID, If-None-Match, Content-Type",
        "Access-Control-Max-Age": "86400",
    }
    return web.Response(status=204, headers=headers)


def add_routes(app: web.Application, context: Context) -> None:
    """Mount every endpoint."""
    app[TEXTS] = texts = Texts(TEXTS_KEPT)
    desk = CandleDesk(context, texts)
    app.router.add_get("/api/market/price", market_price)
    app.router.add_get("/api/market/ohlc", desk.ohlc)
    app.router.add_get("/api/snapshot", snapshot)
    app.router.add_get("/api/topics", list_topics)
    app.router.add_get("/api/status", status)
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    for path in ("/api/{rest:.*}", "/sse", "/health/{rest:.*}"):
        app.router.add_route("OPTIONS", path, preflight)
