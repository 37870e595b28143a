"""Which providers answer together, in which order, and which feeds ask them: the one place that knows them all."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from feeds import dt_requests, events, topics
from feeds.chain_feed import ChainFeed
from feeds.chains import Chain
from feeds.dt_requests import DtQuery
from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.identity import AFTER_MS, BEFORE_MS, NO_MATCHING_SOURCE, Identities, Listed, Unmatched
from feeds.model import (
    Article,
    Candle,
    ChainStats,
    Coin,
    Event,
    FearGreed,
    Gas,
    GlobalMarket,
    Quote,
    Resource,
    Sentiment,
    Trending,
)
from feeds.news.articles import NewsQuery
from feeds.news.desk import NewsDesk
from feeds.news.scores import Texts
from feeds.poller import IDLE, Pace, Poller
from feeds.providers import (
    alternative_me,
    blockscout,
    coingecko,
    crypto_api_clean,
    crypto_dt_source,
    cryptopanic,
    ethereum_rpc,
    etherscan,
    huggingface,
    lexicon,
    newsapi,
    reddit,
)
from feeds.providers.crypto_api_clean import Health, Stats
from feeds.queries import CandleQuery, MarketQuery
from feeds.supervisor import Feed
from feeds.upstreams import DAY_S, HOUR_S, SourcesPolicy, Upstreams
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.http import Transport
from orchestrator.persistence import AnswerStore, BanFile, StoredAnswer, entries_skipped, set_aside
from orchestrator.pool import Fetched, Pool, PoolPolicy
from orchestrator.provider import Provider, Steps, anything
from orchestrator.upstream import Upstream

T = TypeVar("T")
Q = TypeVar("Q")

SLOW_STALE_S = 30 * DAY_S
TABLE = MarketQuery(limit=250)
"""The market table everybody gets; shorter ones are cut from it."""
CATALOGUE_TTL_S = 6 * HOUR_S
CANDLES_TTL_S = 2.0
"""As long as the exchange itself takes between two words on a forming candle."""
CHAIN_TTL_S = 10.0
"""A block comes every twelve seconds."""
BLOCK_STANDS_S = 180.0
"""A source that names the same block for so long does not follow its chain."""
ETHEREUM_BLOCK_MS = 12_000
INDEX_LATE_S = 2 * DAY_S
"""So long after its day an index is no index of now. It is late by hours now and then, and has missed a day."""
HISTORY_DAYS = 30
CATALOGUE = "catalogue"
HEALTH, STATS = "health", "stats"
"""What Crypto API Clean says of itself."""
EVERYTHING = "all"
LATEST = NewsQuery(limit=100)
"""What every outlet is asked."""


class Sources:
    """Every pool, with the feeds that keep its topics alive. `pools` and `upstreams` are by name."""

    def __init__(
        self,
        policy: SourcesPolicy,
        market: ExchangeMarket,
        binance_rest: Upstream,
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
        self.policy = policy
        self.market_state = market
        self.sink = market.sink
        self.clock = clock
        self.rng = rng
        self.listened = listened
        self.prices_fail = prices_fail
        self.on_change = on_change
        self.store = AnswerStore(state_dir / "answers") if state_dir is not None else None
        self.upstreams = Upstreams(policy, binance_rest, transport, clock, rng, bans, on_change)
        self.identities = Identities(
            market.symbols,
            coingecko.IDS,
            market.exchange_price,
            market.last.get,
            clock,
            self.store,
        )
        self.learned: tuple[int, int] | None = None
        """The version of the table that was matched last, and of how many coins the exchange had told a price then."""
        self._build_market_pools()
        self._build_chain_pools()
        self._build_sentiment_pools()
        self._build_catalogue_pools()
        self.news = self._news_pools()
        self.desk = NewsDesk(self.sink, self.scorer, clock, self.store)
        self.chains = ChainFeed(
            self.sink,
            self.gas,
            self.chain_stats,
            policy.gas_poll_s,
            clock,
            rng,
            listened=listened,
            on_change=on_change,
        )
        self.feeds: list[Feed] = [*self._pollers(), self.desk, self.chains]
        self._restore()

    # --- pools ---

    def _pool(
        self,
        name: str,
        tiers: Sequence[Sequence[Provider[Q, T]]],
        ttl_s: float,
        received: Callable[[Q, Fetched[T]], None] = lambda query, fetched: None,
        *,
        slow: bool = False,
        deadline_s: float = 20.0,
        attempt_s: float = 8.0,
        size: int = 256,
    ) -> Pool[Q, T]:
        stale_s = self.policy.stale_if_error_s
        return Pool(
            name,
            tiers,
            self.clock,
            self.rng,
            PoolPolicy(
                ttl_s=ttl_s,
                stale_while_revalidate_s=ttl_s if slow else 0.0,
                stale_if_error_s=stale_s if stale_s is not None else (SLOW_STALE_S if slow else HOUR_S),
                deadline_s=deadline_s,
                attempt_s=attempt_s,
                size=size,
            ),
            received=received,
        )

    def _coingecko(
        self,
        ask: Callable[[coingecko.CoinGecko], Callable[[Q], Steps[T]]],
        serves: Callable[[Q], bool] = anything,
        stamp_of: Callable[[T], int | None] | None = None,
        max_lag_s: float = 600.0,
    ) -> list[Provider[Q, T]]:
        """Both accounts in one tier: Pro gets most questions, the free one enough of them to be known to work."""
        key = self.upstreams.key
        pro = coingecko.CoinGecko(coingecko.NAME_PRO, key("COINGECKO_PRO_API_KEY"))
        free = coingecko.CoinGecko(coingecko.NAME, key("COINGECKO_DEMO_API_KEY"))
        return [
            Provider(
                self.upstreams[each.name],
                ask(each),
                weight=weight,
                serves=serves,
                stamp_of=stamp_of,
                max_lag_s=max_lag_s,
            )
            for each, weight in ((pro, 3), (free, 1))
        ]

    def _build_market_pools(self) -> None:
        ttl_s = self.policy.cache_ttl_s
        rest, dt = self.upstreams[binance.NAME], self.upstreams[crypto_dt_source.NAME]
        self.market: Pool[MarketQuery, Rows[Coin]] = self._pool(
            "market",
            [
                self._coingecko(lambda account: account.markets, stamp_of=_newest),
                [Provider(rest, self._binance_market, serves=self._listed, stamp_of=_newest)],
                [Provider(dt, crypto_dt_source.markets, stamp_of=_newest)],
            ],
            ttl_s,
            self._market_received,
        )
        self.quotes: Pool[str, Rows[Quote]] = self._pool(
            "price",
            [
                self._coingecko(lambda account: lambda query: account.all_quotes(), stamp_of=_newest),
                [Provider(dt, lambda query: crypto_dt_source.all_quotes(), stamp_of=_newest)],
            ],
            ttl_s,
            self._quotes_received,
        )
        self.candles: Pool[CandleQuery, Rows[Candle]] = self._pool(
            "ohlcv",
            [
                [Provider(rest, binance.candles)],
                self._coingecko(self._coingecko_candles, serves=coingecko.serves),
                [Provider(dt, crypto_dt_source.candles, serves=crypto_dt_source.serves)],
            ],
            CANDLES_TTL_S,
        )
        self.global_market: Pool[str, GlobalMarket] = self._pool(
            "market.global",
            [
                self._coingecko(
                    lambda account: lambda query: account.global_market(),
                    stamp_of=_stamp,
                    max_lag_s=coingecko.GLOBAL_OUTDATED_MS / 1000,
                )
            ],
            ttl_s,
            self._global_received,
            slow=True,
        )
        self.trending: Pool[str, Rows[Trending]] = self._pool(
            "trending",
            [
                self._coingecko(lambda account: lambda query: account.trending()),
                [Provider(dt, lambda query: crypto_dt_source.trending())],
            ],
            10 * ttl_s,
        )
        self.candidates: Pool[str, list[Coin]] = self._pool(
            "candidates", [self._coingecko(lambda account: account.candidates)], 10 * ttl_s
        )

    def _build_chain_pools(self) -> None:
        key = self.upstreams.key
        keyed = (
            etherscan.Etherscan(key("ETHERSCAN_API_KEY"), etherscan.NAME),
            etherscan.Etherscan(key("ETHERSCAN_BACKUP_API_KEY"), etherscan.BACKUP_NAME),
        )
        nodes, page, scout = self.upstreams[ethereum_rpc.NAME], self.upstreams[blockscout.NAME], blockscout.Blockscout()
        ttl_s = min(self.policy.cache_ttl_s, CHAIN_TTL_S)
        self.gas: Pool[Chain, Gas] = self._pool(
            "gas",
            [
                *(
                    [
                        Provider(
                            self.upstreams[each.name],
                            each.gas,
                            serves=each.serves,
                            mark_of=lambda value: value.block,
                            max_lag_s=BLOCK_STANDS_S,
                        )
                    ]
                    for each in keyed
                ),
                [Provider(nodes, ethereum_rpc.gas, serves=ethereum_rpc.serves, stamp_of=_until_the_next_block)],
                [Provider(page, scout.gas, serves=scout.serves, stamp_of=_stamp)],
            ],
            ttl_s,
            lambda query, fetched: self._publish(
                events.gas(fetched.value, fetched.source, fetched.received_ms), fetched
            ),
        )
        self.chain_stats: Pool[Chain, ChainStats] = self._pool(
            "chain",
            [
                *(
                    [
                        Provider(
                            self.upstreams[each.name],
                            each.stats,
                            serves=each.serves,
                            mark_of=lambda value: value.height,
                            max_lag_s=BLOCK_STANDS_S,
                        )
                    ]
                    for each in keyed
                ),
                [Provider(nodes, ethereum_rpc.stats, serves=ethereum_rpc.serves, stamp_of=_until_the_next_block)],
                [Provider(page, scout.stats, serves=scout.serves, stamp_of=_stamp)],
            ],
            ttl_s,
            lambda query, fetched: self._publish(
                events.chain(fetched.value, fetched.source, fetched.received_ms), fetched
            ),
        )

    def _build_sentiment_pools(self) -> None:
        account, ttl_s = self.upstreams, self.policy.cache_ttl_s
        dt = account[crypto_dt_source.NAME]
        self.fear_greed: Pool[int, list[FearGreed]] = self._pool(
            "sentiment.global",
            [
                [
                    Provider(
                        account[alternative_me.NAME],
                        alternative_me.fear_greed,
                        stamp_of=_end_of_day,
                        max_lag_s=INDEX_LATE_S,
                    )
                ],
                [Provider(dt, crypto_dt_source.fear_greed, stamp_of=_end_of_day, max_lag_s=INDEX_LATE_S)],
            ],
            ttl_s,
            self._fear_greed_received,
            slow=True,
        )
        faces = huggingface.HuggingFace(account.key("HF_TOKEN"))
        self.scorer: Pool[Texts, list[Sentiment]] = self._pool(
            "sentiment",
            [
                [Provider(account[huggingface.NAME], faces.score, serves=huggingface.serves)],
                [Provider(dt, _dt_scores, serves=_dt_has_model)],
                [Provider(account[lexicon.NAME], lexicon.score, serves=lexicon.serves, heavy=True)],
            ],
            ttl_s,
            deadline_s=15.0,
            attempt_s=5.0,
            size=32,
        )

    def _build_catalogue_pools(self) -> None:
        clean, dt = self.upstreams[crypto_api_clean.NAME], self.upstreams[crypto_dt_source.NAME]
        ttl_s = self.policy.cache_ttl_s
        self.catalogue: Pool[str, tuple[Resource, ...]] = self._pool(
            "catalogue",
            [[Provider(clean, lambda query: crypto_api_clean.catalogue(), heavy=True)]],
            CATALOGUE_TTL_S,
            self._catalogue_received,
            slow=True,
            deadline_s=90.0,
            attempt_s=80.0,
        )
        self.clean_facts: Pool[str, Health | Stats] = self._pool(
            "crypto_api_clean", [[Provider(clean, _clean_facts)]], ttl_s, deadline_s=15.0, attempt_s=12.0, size=2
        )
        self.dt_requests: Pool[DtQuery, Any] = self._pool(
            "crypto_dt_source",
            [[Provider(dt, dt_requests.ask, stamp_of=_of_any, max_lag_s=INDEX_LATE_S)]],
            ttl_s,
            deadline_s=20.0,
            attempt_s=18.0,
        )

    def _news_pools(self) -> list[Pool[NewsQuery, Rows[Article]]]:
        """One pool an outlet: their articles add up, none stands in for another but the last."""
        account, key = self.upstreams, self.upstreams.key
        panic = cryptopanic.CryptoPanic(
            key("CRYPTOPANIC_API_KEY"), account.cryptopanic_plan, self.identities.is_another
        )
        posts = reddit.Reddit(
            key("REDDIT_CLIENT_ID"), key("REDDIT_CLIENT_SECRET"), self.clock, account.reddit_tokens_url
        )
        outlets: list[Provider[NewsQuery, Rows[Article]]] = [
            Provider(account[cryptopanic.NAME], panic.articles),
            Provider(account[newsapi.NAME], newsapi.NewsApi(key("NEWS_API_KEY")).articles),
            Provider(account[reddit.NAME], posts.articles),
            *(Provider(account[feed.name], feed.articles, heavy=True) for feed in account.rss),
            Provider(account[crypto_dt_source.NAME], crypto_dt_source.news),
        ]
        return [
            self._pool(f"news:{outlet.name}", [[outlet]], self.policy.cache_ttl_s, self._news_received)
            for outlet in outlets
        ]

    # --- feeds ---

    def _pollers(self) -> list[Feed]:
        policy = self.policy
        # It stands in for a stream, which never pauses either; and REST clients are no listeners.
        self.price_poller = self._poller(
            "prices", self.quotes, EVERYTHING, policy.market_poll_s, ["price"], due=self.prices_fail, idle=1.0
        )
        feeds: list[Feed] = [
            self.price_poller,
            self._poller("market", self.market, TABLE, policy.market_poll_s, [topics.MARKET]),
            self._poller(
                "market.global", self.global_market, EVERYTHING, 10 * policy.market_poll_s, [topics.MARKET_GLOBAL]
            ),
            self._poller(
                "fear_greed", self.fear_greed, HISTORY_DAYS, policy.sentiment_poll_s, [topics.SENTIMENT_GLOBAL]
            ),
        ]
        # It has no topic, so nobody listens to it: idle is its whole pace.
        feeds.append(self._poller("catalogue", self.catalogue, CATALOGUE, CATALOGUE_TTL_S / IDLE, []))
        for pool in self.news:
            outlet = pool.providers[0].upstream
            if outlet.disabled is None:
                # Paid by the call, and counted by the half day.
                every_s = max(900.0, policy.news_poll_s) if outlet.name == newsapi.NAME else policy.news_poll_s
                due = self._news_fail if outlet.name == crypto_dt_source.NAME else _always
                feeds.append(self._poller(pool.name, pool, LATEST, every_s, [topics.NEWS], due=due))
        return feeds

    def _poller(
        self,
        name: str,
        pool: Pool[Q, T],
        query: Q,
        every_s: float,
        serves: Sequence[str],
        due: Callable[[], bool] | None = None,
        idle: float = IDLE,
    ) -> Poller[Q, T]:
        """Return a feed that asks every so many seconds, and `idle` times as rarely while nobody listens."""
        return Poller(
            name,
            pool,
            query,
            Pace(every_s, idle * every_s),
            serves,
            self.clock,
            self.rng,
            listened=self.listened,
            due=due or _always,
            on_change=self.on_change,
        )

    def _news_fail(self) -> bool:
        """No outlet of news answers: time for the last resort."""
        others = [pool for pool in self.news if pool.providers[0].name != crypto_dt_source.NAME]
        tried = [pool for pool in others if pool.counts.upstream]
        return bool(tried) and all(pool.peek(LATEST) is None for pool in others)

    # --- what comes of answers ---

    def _listed(self, query: MarketQuery) -> bool:
        symbols = self.market_state.symbols
        return symbols.known and (not query.symbols or any(name in symbols.by_base for name in query.symbols))

    def _binance_market(self, query: MarketQuery) -> Steps[Rows[Coin]]:
        by_base = self.market_state.symbols.by_base
        pairs = [by_base[name] for name in query.symbols if name in by_base] if query.symbols else [*by_base.values()]
        return binance.market_rows(pairs, query.limit)

    def _coingecko_candles(self, account: coingecko.CoinGecko) -> Callable[[CandleQuery], Steps[Rows[Candle]]]:
        """Its candles: for a base asset of the exchange those of the coin it is matched to, and of no other."""

        def ask(query: CandleQuery) -> Steps[Rows[Candle]]:
            if not self.identities.is_ours(query.base):
                return (yield from account.ohlc(query))
            match = self.identities.match_of(query.base)
            if match is None:
                raise Unmatched(account.name, f"no coin of it is known to be the exchange's {query.base}")
            read = yield from account.ohlc(query, match.coin_id)
            try:
                ours = self.identities.candles(query.base, match, read.good, up_to_now=query.end is None)
            except ValueError as error:
                raise Unmatched(account.name, str(error)) from None
            return Rows(ours, read.rejected)

        return ask

    def _learn(self, rows: Sequence[Listed], received_ms: int) -> None:
        """Match coins by the prices of an answer, if the exchange was alive at that time."""
        before_ms = self.market_state.told_ms - received_ms
        if -AFTER_MS <= before_ms <= BEFORE_MS:
            self.identities.learn(rows)

    def learn_again(self) -> None:
        """Match what could not be matched when the table arrived: the exchange had not told those prices yet."""
        table = self.market.peek(TABLE)
        if table is None:
            return
        mark = (table.version, len(self.market_state.told))
        if mark != self.learned:
            self.learned = mark
            self._learn(table.value.good, table.received_ms)

    def _market_received(self, query: MarketQuery, fetched: Fetched[Rows[Coin]]) -> None:
        coins = fetched.value.good
        self._learn(coins, fetched.received_ms)
        if query == TABLE and coins:
            oldest_ms = min(coin.ts for coin in coins[: events.TOP_COINS])
            event = events.market(coins, fetched.source, fetched.received_ms)
            self.sink.publish(replace(event, lag_ms=fetched.lag_of(oldest_ms)))

    def _news_received(self, query: NewsQuery, fetched: Fetched[Rows[Article]]) -> None:
        self.desk.arrived(fetched)

    def _quotes_received(self, query: str, fetched: Fetched[Rows[Quote]]) -> None:
        if not self.prices_fail():
            self._learn(fetched.value.good, fetched.received_ms)
            return
        self.learn_again()
        given = self.identities.quotes(fetched.value.good)
        self.market_state.quotes([*given.values()], fetched.source, fetched.received_ms, fetched.skew_ms)
        self.market_state.withhold(self.identities.unmatched(), NO_MATCHING_SOURCE)

    def _global_received(self, query: str, fetched: Fetched[GlobalMarket]) -> None:
        self._publish(events.market_global(fetched.value, fetched.source, fetched.received_ms), fetched)
        self._store("global", events.global_json(fetched.value), fetched)

    def _fear_greed_received(self, query: int, fetched: Fetched[list[FearGreed]]) -> None:
        if fetched.value:
            self._publish(events.fear_greed(fetched.value[0], fetched.source, fetched.received_ms), fetched)
        if query == HISTORY_DAYS:
            self._store("fear_greed", alternative_me.to_json(fetched.value), fetched)

    def _publish(self, event: Event, fetched: Fetched[Any]) -> None:
        """Say it, as old as the provider's own clock and stamp make it."""
        self.sink.publish(replace(event, lag_ms=fetched.lag_ms))

    def _catalogue_received(self, query: str, fetched: Fetched[tuple[Resource, ...]]) -> None:
        self._store("catalogue", crypto_api_clean.to_json(fetched.value), fetched)

    # --- across restarts ---

    def _store(self, name: str, text: bytes, fetched: Fetched[T]) -> None:
        if self.store is not None:
            self.store.put(name, StoredAnswer(text, fetched.source, fetched.received_ms))

    def _restore(self) -> None:
        totals = self._restore_one("global", self.global_market, EVERYTHING, events.global_from_json)
        if totals is not None:
            self._publish(events.market_global(totals.value, totals.source, totals.received_ms), totals)
        days = self._restore_one(
            "fear_greed", self.fear_greed, HISTORY_DAYS, self._entries("fear_greed", alternative_me.from_json)
        )
        if days is not None and days.value:
            self._publish(events.fear_greed(days.value[0], days.source, days.received_ms), days)
        resources = self._entries("catalogue", crypto_api_clean.from_json)
        self._restore_one("catalogue", self.catalogue, CATALOGUE, lambda kept: tuple(resources(kept)))

    def _entries(self, name: str, decode: Callable[[bytes], Rows[T]]) -> Callable[[bytes], list[T]]:
        """Decode a list entry by entry; those that cannot be read are named in the log. Raises: ValueError for none."""

        def entries(kept: bytes) -> list[T]:
            read = decode(kept)
            if self.store is not None:
                entries_skipped(self.store.path(name), read.rejected)
            if not read.good:
                raise ValueError("no readable entry")
            return read.good

        return entries

    def _restore_one(self, name: str, pool: Pool[Q, T], query: Q, decode: Callable[[bytes], T]) -> Fetched[T] | None:
        """Give a pool its last answer; returns it with its age, as far as that can be told."""
        kept = self.store.get(name) if self.store is not None else None
        if self.store is None or kept is None:
            return None
        try:
            value = decode(kept.text)
        except ValueError as error:
            set_aside(self.store.path(name), str(error))
            return None
        pool.restore(query, value, kept.source, kept.received_ms)
        return pool.peek(query) if kept.received_ms <= self.clock.wall_ms() else None

    async def close(self) -> None:
        """End every question that is in flight."""
        for pool in self.pools:
            await pool.close()

    # --- for people ---

    @property
    def pools(self) -> list[Pool[Any, Any]]:
        """Every pool."""
        return [
            self.market,
            self.quotes,
            self.global_market,
            self.trending,
            self.candles,
            self.fear_greed,
            self.gas,
            self.chain_stats,
            self.scorer,
            self.catalogue,
            self.candidates,
            self.clean_facts,
            self.dt_requests,
            *self.news,
        ]


