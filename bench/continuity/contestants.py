"""Define who takes part, and how each is started against an exchange."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import tools
from bench.processes import free_port, running
from tests.harness import ELSEWHERE

SYMBOLS = ("BTC", "ETH", "BNB", "SOL", "XRP")
OURS = "stream-server"
CLIENTS = "bench.continuity.clients"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a trial: its exchange, the certificate to trust, and its folder."""

    port: int
    certificate: Path
    folder: Path

    @property
    def receipts(self) -> Path:
        """The file with the messages that the client received."""
        return self.folder / "receipts.jsonl"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make each library trust the exchange's own certificate, in the usual way."""
        return {"SSL_CERT_FILE": str(self.certificate), "REQUESTS_CA_BUNDLE": str(self.certificate)}

    def task(self, ws_url: str) -> list[str]:
        """Return the arguments of a client."""
        rest_url = f"https://127.0.0.1:{self.port}"
        arguments = ["--ws", ws_url, "--rest", rest_url, "--symbols", ",".join(SYMBOLS)]
        return [*arguments, "--certificate", str(self.certificate), "--receipts", str(self.receipts)]


@dataclass(frozen=True, slots=True)
class Contestant:
    """`started` runs its processes until the block ends; it raises Absent if the library is not available."""

    name: str
    package: str | None
    what: str
    started: Callable[[Place], AbstractContextManager[None]]
    by_trade: bool = False
    """Whether its prices are trades instead of tickers."""


def _library(package: str, module: str) -> Callable[[Place], AbstractContextManager[None]]:
    @contextmanager
    def started(place: Place) -> Iterator[None]:
        command = [str(tools.client_library(package)), "-m", f"{CLIENTS}.{module}"]
        command += place.task(f"wss://127.0.0.1:{place.port}")
        with running(command, None, place.folder / "client.log", place.environment):
            yield

    return started


@contextmanager
def _ours(place: Place) -> Iterator[None]:
    port = free_port()
    settings = {
        **ELSEWHERE,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "STATE_DIR": str(place.folder / "state"),
        "LOG_DIR": str(place.folder / "logs"),
        "LOG_LEVEL": "INFO",
        # As in production there is more than one name for the exchange.
        "BINANCE_WS_URLS": f"wss://127.0.0.1:{place.port},wss://localhost:{place.port}",
        "BINANCE_REST_URLS": f"https://127.0.0.1:{place.port},https://localhost:{place.port}",
        "OHLCV_SYMBOLS": ",".join(SYMBOLS),
        "OHLCV_INTERVALS": "1m",
        "MARKET_POLL_S": "5",
    }
    service = [sys.executable, "-m", "stream_server"]
    client = [sys.executable, "-m", f"{CLIENTS}.ours", *place.task(f"ws://127.0.0.1:{port}")]
    with (
        running(service, None, place.folder / "service.log", {**place.environment, **settings}),
        running(client, None, place.folder / "client.log", {}),
    ):
        yield


CONTESTANTS = (
    Contestant(
        OURS,
        None,
        "the whole service, and a plain WebSocket client that follows its protocol. Prices are polled every 5 s "
        "instead of 30 while the stream is silent (`MARKET_POLL_S`)",
        _ours,
    ),
    Contestant(
        "ccxt.pro",
        "ccxt",
        "a loop of `watch_ohlcv` and one of `watch_ticker` for each market, which retry after a `NetworkError`, as the "
        "examples of ccxt do. A candle counts as closed when the next one begins: ccxt gives no other sign",
        _library("ccxt", "ccxt_pro"),
    ),
    Contestant(
        "python-binance",
        "python-binance",
        "`multiplex_socket` with `kline_1m` and `miniTicker`; reconnects by itself, and is closed and opened again "
        "when it reports that it gave up, as its documentation asks. Queue of 10,000 messages instead of 100",
        _library("python-binance", "python_binance"),
    ),
    Contestant(
        "cryptofeed",
        "cryptofeed",
        "`FeedHandler` with `CANDLES` (closed ones only) and `TRADES`; reconnects by itself, forever instead of ten "
        "times. Its watchdog is set to 10 s instead of 120 s, which suits markets that trade each second",
        _library("cryptofeed", "cryptofeed_feed"),
        by_trade=True,
    ),
)
