"""Applies the matches of coins to answers: learns them from prices, and gives values of matched coins only."""

from collections.abc import Callable, Iterable, Sequence

from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.identity import AFTER_MS, BEFORE_MS, Identities, Listed, Unmatched
from feeds.model import Candle, Coin, Quote
from feeds.providers.coingecko import CoinGecko
from feeds.queries import CandleQuery
from orchestrator.fetched import Fetched
from orchestrator.provider import Steps


class Matching:
    """Keeps `identities` up to date. `table` returns the market table that is held, or None."""

    def __init__(
        self, identities: Identities, exchange: ExchangeMarket, table: Callable[[], Fetched[Rows[Coin]] | None]
    ) -> None:
        self.identities = identities
        self.exchange = exchange
        self.table = table
        self.learned: tuple[int, int] | None = None
        """The version of the table that was matched last, and the number of prices that the exchange had sent then."""

    def learn(self, rows: Sequence[Listed], received_ms: int) -> None:
        """Match coins by the prices of an answer, if the exchange was alive at that time."""
        before_ms = self.exchange.published_ms - received_ms
        if -AFTER_MS <= before_ms <= BEFORE_MS:
            self.identities.learn(rows)

    def learn_again(self) -> None:
        """Match what could not be matched when the table arrived, because the exchange had not sent those prices."""
        table = self.table()
        if table is None:
            return
        mark = (table.version, len(self.exchange.published))
        if mark != self.learned:
            self.learned = mark
            self.learn(table.value.good, table.received_ms)

    def quotes(self, rows: Iterable[Quote]) -> list[Quote]:
        """Return the prices of matched coins, each under the exchange's base asset and in its unit."""
        self.learn_again()
        return [*self.identities.quotes(rows).values()]

    def candles_from(self, account: CoinGecko) -> Callable[[CandleQuery], Steps[Rows[Candle]]]:
        """Return how to ask for candles: those of a base asset of the exchange are of the coin it is matched to."""

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
