"""Prices go on from others while the exchange is out of reach, say so, and return when it does."""

from pathlib import Path

from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.model import Pair, Price, Quote
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from tests.clients import websocket
from tests.fakes.binance import FakeBinance
from tests.fakes.clock import START_MS
from tests.fakes.coingecko import FakeCoinGecko
from tests.feeding import RecordingSink
from tests.harness import running, until

PAIRS = [Pair("BTCUSDT", "BTC", "USDT"), Pair("ETHUSDT", "ETH", "USDT")]


class World:
    """A market that knows two pairs, or none yet."""

    def __init__(self, known: bool = True, wanted: tuple[str, ...] = ()) -> None:
        self.sink = RecordingSink()
        self.market = ExchangeMarket(self.sink, Symbols(wanted), BINANCE)
        if known:
            self.market.pairs(PAIRS)
        self.now_ms = START_MS

    def stream(self, price: float, symbol: str = "BTCUSDT") -> None:
        self.now_ms += 1000
        self.market.tickers(Rows([Price(symbol, price, self.now_ms)]), self.now_ms)

    def polled(self, price: float, symbol: str = "BTC") -> None:
        self.now_ms += 1000
        self.market.quotes([Quote(symbol, price, self.now_ms, market_cap=1e12)], "coingecko", self.now_ms)

    @property
    def prices(self) -> list[tuple[str, object]]:
        return [(event.source, event.data["price"]) for event in self.sink.events]


def test_a_polled_price_says_whose_it_is_and_that_it_is_of_no_pair() -> None:
    world = World()
    world.polled(100.0)
    (event,) = world.sink.of("price.BTC")
    assert event.source == "coingecko"
    assert (event.data["pair"], event.data["quote"], event.data["market_cap"]) == (None, "USD", 1e12)
    assert event.data["volume_24h"] is None


def test_the_exchanges_price_is_news_again_after_a_polled_one_even_if_it_has_not_moved() -> None:
    world = World()
    world.stream(100.0)
    world.polled(101.0)
    world.stream(100.0)
    assert world.prices == [("binance", 100.0), ("coingecko", 101.0), ("binance", 100.0)]


def test_only_coins_that_are_served_get_a_polled_price() -> None:
    world = World()
    world.polled(1.0, "NOPE")
    assert world.prices == []
    unknown = World(known=False, wanted=("BTC",))
    unknown.polled(1.0, "ETH")
    unknown.polled(2.0, "BTC")
    assert unknown.prices == [("coingecko", 2.0)]


def test_a_leap_waits_for_a_second_tick_that_agrees() -> None:
    world = World()
    world.stream(100.0)
    world.stream(100_000.0)
    assert world.prices == [("binance", 100.0)]
    assert world.market.rejected["jump"] == 1
    world.stream(100.5)
    world.stream(0.1)
    world.stream(0.11)
    assert world.prices == [("binance", 100.0), ("binance", 100.5), ("binance", 0.11)]


def test_a_leap_that_another_source_confirms_is_believed() -> None:
    world = World()
    world.stream(100.0)
    world.stream(50_000.0)
    world.polled(50_100.0)
    assert world.prices[1:] == [("coingecko", 50_100.0)]


async def test_prices_fail_over_to_coingecko_and_return(tmp_path: Path) -> None:
    async with (
        FakeBinance() as exchange,
        FakeCoinGecko() as coingecko,
        running(exchange, tmp_path, MARKET_POLL_S="1", CACHE_TTL_S="1", COINGECKO_URL=coingecko.url) as service,
        websocket(service, "topics=price.BTC") as client,
    ):
        first = await client.one("update", topic="price.BTC")
        assert first["source"] == "binance"
        await exchange.kill()
        heard = await client.until("update", topic="price.BTC", source="coingecko")
        assert {message["type"] for message in heard} <= {"update", "subscribed", "synced"}, "nothing else is noticed"
        polled = heard[-1]
        assert polled["data"]["market_cap"] > 0
        feed = service.context.supervisor.feeds[0].report()
        assert feed["state"] != "live"
        (poller,) = [each.report() for each in service.context.supervisor.feeds if each.name == "prices"]
        assert poller["every_s"] == 1.0, "a stream has no idle pace, and neither has what stands in for it"
        await exchange.revive()
        exchange.advance(1)
        await until(lambda: exchange.connections)
        exchange.advance(2)
        await client.until("update", topic="price.BTC", source="binance")
