"""Serve `/api/market/price`: last prices, from the hub and from the sources for those that it lacks."""

from collections.abc import Mapping, Sequence

import orjson
from aiohttp import web

from feeds import events, topics
from feeds.fields import Rows
from feeds.identity import NO_MATCHING_SOURCE, Identities
from feeds.model import Quote
from feeds.queries import EVERYTHING
from feeds.symbols import Symbols
from orchestrator.fetched import Fetched
from stream_server.access.parameter_kinds import MAX_AGE
from stream_server.access.parameters import MAX_NAMES, Parameters
from stream_server.context import CONTEXT, Context
from stream_server.delivery.topic_history import NO_UPDATE, TopicHistory
from stream_server.rest.answers import ANSWERS, Answer, answer_of_topics, respond
from stream_server.rest.coins import (
    STRICT,
    bases,
    coin_names,
    refuse_ambiguous,
)
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import resolved
from stream_server.rest.shapes import EnvelopedPrices, PriceRow
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

SYMBOLS = coin_names(MAX_NAMES)


async def market_price(request: web.Request) -> web.Response:
    """Answer with last prices, or without `symbols` with all of them, ordered by name.

    The hub's prices come first; sources are asked for the others.
    """
    context, answers = request.app[CONTEXT], request.app[ANSWERS]
    question = ("price", request.rel_url.raw_query_string)
    answer = answers.get(question)
    if answer is None or answer.is_too_old(context.clock.now()):
        parameters = Parameters(request)
        names = parameters.read(SYMBOLS)
        strict = parameters.read(STRICT)
        max_age_ms = parameters.read(MAX_AGE)
        parameters.check()
        wanted = bases(context, names)
        if strict:
            await refuse_ambiguous(asking_of(request), names, max_age_ms)
        answer = from_hub(context, wanted, max_age_ms)
        if answer is None:
            answer = await with_quotes(asking_of(request), wanted, max_age_ms)
        elif not strict:
            answer = answers.put(question, answer)
    return respond(request, context, answer)


def from_hub(context: Context, wanted: Sequence[str], max_age_ms: float | None) -> Answer | None:
    """Return the prices that the hub holds; None if one is missing or older than `max_age_ms`."""
    if wanted:
        held = _held(context, wanted, max_age_ms)
    else:
        prices = [topic for topic in context.hub.snapshot(["price.*"]) if topic.event is not None]
        held = sorted(prices, key=lambda topic: topic.name)
    if not held or len(held) < len(wanted):
        return None
    return _of_topics(context, held, max_age_ms)


def _held(context: Context, wanted: Sequence[str], max_age_ms: float | None) -> list[TopicHistory]:
    now = context.clock.now()
    current = context.hub.current_topics()
    found = [current.get(topics.price(base)) for base in wanted]
    return [
        topic
        for topic in found
        if topic is not None and topic.event is not None and (max_age_ms is None or topic.age_ms(now) < max_age_ms)
    ]


def _of_topics(context: Context, held: Sequence[TopicHistory], max_age_ms: float | None) -> Answer:
    now = context.clock.now()
    answer = answer_of_topics(context.hub, held, lambda: orjson.dumps([price_row(topic) for topic in held]), now)
    answer.max_age_ms = max_age_ms
    return answer


async def with_quotes(asking: Asking, wanted: Sequence[str], max_age_ms: float | None) -> Answer:
    """Return the prices of the hub, and from sources those that it lacks. Raises Refusal if there is none at all."""
    context = asking.context
    held = _held(context, wanted, max_age_ms)
    try:
        pool = asking.sources.market.quotes
        fetched = await asking.fetch(pool, EVERYTHING, max_age_ms)
    except Refusal as refusal:
        held = _held(context, wanted, None)  # `respond` refuses those that are too old, with their age
        if not held:
            raise _no_price(context, wanted, refusal, _unmatched(asking, wanted)) from None
        answer = _of_topics(context, held, max_age_ms)
        answer.attempts = attempts_of(refusal)
        quotes: dict[str, Quote] = {}
    else:
        asking.sources.matching.learn_again()
        quotes = quotes_meant(asking.sources.identities, fetched.value.good)
        theirs = [topics.base_of(topic.name) for topic in held]
        given = [base for base in wanted or quotes if base in quotes and base not in theirs]
        ages_ms = [fetched.age_of(quotes[base].ts) for base in given]
        asked = asking.answer([(pool, fetched)], list, max_age_ms, row_ages_ms=ages_ms)
        answer = _combined(_of_topics(context, held, max_age_ms), asked) if held else asked
    rows: dict[str, Mapping[str, object]] = {topics.base_of(topic.name) or "": price_row(topic) for topic in held}
    for base in wanted or sorted(quotes):
        if base not in rows and base in quotes:
            rows[base] = quote_row(quotes[base], fetched)
    unmatched = _unmatched(asking, wanted)
    if not rows:
        raise _no_price(context, wanted, None, unmatched)
    missing = [base for base in wanted if base not in rows]
    if missing:
        answer.extra["missing"] = missing
        reasons = {base: NO_MATCHING_SOURCE for base in missing if base in unmatched}
        answer.extra |= {"reasons": reasons} if reasons else {}
    answer.make = lambda: orjson.dumps([rows[base] for base in wanted or rows if base in rows])
    return answer


