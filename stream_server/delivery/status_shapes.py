"""The shape of the topic `status` and of `/api/status`: the state of the service and of its sources."""

from typing import Annotated

from typing_extensions import TypedDict

from feeds.annotations import TimeMs, about, one_of, shape, time_of
from feeds.shapes import EventId, Symbol

Readiness = Annotated[
    dict[str, Annotated[str, about("`value`, or the failure that prevents one")] | None],
    about("Readiness by category; null while waiting"),
]


@shape(is_open=True)
class Latencies(TypedDict):
    """Latency of a provider's answers, ms."""

    p50: Annotated[float, about("Median")] | None
    p95: Annotated[float, about("95th percentile")] | None


@shape(is_open=True)
class Provider(TypedDict):
    """Health of a provider of data."""

    name: Annotated[str, about("Name of the provider")]
    state: Annotated[
        str, one_of(("active", "rate_limited", "cooldown", "probing", "blocked", "disabled"), "State of the provider")
    ]
    reason: Annotated[str, about("Why it is not active; for a disabled one the setting that enables it")] | None
    calls: Annotated[int, about("Number of calls")]
    successes: Annotated[int, about("Number of good answers")]
    failures: Annotated[int, about("Number of failures, without those that are our own fault")]
    success_pct: Annotated[float, about("Share of good answers, percent")] | None
    latency_ms: Latencies
    tokens_left: Annotated[float, about("Number of calls allowed now")] | None
    open_until: Annotated[TimeMs, time_of("Time of the next call")] | None
    last_error: Annotated[str, about("Last error")] | None
    last_success_at: Annotated[TimeMs, time_of("Time of the last good answer")] | None
    moved_to: (
        Annotated[str, about("New address of a feed that has moved permanently; its setting should name it")] | None
    )


@shape(is_open=True)
class ServerStatus(TypedDict):
    """This process."""

    version: Annotated[str, about("Version of this service")]
    mode: Annotated[str, one_of(("live", "tape"), "`live` on the network, `tape` on a recording")]
    started: Annotated[str, about("Time when it began to serve", keywords={"format": "date-time"})]
    now: Annotated[str, about("Clock of the server", keywords={"format": "date-time"})]
    draining: Annotated[bool, about("Whether it is shutting down")]


@shape(is_open=True)
class ClientCounts(TypedDict):
    """Connected clients."""

    websocket: Annotated[int, about("WebSocket clients connected now")]
    sse: Annotated[int, about("SSE clients connected now")]
    limit: Annotated[int, about("Maximum number of clients")]
    accepted: Annotated[int, about("Clients accepted since the start")]
    refused: Annotated[int, about("Clients refused since the start")]
    behind: Annotated[int, about("Clients that read slower than values arrive")]


@shape(is_open=True)
class HubStatus(TypedDict):
    """Topics and position."""

    epoch: Annotated[str, about("Epoch of this run")]
    position: EventId
    topics: Annotated[int, about("Topics that have a value")]
    stale_topics: Annotated[int, about("Topics that are stale")]


@shape(is_open=True)
class FeedStatus(TypedDict):
    """State of a feed of events."""

    name: Annotated[str, about("Name of the feed")]
    state: Annotated[str, about("State")]
    last_error: Annotated[str, about("Last error")] | None


@shape(is_open=True)
class PoolStatus(TypedDict):
    """State of a pool of providers."""

    name: Annotated[str, about("Name of the pool")]
    tiers: Annotated[
        list[list[Annotated[str, about("Provider")]]],
        about("Providers by tier, in the order in which they are asked"),
    ]
    last_source: Annotated[str, about("Provider that answered last")] | None


class Disagreement(TypedDict):
    """A price on which two sources differ."""

    symbol: Symbol
    sources: Annotated[dict[str, Annotated[float, about("Price")]], about("Prices by source")]
    difference_pct: Annotated[float, about("Difference, percent of the smaller price")]


class Identities(TypedDict):
    """Coins for which other sources can replace the exchange; null on a tape."""

    matched: Annotated[int, about("Number of base assets matched to a coin of an aggregator")]
    unmatched: Annotated[int, about("Number of base assets without a match")]
    unmatched_symbols: Annotated[list[Symbol], about("The first 50 unmatched ones")]


@shape(
    example={
        "server": {
            "version": "0.1.0",
            "mode": "live",
            "started": "2026-11-22T06:00:00.123Z",
            "now": "2026-11-22T08:50:05.127Z",
            "draining": False,
        },
        "clients": {"websocket": 41, "sse": 3, "limit": 10000, "accepted": 97, "refused": 0, "behind": 1},
        "hub": {"epoch": "mwrlj8yi92", "position": "mwrlj8yi92-152", "topics": 431, "stale_topics": 0},
        "readiness": {"price": "value", "news": "value"},
        "feeds": [{"name": "binance", "state": "live", "last_error": None}],
        "providers": [
            {
                "name": "coingecko",
                "state": "active",
                "reason": None,
                "calls": 120,
                "successes": 119,
                "failures": 1,
                "success_pct": 99.2,
                "latency_ms": {"p50": 180.2, "p95": 410.7},
                "tokens_left": 24.0,
                "open_until": None,
                "last_error": None,
                "last_success_at": 1795337400000,
                "moved_to": None,
            }
        ],
        "pools": [
            {
                "name": "market",
                "tiers": [["coingecko_pro", "coingecko"], ["binance"], ["crypto_dt_source"]],
                "last_source": "coingecko",
            }
        ],
        "disagreements": [],
        "identities": {"matched": 1, "unmatched": 1, "unmatched_symbols": ["NEIRO"]},
        "rejected_rows": {},
        "repaired": {"rss:decrypt.encoding": 1},
    }
)
class Status(TypedDict):
    """Health of the service. It contains more than this schema guarantees."""

    server: ServerStatus
    clients: ClientCounts
    hub: HubStatus
    readiness: Readiness
    feeds: Annotated[list[FeedStatus], about("Feeds of events")]
    providers: Annotated[list[Provider], about("Providers of data")]
    pools: Annotated[list[PoolStatus], about("Pools of providers")]
    disagreements: Annotated[list[Disagreement], about("Prices on which two sources differ")]
    identities: Identities | None
    rejected_rows: Annotated[
        dict[str, Annotated[int, about("Number of rows")]], about("Unreadable rows by `<provider>.<field>`")
    ]
    repaired: Annotated[
        dict[str, Annotated[int, about("Number of repairs")]],
        about("Repairs by `<provider>.<kind>` of a damaged text, or by `<provider>.<field>` that became null"),
    ]
