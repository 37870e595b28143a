"""Serve `/metrics` for Prometheus. Each scrape reads the values from the running service, so nothing is counted twice.

Labels are bounded: providers, pools, transports, codes and outcomes are few, a path is the template that it matched,
and only the symbols that differ most are named. docs/operations.md explains each metric.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from feeds import topics
from feeds.catalog import Sources
from orchestrator.breaker import CircuitState
from orchestrator.upstream import ProviderState
from stream_server import __version__
from stream_server.connections.descriptors import NO_DESCRIPTOR
from stream_server.connections.envelope import MALFORMED
from stream_server.context import CONTEXT, Context
from stream_server.rest import metric_families as families
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.status import disagreeing, health, rejected_rows, repaired
from stream_server.wire.refusals import CLOSINGS, CODES

MAX_DISAGREEMENTS = 20
MAX_REJECTED = 200
PROTOCOL_CLOSES = (1002, 1007, 1009)
"""The close codes of the frame layer. Source: RFC 6455, section 7.4.1."""
REFUSED_BELOW = (MALFORMED, NO_DESCRIPTOR)
"""Refusals before there is a request to answer with a code."""

_process = ProcessCollector(registry=None)


async def metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, in the text format of Prometheus or as OpenMetrics, as the scraper prefers."""
    registry = CollectorRegistry(auto_describe=False)
    # The collector lists all open descriptors. With thousands of clients that would block the loop for milliseconds.
    process = await asyncio.to_thread(lambda: list(_process.collect()))
    registry.register(ServiceCollector(request.app[CONTEXT], process))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
    return web.Response(body=encode(registry), headers=headers)