def _combined(held: Answer, asked: Answer) -> Answer:
    """Return the envelope of values of the hub together with values that sources were asked for."""
    return Answer(
        held.make,
        source=",".join(dict.fromkeys((*held.source.split(","), asked.source))),
        true_at=min(held.true_at, asked.true_at),
        stale=held.stale or asked.stale,
        cached=asked.cached,
        attempts=asked.attempts,
        version=f"{held.version}.{asked.version}",
        max_age_ms=held.max_age_ms,
    )


def quotes_meant(identities: Identities, rows: Sequence[Quote]) -> dict[str, Quote]:
    """Return the price that each ticker means, of rows by market cap. A base asset of the exchange means its coin."""
    elsewhere = {row.symbol: row for row in reversed(rows) if not identities.is_ours(row.symbol)}
    return elsewhere | identities.quotes(rows)


def _unmatched(asking: Asking, wanted: Sequence[str]) -> list[str]:
    """Return the base assets of the exchange among these that no source is known to have."""
    identities = asking.context.sources.identities if asking.context.sources is not None else None
    if identities is None:
        return []
    return [base for base in wanted if identities.is_ours(base) and identities.match_of(base) is None]


def _no_price(context: Context, wanted: Sequence[str], refusal: Refusal | None, unmatched: Sequence[str]) -> Refusal:
    symbols = ", ".join(wanted[:20]) or "any symbol"
    message = f"no source has given a price of {symbols} yet{_price_failures(context, refusal)}"
    reasons: dict[str, object] = {"reasons": dict.fromkeys(unmatched, NO_MATCHING_SOURCE)} if unmatched else {}
    if refusal is None:
        return Refusal("unavailable", message, 503, reasons, retry_after_s=5)
    if refusal.code != "unavailable":
        return refusal
    return Refusal("unavailable", message, 503, {**refusal.details, **reasons}, refusal.retry_after_s)


def _price_failures(context: Context, refusal: Refusal | None) -> str:
    """Return why there is no price, in brackets: what fails at the exchange, then at the sources that were asked."""
    exchange = context.supervisor.readiness().get("price")
    causes = [exchange] if exchange not in (None, "value") else []
    causes += [refusal.message] if refusal is not None else []
    return f" ({'; '.join(causes)})" if causes else ""


def price_row(topic: TopicHistory) -> dict[str, object]:
    """Return the last price of a topic with its times, source and state."""
    event = topic.event
    assert event is not None  # noqa: S101 - the caller has looked
    stamps = {"ts": event.ts, "received": event.received, "source": event.source, "stale": topic.stale}
    return {**event.data, **stamps, "reason": topic.stale_reason if topic.stale else None}


def quote_row(quote: Quote, fetched: Fetched[Rows[Quote]]) -> PriceRow:
    """Return a price that a source was asked for, in the same shape."""
    received = fetched.received_ms
    return {
        **events.quote_data(quote),
        "ts": min(quote.ts, received),
        "received": received,
        "source": fetched.source,
        "stale": fetched.stale,
        "reason": NO_UPDATE if fetched.stale else None,
    }


def _reads(parameters: Parameters, symbols: Symbols) -> list[str]:
    named = parameters.read(SYMBOLS)
    prices = resolved([topics.price(name) for name in named], symbols) if named else ["price.*"]
    # The error of `strict` names candidates with their prices, which come from the market table.
    return [*prices, topics.MARKET] if parameters.read(STRICT) else prices


ENDPOINTS = (
    Endpoint(
        path="/api/market/price",
        handler=market_price,
        summary="Last prices; all of them without `symbols`",
        tag=Tag.MARKET,
        answer=EnvelopedPrices[list[PriceRow]],
        parameters=(SYMBOLS, STRICT, MAX_AGE),
        notes="Prices come from the stream if it has them, else from other sources.",
        reads=_reads,
        asks_sources=True,
        refuses=(404, 409),
    ),
)
