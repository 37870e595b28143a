"""Name and ask for Binance's streams.

Source: binance-spot-api-docs, snapshot of 2026-07-21 (web-socket-streams).
"""

from collections.abc import Sequence
from urllib.parse import quote

import orjson

from feeds.exchange.venue import Act, Address, Command, StreamName, StreamRules

ALL_MINI_TICKERS = "!miniTicker@arr"
STREAMS_IN_URL = 100
"""The documented limit of a URL is not known; this many names stay well below the usual 8 kB."""
STREAMS_PER_COMMAND = 200


def kline_stream(symbol: str, interval: str) -> str:
    """Return the stream of one candle series; the symbol is lower case there, the interval is not."""
    return f"{symbol.lower()}@kline_{interval}"


def mini_ticker_stream(symbol: str) -> str:
    """Return the stream of the mini ticker of one pair."""
    return f"{symbol.lower()}@miniTicker"


def parse_name(stream: str) -> StreamName:
    """Return the symbol of a stream, in upper case, and the interval of a kline stream."""
    symbol, _, kind = stream.partition("@")
    interval = kind.removeprefix("kline_") if kind.startswith("kline_") else None
    return StreamName(symbol.upper(), interval)


def address(base_url: str, streams: Sequence[str]) -> Address:
    """Return the URL of a combined stream; the rest is subscribed to by messages.

    The base URL of a host may be written with or without the path that Binance's documentation shows.
    """
    origin = base_url.rstrip("/")
    for path in ("/stream", "/ws"):
        origin = origin.removesuffix(path)
    named = streams[:STREAMS_IN_URL]
    path = "/".join(quote(stream, safe="!@") for stream in named)
    return Address(f"{origin}/stream?streams={path}", frozenset(named))


def command(act: Act, streams: Sequence[str], request_id: int) -> Command:
    """Return a SUBSCRIBE or UNSUBSCRIBE message."""
    named = tuple(streams[:STREAMS_PER_COMMAND])
    return Command(orjson.dumps({"method": act.value, "params": named, "id": request_id}), named)


STREAMS = StreamRules(
    all_tickers=ALL_MINI_TICKERS,
    ticker_stream=mini_ticker_stream,
    candle_stream=kline_stream,
    parse_name=parse_name,
    address=address,
    command=command,
    streams_per_connection=1024,
    # 5 incoming messages a second are allowed, pongs included: 4 leave room for those.
    command_gap_s=0.25,
    # Binance ends a connection after 24 h.
    life_s=23 * 3600.0,
    ticker_cadence_s=1.0,
    candle_cadence_s=2.0,
)
