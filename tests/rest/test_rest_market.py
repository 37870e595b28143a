"""`/api/market…`: the meaning of a ticker, missing coins, and other sources that answer instead."""

from pathlib import Path

from tests.fakes.upstream import Fault
from tests.harness import until
from tests.sources import sourced


async def test_coins_outside_the_table_are_fetched_and_unknown_ones_named(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        body = await every.data("/api/market?symbols=BTC,C280,NOPE")
        assert [row["symbol"] for row in body["data"]] == ["BTC", "C280"]
        assert body["missing"] == ["NOPE"]
        assert every.fakes.coingecko.calls[-1].query["symbols"] == "c280,nope"
        status, refused = await every.get("/api/market?symbols=NOPE,NADA")
        assert (status, refused["error"]["code"]) == (404, "unknown_symbol")
        assert refused["error"]["details"].keys() == {"NOPE", "NADA"}


async def test_strict_names_the_coins_that_share_a_ticker(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path in ("/api/market?symbols=BTC,ETH&strict=1", "/api/market/price?symbols=btc,ETH&strict=true"):
            status, refused = await every.get(path)
            assert (status, refused["error"]["code"]) == (409, "ambiguous")
            candidates = refused["error"]["details"]["candidates"]
            assert [coin["id"] for coin in candidates["BTC"]] == ["bitcoin", "batcat"]
            assert candidates.keys() == {"BTC"}
        for path in ("/api/market?symbols=bitcoin&strict=1", "/api/market/price?symbols=BTC-USDT,ETH&strict=1"):
            assert (await every.get(path))[0] == 200
        status, _ = await every.get("/api/market/price?symbols=BTC&strict=0")
        assert status == 200


async def test_a_price_that_the_stream_lacks_comes_from_another_source(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        await every.fakes.coingecko.kill()
        body = await every.data("/api/market/price?symbols=BTC,LINK")
        assert [(row["symbol"], row["source"]) for row in body["data"]] == [
            ("BTC", "binance"),
            ("LINK", "crypto_dt_source"),
        ]
        assert body["source"] == "binance,crypto_dt_source"
        assert body["attempts"] == [
            {"provider": "coingecko", "outcome": "unavailable"},
            {"provider": "crypto_dt_source", "outcome": "ok"},
        ]
        await every.fakes.dt_source.kill()
        body = await every.data("/api/market/price?symbols=BTC,ADA,LINK&max_age=3600")
        assert "missing" not in body


async def test_with_the_sources_down_the_prices_of_the_stream_are_given_and_the_others_named(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        await every.fakes.coingecko.kill()
        await every.fakes.dt_source.kill()
        body = await every.data("/api/market/price?symbols=BTC,LINK")
        assert [row["symbol"] for row in body["data"]] == ["BTC"]
        assert body["missing"] == ["LINK"]
        assert [attempt["outcome"] for attempt in body["attempts"]] == ["unavailable", "unavailable"]
        status, refused = await every.get("/api/market/price?symbols=LINK")
        assert (status, refused["error"]["code"]) == (503, "unavailable")


async def test_candles_come_from_other_sources_until_the_exchange_lists_its_markets(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        every.service.context.symbols.learn([])
        every.service.context.symbols.listed = {}
        await every.fakes.exchange.kill()
        body = await every.data("/api/market/ohlc?symbol=BTC&interval=4h&limit=3")
        assert body["source"] == "coingecko"
        assert [row["quote"] for row in body["data"]] == ["USD"] * 3
        assert [attempt["outcome"] for attempt in body["attempts"]] == ["unavailable", "ok"]


async def test_a_source_that_hangs_is_abandoned_for_the_next(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        sources = every.service.context.sources
        assert sources is not None
        for provider in sources.market.trending.providers:
            provider.upstream.policy = type(provider.upstream.policy)(timeout_s=0.2)
        every.fakes.coingecko.always = Fault(hang="before_head")
        body = await every.data("/api/market/trending")
        assert body["attempts"] == [
            {"provider": "coingecko", "outcome": "timeout"},
            {"provider": "crypto_dt_source", "outcome": "ok"},
        ]


async def test_what_clients_can_cause_upstream_is_bounded(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        statuses = [(await every.get(f"/api/market?symbols=UNHEARD{number}"))[0] for number in range(40)]
        assert statuses[:5] == [404] * 5
        assert 429 in statuses
        assert len(every.fakes.coingecko.calls) < 40
        # The question that all clients ask still has an answer.
        assert (await every.get("/api/market"))[0] == 200


async def test_an_old_table_is_fetched_again_when_a_client_wants_a_younger_one(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        before = len(every.fakes.coingecko.calls)
        assert (await every.data("/api/market?max_age=600"))["cached"] is True
        body = await every.data("/api/market?max_age=0")
        assert (body["cached"], body["stale"]) == (False, False)
        assert len(every.fakes.coingecko.calls) == before + 1


async def test_the_price_of_a_coin_follows_the_stream_and_not_a_kept_answer(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        exchange = every.fakes.exchange
        first = await every.data("/api/market/price?symbols=BTC")
        exchange.advance(1)
        topic = every.service.context.hub.topics["price.BTC"]
        await until(lambda: topic.event is not None and topic.event.ts > first["data"][0]["ts"])
        second = await every.data("/api/market/price?symbols=BTC")
        assert second["data"][0]["ts"] > first["data"][0]["ts"]
