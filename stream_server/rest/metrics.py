"""`/metrics` for Prometheus: read off the running service at each scrape, so that nothing is counted twice.

Labels are bounded: providers, pools, transports and outcomes are few, and of disagreeing symbols only the worst are
told.
"""

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from feeds.catalog import Sources
from orchestrator.upstream import State
from stream_server import __version__
from stream_server.context import CONTEXT, Context
from stream_server.rest.status import disagreeing, held_bytes, rejected_rows

DISAGREEMENTS_TOLD = 20
REJECTED_TOLD = 200


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`, in Prometheus' text or OpenMetrics, as the scraper prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(request.app[CONTEXT]))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
    return web.Response(body=encode(registry), headers=headers)


class ServiceCollector(Collector):
    """Reads the service when it is scraped."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def collect(self) -> Iterator[Metric]:
        """Every metric of this process."""
        context = self.context
        build = GaugeMetricFamily("stream_server_build_info", "What runs here.", labels=["version", "mode"])
        build.add_metric([__version__, context.mode], 1)
        yield build
        yield GaugeMetricFamily(
            "stream_server_start_time_seconds", "When this process began to serve.", context.started_ms / 1000
        )
        yield from self._clients()
        yield from self._hub()
        yield from self._feeds()
        if context.sources is not None:
            yield from _providers(context.sources)
            yield from _pools(context.sources)
        yield from self._data()

    def _clients(self) -> Iterator[Metric]:
        clients, hub = self.context.clients, self.context.hub
        connected = GaugeMetricFamily("stream_server_clients", "Connected clients.", labels=["transport"])
        for transport, count in clients.count().items():
            connected.add_metric([transport], count)
        yield connected
        yield GaugeMetricFamily("stream_server_clients_limit", "How many may connect.", clients.limit)
        yield CounterMetricFamily("stream_server_clients_accepted", "Connections taken.", clients.accepted)
        yield CounterMetricFamily("stream_server_clients_refused", "Connections above the limit.", clients.refused)
        yield GaugeMetricFamily("stream_server_clients_behind", "Clients that lag.", len(hub.behind))
        yield CounterMetricFamily("stream_server_clients_cut", "Clients cut as too slow.", hub.cut)
        yield GaugeMetricFamily("stream_server_held_bytes", "Held for clients that lag.", held_bytes(self.context))

    def _hub(self) -> Iterator[Metric]:
        hub = self.context.hub
        held = [topic for topic in hub.topics.values() if topic.last is not None]
        yield CounterMetricFamily("stream_server_events", "Events published.", hub.seq)
        yield CounterMetricFamily("stream_server_messages_delivered", "Messages to clients.", hub.delivered)
        yield CounterMetricFamily("stream_server_values_conflated", "Values merged for slow clients.", hub.conflated)
        yield GaugeMetricFamily("stream_server_topics", "Topics with a value.", len(held))
        yield GaugeMetricFamily(
            "stream_server_topics_stale", "Topics that outlived their time.", sum(topic.stale for topic in held)
        )

    def _feeds(self) -> Iterator[Metric]:
        crashes = CounterMetricFamily("stream_server_feed_crashes", "Faults of ours, by feed.", labels=["feed"])
        ready = GaugeMetricFamily("stream_server_category_ready", "Whether it has a value.", labels=["category"])
        for feed in self.context.supervisor.feeds:
            crashes.add_metric([feed.name], self.context.supervisor.crashes.get(feed.name, 0))
        for category, word in self.context.supervisor.readiness().items():
            ready.add_metric([category], float(word == "value"))
        yield crashes
        yield ready

    def _data(self) -> Iterator[Metric]:
        apart = GaugeMetricFamily(
            "stream_server_price_disagreement_pct", "How far two sources of a price differ.", labels=["symbol"]
        )
        for each in disagreeing(self.context)[:DISAGREEMENTS_TOLD]:
            apart.add_metric([each.symbol], each.difference_pct)
        yield apart
        rejected = CounterMetricFamily(
            "stream_server_rejected_rows", "Upstream rows that could not be read.", labels=["provider", "field"]
        )
        worst = sorted(rejected_rows(self.context).items(), key=lambda entry: entry[1], reverse=True)
        for name, count in worst[:REJECTED_TOLD]:
            provider, _, field = name.partition(".")
            rejected.add_metric([provider, field], count)
        yield rejected


def _providers(sources: Sources) -> Iterator[Metric]:
    by = ["provider"]
    asked = CounterMetricFamily("stream_server_provider_requests", "Questions put to it.", labels=[*by, "outcome"])
    sent = CounterMetricFamily("stream_server_provider_http_requests", "Requests sent to it.", labels=by)
    state = GaugeMetricFamily("stream_server_provider_state", "1 for the state it is in.", labels=[*by, "state"])
    latency = GaugeMetricFamily(
        "stream_server_provider_latency_seconds", "Of its last successes.", labels=[*by, "quantile"]
    )
    tokens = GaugeMetricFamily("stream_server_provider_tokens_left", "Of its allowance.", labels=by)
    skew = GaugeMetricFamily("stream_server_provider_clock_skew_seconds", "Its clock before ours.", labels=by)
    for name, upstream in sources.upstreams.items():
        report = upstream.report()
        for outcome, count in sorted(upstream.outcomes.items()):
            asked.add_metric([name, outcome], count)
        sent.add_metric([name], upstream.sent)
        for each in State:
            state.add_metric([name, each.value], float(upstream.state is each))
        quantiles = report["latency_ms"]
        if isinstance(quantiles, dict):
            for label, quantile in (("0.5", "p50"), ("0.95", "p95")):
                if quantiles[quantile] is not None:
                    latency.add_metric([name, label], quantiles[quantile] / 1000)
        left = report["tokens_left"]
        if isinstance(left, (int, float)):
            tokens.add_metric([name], left)
        if upstream.skew_ms is not None:
            skew.add_metric([name], upstream.skew_ms / 1000)
    yield from (asked, sent, state, latency, tokens, skew)


def _pools(sources: Sources) -> Iterator[Metric]:
    told = {
        "asked": ("stream_server_pool_questions", "Questions to the pool."),
        "cache_hits": ("stream_server_pool_cache_hits", "Answered from what was held."),
        "stale_served": ("stream_server_pool_stale_served", "Answered with an old value."),
        "upstream": ("stream_server_pool_upstream_calls", "Attempts with a provider."),
        "failovers": ("stream_server_pool_failovers", "Answers of another than the first provider asked."),
        "exhausted": ("stream_server_pool_exhausted", "Questions that nobody could answer."),
    }
    for count, (name, words) in told.items():
        family = CounterMetricFamily(name, words, labels=["pool"])
        for pool in sources.pools:
            family.add_metric([pool.name], getattr(pool.counts, count))
        yield family