def _always() -> bool:
    return True


class _Stamped(Protocol):
    """A value that its provider stamps (Unix ms)."""

    @property
    def ts(self) -> int: ...


def _stamp(value: _Stamped) -> int:
    return value.ts


def _newest(rows: Rows[Coin] | Rows[Quote]) -> int | None:
    return max((row.ts for row in rows.good), default=None)


def _until_the_next_block(value: _Stamped) -> int:
    """Between its blocks a chain stands still: what the newest one says is true until the next."""
    return value.ts + ETHEREUM_BLOCK_MS


def _end_of_day(days: Sequence[FearGreed]) -> int | None:
    """An index of a day is true until that is over."""
    return days[0].ts + alternative_me.DAY_MS if days else None


def _of_any(value: object) -> int | None:
    """Of the answers of Crypto DT Source those that age."""
    match value:
        case [FearGreed(ts=ts), *_]:
            return ts + alternative_me.DAY_MS
        case Rows(good=[Quote(), *_]):
            return _newest(value)
    return None


def _clean_facts(query: str) -> Steps[Health | Stats]:
    if query == HEALTH:
        return (yield from crypto_api_clean.health())
    return (yield from crypto_api_clean.stats())


def _dt_scores(query: Texts) -> Steps[list[Sentiment]]:
    return crypto_dt_source.sentiment_batch(query.texts, query.model or crypto_dt_source.MODELS[0])


def _dt_has_model(query: Texts) -> bool:
    return query.model is None or query.model in crypto_dt_source.MODELS