class ServiceCollector(Collector):
    """Reads the metrics of the service at each scrape."""

    def __init__(self, context: Context, process: Sequence[Metric] = ()) -> None:
        self.context = context
        self.process = process

    def collect(self) -> Iterator[Metric]:
        """Return every metric of this process."""
        yield from self.process
        yield from self._node()
        yield from self._clients()
        yield from self._delivery()
        yield from self._requests()
        yield from self._hub()
        yield from self._feeds()
        if self.context.sources is not None:
            yield from _providers(self.context.sources)
            yield from _pools(self.context.sources)
        yield from self._data()

    def _node(self) -> Iterator[Metric]:
        context, monitor, probe = self.context, self.context.loop_monitor, self.context.probe
        build = {(__version__, context.mode): 1.0}
        yield families.gauges("build_info", "Version and mode of this process.", ("version", "mode"), build)
        yield families.gauge("start_time_seconds", "When this process began to serve.", context.started_ms / 1000)
        yield families.gauge("ready", "1 while /health/ready answers 200.", float(health(context).ready))
        yield families.histogram("loop_lag_seconds", "Delay of the event loop at a timer.", (), {(): monitor.lags})
        yield families.gauge(
            "loop_lag_max_seconds",
            "Greatest delay of the event loop in the last minute.",
            max(monitor.lags_s, default=0.0),
        )
        yield families.gauge("tasks", "Tasks on the event loop.", len(asyncio.all_tasks()))
        yield families.counter("paused_seconds", "Total time in which the process stood still.", monitor.paused_s)
        crashes = {(name,): count for name, count in context.background.crashes.items()}
        yield families.counters("background_crashes", "Crashes by background loop.", ("task",), crashes)
        yield families.gauge(
            "background_down", "Background loops that wait to be restarted.", len(context.background.down)
        )
        words = "From publishing a value to its receipt over a socket."
        yield families.histogram("probe_round_trip_seconds", words, (), {(): probe.took})
        yield families.counter("probe_failures", "Self-probes whose value did not come back.", probe.failed)
        yield families.gauge("probe_failing", "Self-probes that failed since the last one that passed.", probe.failing)

    def _clients(self) -> Iterator[Metric]:
        clients, hub = self.context.clients, self.context.hub
        connected = {(transport,): count for transport, count in clients.count().items()}
        yield families.gauges("clients", "Connected clients.", ("transport",), connected)
        yield families.gauge("clients_limit", "Maximum number of clients.", clients.limit)
        yield families.counter("clients_accepted", "Connections accepted.", clients.accepted)
        yield families.counter("clients_refused", "Connections refused.", clients.refused)
        codes = [*(closing.code for closing in CLOSINGS), *PROTOCOL_CLOSES, None]
        ended = {
            (transport, "client" if code is None else str(code)): clients.ended[transport, code]
            for transport in hub.sent
            for code in codes
            if transport == "websocket" or code not in PROTOCOL_CLOSES
        }
        words = "Connections that ended, by the code we closed them with, or by the client."
        yield families.counters("clients_closed", words, ("transport", "code"), ended)
        refused = {(code,): self.context.refusals[code] for code in (*CODES, *REFUSED_BELOW)}
        yield families.counters("refusals", "Refusals by error code.", ("code",), refused)
        resumes = {(outcome,): hub.resumes[outcome] for outcome in ("resumed", "epoch", "evicted", "bad_cursor")}
        yield families.counters("resumes", "Subscriptions with a cursor, by outcome.", ("outcome",), resumes)
        yield families.gauge("clients_behind", "Clients that lag.", len(hub.lagging))
        yield families.counter("clients_cut", "Clients cut as too slow.", hub.members.cut)
        yield families.counter(
            "delivery_faults", "Clients disconnected because of a fault of this service.", hub.faults.count
        )
        messages = [outbox.held_messages for outbox in hub.lagging]
        sizes = [outbox.held_bytes for outbox in hub.lagging]
        yield families.gauge("outbox_messages", "Messages held for clients that lag.", sum(messages))
        yield families.gauge("outbox_messages_max", "Most messages held for one client.", max(messages, default=0))
        yield families.gauge("outbox_bytes", "Bytes held for clients that lag.", sum(sizes))
        yield families.gauge("outbox_max_bytes", "Most bytes held for one client.", max(sizes, default=0))
        buffered = sum(outbox.pipe.buffered() for outbox in hub.lagging)
        yield families.gauge(
            "outbox_buffered_bytes", "Bytes sent to clients that lag, but not yet taken by the kernel.", buffered
        )

    def _delivery(self) -> Iterator[Metric]:
        by, sent = ("transport",), self.context.hub.sent
        waited = {(transport,): tally.waited for transport, tally in sent.items()}
        words = "From publishing an event to handing it to a client's connection, for clients that keep up."
        yield families.histogram("delivery_latency_seconds", words, by, waited)
        messages = {(transport,): tally.messages for transport, tally in sent.items()}
        yield families.counters("messages_delivered", "Messages handed to clients' connections.", by, messages)
        sizes = {(transport,): tally.bytes for transport, tally in sent.items()}
        yield families.counters(
            "delivered_bytes", "Bytes of the messages delivered, as framed for the transport.", by, sizes
        )
        yield families.counter("values_conflated", "Values merged for slow clients.", self.context.hub.conflated)

    def _requests(self) -> Iterator[Metric]:
        requests = self.context.requests
        counts = {
            (method, route, str(status)): count for (method, route, status), count in sorted(requests.counts.items())
        }
        yield families.counters("http_requests", "HTTP responses.", ("method", "route", "status"), counts)
        took = {(route,): histogram for route, histogram in sorted(requests.took.items())}
        yield families.histogram("http_request_duration_seconds", "Duration of HTTP requests.", ("route",), took)

    def _hub(self) -> Iterator[Metric]:
        hub = self.context.hub
        held = [topic for topic in hub.current_topics().values() if topic.last is not None]
        yield families.counter("events", "Events published.", hub.seq)
        yield families.gauge("topics", "Topics with a value.", len(held))
        yield families.gauge("topics_stale", "Topics that outlived their time.", sum(topic.stale for topic in held))
        yield families.gauge("groups", "Subscription sets that share their writes.", len(hub.groups.by_key))
        gaps = {(reason,): hub.gaps[reason] for reason in ("upstream", "epoch", "evicted")}
        yield families.counters(
            "gaps", "Gaps reported: upstream gaps once each, others once for each client and topic.", ("reason",), gaps
        )

    def _feeds(self) -> Iterator[Metric]:
        supervisor, exchange = self.context.supervisor, self.context.exchange
        crashes = {(feed.name,): supervisor.kept.crashes.get(feed.name, 0) for feed in supervisor.feeds}
        yield families.counters("feed_crashes", "Crashes by feed.", ("feed",), crashes)
        ready = {(category,): float(word == "value") for category, word in supervisor.readiness().items()}
        yield families.gauges("category_ready", "1 if the category has a value.", ("category",), ready)
        yield families.gauge("candle_series", "Candle series that are kept.", len(exchange.series))
        states = {(state,): float(count) for state, count in exchange.symbols.states().items()}
        yield families.gauges("pairs", "Served pairs by their state at the exchange.", ("state",), states)
        dropped = {(reason,): exchange.dropped[reason] for reason in ("unlisted", "resting")}
        words = "Valid ticks that were not published, because their pair is unlisted or does not trade."
        yield families.counters("ticks_dropped", words, ("reason",), dropped)
        delays = {
            # A negative delay means that our clock is behind the exchange's.
            (interval,): [max(0, delay_ms) / 1000 for delay_ms in delays]
            for interval, delays in sorted(exchange.close_delays_ms.items())
        }
        words = "From the end of a candle to the message that closes it, for the last candles."
        yield families.summary("candle_close_delay_seconds", words, ("interval",), delays)

    def _data(self) -> Iterator[Metric]:
        apart = {(each.symbol,): each.difference_pct for each in disagreeing(self.context)[:MAX_DISAGREEMENTS]}
        yield families.gauges(
            "price_disagreement_pct", "Difference between two sources of a price, percent.", ("symbol",), apart
        )
        rejected, mended = _worst(rejected_rows(self.context)), _worst(repaired(self.context))
        yield families.counters(
            "rejected_rows", "Upstream rows that could not be read.", ("provider", "field"), rejected
        )
        yield families.counters(
            "repairs", "Damage in answers and frames that was repaired.", ("provider", "what"), mended
        )


