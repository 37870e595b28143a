"""Serve `/api/status` and the probes, and build the value of the topic `status`."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson
from aiohttp import web

from feeds import topics
from feeds.disagreements import Disagreement, SaidPrice, disagreements
from feeds.exchange.market import ExchangeMarket
from feeds.queries import TABLE
from orchestrator.upstream import Upstream
from stream_server import __version__
from stream_server.access.parameter_kinds import MAX_AGE
from stream_server.access.parameters import only_max_age
from stream_server.connections.envelope import iso_time
from stream_server.context import CONTEXT, Context
from stream_server.delivery.status_shapes import Status
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import Enveloped, Liveness, ReadinessReport

MAX_DISAGREEMENTS = 50
MAX_UNMATCHED = 50


def status_report(context: Context) -> dict[str, object]:
    """Return the state of the service for people, as `/api/status` and the topic `status` publish it."""
    hub, sources = context.hub, context.sources
    now_ms = context.clock.wall_ms()
    return {
        "server": {
            "version": __version__,
            "mode": context.mode,
            "started": iso_time(context.started_ms),
            "now": iso_time(now_ms),
            "draining": context.draining,
            **context.loop_monitor.report(),
            "crashes": dict(context.background.crashes),
            "restarting": sorted(context.background.down),
            "trouble": context.trouble(),
            "probe": context.probe.report(),
        },
        "clients": {
            **context.clients.count(),
            "limit": context.clients.limit,
            "accepted": context.clients.accepted,
            "refused": context.clients.refused,
            "behind": len(hub.lagging),
            "paced": sum(1 for outbox in hub.lagging if outbox.paced),
            "held_messages": sum(outbox.held_messages for outbox in hub.lagging),
            "held_bytes": sum(outbox.held_bytes for outbox in hub.lagging),
            "held_bytes_most": max((outbox.held_bytes for outbox in hub.lagging), default=0),
            "held_bytes_limit": context.settings.outbox_bytes,
            "buffered_bytes": sum(outbox.pipe.buffered() for outbox in hub.lagging),
            "cut_as_too_slow": hub.members.cut,
            "values_conflated": hub.conflated,
        },
        "hub": {
            "epoch": hub.epoch,
            "position": hub.position,
            "topics": sum(1 for topic in hub.current_topics().values() if topic.last is not None),
            "stale_topics": sum(1 for topic in hub.current_topics().values() if topic.stale),
            "groups": len(hub.groups.by_key),
            "messages_delivered": hub.delivered,
        },
        "readiness": context.supervisor.readiness(),
        "feeds": context.supervisor.report(),
        "providers": [each.report() for each in sources.upstreams.values()] if sources is not None else [],
        "pools": [pool.report() for pool in sources.pools] if sources is not None else [],
        "disagreements": [asdict(each) for each in disagreeing(context)[:MAX_DISAGREEMENTS]],
        "identities": sources.identities.report(MAX_UNMATCHED) if sources is not None else None,
        "rejected_rows": rejected_rows(context),
        "repaired": repaired(context),
    }


def rejected_rows(context: Context) -> dict[str, int]:
    """Return the number of unreadable rows by `<provider>.<field>`."""
    return _by_provider(context, lambda each: each.rejected)


def repaired(context: Context) -> dict[str, int]:
    """Return the number of repairs by `<provider>.<kind of damage>` or `<provider>.<field that became null>`."""
    return _by_provider(context, lambda each: each.repaired)


def _by_provider(context: Context, counts_of: Callable[[ExchangeMarket | Upstream], Counter[str]]) -> dict[str, int]:
    """Return the counts of all providers. The exchange has two, which are added: of its stream and of its answers."""
    counts: Counter[str] = Counter()
    by_name: list[tuple[str, ExchangeMarket | Upstream]] = [(context.exchange.venue.name, context.exchange)]
    if context.sources is not None:
        by_name += context.sources.upstreams.items()
    for name, each in by_name:
        for what, count in counts_of(each).items():
            counts[f"{name}.{what}"] += count
    return dict(counts)


def disagreeing(context: Context) -> list[Disagreement]:
    """Return the prices on which the market table and the topics differ."""
    sources = context.sources
    table = sources.market.table.peek(TABLE) if sources is not None else None
    if sources is None or table is None:
        return []
    meant = sources.identities.compared(table.value.good)
    theirs = {base: SaidPrice(coin.price, table.source, coin.ts) for base, coin in meant.items()}
    ours = {}
    current = context.hub.current_topics()
    for symbol in theirs:
        topic = current.get(topics.price(symbol))
        price = topic.event.data.get("price") if topic is not None and topic.event is not None else None
        if isinstance(price, float) and topic is not None and topic.event is not None:
            ours[symbol] = SaidPrice(price, topic.event.source, topic.event.ts)
    return disagreements(ours, theirs, context.clock.wall_ms())


async def status(request: web.Request) -> web.Response:
    """Answer with the state of the service."""
    context = request.app[CONTEXT]
    max_age_ms = only_max_age(request)
    answer = Answer(
        lambda: orjson.dumps(status_report(context)),
        source=OURS,
        true_at=context.clock.now(),
        cached=False,
        max_age_ms=max_age_ms,
    )
    return respond(request, context, answer)


# --- probes ---


@dataclass(frozen=True, slots=True)
class Health:
    """Whether new clients should connect, in a word, and why not."""

    word: str
    categories: dict[str, str | None]
    trouble: str | None

    @property
    def ready(self) -> bool:
        """Whether new clients should connect."""
        return self.word == "ready"


def health(context: Context) -> Health:
    """Return whether new clients should connect now."""
    categories, trouble = context.supervisor.readiness(), context.trouble()
    started = all(word is not None for word in categories.values())
    word = "draining" if context.draining else "troubled" if trouble else "ready" if started else "starting"
    return Health(word, categories, trouble)


async def live(request: web.Request) -> web.Response:
    """Answer that the process lives."""
    body: Liveness = {"status": "live"}
    return web.json_response(body)


async def ready(request: web.Request) -> web.Response:
    """Answer 200 once every category has a first value or a known failure, else 503, also when troubled or draining."""
    now = health(request.app[CONTEXT])
    headers = {} if now.ready else {"Retry-After": "1"}
    body: ReadinessReport = {"status": now.word, "categories": now.categories, "trouble": now.trouble}
    return web.json_response(body, status=200 if now.ready else 503, headers=headers)


ENDPOINTS = (
    Endpoint(
        path="/api/status",
        handler=status,
        summary="Health of feeds, providers and this server, for people",
        tag=Tag.HEALTH,
        answer=Enveloped[Status],
        parameters=(MAX_AGE,),
        reads=only(topics.STATUS),
    ),
    Endpoint(
        path="/health/live",
        handler=live,
        summary="The process answers",
        tag=Tag.HEALTH,
        answer=Liveness,
        is_public=True,
        headers=(),
    ),
    Endpoint(
        path="/health/ready",
        handler=ready,
        summary="Every category has a first value or a known failure",
        tag=Tag.HEALTH,
        answer=ReadinessReport,
        is_public=True,
        headers=(),
        also={503: "New clients should not connect now"},
    ),
)
