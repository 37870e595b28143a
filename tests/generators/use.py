"""Load every module of the client that openapi-python-client generated, and make three calls."""

import pkgutil
import sys
from importlib import import_module

made = import_module("made")
names = [module.name for module in pkgutil.walk_packages(made.__path__, "made.")]
for name in names:
    import_module(name)

market, streams, models = "made.api.market.get_market", "made.api.streams_and_topics.get", import_module("made.models")
minute = models.GetMarketOhlcInterval("1m")
with made.Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as client:
    prices = import_module(f"{market}_price").sync(client=client, symbols=["BTC", "ETH"])
    candles = import_module(f"{market}_ohlc").sync(client=client, symbol="BTC", interval=minute, limit=3)
    snapshot = import_module(f"{streams}_snapshot").sync(client=client, topics=["price.BTC", "ohlcv.BTC.1m"])
received = (
    [row.symbol for row in prices.data],
    [row.closed for row in candles.data],
    sorted(type(row).__name__ for row in snapshot.data),
)
if received != (["BTC", "ETH"], [True, True, False], ["CandleUpdate", "PriceUpdate"]):
    sys.exit(f"unexpected answers: {received}")
print(f"Python: {len(names)} modules, 3 calls")
