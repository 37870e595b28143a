"""All sources beside the exchange's streams: connects the providers' upstreams, pools, answers, pollers and feeds."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feeds.answers import Answers
from feeds.chain_feed import ChainFeed
from feeds.exchange.market import ExchangeMarket
from feeds.identity import Identities
from feeds.matching import Matching
from feeds.news.desk import NewsDesk
from feeds.pollers import Pollers
from feeds.pools.catalogues import catalogue_pools
from feeds.pools.chain import chain_pools
from feeds.pools.market import market_pools
from feeds.pools.news import news_pools
from feeds.pools.planner import PoolPlanner
from feeds.pools.sentiment import sentiment_pools
from feeds.providers import coingecko
from feeds.queries import TABLE
from feeds.slow_answers import SlowAnswers
from feeds.supervisor import Feed
from feeds.upstreams import SourcesPolicy, Upstreams
from orchestrator.bans import BanFile
from orchestrator.clock import Clock
from orchestrator.http import Transport
from orchestrator.persistence import AnswerStore
from orchestrator.pool import Pool
from orchestrator.spending import SpendingFile
from orchestrator.upstream import Upstream


class Sources:
    """Every pool, by subject, and the feeds that keep its topics alive. `upstreams` are by name."""

    def __init__(
        self,
        policy: SourcesPolicy,
        exchange: ExchangeMarket,
        exchange_rest: Upstream,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        *,
        state_dir: Path | None,
        bans: BanFile | None,
        listened: Callable[[str], bool],
        prices_fail: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        store = AnswerStore(state_dir / "answers") if state_dir is not None else None
        spending = SpendingFile(state_dir / "allowances.json", clock) if state_dir is not None else None
        self.upstreams = Upstreams(policy, exchange_rest, transport, clock, rng, bans, spending, on_change)
        self.identities = Identities(
            exchange.symbols, coingecko.IDS, exchange.exchange_price, exchange.last.get, clock, store
        )
        self.matching = Matching(self.identities, exchange, lambda: self.market.table.peek(TABLE))
        answers = Answers(exchange.sink, exchange, self.matching, SlowAnswers(store, clock), prices_fail)
        plan = PoolPlanner(self.upstreams, clock, rng)
        self.market = market_pools(
            plan,
            exchange,
            self.matching,
            table_received=answers.table,
            quotes_received=answers.quotes,
            totals_received=answers.totals,
        )
        self.chain = chain_pools(plan, gas_received=answers.gas, stats_received=answers.chain)
        self.sentiment = sentiment_pools(plan, fear_greed_received=answers.fear_greed)
        self.catalogues = catalogue_pools(plan, resources_received=answers.resources)
        self.desk = NewsDesk(exchange.sink, self.sentiment.scorer, clock, store)
        self.news = news_pools(plan, self.identities, clock, lambda query, fetched: self.desk.arrived(fetched))
        self.paces = policy.paces
        pollers = Pollers(self.paces, clock, rng, listened=listened, on_change=on_change)
        self.feeds: list[Feed] = [
            *pollers.market(self.market, prices_fail),
            *pollers.sentiment(self.sentiment),
            *pollers.catalogues(self.catalogues),
            *pollers.news(self.news),
            self.desk,
            ChainFeed(
                exchange.sink,
                self.chain.gas,
                self.chain.stats,
                self.paces,
                clock,
                rng,
                listened=listened,
                on_change=on_change,
            ),
        ]
        answers.restore(self.market, self.sentiment, self.catalogues)

    @property
    def pools(self) -> list[Pool[Any, Any]]:
        """Return every pool."""
        market, sentiment, catalogues = self.market, self.sentiment, self.catalogues
        return [
            market.table,
            market.quotes,
            market.totals,
            market.trending,
            market.candles,
            sentiment.fear_greed,
            self.chain.gas,
            self.chain.stats,
            sentiment.scorer,
            catalogues.resources,
            market.candidates,
            catalogues.clean_facts,
            catalogues.dt_requests,
            *(outlet.pool for outlet in self.news.outlets),
        ]

    async def close(self) -> None:
        """End every question that is in flight."""
        for pool in self.pools:
            await pool.close()
