"""A pause of our own is not the exchange's silence: no socket is rotated, no stream asked for again, nobody blamed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from feeds.exchange.awake import AwakeTime
from tests.chaos.virtual import VirtualLoop
from tests.fakes.binance import DEFAULT_PAIRS, START_MS
from tests.fakes.clock import ManualClock
from tests.marketplace import Marketplace, play

PAIRS = tuple(replace(pair, trades_per_s=1, listed_ms=START_MS - 3_600_000) for pair in DEFAULT_PAIRS[:4])


def stand_still(seconds: float) -> None:
    """Hold up the whole loop: time passes, and nobody does anything."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.virtual_selector.seconds += seconds


@pytest.mark.parametrize("stalls_s", [(1.2, 1.2), (2.3, 2.3), (3.7, 3.7), (4.4, 4.4), (8.6,)])
def test_no_socket_is_rotated_and_no_stream_asked_for_again_because_we_stood_still(
    tmp_path: Path, stalls_s: tuple[float, ...]
) -> None:
    async def story(market: Marketplace) -> None:
        exchange = market.exchange
        async with market.listener("ohlcv.ETH.1m", "ohlcv.ETH.3m"):
            await asyncio.sleep(40)
            handshakes = len(exchange.handshakes)
            commands = sum(len(each.controls) for each in exchange.all_connections)
            for pause in range(12):
                await asyncio.sleep(2.0 + 0.37 * pause)  # at another moment of the market and of the watchdog each time
                for stall_s in stalls_s:
                    stand_still(stall_s)
                    await asyncio.sleep(0.05 * (pause % 3))
                await asyncio.sleep(0.6)
                _, ready = await market.get("/health/ready")
                assert ready["categories"]["price"] == "value"
                assert (ready["status"], "stood still" in ready["trouble"]) == ("troubled", True)
            await asyncio.sleep(30)
            assert len(exchange.handshakes) == handshakes
            assert sum(len(each.controls) for each in exchange.all_connections) == commands
            feed = await market.feed()
            assert [socket["rotations"] for socket in feed["sockets"]] == [0]
            assert (await market.get("/health/ready"))[0] == 200

    play(tmp_path, story, PAIRS)


def test_awake_time_leaves_out_what_was_slept_through() -> None:
    clock = ManualClock()
    awake = AwakeTime(clock)
    began = awake.now()
    for step_s in (0.25, 1.0, 8.0, 0.5, 3600.0):
        clock.advance(step_s)
        awake.now()
    assert awake.now() - began == pytest.approx(0.25 + 1.0 + 1.0 + 0.5 + 1.0)
    assert awake.pauses == 2