def _worst(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Return the largest counts by provider and what was counted."""
    largest = sorted(counts.items(), key=lambda entry: entry[1], reverse=True)[:MAX_REJECTED]
    return {(provider, what): count for name, count in largest for provider, _, what in [name.partition(".")]}


def _providers(sources: Sources) -> Iterator[Metric]:
    by, upstreams = ("provider",), sources.upstreams
    outcomes = {
        (name, outcome): count
        for name, upstream in upstreams.items()
        for outcome, count in sorted(upstream.record.outcomes.items())
    }
    yield families.counters("provider_requests", "Questions to the provider.", (*by, "outcome"), outcomes)
    sent = {(name,): upstream.record.requests for name, upstream in upstreams.items()}
    yield families.counters("provider_http_requests", "HTTP requests to the provider.", by, sent)
    states = {(name, str(each)): float(one.state is each) for name, one in upstreams.items() for each in ProviderState}
    yield families.gauges("provider_state", "1 for the state that the provider is in.", (*by, "state"), states)
    circuits = {
        (name, str(each)): float(one.breaker.state is each) for name, one in upstreams.items() for each in CircuitState
    }
    yield families.gauges(
        "provider_breaker", "1 for the state that the provider's circuit is in.", (*by, "state"), circuits
    )
    latencies = {(name,): one.record.latencies_ms for name, one in upstreams.items() if one.record.latencies_ms}
    took = {by_name: [ms / 1000 for ms in all_ms] for by_name, all_ms in latencies.items()}
    yield families.summary("provider_latency_seconds", "Latency of the last successful questions.", by, took)
    left = {(name,): upstream.limiter.tokens_left() for name, upstream in upstreams.items()}
    limited = {name: tokens for name, tokens in left.items() if math.isfinite(tokens)}
    yield families.gauges("provider_tokens_left", "Requests that the provider's allowance still permits.", by, limited)
    skews = {(name,): one.skew_ms / 1000 for name, one in upstreams.items() if one.skew_ms is not None}
    yield families.gauges(
        "provider_clock_skew_seconds", "Time by which the provider's clock is ahead of ours.", by, skews
    )


def _pools(sources: Sources) -> Iterator[Metric]:
    described = {
        "asked": ("pool_questions", "Questions to the pool."),
        "cache_hits": ("pool_cache_hits", "Questions answered from the cache."),
        "stale_served": ("pool_stale_served", "Questions answered with an old value."),
        "upstream": ("pool_upstream_calls", "Attempts to ask a provider."),
        "failovers": ("pool_failovers", "Answers from a provider that was not the first one asked."),
        "exhausted": ("pool_exhausted", "Questions that no provider could answer."),
    }
    for count, (name, words) in described.items():
        yield families.counters(
            name, words, ("pool",), {(pool.name,): getattr(pool.counts, count) for pool in sources.pools}
        )


ENDPOINTS = (
    Endpoint(
        path="/metrics",
        handler=metrics,
        summary="Metrics for Prometheus, in its text format or as OpenMetrics",
        tag=Tag.HEALTH,
        answer=str,
        reads=only(topics.STATUS),
        is_private=True,
        media=("text/plain", "application/openmetrics-text"),
        headers=(),
    ),
)
